"""Measure the peak memory and the speed of rendering, against the plain kernel.

Every picture is made in a process of its own; memory is what it takes beyond what importing and a
first small picture took. Seconds are those of the CPU, so that other work counts less. Run with:
python scripts/measure_rendering.py [HEIGHT ...]
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

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
    """Render a picture; print the memory planned and taken, CPU seconds, and the way."""
    from nca_texture.planning import plan
    from nca_texture.render import paint

    made = automaton()
    for _ in paint(made, plan(made, (64, 64), 2)):
        pass
    job = plan(made, (height, WIDTH), STEPS, memory=budget)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = memory("VmRSS"), time.process_time()
    for _ in paint(made, job):
        pass
    took = time.process_time() - began
    print(job.memory, memory("VmHWM") - before, took, job.way)


def plain(height: int) -> None:
    """Grow as many columns the plain way; print CPU seconds for a picture of ``height``."""
    import torch

    rows, steps = 256, 16
    made = automaton()
    with torch.inference_mode():
        state = made.grow(made.seed(1, (rows, WIDTH)), 4)
        began = time.process_time()
        made.grow(state, steps)
        print((time.process_time() - began) * height / rows * STEPS / steps)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heights", type=int, nargs="*", default=[2048, 8192])
    parser.add_argument("--memory", type=int, help="bytes that may be used")
    parser.add_argument("--one", choices=["swept", "plain"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        swept(asked.heights[0], asked.memory) if asked.one == "swept" else plain(asked.heights[0])
        return
    print(
        f"{WIDTH} wide, {STEPS} steps: height, MB planned, MB taken, CPU seconds, times the kernel"
    )
    for height in asked.heights:
        numbers = []
        for kind in ("swept", "plain"):
            call = [sys.executable, __file__, "--one", kind, str(height)]
            call += ["--memory", str(asked.memory)] if asked.memory else []
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            numbers += done.stdout.split()
        planned, taken, took, way, alone = numbers
        print(
            f"{height:6} {int(planned) / 2**20:6.0f} {int(taken) / 2**20:6.0f} "
            f"{float(took):7.1f} {float(took) / float(alone):5.2f}  {way}"
        )


if __name__ == "__main__":
    main()
