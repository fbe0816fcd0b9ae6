"""What a loss is given, and what it has to answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Grown:
    """What an automaton has grown, as a loss sees it."""

    image: Tensor  # [B, 3 or 4, H, W], nominally in [0, 1], not clipped
    state: Tensor  # [B, C, H, W], on the grid of cells
    labels: Tensor | None = None  # [B] class of each sample, or None when there is one class
    steps: int = 0  # steps taken by this batch since it left the pool
    ages: Tensor | None = None  # [B] steps of each sample since its seed, or None: nobody counted

    def pick(self, places: Tensor) -> "Grown":
        """Return the samples at ``places`` [N]."""
        own = self._of_samples().items()
        return replace(self, **{name: value[places.to(value.device)] for name, value in own})

    @staticmethod
    def gather(parts: Sequence["Grown"]) -> "Grown":
        """Make one batch of ``parts``, which tell the same things of their samples."""
        names = parts[0]._of_samples()
        whole = {name: torch.cat([each._of_samples()[name] for each in parts]) for name in names}
        return replace(parts[0], **whole)

    def _of_samples(self) -> dict[str, Tensor]:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if isinstance(value, Tensor)}


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

    def stack(self, losses: Sequence["Loss"]) -> dict[str, Tensor]:
        """Stack what ``losses``, of M models and alike but for their targets, have measured.

        What is returned, name -> [M, ...], takes the place of the buffers of a loss that reads a
        goal for each sample. Raises ``ValueError`` when that cannot be: then each is asked alone.
        """
        raise ValueError(
            f"{type(self).__name__} does not say how the goals of many models are stacked; "
            "let it have a method `stack`, or ask each loss alone"
        )


def stack_buffers(losses: Sequence[Loss]) -> dict[str, Tensor]:
    """Stack the buffers of ``losses``, each [1, ...] or a goal for all samples: name -> [M, ...].

    Raises ``ValueError`` when they differ in size.
    """
    names = [name for name, _ in losses[0].named_buffers(recurse=False)]
    return {name: stack_goals([loss.get_buffer(name) for loss in losses]) for name in names}


def stack_goals(goals: Sequence[Tensor]) -> Tensor:
    """Stack ``goals``, each [1, ...] or without that axis, to [M, ...]."""
    if any(goal.shape != goals[0].shape for goal in goals):
        sizes = ", ".join(str(list(goal.shape)) for goal in goals)
        raise ValueError(f"goals of different sizes cannot be stacked, got {sizes}")
    return torch.cat(list(goals)) if len(goals[0]) == 1 else torch.stack(list(goals))


def draw_places(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Choose ``count`` of ``total`` places, one from each of ``count`` equal stretches: [count].

    All of them, once each, when there are no more than ``count``.
    """
    if total <= count:
        return torch.arange(total)
    jitter = torch.rand(count, dtype=torch.float64, generator=generator)
    return ((torch.arange(count) + jitter) * (total / count)).long().clamp(max=total - 1)
