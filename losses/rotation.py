"""Difference of pixels that no rotation changes: for rules that do not know where up is."""

import math

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.pixel import premultiply

_RINGS_PER_CELL = 1.0


class RotationLoss(Loss):
    """Mean squared difference to the target turned so that it fits best.

    Growing Isotropic Neural Cellular Automata (Mordvintsev et al., 2022): both pictures are laid
    out in polar coordinates around their middle, where a rotation is a shift, and a Fourier
    transform along the angle finds the best shift at once. The difference is weighted by area.
    """

    goal: Tensor
    spectrum: Tensor
    flipped: Tensor
    grid: Tensor
    area: Tensor

    def __init__(self, target: Tensor, *, mirror: bool = True) -> None:
        """Measure ``target`` [1, 3 or 4, H, W] with straight alpha once.

        With ``mirror`` its mirror image is as good. Raises ``ValueError`` for several pictures.
        """
        super().__init__()
        if target.ndim != 4 or target.shape[1] not in (3, 4) or len(target) != 1:
            raise ValueError(f"expected a target [1, 3 or 4, H, W], got {list(target.shape)}")
        self.mirror = mirror
        self.size = tuple(target.shape[1:])
        height, width = target.shape[2:]
        radius = min(height, width) / 2
        rings, angles = math.ceil(radius * _RINGS_PER_CELL), 4 * math.ceil(math.pi * radius / 2)
        far = (torch.arange(rings) + 0.5) / rings * radius
        turn = torch.arange(angles) * (2 * math.pi / angles)
        x = far[:, None] * turn.cos() / (width / 2)
        y = far[:, None] * turn.sin() / (height / 2)
        area = far / far.sum() / angles
        self.register_buffer("grid", torch.stack([x, y], -1)[None], persistent=False)
        self.register_buffer("area", area[:, None], persistent=False)
        polar = self._polar(premultiply(target.float()))
        self.register_buffer("goal", polar, persistent=False)
        self.register_buffer("spectrum", torch.fft.rfft(polar), persistent=False)
        other = polar.flip(-1).roll(1, -1)
        self.register_buffer("flipped", torch.fft.rfft(other), persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], 0 for the target in any orientation.

        Raises ``ValueError`` when the picture has another size or other channels than the target.
        """
        image = grown.image.float()
        if tuple(image.shape[1:]) != self.size:
            raise ValueError(
                f"the picture is {list(image.shape[1:])} (channels, rows, columns), the target "
                f"{list(self.size)}; pad or resize the target, or grow on a grid of its size"
            )
        polar = self._polar(image)
        seen = torch.fft.rfft(polar * self.area)
        fits = [self._fits(seen, self.spectrum)]
        if self.mirror:
            fits.append(self._fits(seen, self.flipped))
        best = torch.cat(fits, -1).amax(-1)
        energy = (self.area * (polar.square() + self.goal.square())).sum((1, 2, 3))
        return (energy - 2 * best) / image.shape[1]

    def turns(self, image: Tensor) -> Tensor:
        """Find how far each picture [B, 3 or 4, H, W] is turned from the target: [B].

        Degrees from 0 to 360, clockwise as pictures are shown; mirrored ones are not looked for.
        """
        seen = torch.fft.rfft(self._polar(image.float()) * self.area)
        fits = self._fits(seen, self.spectrum)
        return fits.argmax(-1) * (360 / fits.shape[-1])

    def _fits(self, seen: Tensor, spectrum: Tensor) -> Tensor:
        """Correlate with the target in all orientations: [B, angles]."""
        both = (seen * spectrum.conj()).sum((1, 2))
        return torch.fft.irfft(both, self.goal.shape[-1])

    def _polar(self, image: Tensor) -> Tensor:
        """Lay ``image`` [B, C, H, W] out by distance and angle: [B, C, rings, angles]."""
        grid = self.grid.expand(len(image), -1, -1, -1)
        return torch.nn.functional.grid_sample(
            image, grid, padding_mode="border", align_corners=False
        )
