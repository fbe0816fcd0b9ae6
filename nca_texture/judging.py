"""How a rule does in the long run: grown from the seed for many steps, and scored on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, grow_together
from nca_texture.losses.base import Grown, Loss
from nca_texture.noise import generator, sample_seeds, stream
from nca_texture.train_plan import TrainPlan

_CHANCE = 14  # a stream of a run's chance, apart from those of training.py
_MULTIPLES = (1, 2, 4, 16, 64)  # of the longest growth of a batch, and then the last step
_SOON = 16  # of these multiples; what comes later shows how a rule ages


@dataclass(frozen=True)
class Verdict:
    """How a rule does in a long roll-out from the seed."""

    score: float  # mean loss over the marks; infinite when the roll-out was
    marks: tuple[int, ...]  # steps at which it was scored
    losses: tuple[float, ...]
    picture: Tensor  # [3 or 4, h, w] at the last mark, finite; of many classes, side by side

    @property
    def best_steps(self) -> int:
        """The first mark about as good as the best of a short growth: how long to grow by default.

        A growth is short up to 16 times the first mark: nobody waits for a little more order.
        """
        count = sum(mark <= _SOON * self.marks[0] for mark in self.marks)
        losses = self.losses[:count]
        enough = min(losses) + 0.1 * abs(min(losses))
        return next(m for m, loss in zip(self.marks, losses, strict=False) if loss <= enough)


def judge(
    automaton: CellularAutomaton, loss: Loss, plan: TrainPlan, kernel: str = "auto"
) -> Verdict:
    """Grow from the seed for ``plan.judge_steps`` steps and score on the way, always alike.

    A loss that asks what has changed is told of what was at the mark before.
    """
    return judge_together([automaton], [loss], plan, kernel)[0]


def judge_together(
    automata: Sequence[CellularAutomaton], losses: Sequence[Loss], plan: TrainPlan, kernel: str
) -> list[Verdict]:
    """Judge many, which have a plan in common, as one batch; see ``judge``."""
    most = plan.steps[1]
    last = max(plan.judge_steps, most)
    marks = sorted({min(multiple * most, last) for multiple in _MULTIPLES} | {last})
    seed, classes = stream(plan.seed, _CHANCE), automata[0].classes
    count = max(plan.batch_size, classes)
    seeds = sample_seeds(seed, count) * len(automata)
    kinds = torch.arange(count) % classes
    found: list[list[float]] = [[] for _ in automata]
    done = 0
    with torch.no_grad():
        state = torch.cat(
            [each.seed(count, plan.size, seed=seed, classes=kinds) for each in automata]
        )
        for mark in marks:
            before, steps = state.split(count), mark - done
            state = grow_together(automata, state, steps, seed=seeds, start=done, kernel=kernel)
            done = mark
            ages = torch.full_like(kinds, done)
            shown = show(automata, state, steps, [kinds] * len(automata), [ages] * len(automata))
            for values, loss, grown, past in zip(found, losses, shown, before, strict=True):
                grown = replace(grown, before=past, calm=torch.ones_like(ages, dtype=torch.bool))
                value = loss(grown, generator(seed, 0)).mean().item()
                values.append(value if math.isfinite(value) else math.inf)
    return [
        Verdict(
            sum(values) / len(values),
            tuple(marks),
            tuple(values),
            torch.cat(list(automaton.to_image(part)[:classes]), dim=-1).nan_to_num(),
        )
        for automaton, values, part in zip(automata, found, state.split(count), strict=True)
    ]


def show(
    automata: Sequence[CellularAutomaton],
    state: Tensor,
    steps: int,
    classes: Sequence[Tensor],
    ages: Sequence[Tensor],
) -> list[Grown]:
    """Show each of ``automata`` its samples of ``state`` [M*B, C, H, W] as a loss sees them.

    ``classes`` and ``ages`` are [B] for each automaton.
    """
    batch = len(state) // len(automata)
    image = automata[0].to_image(state, clip=False)
    many = automata[0].classes > 1
    return [
        Grown(pictures, samples, labels if many else None, steps=steps, ages=old)
        for pictures, samples, labels, old in zip(
            image.split(batch), state.split(batch), classes, ages, strict=True
        )
    ]
