"""Laws of a run: it can be repeated, resumed and mended, and it keeps the best it found."""

import copy
import dataclasses
import itertools
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learning import Spy, ToColour, awake, losses_of, same, small, small_plan, weights_of
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.images import write_png
from nca_texture.judging import Verdict, judge, judge_together
from nca_texture.losses import build_loss
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.overflow import OverflowLoss
from nca_texture.losses.total import TotalLoss
from nca_texture.pace import calibrate
from nca_texture.recipe import AutomatonPlan, Recipe
from nca_texture.store import load, load_checkpoint, save, save_checkpoint
from nca_texture.targets import Exemplar, draw_sample
from nca_texture.train_plan import TrainPlan
from nca_texture.training import (
    Report,
    Snapshot,
    TrainingError,
    train,
)


class Indifferent(Loss):
    """A loss that nothing changes."""

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        return (grown.image * 0).sum((1, 2, 3)) + 1


class Slow(ToColour):
    """A loss that takes ten milliseconds."""

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        time.sleep(0.01)
        return super().forward(grown, generator)


def same_run(one: Snapshot, other: Snapshot) -> bool:
    names = {each.name for each in dataclasses.fields(Snapshot)}
    # What a loss is called exploded by is measured at the first look after a start.
    names -= {"first_loss"}
    return all(same(getattr(one, name), getattr(other, name)) for name in sorted(names))


# A run can be repeated and resumed


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({}, {}),
    "hex": ({"layout": "hex"}, {"schedule": "steps", "milestones": (3, 7)}),
    "abs": (
        {"rule": "abs", "bank": "munca-68", "seed_kind": "noise", "init": "small"},
        {"unit_state_gradients": True, "gradients": "none"},
    ),
    "living": (
        {"living": True, "seed_kind": "cell", "channels": 6, "fire_rate": 0.7},
        {"gradients": "clip", "warmup": 5},
    ),
    "soap": ({}, {"optimiser": "soap", "from_seeds": 0.4}),
    "windows": ({"seed_kind": "noise"}, {"window_every": 4}),
    "large": ({"seed_kind": "noise"}, {"window_every": 4, "large_every": 2, "pool_size": 6}),
}


@pytest.mark.parametrize("through_file", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_run_that_was_never_stopped(
    kind: str, through_file: bool, tmp_path: Path
) -> None:
    rule, settings = KINDS[kind]
    shape = AutomatonPlan(**{"channels": 4, "hidden": 6} | rule)
    plan = small_plan(iterations=13, judge_every=5, judge_steps=6, **settings)
    recipe = Recipe(automaton=shape, training=plan)
    exemplar = Exemplar(torch.rand(1, 3, 8, 10), "x", "x.png", "0" * 64, (8, 10), 1.0)

    whole = recipe.build_automaton()
    snapshots, last = {}, None
    for report in train(whole, ToColour(), plan):
        last = report.snapshot()
        if report.iteration in (1, 5, 10, 12, 13):
            snapshots[report.iteration] = last
    assert last is not None
    assert last.iteration == 13

    for at, snapshot in snapshots.items():
        if through_file:
            save_checkpoint(tmp_path / "checkpoint.safetensors", snapshot, recipe, exemplar)
            snapshot, recipe, exemplar = load_checkpoint(tmp_path / "checkpoint.safetensors")
        automaton = recipe.build_automaton()
        automaton.draw_weights("uniform", seed=99)
        end = snapshot
        for report in train(automaton, ToColour(), plan, resume=snapshot):
            end = report.snapshot()
        assert same_run(end, last), at
        assert same(weights_of(automaton), weights_of(whole)), at


def test_going_on_leaves_a_snapshot_as_it_was() -> None:
    reports = train(small(), ToColour(), small_plan())
    snapshot = next(reports).snapshot()
    before = copy.deepcopy(snapshot)
    for _ in reports:
        pass
    for _ in train(small(), ToColour(), small_plan(), resume=snapshot):
        pass
    assert same_run(snapshot, before)


def test_the_seed_decides_the_run() -> None:
    assert losses_of(small_plan(seed=3)) == losses_of(small_plan(seed=3))
    assert losses_of(small_plan(seed=3)) != losses_of(small_plan(seed=4))
    assert losses_of(small_plan(), init_seed=3) != losses_of(small_plan(), init_seed=4)


def test_chance_is_a_function_of_seed_and_iteration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)

    def draws_of(automaton: CellularAutomaton, plan: TrainPlan, resume: Any = None) -> list[Any]:
        spy.drawn.clear()
        loss = ToColour()
        for report in train(automaton, loss, plan, resume=resume):
            torch.rand(report.iteration)  # others may use the global generator
        pairs = zip(spy.drawn[::2], spy.drawn[1::2], strict=True)
        return list(zip(pairs, loss.draws, strict=True))

    plain = draws_of(small(), small_plan())
    assert len(plain) == 12
    assert len({repr(each) for each in plain}) == 12

    torch.manual_seed(123)
    other = small_plan(learning_rate=0.05, gradients="none", iterations=40, schedule="constant")
    assert draws_of(small(hidden=9, init="xavier"), other)[:12] == plain

    reports = train(small(), ToColour(), small_plan())
    snapshot = [next(reports).snapshot() for _ in range(5)][-1]
    assert draws_of(small(), small_plan(), snapshot) == plain[5:]

    assert draws_of(small(), small_plan(seed=1)) != plain


# It learns


@pytest.mark.parametrize("sample", ["bubbles", "lava"])
def test_the_loss_goes_down_on_a_drawn_sample(sample: str) -> None:
    target = torch.from_numpy(draw_sample(sample, 24)).permute(2, 0, 1)[None].float()
    patch = build_loss("patch", target, levels=3, samples=96, exemplar_samples=192)
    loss = TotalLoss([("patch", 1.0, patch), ("overflow", 10.0, OverflowLoss())])
    plan = small_plan(
        iterations=60, pool_size=8, width=24, height=24, steps=(8, 16), reseed_every=1, seed=1
    )
    automaton = CellularAutomaton(hidden=32, bank="distill-tf", init_seed=1)
    losses = [report.loss for report in train(automaton, loss, plan)]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_a_model_that_was_loaded_can_be_trained(tmp_path: Path) -> None:
    recipe = Recipe(automaton=AutomatonPlan(channels=4, hidden=6))
    save(tmp_path / "model.safetensors", recipe.build_automaton(), recipe)
    automaton, _ = load(tmp_path / "model.safetensors")
    before = weights_of(automaton)
    for _ in train(automaton, ToColour(), small_plan(iterations=2)):
        pass
    assert not same(weights_of(automaton), before)


def test_reports_tell_each_term_of_a_sum() -> None:
    loss = TotalLoss([("colour", 2.0, ToColour()), ("overflow", 3.0, OverflowLoss(limit=0.0))])
    plan = small_plan(iterations=4)
    for count, report in enumerate(train(awake(), loss, plan), 1):
        value = {name: each.item() for name, each in report.losses.items()}
        assert value["total"] == pytest.approx(2 * value["colour"] + 3 * value["overflow"])
        assert report.loss == value["total"]
        assert (report.iteration, report.iterations) == (count, 4)
        assert 2 <= report.steps <= 4
        assert report.image.shape == (2, 3, 8, 10)
        assert 0 <= report.image.min() <= report.image.max() <= 1
        assert report.events == ()


def test_training_prints_nothing_and_writes_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for report in train(small(), ToColour(), small_plan(judge_every=4, judge_steps=5)):
        report.snapshot()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


# What goes wrong is mended, or said


@pytest.mark.parametrize(
    ("factor", "words"),
    [(math.nan, "is not a number"), (math.inf, "exploded to inf"), (1e7, "exploded to")],
)
def test_a_loss_that_runs_away_goes_back_to_the_last_good_state(factor: float, words: str) -> None:
    plan = small_plan(iterations=70, schedule="constant", learning_rate=0.01)
    automaton, loss = small(), ToColour()
    reports = train(automaton, loss, plan)
    good: Snapshot | None = None
    for report in reports:
        if report.iteration == 50:
            good = report.snapshot()
        if report.iteration == 53:
            loss.factor = factor
        if report.events:
            break
    else:
        pytest.fail("nobody noticed")
    assert good is not None
    assert report.iteration == 50
    assert report.events[0].startswith(f"the loss {words}")
    assert report.events[0].endswith("went back to iteration 50 with 0.5 times the learning rate")
    assert same(weights_of(automaton), good.weights)
    now = report.snapshot()
    assert same([now.pool, now.optimizer["state"]], [good.pool, good.optimizer["state"]])
    loss.factor = 1.0
    rest = list(reports)
    assert [each.iteration for each in rest] == list(range(51, 71))
    assert all(each.learning_rate == 0.005 and not each.events for each in rest)


@pytest.mark.parametrize("factor", [math.nan, 1e9])
def test_a_run_that_keeps_running_away_stops_with_what_to_change(factor: float) -> None:
    loss = ToColour()
    rates, events = [], []

    def go() -> None:
        for report in train(small(), loss, small_plan(iterations=40, schedule="constant")):
            events.extend(report.events)
            rates.append(report.learning_rate)
            loss.factor = factor if report.iteration >= 12 else 1.0

    with pytest.raises(TrainingError, match=r"4th time.*training\.learning_rate") as error:
        go()
    assert len(events) == 3
    assert sorted(set(rates), reverse=True) == [2e-3, 1e-3, 5e-4, 2.5e-4]
    assert "training.steps" in str(error.value)


def test_a_loss_may_be_rough_without_being_called_exploded() -> None:
    loss = ToColour()
    for report in train(small(), loss, small_plan(iterations=30)):
        loss.factor = 100.0 if report.iteration % 7 == 0 else 1.0
        assert report.events == ()


def test_what_is_saved_before_anybody_looked_is_still_sound() -> None:
    loss = ToColour()
    for report in train(small(), loss, small_plan(iterations=9)):
        snapshot = report.snapshot()
        tensors = [*snapshot.weights.values(), snapshot.pool]
        assert all(bool(each.isfinite().all()) for each in tensors)
        assert snapshot.iteration == (report.iteration if report.iteration <= 4 else 0)
        loss.factor = math.nan if report.iteration >= 4 else 1.0
        if report.iteration == 8:
            break


def test_the_best_weights_survive_going_back() -> None:
    loss = ToColour()
    plan = small_plan(iterations=20, judge_every=5, judge_steps=6)
    best, at = {}, 0
    automaton = small()
    for report in train(automaton, loss, plan):
        if report.is_best:
            best, at = weights_of(automaton), report.iteration
        if report.iteration == 12:
            loss.factor = math.nan
            assert report.snapshot().best_iteration == at
        if report.iteration == 18:  # run away, and not noticed yet
            assert report.snapshot().best_iteration == at
        if report.events:
            snapshot = report.snapshot()
            assert snapshot.iteration == 0
            assert snapshot.best_iteration == at == 10
            assert snapshot.best_weights is not None
            assert same(snapshot.best_weights, best)
            break
    else:
        pytest.fail("nobody noticed")


def lifeless() -> CellularAutomaton:
    """Make a rule that has no gradient: the hidden layer is zero and so is the last."""
    automaton = small()
    with torch.no_grad():
        automaton.bias_in.zero_()
    return automaton


def test_a_dead_start_is_woken_by_another_draw() -> None:
    automaton = lifeless()
    before = weights_of(automaton)
    plan = small_plan(iterations=40, learning_rate=1e-3, reseed_every=1)
    reports = list(train(automaton, ToColour(), plan))
    events = {report.iteration: report.events for report in reports if report.events}
    assert list(events) == [10]
    assert "dead at iteration 10" in events[10][0]
    assert not torch.equal(automaton.weight_in, before["weight_in"])
    assert automaton.weight_out is not None
    assert automaton.weight_out.norm() > 0  # it learned something since


@pytest.mark.parametrize("living", [False, True])
def test_a_rule_that_never_wakes_up_is_an_error_after_three_draws(living: bool) -> None:
    # With a living mask and no living cell in the seed, there is nothing to grow from.
    automaton = small(living=living, channels=5)
    loss = ToColour() if living else Indifferent()
    drawn = [weights_of(automaton)["weight_in"]]

    def go() -> None:
        for report in train(automaton, loss, small_plan(iterations=60)):
            if report.events:
                drawn.append(weights_of(automaton)["weight_in"])

    with pytest.raises(TrainingError, match=r"never woke up.*seed_kind"):
        go()
    assert len(drawn) == 4
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(drawn, 2))


# Keeping the best


def test_the_weights_at_the_end_are_those_that_did_best_in_a_long_roll_out() -> None:
    automaton, loss = awake(), ToColour()
    kept: dict[str, Tensor] = {}
    scores = {}
    for report in train(automaton, loss, small_plan(judge_every=4, judge_steps=9)):
        if report.verdict is not None:
            scores[report.iteration] = (report.verdict.score, report.is_best)
        if report.iteration == 8:
            kept = weights_of(automaton)
        loss.factor = {3: 2.0, 7: 0.5, 11: 1.0}.get(report.iteration, loss.factor)
    assert [best for _, best in scores.values()] == [True, True, False]
    assert min(scores, key=lambda at: scores[at][0]) == 8
    assert same(weights_of(automaton), kept)


def test_without_judging_the_last_weights_stay() -> None:
    automaton = awake()
    last: dict[str, Tensor] = {}
    for report in train(automaton, ToColour(), small_plan()):
        assert report.verdict is None
        last = weights_of(automaton)
    assert same(weights_of(automaton), last)


def test_judging_is_always_alike_and_changes_nothing() -> None:
    automaton, plan = awake(), small_plan(judge_steps=30)
    before = weights_of(automaton)
    one, other = (judge(automaton, ToColour(), plan) for _ in range(2))
    assert one.losses == other.losses
    assert torch.equal(one.picture, other.picture)
    assert one.marks == (4, 8, 16, 30)
    assert one.score == one.losses[3]
    place, enough = one.marks.index(one.best_steps), 1.1 * min(one.losses)
    assert one.losses[place] <= enough
    assert all(loss > enough for loss in one.losses[:place])
    assert same(weights_of(automaton), before)
    assert all(parameter.grad is None for parameter in automaton.parameters())

    with_judging = small_plan(judge_every=1, judge_steps=9)
    assert losses_of(with_judging) == losses_of(small_plan())


def test_a_long_roll_out_looks_at_a_rule_of_every_age() -> None:
    long = judge(awake(), ToColour(), small_plan(judge_steps=300))
    assert long.marks == (4, 8, 16, 32, 64, 128, 256, 300)
    assert judge(awake(), ToColour(), small_plan(judge_steps=3)).marks == (4,)


def test_a_rule_is_worth_what_it_is_at_its_worst_once_it_has_settled() -> None:
    class Told(Loss):
        def __init__(self, values: list[float]) -> None:
            super().__init__()
            self.values = iter(values)

        def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
            return torch.full((len(grown.image),), next(self.values))

    for losses, steps, score in (
        ([9.0, 8.0, 7.0, 1.0, 2.0, 3.0], 128, 3.0),
        ([9.0, 8.0, 7.0, 3.0, 2.0, 1.0], 128, 3.0),
        ([9.0, 8.0], 8, 8.0),
        ([9.0, 8.0, 7.0, -3.0, -2.0], 64, -2.0),
    ):
        assert judge(awake(), Told(losses), small_plan(judge_steps=steps)).score == score


def test_a_roll_out_ends_when_it_cannot_win() -> None:
    automata, losses = [awake(), awake(), awake()], [ToColour(red) for red in (0.1, 0.5, 0.9)]
    plan = small_plan(judge_steps=256)
    whole = judge_together(automata, losses, plan, "auto")
    assert [len(verdict.marks) for verdict in whole] == [7, 7, 7]
    limits = [math.inf, min(whole[1].losses[3:]) / 2, whole[2].score]
    rivals = [[], *([(mark, limit) for mark in whole[0].marks] for limit in limits[1:])]
    raced = judge_together(automata, losses, plan, "auto", rivals)
    for number, (verdict, all_of_it) in enumerate(zip(raced, whole, strict=True)):
        count = len(verdict.losses)
        assert verdict.losses == all_of_it.losses[:count]
        assert (verdict.score < limits[number]) == (number == 0)
        assert all(loss < limits[number] for loss in verdict.losses[3 : count - 1])
    assert torch.equal(raced[0].picture, whole[0].picture)
    assert raced[1].marks == (4, 8, 16, 32)
    alone = judge(automata[1], losses[1], small_plan(judge_steps=32))
    assert torch.equal(raced[1].picture, alone.picture)


def test_rules_are_compared_as_far_as_both_were_followed() -> None:
    def verdict(*losses: float) -> Verdict:
        marks = tuple(4 * 2**k for k in range(len(losses)))
        return Verdict(max(losses[3:]), marks, losses, torch.zeros(3, 1, 1), settled=32)

    short, whole = [(4, 9.0), (8, 8.0), (16, 7.0), (32, 2.0)], [(4, 1.0), (32, 2.0), (64, 3.0)]
    # What came later was not seen of the other.
    assert verdict(9.0, 9.0, 9.0, 1.0, 3.0).beats(short)
    assert not verdict(1.0, 1.0, 1.0, 2.5, 0.5).beats(short)
    assert verdict(9.0, 9.0, 9.0, 1.0, 2.5).beats(whole)
    assert not verdict(9.0, 9.0, 9.0, 1.0, 3.5).beats(whole)
    assert verdict(9.0, 9.0, 9.0, 1.0).beats(whole)
    assert verdict(9.0, 9.0, 9.0, 9.0).beats([])
    assert not verdict(9.0, 9.0, 9.0, 1.0, math.inf).beats(short)
    assert not verdict(9.0, 9.0, 9.0, math.inf).beats([])


def test_in_the_first_half_of_a_training_roll_outs_end_when_rules_should_have_settled() -> None:
    plan = small_plan(iterations=8, judge_every=2, judge_steps=256)
    verdicts = {
        report.iteration: report.verdict
        for report in train(awake(), ToColour(), plan)
        if report.verdict is not None
    }
    settled = max(plan.steps) * 8
    assert verdicts[2].marks[-1] == settled
    assert verdicts[4].marks[-1] == 256  # nobody has been there before
    assert {each.settled for each in verdicts.values()} == {settled}


def test_nobody_waits_for_a_little_more_order() -> None:
    marks, picture = (4, 8, 16, 64, 256, 300), torch.zeros(3, 1, 1)
    for losses, steps in (
        ((1.0, 0.9, 0.8, 0.5, 0.1, 0.05), 64),
        ((1.0, 0.9, 0.52, 0.5, 0.1, 0.05), 16),
        ((0.5, 0.6, 0.7, 0.8, 0.1, 0.05), 4),
    ):
        assert Verdict(0.0, marks, losses, picture).best_steps == steps


def test_a_roll_out_that_runs_away_is_never_the_best() -> None:
    automaton, loss = awake(), ToColour()
    loss.factor = math.nan
    verdict = judge(automaton, loss, small_plan())
    assert verdict.score == math.inf


def test_a_state_that_is_no_number_can_still_be_shown(tmp_path: Path) -> None:
    automaton = awake()
    with torch.no_grad():
        for parameter in automaton.parameters():
            parameter.fill_(math.nan)
    verdict = judge(automaton, ToColour(), small_plan())
    write_png(tmp_path / "preview.png", verdict.picture.permute(1, 2, 0).numpy())
    assert verdict.score == math.inf


# A budget of time


def test_calibrating_counts_what_fits_and_leaves_the_automaton_alone() -> None:
    automaton, loss = small(), Slow()
    before = weights_of(automaton)
    count = calibrate(automaton, loss, small_plan(), seconds=2.0)
    assert 5 <= count <= 200  # ten milliseconds are the least that an iteration takes
    assert same(weights_of(automaton), before)
    assert all(parameter.grad is None for parameter in automaton.parameters())

    judged = calibrate(automaton, loss, small_plan(judge_every=1), seconds=2.0)
    assert judged <= 50  # three looks of ten milliseconds on top of each


@pytest.mark.parametrize("iterations", [1, 900])
def test_calibrating_does_not_depend_on_the_length_that_is_to_be_found(iterations: int) -> None:
    loss = Slow()
    assert calibrate(small(), loss, small_plan(iterations=iterations), seconds=0.001) == 1
    assert len(loss.draws) <= 25


# Mistakes in a plan


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"iterations": 0}, "training.iterations is 0; give at least 1"),
        ({"batch_size": 0}, "training.batch_size is 0"),
        ({"width": -3}, "training.width is -3"),
        ({"reseed_every": 0}, "training.reseed_every is 0"),
        ({"damage_every": 0}, "training.damage_every is 0"),
        (
            {"batch_size": 1, "damage": 1, "damage_every": 6, "reseed_every": 3},
            "the only sample starts anew; set another than a multiple of training.reseed_every 3",
        ),
        ({"large_every": -1}, "training.large_every is -1; give 0 or more"),
        ({"large_every": 8, "pool_size": 8}, "leaves 1 of 8 states on grids of one size"),
        ({"large_every": 4, "pool_size": 3}, "leaves 1 of 3 states on grids of one size"),
        ({"large_every": 2, "persistent": False}, "training.large_every needs a pool of states"),
        ({"batch_size": 9, "pool_size": 8}, "drawn from the pool without repetition"),
        ({"steps": (5, 4)}, "training.steps is [5, 4]; give [least, most]"),
        ({"steps": (0, 4)}, "training.steps is [0, 4]"),
        ({"steps": (4,)}, "training.steps is [4]"),
        ({"learning_rate": 0.0}, "training.learning_rate is 0.0; give more than 0"),
        ({"learning_rate": math.nan}, "training.learning_rate is nan"),
        ({"learning_rate": math.inf}, "training.learning_rate is inf"),
        ({"decay": -0.3}, "training.decay is -0.3; give more than 0"),
        ({"clip_norm": 0.0}, "training.clip_norm is 0.0; give more than 0"),
        ({"optimiser": "sgd"}, "training.optimiser is 'sgd'; choose from adam, soap"),
        ({"from_seeds": 1.5}, "training.from_seeds is 1.5; give 0 to 1"),
        ({"gradients": "equalize"}, "choose from equalise, clip, none"),
        ({"schedule": "linear"}, "choose from cosine, steps, constant"),
        ({"judge_every": -1}, "training.judge_every is -1; give 0 or more"),
        ({"warmup": -1}, "training.warmup is -1"),
        ({"batch_size": 1, "window_every": 16, "reseed_every": 4}, "window_every 16 never comes"),
        ({"batch_size": 1, "window_every": 3, "reseed_every": 1}, "window_every 3 never comes"),
    ],
)
def test_a_plan_with_a_mistake_says_which(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        TrainPlan(**settings)


def reports_of(automaton: CellularAutomaton, **settings: Any) -> Iterator[Report]:
    return train(automaton, ToColour(), small_plan(**settings))


def test_a_grid_that_cannot_be_is_said_before_the_first_iteration() -> None:
    with pytest.raises(ValueError, match="even number of rows"):
        next(reports_of(small(grid=Grid("hex")), height=9))
