"""How a rule does in the long run: grown from the seed for many steps, and scored on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, grow_together
from nca_texture.losses.base import Grown, Loss
from nca_texture.noise import generator, sample_seeds, stream
from nca_texture.train_plan import TrainPlan

_CHANCE = 14  # a stream of a run's chance, apart from those of training.py
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of the longest growth of a batch, and then the last step
_SETTLED = 8  # times the longest growth: by then a rule should have come to what it was taught
_SOON = 16  # what comes later shows how a rule ages

Marks = Sequence[Sequence[float]]  # [steps, loss] each, in the order of steps


@dataclass(frozen=True)
class Verdict:
    """How a rule does in a long roll-out from the seed."""

    score: float  # the worst loss of the marks by which it should have settled, or infinite
    marks: tuple[int, ...]  # steps at which it was scored
    losses: tuple[float, ...]
    picture: Tensor  # [3 or 4, h, w] at the last mark, finite; of many classes, side by side
    settled: int = 0  # steps by which it should have settled

    @property
    def best_steps(self) -> int:
        """The first mark about as good as the best of a short growth: how long to grow by default.

        A growth is short up to 16 times the first mark: nobody waits for a little more order.
        """
        count = sum(mark <= _SOON * self.marks[0] for mark in self.marks)
        losses = self.losses[:count]
        enough = min(losses) + 0.1 * abs(min(losses))
        return next(m for m, loss in zip(self.marks, losses, strict=False) if loss <= enough)

    def beats(self, rival: Marks) -> bool:
        """Whether it does better than a ``rival``, as far as both were followed."""
        own = list(zip(self.marks, self.losses, strict=True))
        return _leads(own, rival, self.settled, self.marks[-1])


def judge(
    automaton: CellularAutomaton, loss: Loss, plan: TrainPlan, kernel: str = "auto"
) -> Verdict:
    """Grow from the seed for ``plan.judge_steps`` steps and score on the way, always alike."""
    return judge_together([automaton], [loss], plan, kernel)[0]


def steps_after(plan: TrainPlan, iterations: int) -> int:
    """Count the steps of the long roll-out after so many iterations.

    In the first half of a training, when the next rule will do better, they are those by which a
    rule should have settled.
    """
    last = max(plan.judge_steps, plan.steps[1])
    return min(_SETTLED * plan.steps[1], last) if 2 * iterations < plan.iterations else last


def judge_together(
    automata: Sequence[CellularAutomaton],
    losses: Sequence[Loss],
    plan: TrainPlan,
    kernel: str,
    rivals: Sequence[Marks] | None = None,
    steps: int | None = None,
) -> list[Verdict]:
    """Judge many, which have a plan in common, as one batch; see ``judge``.

    The roll-out of one that cannot beat its rival ends there. ``steps`` count for the plan's.
    """
    most, classes = plan.steps[1], automata[0].classes
    last = max(plan.judge_steps if steps is None else steps, most)
    marks = sorted({min(multiple * most, last) for multiple in _MULTIPLES} | {last})
    settled = min(_SETTLED * most, last)
    seed, size = stream(plan.seed, _CHANCE), plan.judge_size
    cells = plan.batch_size * plan.width * plan.height  # as many as a batch has
    least = 1 if size == plan.size else 2  # of one rule, growths come to different orders
    count = max(cells // (size[0] * size[1]), least, classes)
    seeds, kinds = sample_seeds(seed, count), torch.arange(count) % classes
    rivals = rivals or [()] * len(automata)
    found: list[list[tuple[int, float]]] = [[] for _ in automata]  # (steps, loss) at each mark
    going, done = list(range(len(automata))), 0
    with torch.no_grad():
        states = [each.seed(count, size, seed=seed, classes=kinds) for each in automata]
        for mark in marks:
            racing, steps = [automata[index] for index in going], mark - done
            state = torch.cat([states[index] for index in going])
            state = grow_together(
                racing, state, steps, seed=seeds * len(going), start=done, kernel=kernel
            )
            done = mark
            ages = torch.full_like(kinds, done)
            shown = show(racing, state, steps, [kinds] * len(going), [ages] * len(going))
            for index, grown in zip(going, shown, strict=True):
                states[index] = grown.state
                value = losses[index](grown, generator(seed, 0)).mean().item()
                value = value if math.isfinite(value) else math.inf
                found[index].append((mark, value))
            if mark >= settled:
                going = [i for i in going if _leads(found[i], rivals[i], settled, last)]
            if not going:
                break
    return [
        Verdict(
            _worst(own, settled, last),
            tuple(mark for mark, _ in own),
            tuple(loss for _, loss in own),
            torch.cat(list(automaton.to_image(part)[:classes]), dim=-1).nan_to_num(),
            settled,
        )
        for automaton, own, part in zip(automata, found, states, strict=True)
    ]


def _leads(own: Marks, rival: Marks, settled: float, last: float) -> bool:
    """Whether ``own`` marks are sound, and better than a ``rival``'s as far as both are to go.

    Own ones are to go to ``last`` steps, and may not have come there yet.
    """
    shared = min(last, rival[-1][0]) if rival else last
    sound = _worst(own, settled, last) < math.inf
    return sound and _worst(own, settled, shared) < _worst(rival, settled, shared)


def _worst(marks: Marks, first: float, last: float) -> float:
    """Find the worst loss of the marks from ``first`` to ``last`` steps; infinite without any."""
    return max((loss for steps, loss in marks if first <= steps <= last), default=math.inf)


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
