"""The script that compares presets goes on where it was, and tabulates what it has found."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "quality.py"


def row(texture: str, by: str, style: float, drift: float = 0.0) -> dict:
    look = {"style compact": style, "patches": style, "spectrum": 3.0, "colour": 2.0}
    return {
        "texture": texture, "by": by, "iterations": 5, "seconds": 9, "looks": [look],
        "part": look, "drift": {"style compact": drift, "patches": 0.0}, "recovery": {},
        "copy": 0, "target_repeat": 14, "faults": [{"name": "dead"}], "parameters": 588,
        "cost": {"milliseconds": 40.0},
    }  # fmt: skip


def call(*args: str, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    for folder in ("targets", "published"):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "stones.png")
    place = ["--store", "found.jsonl", "--runs", "runs", "--published", "published"]
    args = ["targets", *place, "--preset", "draft", "--iterations", "1", "--side", "32"]
    args += ["--set", "training.pool_size=4"]
    first = call(*args, "--late", "640", place=tmp_path)
    assert "stones.png published" in first
    assert "stones.png draft training.pool_size=4:" in first
    rows = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [each["by"] for each in rows] == ["published", "draft training.pool_size=4"]
    assert [look["steps"] for look in rows[1]["looks"]] == [64, 192, 640]
    assert rows[1]["samples"] == 2, "of which all is measured"
    assert set(rows[1]["drift"]) == set(rows[1]["drift_error"]) == {"style compact", "patches"}
    assert min(rows[1]["drift_error"].values()) > 0, "of several growths"
    same, seed = (each["looks"][-1]["style compact"] for each in rows)
    assert same < seed
    table = (tmp_path / "found.md").read_text()
    assert "| draft training.pool_size=4 | 1 |" in table
    recipes = list((tmp_path / "runs").glob("draft*/stones/recipe.toml"))
    assert ["pool_size = 4\n" in recipe.read_text() for recipe in recipes] == [True]
    assert Image.open(tmp_path / "runs" / "grid.png").size == (4 * 132, 132)
    again = call(*args, place=tmp_path)
    assert "stones.png" not in again


def test_the_table_counts_who_is_closer(tmp_path: Path) -> None:
    rows = [
        row("a.png", "published", 0.3), row("a.png", "draft", 0.2, drift=0.5),
        row("b.png", "published", 0.3), row("b.png", "draft", 0.4),
        row("b.png", "best", 0.2, drift=0.25) | {"drift_error": {"style compact": 0.08}},
        row("a.png", "draft 8/96", 0.25),
    ]  # fmt: skip
    (tmp_path / "targets").mkdir()
    (tmp_path / "found.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    call("targets", "--store", "found.jsonl", "--runs", "runs", "--report", place=tmp_path)
    table = (tmp_path / "found.md").read_text()
    assert "| draft | 2 | 1 (0.94) | 1 (0.94) | 1 (0.94) | 1 |" in table
    assert "| draft 8/96 | 588 | 40 | 0.250 |" in table
    assert "| a.png | part |" in table
    assert "| +25% ±8 +0% |" in table
