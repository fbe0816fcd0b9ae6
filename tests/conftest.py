"""The command in real processes: one that has imported torch forks a child for every call.

Starting Python with torch takes two seconds, which a hundred calls cannot afford. A child is a
process of its own, with its own streams, folder, environment, limits and signals; only the imports
are shared. One thread, because a fork keeps no other.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton's kernels are tested in its interpreter then. It has to be asked for before anything
    # imports Triton, as torchvision does.
    os.environ.setdefault("TRITON_INTERPRET", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's job in the background ignores Ctrl+C, and so would every process that a test stops.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SERVER = """
import json, os, resource, signal, sys, traceback
import torch
from nca_texture.cli import main
import nca_texture.recipe, nca_texture.render, nca_texture.runs, nca_texture.seams
import nca_texture.losses.features, nca_texture.losses.patch, nca_texture.quality.scorecard

def become(job):
    os.chdir(job["place"])
    os.environ.update(job["env"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job["most_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["most_bytes"],) * 2)
    signal.alarm(120)
    sys.path[:0] = [part for part in job["env"].get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.argv = ["nca-texture", *job["args"]]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0

for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        status = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
        print(status, flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = become(job)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process works alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def plain_environment() -> dict[str, str]:
    """Return the environment without settings of ours."""
    ours = ("NCA_TEXTURE", "TRITON_INTERPRET")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass(frozen=True)
class Done:
    """How a call of the command ended; a signal that killed it is a negative exit code."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """A call of the command under way."""

    def __init__(self, server: "Command", pid: int, streams: Path) -> None:
        self.server = server
        self.pid = pid
        self.streams = streams

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Done:
        code = self.server.ask({"wait": self.pid})
        return Done(
            code,
            self.streams.with_suffix(".out").read_text(),
            self.streams.with_suffix(".err").read_text(),
        )


class Command:
    """Starts ``nca-texture`` with arguments, in a folder."""

    def __init__(self, streams: Path) -> None:
        self.streams = streams
        self.calls = 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=plain_environment() | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, job: Mapping[str, object]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(
        self,
        args: Sequence[str],
        place: Path,
        env: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
    ) -> Running:
        """Begin a call; ``most_bytes`` limits what a file can hold, as a full disk does."""
        self.calls += 1
        streams = self.streams / str(self.calls)
        job = {
            "args": list(args),
            "place": str(place),
            "env": dict(env or {}),
            "most_bytes": most_bytes,
            "stdout": str(streams.with_suffix(".out")),
            "stderr": str(streams.with_suffix(".err")),
        }
        return Running(self, self.ask(job), streams)

    def __call__(
        self,
        args: Sequence[str],
        place: Path,
        env: Mapping[str, str] | None = None,
        most_bytes: int | None = None,
    ) -> Done:
        """Call and wait for the end."""
        return self.start(args, place, env, most_bytes).wait()


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Give tests the command; children that are left when all is done go with it."""
    server = Command(tmp_path_factory.mktemp("streams"))
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=60)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a file with made-up numbers of the smallest feature network, ``squeezenet1_1``."""
    from safetensors.torch import save_file
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    model = squeezenet1_1(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.uniform_(module.bias, -0.1, 0.3)
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    save_file({k: t for k, t in model.state_dict().items() if k.startswith("features")}, path)
    return str(path)


@pytest.fixture(scope="session")
def whole_command() -> "type[WholeCommand]":
    """Give tests the command as a user starts it, from the interpreter on."""
    return WholeCommand


class WholeCommand:
    """``python -m nca_texture`` in a new interpreter."""

    @staticmethod
    def run(
        args: Sequence[str], place: Path, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "nca_texture", *args],
            cwd=place,
            env=plain_environment() | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
