"""Laws of the larger, older grid that windows are cut out of."""

from typing import Any

import pytest
import torch
from learning import Spy, ToColour, Watching, awake, small_plan

from nca_texture.grid import Grid
from nca_texture.judging import judge
from nca_texture.training import train
from nca_texture.wide import Wide, age_on, window


def numbered(height: int, width: int) -> Wide:
    cells = torch.arange(float(height * width)).view(1, 1, height, width)
    return Wide(cells.expand(1, 4, -1, -1), torch.zeros(1), torch.zeros(1))


def test_a_window_is_what_lies_together_on_the_torus() -> None:
    tops, lefts = set(), set()
    for seed in range(200):
        chance = torch.Generator().manual_seed(seed)
        cut = window(numbered(8, 10), (4, 5), chance)
        assert cut.shape == (4, 4, 5)
        rows, columns = cut[0].long() // 10, cut[0].long() % 10
        assert ((rows - rows[0, 0] - torch.arange(4)[:, None]) % 8 == 0).all()
        assert ((columns - columns[0, 0] - torch.arange(5)) % 10 == 0).all()
        tops.add(int(rows[0, 0]))
        lefts.add(int(columns[0, 0]))
    assert tops == {0, 2, 4, 6}, "rows of a hexagonal grid keep their shift"
    assert lefts == set(range(10))


def test_it_grows_older_always_alike_until_it_is_sown_anew() -> None:
    plan = small_plan(window_every=4, iterations=4 * 75)  # 8 x 10 cells, 2 to 4 steps
    automaton = awake(seed_kind="noise")
    wide, ages = None, []
    for iteration in range(1, plan.iterations, 4):
        before, wide = wide, age_on(wide, automaton, plan, iteration, "auto")
        ages.append(int(wide.ages))
        if iteration == 9:
            assert before is not None
            assert wide.state.shape == (1, automaton.channels, 12, 16)
            assert not wide.state.requires_grad
            again = age_on(before, automaton, plan, iteration, "auto")
            assert torch.equal(again.state, wide.state)
    assert ages == [16 * n for n in (*range(1, 39), *range(1, 38))], "to the end, where it is old"


def test_a_window_is_lent_at_the_stated_interval_with_its_age() -> None:
    loss, ages = Watching(), []
    plan = small_plan(
        iterations=20, batch_size=1, pool_size=1, window_every=8, reseed_every=8, damage=1,
        damage_every=4,
    )  # fmt: skip
    for report in train(awake(seed_kind="noise"), loss, plan):
        told = loss.shown[-1].ages
        assert told is not None
        ages.append(int(told) - report.steps)
    assert [ages[at] for at in (2, 10, 18)] == [16, 32, 48]
    assert [ages[at] for at in (0, 8, 16)] == [0, 0, 0], "seeds come at other times"
    assert ages[7] > ages[4] > ages[3] > ages[2], "a window stays in the pool"


def test_in_a_larger_batch_a_window_lies_beside_what_starts_anew() -> None:
    loss, ages = Watching(), []
    plan = small_plan(iterations=8, window_every=4, reseed_every=1)
    for report in train(awake(seed_kind="noise"), loss, plan):
        told = loss.shown[-1].ages
        assert told is not None
        ages.append((told - report.steps).tolist())
    assert [ages[at] for at in (1, 5)] == [[0, 16], [0, 32]]


def test_all_classes_have_windows() -> None:
    plan = small_plan(window_every=1, iterations=42)
    automaton = awake(seed_kind="noise", condition="one-hot", classes=3)
    kinds = [int(age_on(None, automaton, plan, at, "auto").classes) for at in range(0, 56, 14)]
    assert kinds == [0, 1, 2, 0]
    wide = age_on(None, automaton, plan, 20, "auto")
    assert wide.state[0, -3:].flatten(1).mean(1).tolist() == [0.0, 1.0, 0.0]


def test_what_ran_away_is_never_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    automaton, plan = awake(seed_kind="noise"), small_plan(window_every=2, iterations=6)

    def blown_up(*args: Any) -> Wide:
        found = age_on(*args)
        return Wide(found.state * 1e6, found.classes, found.ages)

    monkeypatch.setattr("nca_texture.training.age_on", blown_up)
    for report in train(automaton, ToColour(), plan):
        assert report.snapshot().wide is None
    assert all(start.abs().max() < 100 for start in spy.starts)


@pytest.mark.parametrize("settings", [{"grid": Grid("square", "zero")}, {"seed_kind": "cell"}])
def test_windows_are_of_a_torus_full_of_a_texture(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"training\.window_every"):
        next(train(awake(**settings), ToColour(), small_plan(window_every=8)))


def test_windows_need_a_pool() -> None:
    with pytest.raises(ValueError, match=r"training\.window_every"):
        small_plan(window_every=8, persistent=False)


def test_a_rule_is_judged_on_a_larger_grid_where_it_learns_on_one() -> None:
    wide, large = {"window_every": 4}, {"large_every": 2}
    for settings, width, height, growths in (
        ({}, 10, 8, 4), (wide, 16, 12, 2), (large, 16, 12, 2), (wide | large, 16, 12, 2)
    ):  # fmt: skip
        plan = small_plan(batch_size=4, pool_size=8, judge_steps=6, **settings)
        loss = Watching()
        picture = judge(awake(seed_kind="noise"), loss, plan).picture
        assert picture.shape == (3, height, width)
        assert [len(seen.image) for seen in loss.shown] == [growths] * 2
