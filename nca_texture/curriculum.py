"""Lessons that become harder as a rule learns: from mending a picture to growing it from a cell.

After Growing Pokemon (R. Davis): a training starts from the target itself, with noise over it,
truncated around the seed and bitten, and takes few steps. Whenever the loss has come below a
threshold one of these becomes a little harder, in turn; where it stays far above, easier again. At
the end nothing but a cell is left to start from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from nca_texture.damage import circle

ASPECTS = ("noise", "truncation", "bite", "steps")

Moment = Literal["start", "any"]


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """What becomes harder and when; ``threshold`` 0 is no curriculum at all."""

    threshold: float = 0.0  # of the loss: below it, harder
    ease: float = 3.0  # times the threshold: above that, easier
    rate: float = 0.05  # of the way from the easiest to the hardest, at every look
    noise: float = 0.5  # deviation added to colours and hidden channels at the hardest
    bite: float = 0.25  # radius in fractions of the shorter side, at the hardest
    steps: tuple[int, int] = (12, 24)  # of a batch, at the easiest
    moment: Moment = "start"  # what is bitten: fresh samples, or with "any" all of a batch

    def __post_init__(self) -> None:
        if self.moment not in get_args(Moment):
            raise ValueError(f"curriculum.moment is {self.moment!r}; choose from start, any")
        for name in ("threshold", "noise", "bite"):
            if getattr(self, name) < 0:
                raise ValueError(f"curriculum.{name} is {getattr(self, name)}; give 0 or more")
        if not 0 < self.rate <= 1:
            raise ValueError(f"curriculum.rate is {self.rate}; it lies above 0 and up to 1")
        if self.ease < 1:
            raise ValueError(f"curriculum.ease is {self.ease}; give 1 or more")
        if not 1 <= self.steps[0] <= self.steps[1]:
            raise ValueError(f"curriculum.steps is {list(self.steps)}; give [least, most]")

    def moved(self, levels: Sequence[float], loss: float, turn: int) -> list[float]:
        """Return the levels, 0 to 1, of all ``ASPECTS`` after a look at the mean ``loss``."""
        levels = list(levels) or [0.0] * len(ASPECTS)
        at = turn % len(ASPECTS)
        if loss <= self.threshold:
            levels[at] = min(1.0, levels[at] + self.rate * len(ASPECTS))
        elif loss > self.ease * self.threshold:
            levels[at] = max(0.0, levels[at] - self.rate)
        return levels

    def steps_at(self, levels: Sequence[float], hardest: tuple[int, int]) -> tuple[int, int]:
        """Return the least and the most steps of a batch."""
        hard = level(levels, "steps")
        least, most = (
            round(easy + hard * (end - easy)) for easy, end in zip(self.steps, hardest, strict=True)
        )
        return least, max(least, most)

    def begin(
        self,
        targets: Tensor,
        seeds: Tensor,
        place: tuple[float, float],
        levels: Sequence[float],
        generator: torch.Generator,
    ) -> Tensor:
        """Make states to start from of ``targets`` [B, 4, H, W], premultiplied: [B, C, H, W].

        What is left of a target has hidden channels of one, as a seed has; ``seeds`` [B, C, H, W]
        stand where the truncation has come to its end.
        """
        size = targets.shape[2], targets.shape[3]
        alive = (targets[:, 3:4] > 0.1).to(targets)
        state = torch.cat([targets, alive.expand(-1, seeds.shape[1] - 4, -1, -1)], 1)
        noise = torch.randn(state.shape, generator=generator).to(state)
        state = state + noise * alive * self.noise * level(levels, "noise")
        # The farthest corner is a radius of sqrt(2) of the longer side away.
        whole = math.sqrt(2) * max(size) / min(size)
        radius = whole * (1 - level(levels, "truncation")) ** 2
        kept = circle(size, place, radius).to(state.device)
        state = torch.where(kept, state, 0.0)
        return torch.where(seeds != 0, seeds, state)

    def bites(
        self, count: int, size: tuple[int, int], levels: Sequence[float], chance: torch.Generator
    ) -> Tensor:
        """Draw what is bitten off each of so many samples: bool [count, H, W]."""
        numbers = torch.rand(count, 3, generator=chance, dtype=torch.float64).tolist()
        most = self.bite * level(levels, "bite")
        return torch.stack([circle(size, (y, x), most * much) for y, x, much in numbers])


def level(levels: Sequence[float], aspect: str) -> float:
    """Return how hard one of ``ASPECTS`` is, 0 to 1."""
    return levels[ASPECTS.index(aspect)] if levels else 0.0
