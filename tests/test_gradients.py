"""Laws of what an optimiser gets: gradients made even, clipped or of unit norm, and its rate."""

import itertools
from typing import Any

import pytest
import torch
from learning import Spy, ToColour, awake, small, small_plan, weights_of
from torch import Tensor

from nca_texture.losses.base import Grown
from nca_texture.noise import generator
from nca_texture.train_plan import TrainPlan
from nca_texture.training import equalise_gradients, train

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
