"""What a loss is given, and what it has to answer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Grown:
    """What an automaton has grown, as a loss sees it."""

    image: Tensor  # [B, 3 or 4, H, W], nominally in [0, 1], not clipped
    state: Tensor  # [B, C, H, W], on the grid of cells
    labels: Tensor | None = None  # [B] class of each sample, or None when there is one class
    steps: int = 0  # steps taken by this batch since it left the pool


class Loss(nn.Module, ABC):
    """How far a batch is from what it should become; measures its target once, when built.

    A loss is built as ``SomeLoss(target, **options)`` with ``target`` [N, 3 or 4, H, W] in [0, 1]
    (N pictures of one and the same texture); the options are plain numbers and strings, so that a
    recipe can hold them. A loss that needs no picture ignores ``target``.
    """

    @abstractmethod
    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], differentiable in ``grown``.

        Whatever the loss draws at random (projections, choices of patches) it draws from the CPU
        ``generator``, so that a run can be repeated.
        """
