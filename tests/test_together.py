"""Laws of many models trained together: each is the model that it would be alone."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from learning import same, small, small_plan
from torch import Tensor

from nca_texture import pace
from nca_texture.automaton import CellularAutomaton
from nca_texture.kernels import cpu
from nca_texture.losses import build_loss
from nca_texture.losses import together as scoring
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.overflow import OverflowLoss
from nca_texture.losses.together import join
from nca_texture.losses.total import TotalLoss
from nca_texture.pace import calibrate_together
from nca_texture.recipe import LossPlan, Recipe
from nca_texture.targets import Exemplar
from nca_texture.train_plan import TrainPlan
from nca_texture.training import (
    Report,
    Snapshot,
    TrainingError,
    train,
    train_together,
)

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({"output_bias": True}, {}),
    "hex": ({"bank": "learned"}, {"gradients": "clip", "width": 6}),
    "abs": (
        {"rule": "abs", "bank": "munca-68", "seed_kind": "noise", "init": "small"},
        {"unit_state_gradients": True, "gradients": "none"},
    ),
    "living": ({"living": True, "seed_kind": "cell", "channels": 5}, {"warmup": 5}),
}


class ToColour(Loss):
    """Distance to one colour; how much each channel counts is drawn, as real losses draw."""

    def __init__(self, red: float, bad: range = range(0), what: float = math.nan) -> None:
        super().__init__()
        self.goal = torch.tensor([red, 0.9, 0.4]).view(1, 3, 1, 1)
        self.bad = bad  # the calls that go wrong
        self.what = what
        self.calls = 0

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        weight = torch.rand(3, generator=generator).view(1, 3, 1, 1)
        factor = self.what if self.calls in self.bad else 1.0
        self.calls += 1
        distance = ((grown.image[:, :3] - self.goal).square() * weight).mean((1, 2, 3))
        return distance * factor + grown.state.abs().mean((1, 2, 3)) * 0.01


def assert_same_run(one: Snapshot, other: Snapshot, *, but: str = "") -> None:
    for each in dataclasses.fields(Snapshot):
        if each.name != but:
            assert same(getattr(one, each.name), getattr(other, each.name)), each.name


def alone(
    automaton: CellularAutomaton, loss: Loss, plan: TrainPlan, kernel: str = "auto"
) -> tuple[Snapshot, list[str]]:
    """Train one model; return how it ended and what happened on the way."""
    last, events = None, []
    for last in train(automaton, loss, plan, kernel=kernel):
        events += last.events
    assert last is not None
    return last.snapshot(), events


def together(
    automata: list[CellularAutomaton], losses: list[Loss], plan: TrainPlan, kernel: str = "auto"
) -> tuple[list[Snapshot], list[list[str]]]:
    """Train many; return the same for each."""
    last: dict[int, Report] = {}
    events: list[list[str]] = [[] for _ in automata]
    for outcomes in train_together(automata, losses, plan, kernel=kernel):
        for index, report in outcomes.items():
            assert isinstance(report, Report)
            last[index] = report
            events[index] += report.events
    return [last[index].snapshot() for index in range(len(automata))], events


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_model_is_the_one_it_would_be_alone(kind: str, kernel: str) -> None:
    if kernel == "cpu" and cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    rule, settings = KINDS[kind]
    plan = small_plan(judge_every=5, judge_steps=6, **settings)
    reds = [0.1, 0.5, 0.9]
    ends, _ = together([small(**rule) for _ in reds], [ToColour(r) for r in reds], plan, kernel)
    assert not same(ends[0].weights, ends[1].weights)
    for end, red in zip(ends, reds, strict=True):
        assert_same_run(end, alone(small(**rule), ToColour(red), plan, kernel)[0])


def lifeless() -> CellularAutomaton:
    """Make a rule that has no gradient: the hidden layer is zero and so is the last."""
    automaton = small()
    with torch.no_grad():
        automaton.bias_in.zero_()
    return automaton


@pytest.mark.parametrize("what", [math.nan, 1e9])
def test_what_goes_wrong_with_one_is_mended_and_the_others_notice_nothing(what: float) -> None:
    plan = small_plan(iterations=70, learning_rate=0.01)

    def make() -> tuple[list[CellularAutomaton], list[Loss]]:
        losses: list[Loss] = [ToColour(0.1), ToColour(0.5, range(50, 60), what), ToColour(0.9)]
        return [small(), small(), lifeless()], losses

    ends, events = together(*make(), plan)
    for index, (automaton, loss) in enumerate(zip(*make(), strict=True)):
        end, happened = alone(automaton, loss, plan)
        assert events[index] == happened
        assert_same_run(ends[index], end)
    assert events[0] == []
    assert "went back to iteration 50" in events[1][0]
    assert "dead at iteration 10" in events[2][0]


def test_one_that_went_back_catches_up_alone_and_all_go_on_together() -> None:
    losses: list[Loss] = [ToColour(0.1), ToColour(0.5, range(50, 60))]
    rounds = [
        {i: report.iteration for i, report in outcomes.items() if isinstance(report, Report)}
        for outcomes in train_together(
            [small(), small()], losses, small_plan(iterations=70, learning_rate=0.01)
        )
    ]
    both = [{0: at, 1: at} for at in range(1, 71)]
    caught_up = [{1: at} for at in range(51, 61)]
    assert rounds == [*both[:59], {0: 60, 1: 50}, *caught_up, *both[60:]]


def test_one_that_cannot_be_trained_is_told_once_and_the_others_go_on() -> None:
    plan = small_plan(iterations=30)
    losses: list[Loss] = [ToColour(0.1), ToColour(0.5, range(5, 999)), ToColour(0.9)]
    last: dict[int, Report] = {}
    errors = []
    for outcomes in train_together([small() for _ in losses], losses, plan):
        for index, outcome in outcomes.items():
            if isinstance(outcome, TrainingError):
                errors.append((index, str(outcome)))
            else:
                last[index] = outcome
    assert [index for index, _ in errors] == [1]
    assert "4th time" in errors[0][1]
    for index, red in ((0, 0.1), (2, 0.9)):
        assert_same_run(last[index].snapshot(), alone(small(), ToColour(red), plan)[0])


def test_runs_that_were_saved_at_different_times_go_on_to_the_same_end() -> None:
    plan, reds = small_plan(judge_every=4, judge_steps=5), [0.1, 0.5, 0.9]
    saved: dict[int, Snapshot] = {}
    for outcomes in train_together([small() for _ in reds], [ToColour(r) for r in reds], plan):
        for index, report in outcomes.items():
            assert isinstance(report, Report)
            if report.iteration == (3, 8, 5)[index]:
                saved[index] = report.snapshot()
    ends: dict[int, Report] = {}
    losses = [ToColour(red) for red in reds]
    resume = [saved[index] for index in range(3)]
    for outcomes in train_together([small() for _ in reds], losses, plan, resume=resume):
        ends |= {i: report for i, report in outcomes.items() if isinstance(report, Report)}
    for index, red in enumerate(reds):
        # What a loss is called exploded by is measured at the first look after a start.
        end = alone(small(), ToColour(red), plan)[0]
        assert_same_run(ends[index].snapshot(), end, but="first_loss")


def test_a_budget_is_for_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    automata = [small(), small()]
    before = copy.deepcopy(automata[0].state_dict())
    now = iter(range(1000))
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(now))
    losses: list[Loss] = [ToColour(0.1), ToColour(0.5)]
    # A round takes a tick, whatever the number of models.
    assert calibrate_together(automata, losses, small_plan(), seconds=60) == 60
    assert same(automata[0].state_dict(), before)


# Losses


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def targets(height: int = 40) -> list[Tensor]:
    """Three pictures that differ in how many directions hold their variance."""
    noise = [torch.rand(1, 3, height, 48, generator=rng(seed)) for seed in range(3)]
    return [noise[0], noise[1] ** 3, noise[2].cumsum(2) / height]


OPTIONS: dict[str, dict[str, Any]] = {
    "patch": {"levels": 3, "samples": 64, "exemplar_samples": 64},
    "patch in slices": {"levels": 2, "samples": 64, "method": "sliced"},
    "sliced": {"features": "squeezenet1_1"},
    "gram": {"features": "squeezenet1_1", "transform": "sqrt"},
    "emd": {"features": "squeezenet1_1", "samples": 30},
    "overflow": {"limit": 0.2, "reduce": "sum"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_losses_of_many_models_can_be_one(kind: str, small_network: str) -> None:
    options, name = OPTIONS[kind], kind.split()[0]
    if "features" in options:
        options = options | {"weights": small_network}
    losses = [build_loss(name, target, **options) for target in targets()]
    joint = join(losses, batch=2)
    assert joint is not None
    image, state = torch.rand(6, 3, 32, 32, generator=rng(4)), torch.rand(6, 4, 5, 5) - 0.5
    found = []
    for together in (True, False):
        image, state = image.detach().requires_grad_(), state.detach().requires_grad_()
        if together:
            values = joint(Grown(image, state), rng(7))
        else:
            parts = [Grown(*pair) for pair in zip(image.split(2), state.split(2), strict=True)]
            values = torch.cat([loss(g, rng(7)) for loss, g in zip(losses, parts, strict=True)])
        values.sum().backward()
        assert not values.isnan().any()
        found.append((values.detach(), image.grad if image.grad is not None else state.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-7)
    most = found[1][1].abs().max().item()
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-4 * most)


def test_sums_are_joined_term_by_term() -> None:
    sums = [
        TotalLoss(
            [
                ("patch", 2.0, build_loss("patch", target, levels=1, samples=32)),
                ("overflow", 3.0, OverflowLoss(limit=0.1)),
            ]
        )
        for target in targets()
    ]
    joint = join(sums, batch=1)
    assert isinstance(joint, TotalLoss)
    grown = Grown(torch.rand(3, 3, 16, 16), torch.rand(3, 4, 5, 5))
    terms = joint.terms(grown, rng())
    parts = [
        loss.terms(Grown(grown.image[i : i + 1], grown.state[i : i + 1]), rng())
        for i, loss in enumerate(sums)
    ]
    for name, value in terms.items():
        torch.testing.assert_close(value, torch.cat([part[name] for part in parts]))
    torch.testing.assert_close(joint.combine(terms), joint(grown, rng()))


def test_what_cannot_be_joined_is_not() -> None:
    patches = [build_loss("patch", targets(height)[0], levels=1) for height in (40, 44)]
    assert join(patches, 2) is None  # of different sizes
    pixels = [build_loss("pixel", target) for target in targets()]
    assert join(pixels, 2) is None
    assert join([ToColour(0.1), ToColour(0.2)], 2) is None
    with pytest.raises(ValueError, match="ToColour does not say how the goals of many models"):
        ToColour(0.1).stack([])
    overflows = [OverflowLoss(), OverflowLoss()]
    assert join(overflows, 2) is not None
    mixed = [
        TotalLoss([("a", 1.0, one), ("b", 1.0, other)])
        for one, other in zip(overflows, pixels, strict=False)
    ]
    assert join(mixed, 2) is None


def test_a_joint_loss_trains_each_model_as_its_own_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU losses are asked one by one; here they are joined, as elsewhere."""
    plan = small_plan(iterations=3, width=16, height=16)
    recipe = Recipe(
        losses=(
            LossPlan(name="patch", options={"levels": 2, "samples": 64}),
            LossPlan(name="overflow"),
        ),
        training=plan,
    )
    exemplars = [Exemplar(target, "x", "x.png", "0" * 64, (40, 48), 1.0) for target in targets()]
    apart, _ = together([small() for _ in exemplars], recipe.build_losses(exemplars), plan)
    asked = []

    def spy(losses: list[Loss], batch: int) -> Loss | None:
        asked.append(joint := join(losses, batch))
        return joint

    monkeypatch.setattr(scoring, "join", spy)
    monkeypatch.setattr(scoring, "_ONE_BY_ONE", ())
    joined, _ = together([small() for _ in exemplars], recipe.build_losses(exemplars), plan)
    assert [type(joint) for joint in asked].count(TotalLoss) == 1, "of all terms, each for itself"
    for one, other in zip(joined, apart, strict=True):
        torch.testing.assert_close(one.weights, other.weights, atol=1e-4, rtol=0)


@pytest.mark.gpu
def test_on_a_gpu_each_model_is_close_to_the_one_alone() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    plan = small_plan(iterations=3, width=32, height=32, judge_every=3, judge_steps=8)
    patch = LossPlan(name="patch", options={"levels": 3, "samples": 128})
    recipe = Recipe(losses=(patch, LossPlan(name="overflow")), training=plan)
    exemplars = [Exemplar(target, "x", "x.png", "0" * 64, (40, 48), 1.0) for target in targets()]
    losses = [loss.to("cuda") for loss in recipe.build_losses(exemplars)]

    def values(*chosen: int) -> Tensor:
        automata = [small(channels=12, hidden=32).to("cuda") for _ in chosen]
        found = []
        for outcomes in train_together(
            automata, [losses[i] for i in chosen], plan, kernel="triton"
        ):
            reports = [each for each in outcomes.values() if isinstance(each, Report)]
            assert len(reports) == len(chosen)
            found.append([report.loss for report in reports])
        return torch.tensor(found)

    alone = torch.cat([values(index) for index in range(3)], dim=1)
    torch.testing.assert_close(values(0, 1, 2), alone, rtol=1e-3, atol=0)


def test_a_feature_network_is_loaded_once_for_all(small_network: str) -> None:
    plan = LossPlan(name="gram", options={"features": "squeezenet1_1"})
    exemplars = [Exemplar(target, "x", "x.png", "0" * 64, (40, 48), 1.0) for target in targets()]
    losses = Recipe(losses=(plan, dataclasses.replace(plan, name="emd"))).build_losses(
        exemplars, small_network
    )
    for k in (0, 1):
        networks = {id(total.losses[k].network) for total in losses}
        assert len(networks) == 1
        lone = Recipe(losses=(plan,)).build_loss(exemplars[1], small_network)
        assert torch.equal(lone.losses[0].goal0, losses[1].losses[0].goal0)
    with pytest.raises(ValueError, match="other layers"):
        build_loss("gram", targets()[0], features="vgg16", weights=losses[0].losses[0].network)
