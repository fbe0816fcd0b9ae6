"""Difference of pixels: for a picture that is to look exactly so, exactly there."""

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss

NORMS = ("l2", "l1")


def premultiply(image: Tensor) -> Tensor:
    """Multiply the colours of ``image`` [B, 3 or 4, H, W] by its alpha, when it has one.

    Pictures come with straight alpha, automata grow premultiplied colours (Growing NCA): what is
    transparent has no colour.
    """
    if image.shape[1] != 4:
        return image
    return torch.cat([image[:, :3] * image[:, 3:], image[:, 3:]], 1)


class PixelLoss(Loss):
    """Mean squared (``l2``) or absolute (``l1``) difference over channels, rows and columns.

    Growing NCA (Mordvintsev et al., Distill 2020): squared, of premultiplied red, green, blue and
    alpha. Several pictures are the goals of as many classes, chosen by the labels of what was
    grown.
    """

    goal: Tensor

    def __init__(self, target: Tensor, *, norm: str = "l2") -> None:
        """Keep ``target`` [N, 3 or 4, H, W] with straight alpha in [0, 1], one picture per class.

        Raises ``ValueError`` for an unknown ``norm``.
        """
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"no norm is called {norm!r}; choose from {', '.join(NORMS)}")
        if target.ndim != 4 or target.shape[1] not in (3, 4) or not len(target):
            raise ValueError(f"expected a target [N, 3 or 4, H, W], got {list(target.shape)}")
        self.norm = norm
        self.register_buffer("goal", premultiply(target.float()), persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], 0 where every pixel is the target's.

        Raises ``ValueError`` when the picture has another size or other channels than the target.
        """
        image = grown.image.float()
        if image.shape[1:] != self.goal.shape[1:]:
            (channels, height, width), (wanted, rows, columns) = (
                image.shape[1:],
                self.goal.shape[1:],
            )
            raise ValueError(
                f"the picture is {width}x{height} with {channels} channels, the target "
                f"{columns}x{rows} with {wanted}; pixels can only be compared one to one, so pad "
                "or resize the target, or grow on a grid of its size"
            )
        difference = image - self._goals(grown)
        distance = difference.square() if self.norm == "l2" else difference.abs()
        return distance.mean((1, 2, 3))

    def _goals(self, grown: Grown) -> Tensor:
        """Pick the picture each sample is to become: [1 or B, C, H, W]."""
        if len(self.goal) == 1:
            return self.goal
        if grown.labels is None:
            raise ValueError(
                f"there are {len(self.goal)} target pictures and what was grown has no labels; "
                "give one picture, or label every sample with its class"
            )
        return self.goal[grown.labels.to(self.goal.device)]
