"""The losses of many models, asked one by one or as one, which scores all samples in one pass."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.total import TotalLoss

_ONE_BY_ONE = ("cpu",)  # devices where the losses of many models are asked one after the other


def join(losses: Sequence[Loss], batch: int) -> Loss | None:
    """Make one loss of those of many models with ``batch`` samples each, or None when it cannot be.

    ``losses`` are alike but for their targets. Samples come model by model, and what the joint loss
    draws is drawn once for all. It cannot be when a loss does not say how its goals are stacked, or
    when the targets differ in size.
    """
    first = losses[0]
    if isinstance(first, TotalLoss):
        sums = [each for each in losses if isinstance(each, TotalLoss)]
        terms = [join(each, batch) for each in zip(*(total.losses for total in sums), strict=True)]
        joined = [
            (name, weight, term)
            for name, weight, term in zip(first.names, first.weights, terms, strict=True)
            if term is not None
        ]
        return TotalLoss(joined) if len(joined) == len(terms) else None
    try:
        goals = first.stack(losses)
    except ValueError:
        return None
    joint = copy.copy(first)
    joint._buffers = {name: goal.repeat_interleave(batch, 0) for name, goal in goals.items()}
    return joint


class Scorer:
    """The losses of runs that go together.

    On a CPU each is asked by itself: little is gained there by asking all at once, and so a run
    gets the bits that it would get alone. Elsewhere they are one loss, where they can be.
    """

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.joint: Loss | None = None

    def score(
        self, losses: list[Loss], grown: list[Grown], chances: list[torch.Generator]
    ) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Score what each run has grown by its loss: its terms, name -> [B], and the sum [B]."""
        device, batch = grown[0].image.device, len(grown[0].image)
        if self.losses != losses:
            self.losses = losses
            alone = device.type in _ONE_BY_ONE or len(losses) == 1
            alone = alone or grown[0].labels is not None
            self.joint = None if alone else join(losses, batch)
        if self.joint is None:
            return [
                _score(loss, part, chance)
                for loss, part, chance in zip(losses, grown, chances, strict=True)
            ]
        terms, values = _score(self.joint, Grown.gather(grown), chances[0])
        apart = {name: value.split(batch) for name, value in terms.items()}
        return [
            ({name: parts[i] for name, parts in apart.items()}, each)
            for i, each in enumerate(values.split(batch))
        ]


def _score(loss: Loss, grown: Grown, chance: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    if not isinstance(loss, TotalLoss):
        return {}, loss(grown, chance)
    terms = loss.terms(grown, chance)
    return terms, loss.combine(terms)
