"""What lets a pattern come to rest, so that it is later what it was when it had settled."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss, stack_buffers


class StillLoss(Loss):
    """Price of a picture that goes on changing when it is old; needs no target.

    A rule that is never told to stop orders what it made for as long as it runs: bars straighten
    until crossings are gone, squares merge. States are held to where they were when they left the
    pool, unless they were sown, cut or told another class in between: wounds are there to heal.
    While a rule learns, states have to follow it; so the price is asked when it has learned.
    """

    def __init__(
        self, target: Tensor | None = None, *, after: int = 256, begin: float = 0.7
    ) -> None:
        """Ignore ``target``; pictures may change for ``after`` steps from their seed.

        ``begin`` is the share of the training that is free. Raises ``ValueError`` for less than no
        steps and for a share outside 0 to 1.
        """
        super().__init__()
        if after < 0:
            raise ValueError(f"after has to be at least 0, got {after}")
        if not 0 <= begin <= 1:
            raise ValueError(f"begin is a share of the training, 0 to 1, got {begin}")
        self.after = after
        self.begin = begin

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Average the change of what is seen of each state; returns [B], 0 where it is free."""
        free = grown.state.new_zeros(len(grown.state), dtype=torch.float32)
        if grown.before is None or grown.calm is None or grown.ages is None:
            return free
        if grown.progress < self.begin:
            return free
        seen = grown.image.shape[1]
        change = (grown.state[:, :seen].float() - grown.before[:, :seen].float()).abs()
        held = grown.calm & (grown.ages - grown.steps >= self.after)
        return change.flatten(1).mean(1) * held.to(change.device)

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)
