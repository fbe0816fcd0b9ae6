"""What a model does over a long time: pictures on the way, recovery from damage, cost of a step."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.planning import plan

MULTIPLES = (1, 3, 10, 100)  # of the trained steps
SETTLED = 1  # the mark, counted from 0, after which half is erased and motion is looked at

_MOTION = 16  # steps
_TIMED = (256, 256)  # cells of a grid whose steps are timed
_LONG_ENOUGH = 0.05  # seconds
_TRIES = 4
_BESIDE = (1024, 1024)  # cells that time and memory are told for


@dataclass(frozen=True)
class Mark:
    """What had grown after ``steps`` steps."""

    steps: int
    pictures: Tensor  # [B, 3, h, w] in [0, 1]
    extreme: float  # largest number of the states, as an absolute; infinite when not finite


@dataclass(frozen=True)
class Rollout:
    """What a model did."""

    marks: tuple[Mark, ...]
    erased: Tensor  # [B, 3, h, w] when half was erased, after the second mark
    healed: Tensor  # [B, 3, h, w] after as many steps more as had been taken
    motion: float  # mean change of a pixel within 16 steps, after the second mark


@dataclass(frozen=True)
class Cost:
    """What a step takes, of 1024 x 1024 cells."""

    milliseconds: float
    memory: int  # bytes
    kernel: str


@torch.inference_mode()
def roll_out(
    automaton: CellularAutomaton,
    marks: Sequence[int],
    *,
    size: tuple[int, int] = (128, 128),
    samples: int = 2,
    seed: int | str = 0,
    kernel: str = "auto",
    progress: Callable[[float], None] = lambda share: None,
) -> Rollout:
    """Grow ``samples`` on a grid of ``size`` (height, width) and look at them at ``marks`` steps.

    Half is erased as the seed of the model has it. ``progress`` is told which share is done.
    """
    settled = marks[min(SETTLED, len(marks) - 1)]
    total = marks[-1] + settled + _MOTION
    fresh = automaton.seed(samples, size, seed=seed)
    state, done, found = fresh, 0, []
    erased = healed = fresh
    motion = 0.0

    def grow(state: Tensor, last: int, start: int, before: int) -> Tensor:
        while start < last:
            steps = min(last - start, 256)
            state = automaton.grow(state, steps, seed=seed, start=start, kernel=kernel)
            start += steps
            progress((before + start) / total)
        return state

    aside = 0
    for mark in marks:
        state = grow(state, mark, done, aside)
        done = mark
        found.append(Mark(mark, automaton.to_image(state)[:, :3].nan_to_num(0), _extreme(state)))
        if mark == settled:
            later = grow(state, mark + _MOTION, mark, aside)
            change = automaton.to_image(later) - automaton.to_image(state)
            motion = change.abs().mean().nan_to_num(0).item()
            half = state.clone()
            half[..., : size[1] // 2] = automaton.seed(samples, size, seed=seed)[
                ..., : size[1] // 2
            ]
            aside = _MOTION + mark
            erased, healed = half, grow(half, 2 * mark, mark, _MOTION)
    return Rollout(
        tuple(found),
        automaton.to_image(erased)[:, :3].nan_to_num(0),
        automaton.to_image(healed)[:, :3].nan_to_num(0),
        motion,
    )


def recovery(before: float, erased: float, healed: float) -> float | None:
    """Say which share of the harm that was done has healed; None when there was none.

    By distances to the target, as NCAtorch (2026) has it: (healed - erased) / (before - erased).
    """
    harm = before - erased
    return (healed - erased) / harm if harm < 0 else None


@torch.inference_mode()
def cost(automaton: CellularAutomaton, kernel: str = "auto") -> Cost:
    """Time some steps, and work out the memory of one of 1024 x 1024 cells."""
    state = automaton.seed(1, _TIMED, seed=0)
    state = automaton.grow(state, 4, kernel=kernel)  # what is done only once
    steps, took, best = 4, 0.0, math.inf
    while took < _LONG_ENOUGH and steps < 4096:
        steps *= 2
        took = _seconds(automaton, state, steps, kernel)
    for _ in range(_TRIES):  # what else a machine does can only make it slower
        best = min(best, _seconds(automaton, state, steps, kernel))
    share = math.prod(_BESIDE) / math.prod(_TIMED)
    memory = plan(automaton, _BESIDE, 1, kernel=kernel).memory
    return Cost(1000 * best / steps * share, memory, automaton.kernel_for(state, kernel))


def _seconds(automaton: CellularAutomaton, state: Tensor, steps: int, kernel: str) -> float:
    began = time.perf_counter()
    automaton.grow(state, steps, kernel=kernel).sum().item()
    return time.perf_counter() - began


def _extreme(state: Tensor) -> float:
    largest = state.abs().max().item()
    return largest if math.isfinite(largest) else math.inf
