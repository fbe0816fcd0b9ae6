"""Laws of the pool, and of what befalls the states that it lends before the rule grows them."""

import itertools
from typing import Any

import pytest
import torch
from learning import Spy, ToColour, Watching, awake, creature, growing_plan, small_plan

from nca_texture.curriculum import Curriculum
from nca_texture.damage import at_random, circle, cut, half, rectangle
from nca_texture.judging import judge
from nca_texture.pool import Pool
from nca_texture.training import train

# Lending


def test_a_pool_lends_without_repetition_and_takes_back() -> None:
    pool = Pool(torch.arange(6.0).view(6, 1, 1, 1).expand(6, 4, 3, 5))
    chance = torch.Generator().manual_seed(0)
    seen: set[int] = set()
    for _ in range(20):
        loan = pool.take(4, chance)
        places = loan.places.tolist()
        assert len(set(places)) == 4
        seen |= set(places)
        assert torch.equal(loan.states, pool.states[loan.places])
        before = pool.states.clone()
        loan.states.add_(100)  # a loan is a copy
        assert torch.equal(pool.states, before)
        pool.put(loan, before[loan.places] + 10)
        rest = [place for place in range(6) if place not in places]
        assert torch.equal(pool.states[rest], before[rest])
        assert torch.equal(pool.states[places], before[places] + 10)
    assert seen == set(range(6))


def test_a_pool_keeps_no_graph_and_not_the_callers_states() -> None:
    given = torch.zeros(2, 4, 3, 3)
    pool = Pool(given)
    loan = pool.take(2, torch.Generator())
    pool.put(loan, torch.ones(2, 4, 3, 3, requires_grad=True) * 2)
    assert not pool.states.requires_grad
    assert torch.equal(given, torch.zeros(2, 4, 3, 3))


def test_a_pool_of_many_sizes_lends_one_of_them_and_keeps_all() -> None:
    sizes = ((8, 9), (6, 12), (10, 7))
    pool = Pool(torch.zeros(7, 4, 8, 9), sizes=sizes)
    kept = {}
    for place in range(7):
        loan = pool.lend(torch.tensor([place]))
        assert loan.states.shape[-2:] == sizes[place % 3]
        kept[place] = torch.randn(loan.states.shape)
        pool.put(loan, kept[place])
    chance, lent = torch.Generator().manual_seed(0), [0] * 7
    for _ in range(200):
        loan = pool.take(2, chance)
        for place, state in zip(loan.places.tolist(), loan.states, strict=True):
            assert torch.equal(state, kept[place][0])
            lent[place] += 1
    assert min(lent) > 30, "each has its turn"


def test_every_so_many_states_one_is_half_as_wide_again() -> None:
    plan = small_plan(width=96, height=60, pool_size=7, large_every=3)
    assert plan.sizes == ((92, 144), (60, 96), (60, 96)), "in fours"
    assert small_plan().sizes == ((8, 10),)


def test_a_batch_is_drawn_from_all_states_of_a_size() -> None:
    plan = small_plan(pool_size=9, large_every=3)
    pool = Pool(torch.zeros(9, 4, 16, 16), sizes=plan.sizes)
    chance, met = torch.Generator().manual_seed(0), set()
    for _ in range(200):
        loan = pool.take(2, chance)
        places = sorted(loan.places.tolist())
        assert len({place % 3 == 0 for place in places}) == 1
        met.add(tuple(places))
    among = ([0, 3, 6], [1, 2, 4, 5, 7, 8])
    assert met == {pair for some in among for pair in itertools.combinations(some, 2)}


def test_a_training_on_two_sizes_shows_both_to_the_loss() -> None:
    loss = Watching()
    plan = small_plan(
        iterations=30, pool_size=8, width=16, height=12, large_every=4, damage=1, damage_every=2
    )
    for _ in train(awake(seed_kind="noise"), loss, plan):
        pass
    shown = {tuple(grown.image.shape[-2:]) for grown in loss.shown}
    assert shown == {(12, 16), (20, 24)}


def test_a_pool_of_two_sizes_holds_all_classes_that_fit() -> None:
    automaton = awake(condition="one-hot", classes=6, channels=6)
    plan = small_plan(pool_size=16, large_every=4)
    first = next(train(automaton, ToColour(), plan)).snapshot()
    assert first.pool_classes is not None
    assert set(first.pool_classes[torch.arange(16) % 4 > 0].tolist()) == set(range(6))


# What starts anew


def test_one_sample_starts_anew_at_the_stated_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    automaton = awake(seed_kind="cell", fire_rate=1.0)
    fresh = automaton.seed(1, (8, 10))[0]
    plan = small_plan(iterations=9, pool_size=2, reseed_every=4)
    for _ in train(automaton, ToColour(), plan):
        pass
    seeds = [[torch.equal(sample, fresh) for sample in start] for start in spy.starts]
    assert seeds[0] == [True, True]
    assert seeds[1:] == [[step % 4 == 0, False] for step in range(1, 9)]


def test_one_sample_is_damaged_at_the_stated_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    plan = small_plan(
        iterations=10, pool_size=2, reseed_every=100, damage=1, damage_every=3,
        damage_shapes=("half",),
    )  # fmt: skip
    for _ in train(awake(seed_kind="cell", fire_rate=1.0), ToColour(), plan):
        pass
    wounds = [[bool((sample == 0).any()) for sample in start] for start in spy.starts]
    assert wounds[1:] == [[False, step % 3 == 0] for step in range(1, 10)]


def test_in_a_batch_of_one_what_has_just_begun_is_not_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spy = Spy(monkeypatch)
    automaton = awake(seed_kind="cell", fire_rate=1.0)
    fresh = automaton.seed(1, (8, 10))[0]
    plan = small_plan(
        iterations=9, batch_size=1, pool_size=2, reseed_every=4, damage=1, damage_every=2,
        damage_shapes=("half",), steps=(9, 9),
    )  # fmt: skip
    for _ in train(automaton, ToColour(), plan):
        pass
    seeds = [torch.equal(start[0], fresh) for start in spy.starts]
    assert seeds[::4] == [True] * 3, "whole seeds, though damage is due"
    wounds = [bool((start[0] == 0).any()) for start in spy.starts]
    assert wounds[2::4] == [True] * 2


def test_at_first_all_samples_may_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    automaton = awake(seed_kind="cell", fire_rate=1.0)
    fresh = automaton.seed(1, (8, 10))[0]
    plan = small_plan(
        iterations=8, pool_size=2, reseed_every=100, from_seeds=0.5, damage=1,
        damage_shapes=("half",),
    )  # fmt: skip
    for _ in train(automaton, ToColour(), plan):
        pass
    seeds = [[torch.equal(sample, fresh) for sample in start] for start in spy.starts]
    assert seeds == [[True, True]] * 4 + [[False, False]] * 4
    assert (spy.starts[4][0] != 0).all(), "what was grown last is gone on with"


def test_fresh_seeds_of_noise_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    plan = small_plan(iterations=8, reseed_every=1)
    for _ in train(awake(seed_kind="noise"), ToColour(), plan):
        pass
    firsts = [start[0] for start in spy.starts]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(firsts, 2))


def test_the_growing_regime_starts_every_sample_from_the_seed() -> None:
    automaton, loss = creature(), Watching()
    lone = automaton.seed(1, (12, 14))
    reports = train(
        automaton, loss, growing_plan(persistent=False, steps=(1, 1), learning_rate=1e-9)
    )
    for report in reports:
        alpha = loss.shown[-1].state[:, 3]
        assert report.image.shape == (4, 4, 12, 14)
        far = torch.ones(12, 14, dtype=torch.bool)
        y, x = lone[0, 3].nonzero()[0].tolist()
        far[y - 1 : y + 2, x - 1 : x + 2] = False
        assert (alpha[:, far] == 0).all(), "after one step life is next to the seed only"


def test_the_worst_of_a_batch_starts_anew_and_the_best_is_damaged() -> None:
    automaton, loss = creature(), Watching()
    settings = growing_plan(reseed="worst", reseed_every=1, damage=1, damage_shapes=("half",))
    run = next(iter(train(automaton, loss, settings)))._run
    run.pool.states = (
        torch.ones_like(run.pool.states) * torch.linspace(0.2, 1, 8)[:, None, None, None]
    )
    batch = run.prepare()
    before = run.pool.states[batch.loan.places, 0, 0, 0]
    assert before.tolist() == sorted(before.tolist(), reverse=True), "the loss is their square"
    torch.testing.assert_close(batch.loan.states[0], automaton.seed(1, (12, 14))[0])
    untouched = batch.loan.states[1:3]
    torch.testing.assert_close(untouched, run.pool.states[batch.loan.places[1:3]])
    gone = (batch.loan.states[3] == 0).float().mean().item()
    assert 0.1 < gone < 0.95


def test_plans_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing"):
        growing_plan(damage=3, switch=1)
    with pytest.raises(ValueError, match="gone on with"):
        growing_plan(damage=1, persistent=False)
    with pytest.raises(ValueError, match="not from seeds"):
        growing_plan(from_seeds=0.5, curriculum=Curriculum(threshold=0.01))


def test_all_classes_have_their_turn_and_some_are_told_another() -> None:
    automaton = creature(condition="one-hot", classes=3)
    loss = Watching()
    settings = growing_plan(iterations=6, reseed="worst", reseed_every=1, switch=1, pool_size=9)
    labels = []
    for _ in train(automaton, loss, settings):
        grown = [each for each in loss.shown if each.steps][-1]
        assert grown.labels is not None
        told = grown.state[:, 8:, 0, 0].argmax(1)
        assert torch.equal(told, grown.labels), "what is told is what is scored"
        labels += [int(grown.labels[0])]
    assert set(labels) == {0, 1, 2}


def test_every_sample_has_its_own_age_which_the_loss_is_told() -> None:
    automaton, loss = creature(condition="one-hot", classes=2), Watching()
    half_way, seen, counted = None, [], torch.zeros(8, dtype=torch.long)
    settings = growing_plan(iterations=8, reseed="worst", reseed_every=1, steps=(2, 3), pool_size=8)
    for report in train(automaton, loss, settings):
        ages = loss.shown[-1].ages
        assert ages is not None
        assert ages[0] == report.steps, "the first was sown just now"
        seen += ages.tolist()
        counted = report._run.pool.ages
        if report.iteration == 4:
            half_way = report.snapshot()
    assert max(seen) > 2 * 3
    assert half_way is not None
    again = list(train(creature(condition="one-hot", classes=2), loss, settings, resume=half_way))
    assert torch.equal(again[-1]._run.pool.ages, counted)
    judged = creature()
    watching = Watching()
    judge(judged, watching, growing_plan(judge_steps=9, steps=(2, 3)))
    assert [each.ages.tolist() for each in watching.shown if each.ages is not None] == [
        [mark] * 4 for mark in (3, 6, 9)
    ]


# Damage


@pytest.mark.parametrize("shape", ["circle", "rectangle", "half"])
def test_damage_is_drawn_within_the_grid_and_clears_what_is_not_held(shape: Any) -> None:
    source = torch.Generator().manual_seed(1)
    drawn = [at_random(shape, (30, 40), source) for _ in range(50)]
    shares = [gone.float().mean().item() for gone in drawn]
    least, most = {"circle": (0.005, 0.13), "rectangle": (0.005, 0.17), "half": (0.3, 0.7)}[shape]
    assert least < min(shares) < max(shares) < most
    gone = drawn[-1]
    state = cut(torch.ones(2, 5, 30, 40), gone, held=1)
    assert (state[:, :4, gone] == 0).all()
    assert (state[:, :4, ~gone] == 1).all()
    assert (state[:, 4:] == 1).all()


def test_shapes_lie_where_they_are_said_to() -> None:
    assert circle((10, 20), (0.5, 0.25), 0.2)[5, 5]
    assert not circle((10, 20), (0.5, 0.25), 0.2)[5, 8]
    assert rectangle((10, 20), (0.5, 0.5), (0.4, 0.2)).sum() == 4 * 4
    right = half((10, 20), (0.5, 0.5), 0.0)
    assert right[:, 10:].all()
    assert not right[:, :10].any()
