"""Losses of several classes, each for the samples that are of it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from nca_texture.losses.base import Grown, Loss


class ByClass(Loss):
    """One loss for each class: a sample is scored by the loss of its label."""

    def __init__(self, losses: Sequence[Loss]) -> None:
        """Score samples of class k by ``losses[k]``."""
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B].

        The losses draw from ``generator`` one after the other. Raises ``ValueError`` for samples
        without labels.
        """
        if grown.labels is None:
            raise ValueError(
                f"there are {len(self.losses)} classes and what was grown has no labels; "
                "label every sample with its class"
            )
        labels = grown.labels.to(grown.image.device)
        places, values = [], []
        for number, loss in enumerate(self.losses):
            place = (labels == number).nonzero()[:, 0]
            if len(place):
                places.append(place)
                values.append(loss(replace(grown.pick(place), labels=None), generator))
        return torch.cat(values)[torch.cat(places).argsort()]
