"""Time a frame of an exported page beside one of hexells' page: the same rule on as many cells.

    python scripts/measure_pages.py FOLDER [--size 512] [--name MODEL] [--append]

FOLDER holds the files of hexells' page (ca.js, models.json and its libraries). Both run in one
headless Chromium, whose WebGL is computed by the CPU unless it finds a GPU: what counts is the
ratio. They take turns; each time is the median of them, with the pipeline flushed by reading one
pixel. Hexells keeps 8-bit states, the exported page 32-bit ones and, in a third row, 8-bit ones.
"""

import argparse
import datetime
import functools
import http.server
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser, Tab  # noqa: E402 # pyright: ignore[reportMissingImports]

TURNS, CALLS = 5, 4

THEIRS = """
<!doctype html><meta charset="utf-8"><canvas id="glCanvas" width="{size}" height="{size}"></canvas>
<script src="twgl-full.min.js"></script><script src="pako.min.js"></script>
<script src="UPNG.min.js"></script>
<script type="module">
import {{ CA }} from './ca.js';
const models = await (await fetch('models.json')).json();
const gl = document.getElementById('glCanvas').getContext('webgl', {{ alpha: false }});
const ca = new CA(gl, models, [{size}, {size}], null, () => setTimeout(() => {{
  ca.paint(0, 0, -1, models.model_names.indexOf({name}));
  window.measured = {{
    step: () => ca.step(),
    draw: () => {{ twgl.bindFramebufferInfo(gl); ca.draw([{size}, {size}], 'color'); }},
    flush: () => {{
      twgl.bindFramebufferInfo(gl, ca.buf.state.fbi);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      twgl.bindFramebufferInfo(gl);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    }},
  }};
}}));
</script>
"""

OURS = """(async () => {
  await nca.ready;
  const { engine } = nca.app;
  const draw = engine.draw.bind(engine);
  const seen = new Promise((done) => { engine.draw = (...all) => { draw(...all); done(all); }; });
  nca.step(1);
  nca.set({ zoom: 1.01 });
  const all = await seen;
  const { gl } = engine;
  window.measured = {
    step: () => nca.step(1),
    draw: () => draw(...all),
    flush: () => {
      gl.bindFramebuffer(gl.FRAMEBUFFER, engine.frames[engine.now][0]);
      gl.readBuffer(gl.COLOR_ATTACHMENT0);
      const float = engine.format === 'float';
      gl.readPixels(0, 0, 1, 1, gl.RGBA, float ? gl.FLOAT : gl.UNSIGNED_BYTE,
        float ? new Float32Array(4) : new Uint8Array(4));
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    },
  };
})()"""

TIME = """(() => {
  const { step, draw, flush } = window.measured;
  const time = (call) => {
    flush();
    const begin = performance.now();
    for (let i = 0; i < %d; ++i) call();
    flush();
    return (performance.now() - begin) / %d;
  };
  return [time(step), time(draw)];
})()"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(folder: Path) -> str:
    """Serve ``folder`` on this machine; return its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def nca_texture(*args: str) -> None:
    """Run the command."""
    subprocess.run([sys.executable, "-m", "nca_texture", *args, "-q"], check=True, cwd=ROOT)


def main() -> None:
    """Measure, print a table, and append it when asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512, help="cells of a side")
    parser.add_argument("--name", help="a model of models.json; the 150th when left out")
    parser.add_argument("--append", action="store_true", help="append to docs/benchmarks/pages.md")
    choice = parser.parse_args()
    names = json.loads((choice.folder / "models.json").read_text())["model_names"]
    name, size = choice.name or names[149], choice.size
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        for path in choice.folder.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        (place / "theirs.html").write_text(THEIRS.format(size=size, name=json.dumps(name)))
        nca_texture("import", f"{place / 'models.json'}#{name}", "-o", str(place / "m.safetensors"))
        nca_texture(
            "export", str(place / "m.safetensors"), "--to", "html", "-o", str(place / "ours.html")
        )
        address, browser = serve(place), Browser(place / "profile")
        settings = f"engine=webgl&paused=1&seed=1&size={size}x{size}"
        pages = {
            "hexells": "theirs.html",
            "ours": f"ours.html#{settings}",
            "ours, 8-bit states": f"ours.html#{settings}&state=byte",
        }
        tabs: dict[str, Tab] = {}
        for who, page in pages.items():
            tabs[who] = browser.tab(f"{address}/{page}", (size, size))
            if who != "hexells":
                tabs[who].wait("window.nca !== undefined")
                tabs[who].run(OURS)
            tabs[who].wait("window.measured !== undefined")
        times: dict[str, list[list[float]]] = {who: [] for who in tabs}
        for _ in range(TURNS):
            for who, tab in tabs.items():
                times[who].append(tab.run(TIME % (CALLS, CALLS)))
        renderer = tabs["ours"].run(
            "(() => { const { gl } = nca.app.engine; return gl.getParameter(gl.getExtension("
            "'WEBGL_debug_renderer_info')?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER) })()"
        )
        version = browser.call("Browser.getVersion")["product"]
        browser.close()
    rows = {
        who: [statistics.median(column) for column in zip(*t, strict=True)]
        for who, t in times.items()
    }
    whole = sum(rows["hexells"])
    call = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [
        f"## {datetime.date.today().isoformat()}, commit {commit.stdout.strip()}; {version}",
        "",
        f"{name} on {size} x {size} cells, all in sight; WebGL by {renderer}.",
        "",
        "| page | a step | drawing | a frame of both | times faster than hexells |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {who} | {step:.1f} ms | {draw:.1f} ms | {step + draw:.1f} ms "
            f"| {whole / (step + draw):.2f} |"
            for who, (step, draw) in rows.items()
        ),
    ]
    print("\n".join(lines))
    if choice.append:
        path = ROOT / "docs" / "benchmarks" / "pages.md"
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
