"""Measure the peak memory and the speed of rendering, against the plain kernel.

Every picture is made in a process of its own; memory is what it takes beyond what importing and a
first small picture took. Seconds are those of the clock, so leave the machine alone; those of the
kernel are the median of steps of a block of 256 rows, scaled to as many cells. Run with:
python scripts/measure_rendering.py [HEIGHT ...] [--append]
"""

import argparse
import datetime
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median

from bench import processor

ROOT = Path(__file__).resolve().parents[1]
WIDTH, STEPS = 2048, 64


def automaton():
    """Make a compact model, of the size of muNCA's."""
    import torch

    from nca_texture.automaton import CellularAutomaton

    made = CellularAutomaton(channels=8, hidden=16)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.1)
    return made


def memory(name: str) -> int:
    """Read a number of bytes of this process."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def swept(height: int, budget: int | None) -> None:
    """Render a picture; print the memory planned and taken, seconds, and the way."""
    from nca_texture.planning import plan
    from nca_texture.render import paint

    made = automaton()
    for _ in paint(made, plan(made, (64, 64), 2)):
        pass
    job = plan(made, (height, WIDTH), STEPS, memory=budget)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = memory("VmRSS"), time.perf_counter()
    for _ in paint(made, job):
        pass
    took = time.perf_counter() - began
    print(job.memory, memory("VmHWM") - before, took, job.way)


def plain(height: int) -> None:
    """Grow as many columns the plain way; print seconds for a picture of ``height``."""
    import torch

    rows, steps = 256, 16
    made = automaton()
    with torch.inference_mode():
        state = made.grow(made.seed(1, (rows, WIDTH)), 4)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            made.grow(state, steps)
            took.append(time.perf_counter() - began)
        print(median(took) * height / rows * STEPS / steps)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heights", type=int, nargs="*", default=[2048, 8192])
    parser.add_argument("--memory", type=int, help="bytes that may be used")
    parser.add_argument("--append", action="store_true", help="also append to docs/benchmarks/")
    parser.add_argument("--one", choices=["swept", "plain"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        swept(asked.heights[0], asked.memory) if asked.one == "swept" else plain(asked.heights[0])
        return
    lines = [
        header(),
        "",
        f"{WIDTH} pixels wide, {STEPS} steps, 8 channels, 16 hidden.",
        "",
        "| rows | way | MB planned | MB taken | seconds | times the kernel's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    for height in asked.heights:
        numbers = []
        for kind in ("swept", "plain"):
            call = [sys.executable, __file__, "--one", kind, str(height)]
            call += ["--memory", str(asked.memory)] if asked.memory else []
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            numbers += done.stdout.split()
        planned, taken, took, way, alone = numbers
        lines.append(
            f"| {height} | {way} | {int(planned) / 2**20:.0f} | {int(taken) / 2**20:.0f} "
            f"| {float(took):.1f} | {float(took) / float(alone):.2f} |"
        )
        print(lines[-1], flush=True)
    if asked.append:
        with (ROOT / "docs" / "benchmarks" / "rendering.md").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


def header() -> str:
    """Say when, of what and where."""
    import torch

    call = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    kernel = automaton().kernel_for(automaton().seed(1, (2, 2)))
    return (
        f"## {datetime.date.today().isoformat()}, commit {commit.stdout.strip()}; {processor()}, "
        f"{torch.get_num_threads()} threads, kernel {kernel}; Python {platform.python_version()}, "
        f"torch {metadata.version('torch')}, numpy {metadata.version('numpy')}."
    )


if __name__ == "__main__":
    main()
