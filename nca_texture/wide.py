"""A grid larger and older than those of a pool, where a rule shows what it does in the long run.

On a small torus nothing is wider than the torus. On a larger one dark and light, or large squares
and small, may part into areas that no state of the pool ever held, and what a rule was not taught
there is what a user sees.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.noise import stream
from nca_texture.train_plan import TrainPlan

_CHANCE = 17  # a stream of a run's chance, apart from those of training.py
_STRIDE = 4  # of the longest growths of a batch between two windows
_LIFE = 40  # windows, about; then it is sown anew, by a rule that knows better


@dataclass(frozen=True, eq=False)
class Wide:
    """Such a grid, as it is."""

    state: Tensor  # [1, C, H, W]
    classes: Tensor  # [1]
    ages: Tensor  # [1], in steps


def age_on(
    wide: Wide | None, automaton: CellularAutomaton, plan: TrainPlan, iteration: int, kernel: str
) -> Wide:
    """Let ``wide`` grow until its next window is due, or sow it when it is None or has lived.

    ``iteration`` is one of those that ``plan.cuts_window`` names; all classes have their turn.
    """
    seed, turn = stream(plan.seed, _CHANCE, iteration), iteration // plan.window_every
    life = _life(plan, automaton.classes)
    kind = torch.tensor([turn // life % automaton.classes])
    with torch.no_grad():
        if wide is None or turn % life == 0:
            state = automaton.seed(1, plan.large_size, seed=seed, classes=kind)
            wide = Wide(state, kind, torch.zeros_like(kind))
        steps = _STRIDE * plan.steps[1]
        state = automaton.tell(wide.state.to(automaton.weight_in.device), kind)
        state = automaton.grow(
            state, steps, seed=seed, start=int(wide.ages), kernel=kernel, precision=plan.precision
        )
    return Wide(state, kind, wide.ages + steps)


def _life(plan: TrainPlan, classes: int) -> int:
    """Count the windows between two sowings: lives are alike, so that the last one ends old."""
    windows = math.ceil(plan.iterations / plan.window_every)
    return math.ceil(windows / (max(1, round(windows / _LIFE)) * classes))


def window(wide: Wide, size: tuple[int, int], chance: torch.Generator) -> Tensor:
    """Cut [C, h, w] of ``size`` (height, width) out of ``wide``, anywhere.

    Rows come in pairs: every other one of a hexagonal grid is shifted.
    """
    height, width = wide.state.shape[-2:]
    down = 2 * int(torch.randint(height // 2, (), generator=chance))
    right = int(torch.randint(width, (), generator=chance))
    return wide.state[0].roll((down, right), (-2, -1))[:, : size[0], : size[1]]
