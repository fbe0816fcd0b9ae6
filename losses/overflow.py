"""What keeps the hidden channels in bounds, so that a rule stays stable after training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss, stack_buffers

REDUCTIONS = ("mean", "sum")


def overflow(state: Tensor, limit: float) -> Tensor:
    """How far each number of ``state`` lies outside [-limit, limit], 0 inside; same shape."""
    return (state.abs() - limit).clamp(min=0)


class OverflowLoss(Loss):
    """Price of a state that leaves [-limit, limit]; needs no target.

    Self-Organising Textures sums the distances (power 1, limit 1), muNCA sums their squares; a sum
    grows with the grid and the number of channels, the mean does not.
    """

    def __init__(
        self,
        target: Tensor | None = None,
        *,
        limit: float = 1.0,
        power: int = 1,
        reduce: str = "mean",
    ) -> None:
        """Ignore ``target``; ``power`` is 1 or 2, ``reduce`` says what is done over all cells.

        Raises ``ValueError`` for other values.
        """
        super().__init__()
        if limit < 0:
            raise ValueError(f"limit has to be at least 0, got {limit}")
        if power not in (1, 2):
            raise ValueError(f"power is 1 or 2, got {power}")
        if reduce not in REDUCTIONS:
            raise ValueError(
                f"no reduction is called {reduce!r}; choose from {', '.join(REDUCTIONS)}"
            )
        self.limit = limit
        self.power = power
        self.reduce = reduce

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each state; returns [B], 0 where nothing leaves its bounds."""
        excess = overflow(grown.state.float(), self.limit).pow(self.power).flatten(1)
        return excess.mean(1) if self.reduce == "mean" else excess.sum(1)

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)
