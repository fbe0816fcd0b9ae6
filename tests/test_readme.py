"""Every command and every Python example of the README runs; trainings and growth are cut short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)

# What a training of the README is cut down to; its own settings stand before these.
SHORT = [
    *("--set", "training.batch_size=2"),  # before the pool, which has to hold a batch
    *("--set", "training.iterations=3", "--set", "training.pool_size=8"),
    *("--set", "training.width=24", "--set", "training.height=24"),
    *("--set", "training.steps=[2, 3]", "--set", "training.judge_steps=4"),
]


def commands() -> list[list[str]]:
    """List the commands of the README in their order, without those that make an environment."""
    found = []
    for kind, text in BLOCKS:
        if kind != "sh":
            continue
        for line in text.strip().splitlines():
            for part in line.split(" && "):
                words = shlex.split(part)
                if words[0].startswith("PYTHONPATH="):
                    words = words[1:]
                if Path(words[0]).name == "nca-texture":
                    found.append(words[1:])
    return found


def cut_short(words: list[str]) -> list[str]:
    """Let a command of the README take seconds."""
    if words[0] == "train" and "--print-config" not in words:
        if "--time" in words:  # a budget is turned into iterations: give seconds, not minutes
            words[words.index("--time") + 1] = "2s"
        return words + SHORT
    if words[0] in ("tile", "wang") and "--steps" not in words:  # rules of three iterations
        return [*words, "--steps", "16"]
    return words


@pytest.mark.slow
def test_every_command_runs(command: Command, tmp_path: Path) -> None:
    for kind, text in BLOCKS:
        if kind == "python" and "class MeanColour" in text:
            (tmp_path / "colour.py").write_text(text)
    listed = commands()
    assert len(listed) >= 15
    for words in map(cut_short, listed):
        done = command(words, tmp_path, env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    for name in ("weave.png", "weave_proof.png", "tile.png", "strip.png", "hexagons.png"):
        assert (tmp_path / name).stat().st_size > 500


def test_set_up_commands_are_those_that_ci_runs() -> None:
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
    test_line = next(line for line in lines if "scripts/check.py" in line)
    assert '-e ".[dev]"' in test_line
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script or ("scripts/check.py" in script and ".[dev]" in script)


@pytest.mark.slow
def test_the_python_example_runs(tmp_path: Path) -> None:
    example = next(text for kind, text in BLOCKS if kind == "python" and "read_target" in text)
    assert "training.iterations=300" in example
    short = 'recipe, ["training.iterations=2", "training.width=24", "training.height=24"]'
    example = example.replace('recipe, ["training.iterations=300"]', short)
    result = subprocess.run(
        [sys.executable, "-W", "error:::nca_texture", "-c", example],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "weave.safetensors").exists()


def test_tables_of_the_readme_name_all_presets() -> None:
    from nca_texture.presets import PRESETS

    table = README.split("### Presets")[1].split("###")[0]
    named = set(re.findall(r"`([a-z]+[\w-]*)`", table))
    assert named == set(PRESETS)
