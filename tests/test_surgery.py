"""What befalls a growing state: each deed of a timeline does what it says and no more."""

import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.recipe import timeline_from_toml
from nca_texture.surgery import Deed, Event, Theatre, resampled

TIMELINES = Path(__file__).resolve().parents[1] / "docs" / "timelines"

SIZE = (12, 16)


def creature(seed: int = 5, **settings: Any) -> CellularAutomaton:
    usual = {"channels": 8, "hidden": 12, "grid": Grid("square", "zero"), "bank": "growing-2020"}
    usual |= {"living": True, "seed_kind": "cell", "rgb_offset": 0.0}
    automaton = CellularAutomaton(**usual | settings)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        assert automaton.weight_out is not None
        automaton.weight_out.copy_(torch.randn(automaton.weight_out.shape, generator=source) * 0.1)
    return automaton.requires_grad_(False)


def state_of(automaton: CellularAutomaton) -> Tensor:
    state = torch.rand(2, automaton.channels, *SIZE, generator=torch.Generator().manual_seed(1))
    state[:, 3] += 0.5
    return state


def under(automaton: CellularAutomaton, *events: Event, steps: int = 4, **more: Any) -> Tensor:
    return Theatre(automaton, events, **more).grow(state_of(automaton), steps, seed=3)


def test_without_events_nothing_is_different() -> None:
    automaton = creature()
    want = automaton.grow(state_of(automaton), 4, seed=3)
    assert torch.equal(under(automaton), want)
    late = Event(at=4, do="erase")
    assert torch.equal(under(automaton, late), want)


def test_an_event_comes_before_the_step_of_its_number() -> None:
    automaton = creature()
    event = Event(at=2, do="erase", circle=(0.5, 0.5, 0.3))
    state = automaton.grow(state_of(automaton), 2, seed=3)
    state[:, :, event.region(SIZE)] = 0
    want = automaton.grow(state, 2, seed=3, start=2)
    assert torch.equal(under(automaton, event), want)
    theatre = Theatre(automaton, [event])  # in pieces the same
    state = state_of(automaton)
    for start in range(4):
        state = theatre.grow(state, 1, seed=3, start=start)
    assert torch.equal(state, want)


def test_damage_is_another_for_every_sample() -> None:
    automaton = creature()
    with torch.no_grad():
        automaton.weight_out.zero_()  # pyright: ignore
    grown = under(automaton, Event(at=1, do="damage", shape="rectangle"), steps=2)
    gone = (grown == 0).all(1)
    assert gone[0].any()
    assert not torch.equal(gone[0], gone[1])


def test_a_graft_is_a_copy_elsewhere() -> None:
    automaton = creature(condition="one-hot", classes=2)
    event = Event(at=0, do="graft", rectangle=(0.25, 0.25, 0.25, 0.34), to=(0.75, 0.75))
    before = state_of(automaton)
    after = Theatre(automaton, [event])._do(event, before, [3, 4])
    cells = event.region(SIZE)
    there = cells.roll((6, 8), (0, 1))
    assert torch.equal(after[:, :8, there], before[:, :8, cells])
    assert torch.equal(after[:, :, ~there], before[:, :, ~there])
    assert torch.equal(after[:, 8:], before[:, 8:])


def test_what_is_frozen_stays_until_it_thaws() -> None:
    automaton = creature()
    region = {"rectangle": (0.5, 0.5, 0.5, 0.5)}
    frozen = under(automaton, Event(at=1, do="freeze", **region))
    kept = automaton.grow(state_of(automaton), 1, seed=3)
    cells = Event(at=1, do="freeze", **region).region(SIZE)
    assert torch.equal(frozen[:, :, cells], kept[:, :, cells])
    assert not torch.equal(frozen[:, :, ~cells], kept[:, :, ~cells])
    mature = under(automaton, Event(at=1, do="freeze", what="visible", **region))
    assert torch.equal(mature[:, :4, cells], kept[:, :4, cells])
    assert not torch.equal(mature[:, 4:, cells], kept[:, 4:, cells])
    thawed = under(automaton, Event(at=1, do="freeze", **region), Event(at=3, do="thaw"))
    assert not torch.equal(thawed[:, :, cells], kept[:, :, cells])


def test_a_grid_is_enlarged_around_its_middle() -> None:
    automaton = creature()
    events = [Event(at=0, do="freeze"), Event(at=2, do="enlarge", size=(20, 18))]
    grown = under(automaton, *events)
    assert grown.shape[2:] == (18, 20)
    assert torch.equal(grown[:, :, 3:15, 2:18], state_of(automaton)), "still frozen"
    assert Theatre(automaton, events).size_at(SIZE, 1) == SIZE
    assert Theatre(automaton, events).size_at(SIZE, 2) == (18, 20)


def test_what_is_resampled_is_turned_and_scaled_around_a_place() -> None:
    field = torch.zeros(1, 2, 12, 16)
    field[0, 0, 6, 9] = 1.0  # to the right of the cell at (6, 5), four cells away
    turned = resampled(field, math.pi / 2, 1.0, (5.5 / 16, 6.5 / 12))
    torch.testing.assert_close(turned[0, 0, 10, 5], torch.tensor(1.0))  # now below it
    smaller = resampled(field, 0.0, 0.5, (5.5 / 16, 6.5 / 12))
    torch.testing.assert_close(smaller[0, 0, 6, 7], torch.tensor(1.0))
    automaton = creature(condition="one-hot", classes=2)
    state = state_of(automaton)
    event = Event(at=0, do="resample", angle=180.0)
    grown = Theatre(automaton, [event])._do(event, state, [1, 2])
    torch.testing.assert_close(grown[:, :8], state[:, :8].flip(2, 3))
    assert torch.equal(grown[:, 8:], state[:, 8:]), "what is held is the same everywhere"


def test_what_is_frozen_goes_along_when_all_is_resampled() -> None:
    automaton = creature()
    events = [
        Event(at=0, do="freeze", rectangle=(0.25, 0.5, 0.5, 1.0)),
        Event(at=2, do="resample", angle=180.0),
    ]
    grown = under(automaton, *events)
    torch.testing.assert_close(grown[..., 8:], state_of(automaton)[..., :8].flip(2, 3))


def test_only_what_lives_is_frozen_when_asked() -> None:
    automaton = creature()
    state = state_of(automaton)
    state[..., 8:] = 0
    event = Event(at=0, do="freeze", living=True)
    grown = Theatre(automaton, [event]).grow(state, 3, seed=3)
    assert torch.equal(grown[..., :8], state[..., :8])
    assert grown[..., 8:11].abs().max() > 0
    with pytest.raises(ValueError, match="do not live"):
        Theatre(creature(living=False), [event])


def test_an_event_may_come_several_times() -> None:
    automaton = creature()
    often = Event(at=1, do="damage", every=2, times=2)
    once = [Event(at=at, do="damage") for at in (1, 3)]
    assert torch.equal(under(automaton, often), under(automaton, *once))


def test_perception_turns_and_cells_slow_down_where_they_are_told() -> None:
    automaton = creature()
    state = state_of(automaton)
    turned = under(automaton, Event(at=0, do="rotate", angle=90.0))
    assert torch.equal(turned, automaton.grow(state, 4, seed=3, angle=np.pi / 2))
    left = Event(at=0, do="fire", rate=0.0, half=(0.5, 0.5, 180.0))
    grown = under(automaton, left)
    assert torch.equal(grown[..., :6], state[..., :6])
    assert not torch.equal(grown[..., 10:], state[..., 10:])
    partly = under(automaton, Event(at=0, do="rotate", angle=90.0, half=(0.5, 0.5, 0.0)))
    straight = automaton.grow(state, 4, seed=3)
    torch.testing.assert_close(partly[..., :3], straight[..., :3])


def test_a_region_becomes_another_class() -> None:
    automaton = creature(condition="one-hot", classes=2)
    event = Event(at=2, do="class", name="b", half=(0.5, 0.5, 0.0))
    grown = under(automaton, event, mixtures={"b": (0.0, 1.0)})
    assert (grown[:, 9, :, 8:] == 1).all()
    assert (grown[:, 8, :, 8:] == 0).all()
    assert torch.equal(grown[:, 8:, :, :8], state_of(automaton)[:, 8:, :, :8])


def test_the_rule_of_another_model_acts_where_it_is_put() -> None:
    automaton, other = creature(), creature(9)
    everywhere = under(automaton, Event(at=0, do="weights", model="b"), models={"b": other})
    torch.testing.assert_close(everywhere, other.grow(state_of(automaton), 4, seed=3))
    event = Event(at=0, do="weights", model="b", half=(0.5, 0.5, 0.0), blur=0.5)
    half = under(automaton, event, models={"b": other})
    straight = under(automaton)
    torch.testing.assert_close(half[..., :2], straight[..., :2])
    torch.testing.assert_close(half[..., -2:], everywhere[..., -2:])


def test_what_befalls_has_a_gradient() -> None:
    automaton = creature().requires_grad_()
    events = [Event(at=1, do="freeze", circle=(0.3, 0.3, 0.2)), Event(at=2, do="damage")]
    under(automaton, *events).square().mean().backward()
    gradient = automaton.weight_in.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no events"),
        ("[[event]]\nat = 1", "not complete"),
        ("[[event]]\nat = 1\ndo = 'graft'\nto = [0.5, 0.5]", "which circle or rectangle"),
        ("[[event]]\nat = 1\ndo = 'erse'", "did you mean 'erase'"),
        ("[[event]]\nat = 1\ndo = 'erase'\ncircle = [0.5]", "circle needs 3 numbers"),
        ("[[event]]\nat = 1\ndo = 'erase'\ncircel = [0.5]", "did you mean 'circle'"),
        ("[[event]]\nat = 1\ndo = 'enlarge'", "size needs 2 numbers"),
        ("[[event]]\nat = -1\ndo = 'erase'", "count from 0"),
        ("[[event]]\nat = 1\ndo = 'class'", "name is missing"),
        ("[[event]]\nat = 1\ndo = 'erase'\ntimes = 3", "with every at 1 or more"),
        ("[[event]]\nat = 1\ndo = 'resample'\nscale = 0", "scale lies between"),
        ("[[event]]\nat = 1\ndo = 'resample'\naround = [0.5]", "around needs 2 numbers"),
    ],
)
def test_a_mistake_in_a_timeline_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        timeline_from_toml(text)


@pytest.mark.parametrize("file", sorted(TIMELINES.glob("*.toml")), ids=lambda file: file.stem)
def test_timelines_of_the_docs_can_be_undergone(file: Path) -> None:
    events = timeline_from_toml(file.read_text())
    theatre = Theatre(creature(), events)
    state = state_of(creature())
    for event in events:
        state = theatre._do(event, state, [1, 2])
    table = (TIMELINES.parent / "timelines.md").read_text()
    assert all(f"| `{deed}` |" in table for deed in get_args(Deed))


def test_deeds_that_an_automaton_cannot_undergo_are_refused() -> None:
    with pytest.raises(ValueError, match="--condition one-hot"):
        Theatre(creature(), [Event(at=0, do="class", name="b")])
    with pytest.raises(ValueError, match="not loaded"):
        Theatre(creature(), [Event(at=0, do="weights", model="b")])
    with pytest.raises(ValueError, match="use --layout square"):
        Theatre(creature(grid=Grid("hex", "zero")), [Event(at=0, do="resample")])


TIMELINE = """
[[event]]
at = 2
do = "erase"
half = [0.5, 0.5, 0]

[[event]]
at = 3
do = "enlarge"
size = [20, 24]
"""
ARGS = ["--exemplar-size", "12", "--iterations", "2", "--set", "training.batch_size=2"]


def test_a_film_and_a_training_under_a_timeline(command: Any, tmp_path: Path) -> None:
    (tmp_path / "cuts.toml").write_text(TIMELINE)
    train = ["train", "figure:bone", *ARGS, *tiny.without_loss(tiny.TINY), "--padding", "2"]
    done = command([*train, "-o", "plain"], tmp_path)
    assert done.returncode == 0, done.stderr
    args = ["animate", "plain", "-o", "cut.gif", "--frames", "4", "--every", "1"]
    done = command([*args, "--timeline", "cuts.toml", "--background", "white"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "cut.gif").size == (20, 24)
    done = command([*train, "-o", "no", "--timeline", "cuts.toml"], tmp_path)
    assert done.returncode == 2
    assert "enlarge" in done.stderr
    (tmp_path / "cuts.toml").write_text(TIMELINE.split("\n\n")[0])
    done = command([*train, "-o", "cut", "--timeline", "cuts.toml"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'do = "erase"' in (tmp_path / "cut" / "recipe.toml").read_text()
