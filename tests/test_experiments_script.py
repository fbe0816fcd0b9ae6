"""What the experiments are measured by tells a rule from one that does nothing."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from nca_texture.losses.pixel import premultiply
from nca_texture.presets import PRESETS
from nca_texture.recipe import Recipe, fitted, with_settings
from nca_texture.surgery import Theatre
from nca_texture.targets import read_classes, read_target, with_room
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def measures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("growth_measures", SCRIPTS / "growth_measures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    return module


def subject(measures: ModuleType, name: str, iterations: int = 0) -> Any:
    """Make the small size of an experiment, trained for a moment."""
    recipe: Recipe = PRESETS[f"{name}-small"].recipe
    settings = ["training.batch_size=4", "training.pool_size=4", "training.steps=[4,5]"]
    settings += [f"training.iterations={max(iterations, 1)}", "training.judge_every=0"]
    recipe = with_settings(recipe, settings)
    plan = recipe.target
    if plan.sources:
        exemplar = read_classes(plan.sources, exemplar_size=plan.exemplar_size)
    else:
        exemplar = read_target(plan.source or "figure:gecko", exemplar_size=plan.exemplar_size)
    exemplar = with_room(exemplar, plan.padding)
    recipe = fitted(recipe, exemplar)
    automaton, loss = recipe.build_automaton(), recipe.build_loss(exemplar)
    theatre = Theatre(automaton, recipe.event) if recipe.event else None
    for _ in train(automaton, loss, recipe.training, theatre=theatre) if iterations else ():
        pass
    return measures.Subject(automaton.requires_grad_(False), recipe, loss, exemplar.image)


def full(automaton: Any, picture: Tensor, count: int) -> Tensor:
    """Make states that show ``picture`` [1, 4, H, W], premultiplied."""
    hidden = picture[:, 3:].expand(-1, automaton.channels - 4, -1, -1)
    return torch.cat([picture, hidden], 1).expand(count, -1, -1, -1)


def test_the_ideal_spiral_passes_and_a_rule_that_does_nothing_fails(measures: ModuleType) -> None:
    shell = subject(measures, "nautilus")
    ideal = full(shell.automaton, premultiply(shell.target), measures.CUTS)
    nobody = torch.zeros(measures.CUTS, dtype=torch.long)
    assert shell.scores(ideal, nobody, 0).max() == 0
    for quarters in (1, 2):
        assert measures.apart(shell, ideal, quarters).max() < 0.01
    left = measures.cycles(shell, measures.idle(shell), ideal)
    assert len(left) == measures.CYCLES + 1
    assert measures.CYCLES >= 6
    assert shell.scores(left[-1], nobody, 0).min() > 0.05
    assert measures.apart(shell, left[-1], 1).min() > 0.05


def test_how_far_a_picture_has_come_is_found(measures: ModuleType) -> None:
    worm = subject(measures, "worm-moving")
    goal = premultiply(worm.target)
    shifts = [(0, 0), (3, -5), (-20, 11)]
    later = torch.cat([goal.roll(shift, (2, 3)) for shift in shifts])
    assert measures.moved(goal.expand(3, -1, -1, -1), later).tolist() == [list(s) for s in shifts]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bone", ["cavity alive at most", "cavity alive at the end"]),
        ("newt-graft", ["ring of the graft", "with zeroed weights"]),
        ("worm-moving", ["cells per step (down, right)", "error where it is at 10x"]),
        ("multiclass-flowers", ["mixture to its parents", "nearer than these", "after 9 steps"]),
        ("nautilus", ["cycles", "turned and scaled by 1/4 turn", "with zeroed weights"]),
    ],
)
def test_each_experiment_is_measured_by_what_it_is_for(
    measures: ModuleType, name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "LATE", 9)
    one = subject(measures, name, 1)
    found = measures.spiral(one) if name == "nautilus" else {}
    for own in measures.OWN.get(name, ()):
        found |= own(one)
    assert set(words) <= found.keys()
    assert json.loads(json.dumps(found)) == found


def call(*args: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / "experiments.py"), *args]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_lesson_and_its_rival_are_trained_and_written_side_by_side(tmp_path: Path) -> None:
    settings = tiny.arguments({"training.iterations": 2, "training.batch_size": 2})
    settings += [*tiny.without_loss(tiny.TINY), "--set", "automaton.channels=5"]
    place = ["--runs", str(tmp_path / "runs"), "--docs", str(tmp_path)]
    (tmp_path / "growth.md").write_text("old\n<!-- by hand -->\n\nKept.\n")
    call("pokemon-curriculum", "--time", "5m", *place, *settings)
    rows = json.loads((tmp_path / "growth.json").read_text())
    lesson, rival = "pokemon-curriculum-small", "pokemon-curriculum-small without lessons"
    assert list(rows) == [lesson, rival]
    assert all(row["iterations"] == "2 of 2" for row in rows.values())
    page = (tmp_path / "growth.md").read_text()
    assert f"| `{rival}` | 2 of 2 |" in page
    assert page.endswith("<!-- by hand -->\n\nKept.\n")
    assert "old" not in page
    kept = [tmp_path / "growth" / f"{name.replace(' ', '-')}.png" for name in rows]
    assert all(path.exists() for path in kept)
    recipe = (tmp_path / "runs" / rival.replace(" ", "-") / "recipe.toml").read_text()
    assert "threshold = 0.0" in recipe
