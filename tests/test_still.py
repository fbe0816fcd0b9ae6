"""Laws of the price of pictures that go on changing: what it counts, and what it does to rules."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from learning import Watching, awake, small_plan
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.judging import judge
from nca_texture.losses.base import Grown
from nca_texture.losses.classes import ByClass
from nca_texture.losses.moving import Moving
from nca_texture.losses.still import StillLoss
from nca_texture.train_plan import TrainPlan
from nca_texture.training import train


def grown(change: float, ages: list[int], calm: list[bool]) -> Grown:
    before = torch.rand(len(ages), 5, 4, 6)
    state = before.clone()
    state[:, :3] += change
    state[:, 3:] += 7  # what nobody sees may change
    found: dict[str, Any] = {
        "ages": torch.tensor(ages),
        "calm": torch.tensor(calm),
        "before": before,
        "steps": 4,
    }
    return Grown(state[:, :3], state.requires_grad_(), **found)


def price(seen: Grown, after: int) -> Tensor:
    return StillLoss(after=after)(seen, torch.Generator())


def test_only_old_states_that_nothing_befell_are_held() -> None:
    seen = grown(-0.25, [13, 14, 99, 99], [True, True, True, False])
    values = price(seen, 10)  # states that were 9, 10, 95 and 95 steps old
    torch.testing.assert_close(values, torch.tensor([0, 0.25, 0.25, 0]))
    values.sum().backward()
    assert seen.state.grad is not None
    moved = seen.state.grad.flatten(2).abs().sum(2) > 0
    assert moved.tolist() == [[False] * 5, [True] * 3 + [False] * 2, [True] * 3 + [False] * 2,
                              [False] * 5]  # fmt: skip


def test_a_rule_that_still_learns_pays_nothing() -> None:
    seen = grown(0.5, [99], [True])
    values = [price(replace(seen, progress=share), 10).item() for share in (0.69, 0.71, 1.0)]
    assert values == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize("unknown", ["before", "calm", "ages"])
def test_what_nobody_has_seen_before_is_free(unknown: str) -> None:
    seen = replace(grown(0.5, [50, 60], [True, True]), **{unknown: None})
    assert price(seen, 0).tolist() == [0, 0]


def test_a_price_begins_at_some_age_and_within_a_training() -> None:
    with pytest.raises(ValueError, match="after has to be at least 0, got -1"):
        StillLoss(after=-1)
    with pytest.raises(ValueError, match="begin is a share of the training, 0 to 1, got 2"):
        StillLoss(begin=2)


def test_a_picture_that_moves_as_a_whole_is_at_rest_in_its_frame() -> None:
    before = torch.rand(2, 5, 6, 8)
    state = before.roll(3, 3)  # in six steps, of half a cell to the right each
    ages, calm = torch.tensor([106, 46]), torch.tensor([True, True])
    seen = Grown(state[:, :3], state, steps=6, ages=ages, before=before, calm=calm)
    assert Moving(StillLoss(after=0), (0.0, 0.5))(seen, torch.Generator()).tolist() == [0, 0]
    assert min(price(seen, 0).tolist()) > 0.1


def test_each_class_pays_for_its_own_samples() -> None:
    seen = replace(grown(0.5, [20, 60, 30], [True] * 3), labels=torch.tensor([1, 0, 1]))
    loss = ByClass([StillLoss(after=0), StillLoss(after=20)])
    assert loss(seen, torch.Generator()).tolist() == pytest.approx([0, 0.5, 0.5])


def shown_by(plan: TrainPlan, automaton: CellularAutomaton) -> list[Grown]:
    loss = Watching()
    for _ in train(automaton, loss, plan):
        pass
    return [seen for seen in loss.shown if seen.before is not None]  # others are sorted by it


def test_training_tells_what_befell_a_state() -> None:
    plan = small_plan(
        iterations=30, batch_size=1, pool_size=3, reseed_every=5, damage=1, damage_every=3
    )
    automaton = awake(seed_kind="noise")
    last: list[Tensor] = []
    for iteration, seen in enumerate(shown_by(plan, automaton)):
        assert seen.before is not None
        assert seen.calm is not None
        assert seen.ages is not None
        begun = iteration % 5 == 0
        assert seen.calm.tolist() == [not begun and iteration % 3 != 0]
        gone_on = any(torch.equal(seen.before[0], state) for state in last)
        assert gone_on or not seen.calm or bool(seen.ages == seen.steps)
        last.append(seen.state[0].detach())


def test_being_told_another_class_is_a_change() -> None:
    plan = small_plan(iterations=12, batch_size=2, pool_size=8, switch=1, reseed_every=1000)
    automaton = awake(classes=2, condition="one-hot", channels=6, seed_kind="noise")
    for iteration, seen in enumerate(shown_by(plan, automaton)):
        assert seen.calm is not None
        assert seen.calm.tolist() == [iteration > 0, False]


def motion(automaton: CellularAutomaton) -> float:
    state = automaton.grow(automaton.seed(4, (12, 12), seed=3), 40, seed=1)
    later = automaton.grow(state, 8, seed=2)
    return (later - state)[:, :3].abs().mean().item()


def test_a_rule_that_pays_for_change_comes_to_rest() -> None:
    automaton = awake()
    before = motion(automaton)
    plan = small_plan(iterations=60, steps=(4, 8), reseed_every=12)
    for _ in train(automaton, StillLoss(after=16, begin=0.0), plan):
        pass
    assert motion(automaton) < 0.5 * before


def test_a_verdict_counts_change_from_mark_to_mark() -> None:
    automaton, plan = awake(), small_plan(steps=(8, 16), judge_steps=200)
    verdict = judge(automaton, StillLoss(after=32), plan)
    assert verdict.marks == (16, 32, 64, 200)
    assert [loss > 0 for loss in verdict.losses] == [False, False, True, True]
