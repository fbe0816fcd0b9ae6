"""All of continuous integration: format, lint, types and tests; run everything, then judge."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The tests come last, so that their summary ends the output.
COMMANDS = (
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["pyright", "--pythonpath", sys.executable],
    ["pytest", "-m", "not gpu", "-n", "2", "--dist", "worksteal", "--durations", "15"],
)


def main() -> int:
    """Run each command in the root of the checkout; return 1 when one of them failed."""
    failed = []
    # Two test processes share two cores.
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    for command in COMMANDS:
        print("$", shlex.join(command), flush=True)
        began = time.monotonic()
        call = [sys.executable, "-m", *command]
        code = subprocess.run(call, cwd=ROOT, env=environment, check=False).returncode
        if code:
            failed.append(command[0])
        if command is not COMMANDS[-1]:  # pytest tells its time itself
            word = "failed" if code else "ok"
            print(f"{word} after {time.monotonic() - began:.1f} s\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
