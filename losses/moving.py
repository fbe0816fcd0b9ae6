"""A loss in a frame that moves: for pictures that are to crawl while they live."""

from dataclasses import replace

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss


def way(ages: Tensor, motion: tuple[float, float]) -> Tensor:
    """Say how far a picture has come after ``ages`` [B] steps: [B, 2] whole cells, down and right.

    ``motion`` is in cells per step; cells cannot show a part of one, so the way is rounded.
    """
    speed = torch.tensor(motion, dtype=torch.float64, device=ages.device)
    return (ages.double()[:, None] * speed + 0.5).floor().long()


def rolled_back(field: Tensor, ways: Tensor) -> Tensor:
    """Roll each sample of ``field`` [B, C, H, W] back by its way [B, 2], around the torus."""
    for axis in (2, 3):
        size = field.shape[axis]
        index = torch.arange(size, device=field.device) + ways[:, axis - 2, None].to(field.device)
        shape = (len(field), 1, size, 1) if axis == 2 else (len(field), 1, 1, size)
        field = field.gather(axis, (index % size).view(shape).expand(field.shape))
    return field


class Moving(Loss):
    """Another loss, asked about what has grown in a frame that follows the target.

    The worm of Studying Growth (Greydanus, 2022) lives in such a frame. The target sets out when a
    sample is sown, so each sample is seen by its own age; on a torus it never comes to an end.
    """

    def __init__(self, loss: Loss, motion: tuple[float, float]) -> None:
        """Let the target of ``loss`` move by ``motion`` cells (down, right) in each step."""
        super().__init__()
        self.loss = loss
        self.motion = motion

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B].

        Raises ``ValueError`` for samples of an age that nobody has counted.
        """
        if grown.ages is None:
            raise ValueError(
                "the target moves with every step, and nobody says how old the samples are; "
                "give their ages"
            )
        ways = way(grown.ages, self.motion)
        image, state = (rolled_back(each, ways) for each in (grown.image, grown.state))
        return self.loss(replace(grown, image=image, state=state), generator)
