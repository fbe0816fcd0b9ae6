"""A headless Chromium, driven through its debugging pipe: no driver, no network, no package."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# WebGL2 in SwiftShader, whose render targets can be float; nothing that calls home.
_SWITCHES = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--remote-debugging-pipe",
]


class Browser:
    """One process of Chromium; ``tab`` opens pages in it."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def hand_over() -> None:  # the debugging pipe is descriptors 3 and 4
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [CHROMIUM, *_SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=hand_over,
            close_fds=False,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._count = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self.events: deque[dict[str, Any]] = deque(maxlen=20000)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        rest = b""
        while chunk := os.read(self._in, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            with self._arrived:
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self.events.append(message)
                self._arrived.notify_all()

    def call(self, method: str, session: str | None = None, **params: object) -> dict[str, Any]:
        """Ask the browser something and wait for its answer."""
        with self._arrived:
            self._count += 1
            number = self._count
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        with self._arrived:
            assert self._arrived.wait_for(lambda: number in self._answers, timeout=300), method
            answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer.get('error')}"
        return answer["result"]

    def tab(self, url: str, size: tuple[int, int] = (640, 480), phone: bool = False) -> "Tab":
        """Open ``url`` in a window of ``size`` (width, height)."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        tab.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        tab.call("Page.navigate", url=url)
        return tab

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=20)


class Tab:
    """One page."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session

    def call(self, method: str, **params: object) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def run(self, script: str) -> Any:
        """Evaluate a JavaScript expression, or what its promise becomes."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"waited {seconds} s for {script}: {self.complaints()}"
            time.sleep(0.05)

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in list(self.browser.events)
            if event["method"] == method and event.get("sessionId") == self.session
        ]

    def complaints(self) -> list[str]:
        """List the errors that the page has written or raised."""
        said = [
            str(event["args"])
            for event in self._events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "assert")
        ]
        raised = [
            str(event["exceptionDetails"]) for event in self._events("Runtime.exceptionThrown")
        ]
        logged = [
            event["entry"]["text"]
            for event in self._events("Log.entryAdded")
            if event["entry"]["level"] == "error"
        ]
        return said + raised + logged

    def requests(self) -> list[str]:
        """List the addresses of all that the page has asked for, but for data inside it."""
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def mouse(self, kind: str, x: float, y: float, buttons: int = 1, **more: object) -> None:
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=buttons, **more,
            button="none" if kind == "mouseMoved" else "left", clickCount=1,
        )  # fmt: skip

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first place, move through the others, let go."""
        self.mouse("mouseMoved", *places[0], buttons=0)
        self.mouse("mousePressed", *places[0])
        for place in places[1:]:
            self.mouse("mouseMoved", *place)
        self.mouse("mouseReleased", *places[-1], buttons=0)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.drag(tuple(box))

    def key(self, key: str, code: str = "") -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    def screenshot(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)
