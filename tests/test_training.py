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
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.images import write_png
from nca_texture.judging import judge
from nca_texture.losses import build_loss
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.overflow import OverflowLoss
from nca_texture.losses.total import TotalLoss
from nca_texture.pool import Pool
from nca_texture.recipe import AutomatonPlan, Recipe
from nca_texture.store import load, load_checkpoint, save, save_checkpoint
from nca_texture.targets import Exemplar, draw_sample
from nca_texture.train_plan import TrainPlan
from nca_texture.training import (
    Report,
    Snapshot,
    TrainingError,
    calibrate,
    equalise_gradients,
    train,
)


class ToColour(Loss):
    """Distance to one colour; how much each channel counts is drawn, as real losses draw."""

    factor = 1.0  # tests change it while a run goes on

    def __init__(self, target: Tensor | None = None) -> None:
        super().__init__()
        self.draws: list[float] = []

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        weight = torch.rand(3, generator=generator)
        self.draws.append(weight.sum().item())
        goal = torch.tensor([0.2, 0.9, 0.4]).view(1, 3, 1, 1)
        difference = (grown.image[:, :3] - goal).square() * weight.view(1, 3, 1, 1)
        return difference.mean((1, 2, 3)) * self.factor


class Indifferent(Loss):
    """A loss that nothing changes."""

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        return (grown.image * 0).sum((1, 2, 3)) + 1


class Slow(ToColour):
    """A loss that takes ten milliseconds."""

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        time.sleep(0.01)
        return super().forward(grown, generator)


def small_plan(**settings: Any) -> TrainPlan:
    tiny = {
        "iterations": 12,
        "batch_size": 2,
        "pool_size": 5,
        "width": 10,
        "height": 8,
        "steps": (2, 4),
        "reseed_every": 3,
        "judge_every": 0,
    }
    return TrainPlan(**tiny | settings)


def small(**settings: Any) -> CellularAutomaton:
    return CellularAutomaton(**{"channels": 4, "hidden": 6, "bank": "distill-tf"} | settings)


def awake(**settings: Any) -> CellularAutomaton:
    """Make an automaton whose last layer is not zero, so that it changes states at once."""
    automaton = small(**{"seed_kind": "noise"} | settings)
    source = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in automaton.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.1)
    return automaton


def weights_of(automaton: CellularAutomaton) -> dict[str, Tensor]:
    return copy.deepcopy(automaton.state_dict())


def same(one: Any, other: Any) -> bool:
    """Compare trees of dictionaries, lists and tensors to the bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def same_run(one: Snapshot, other: Snapshot) -> bool:
    names = {each.name for each in dataclasses.fields(Snapshot)}
    # What a loss is called exploded by is measured at the first look after a start.
    names -= {"first_loss"}
    return all(same(getattr(one, name), getattr(other, name)) for name in sorted(names))


def losses_of(plan: TrainPlan, **settings: Any) -> list[float]:
    return [report.loss for report in train(small(**settings), ToColour(), plan)]


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


class Spy:
    """Note what each iteration draws: places in the pool, steps, seeds; and where growth starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[Any] = []
        self.starts: list[Tensor] = []
        self.seeds: list[list[int]] = []
        take, grow = Pool.take, CellularAutomaton.grow

        def spy_take(pool: Pool, batch: int, generator: torch.Generator) -> Any:
            loan = take(pool, batch, generator)
            self.drawn.append(loan.places.tolist())
            return loan

        def spy_grow(automaton: Any, state: Tensor, steps: int = 1, **settings: Any) -> Tensor:
            self.drawn.append((steps, settings["seed"]))
            self.starts.append(state.detach().clone())
            self.seeds.append(settings["seed"])
            return grow(automaton, state, steps, **settings)

        monkeypatch.setattr(Pool, "take", spy_take)
        monkeypatch.setattr(CellularAutomaton, "grow", spy_grow)


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


# Gradients


def gradients_of(factor: float = 1.0, **settings: Any) -> list[Tensor]:
    """Train one iteration and return the gradient that the optimiser got of each tensor."""
    automaton, loss = awake(), ToColour()
    loss.factor = factor
    next(train(automaton, loss, small_plan(**settings)))
    return [p.grad.clone() for p in automaton.parameters() if p.grad is not None]


def norm(gradients: list[Tensor]) -> float:
    return torch.cat([each.flatten() for each in gradients]).norm().item()


def test_equalised_gradients_have_norm_one_and_their_direction() -> None:
    raw = gradients_of(gradients="none")
    for given, plain in zip(gradients_of(gradients="equalise"), raw, strict=True):
        torch.testing.assert_close(given, plain / plain.norm())


def test_a_tensor_without_gradient_stays_without() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.weight.grad = torch.zeros(2, 2)
    equalise_gradients(layer)
    assert torch.equal(layer.weight.grad, torch.zeros(2, 2))
    assert layer.bias.grad is None


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_clipping_bounds_the_norm_of_all_gradients_together(share: float) -> None:
    raw = gradients_of(gradients="none")
    clipped = gradients_of(gradients="clip", clip_norm=share * norm(raw))
    assert norm(clipped) == pytest.approx(min(share, 1.0) * norm(raw), rel=1e-5)
    torch.testing.assert_close(clipped, [each * min(share, 1.0) for each in raw])


def test_state_gradients_have_norm_one_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    settings = {"gradients": "none", "steps": (3, 3), "unit_state_gradients": True}
    found = gradients_of(**settings)
    assert len(spy.starts) == 3

    # The same by hand: backwards through the steps, normalising what flows from each.
    monkeypatch.undo()
    automaton = awake()
    parameters = list(automaton.parameters())
    starts = [state.requires_grad_() for state in spy.starts]
    ends = [
        automaton.grow(start, 1, seed=seeds, start=step)
        for step, (start, seeds) in enumerate(zip(starts, spy.seeds, strict=True))
    ]
    from nca_texture.noise import generator

    chance = generator(0, 0)
    torch.randperm(5, generator=chance)
    torch.randint(3, 4, (), generator=chance)
    value = ToColour()(Grown(automaton.to_image(ends[-1], clip=False), ends[-1]), chance).mean()
    (flow,) = torch.autograd.grad(value, ends[-1], retain_graph=True)
    expected = [torch.zeros_like(p) for p in parameters]
    for start, end in zip(reversed(starts), reversed(ends), strict=True):
        flow = flow / flow.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        *parts, flow = torch.autograd.grad(end, [*parameters, start], flow)
        expected = [total + part for total, part in zip(expected, parts, strict=True)]
    torch.testing.assert_close(found, expected)


def test_unit_state_gradients_do_not_see_the_scale_of_the_loss() -> None:
    settings = {"gradients": "none", "unit_state_gradients": True}
    torch.testing.assert_close(gradients_of(1.0, **settings), gradients_of(300.0, **settings))


# Schedules


def rates_of(**settings: Any) -> list[float]:
    plan = TrainPlan(learning_rate=1e-2, **settings)
    return [plan.learning_rate_at(iteration) for iteration in range(plan.iterations)]


def test_steps_multiply_at_milestones() -> None:
    rates = rates_of(schedule="steps", iterations=6, milestones=(2, 5), decay=0.3)
    assert rates == pytest.approx([1e-2, 1e-2, 3e-3, 3e-3, 3e-3, 9e-4])


def test_the_cosine_falls_to_a_hundredth() -> None:
    rates = rates_of(schedule="cosine", iterations=1000)
    assert rates[0] == 1e-2
    assert rates[500] == pytest.approx(1e-2 * 0.505)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


def test_warm_up_rises_evenly_to_the_full_rate() -> None:
    rates = rates_of(schedule="constant", iterations=6, warmup=3)
    assert rates == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2, 1e-2])


def test_the_optimiser_gets_the_rate_of_the_plan() -> None:
    plan = small_plan(schedule="steps", milestones=(4,), warmup=2)
    reported = [report.learning_rate for report in train(small(), ToColour(), plan)]
    assert reported == [plan.learning_rate_at(iteration) for iteration in range(12)]

    start = weights_of(automaton := awake())
    plan = small_plan(learning_rate=0.25, schedule="constant", gradients="none")
    next(train(automaton, ToColour(), plan))
    change = automaton.weight_in.detach() - start["weight_in"]
    # Adam's first step is the rate times the sign of the gradient.
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.25), rtol=0.02, atol=0)


# The pool


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
    assert one.score == pytest.approx(sum(one.losses) / len(one.losses))
    place, enough = one.marks.index(one.best_steps), 1.1 * min(one.losses)
    assert one.losses[place] <= enough
    assert all(loss > enough for loss in one.losses[:place])
    assert same(weights_of(automaton), before)
    assert all(parameter.grad is None for parameter in automaton.parameters())

    with_judging = small_plan(judge_every=1, judge_steps=9)
    assert losses_of(with_judging) == losses_of(small_plan())


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
