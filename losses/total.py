"""Several losses as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nca_texture.losses.base import Grown, Loss


class TotalLoss(Loss):
    """Weighted sum of named losses, each of which can be read by itself."""

    def __init__(self, terms: Sequence[tuple[str, float, Loss]]) -> None:
        """Add up ``terms``, each a name, a weight and a loss.

        Raises ``ValueError`` when there are none, or two of one name.
        """
        super().__init__()
        self.names = tuple(name for name, _, _ in terms)
        if not terms:
            raise ValueError("expected at least one loss to add up, got none")
        if len(set(self.names)) < len(terms):
            raise ValueError(f"each loss of a sum needs its own name, got {', '.join(self.names)}")
        self.weights = tuple(weight for _, weight, _ in terms)
        # A ModuleDict would refuse names such as "values".
        self.losses = nn.ModuleList(loss for _, _, loss in terms)

    def terms(self, grown: Grown, generator: torch.Generator) -> dict[str, Tensor]:
        """Score each sample by each loss, unweighted: name -> [B].

        The losses draw from ``generator`` one after the other, in the order they were given in.
        """
        return {
            name: loss(grown, generator) for name, loss in zip(self.names, self.losses, strict=True)
        }

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B]."""
        return self.combine(self.terms(grown, generator))

    def combine(self, terms: dict[str, Tensor]) -> Tensor:
        """Add up what ``terms`` returned, each times its weight: [B]."""
        weighted = [w * terms[name] for w, name in zip(self.weights, self.names, strict=True)]
        return torch.stack(weighted).sum(0)
