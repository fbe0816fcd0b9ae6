"""Optimal transport between clouds of features, along random directions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.devices import send
from nca_texture.losses.base import Grown, Loss, stack_buffers
from nca_texture.losses.features import FeatureNetwork, full_precision, load_network
from nca_texture.losses.networks import IMAGE, style_layers
from nca_texture.losses.patch import draw
from nca_texture.losses.pixel import premultiply

REDUCTIONS = ("sum", "mean", "root")
BORDERS = {"zeros": ("zeros", "zeros"), "wrap": ("circular", "replicate")}  # of grown, of target

_NARROW = 16  # features, of which products of matrices are slow unless they come first
_PLACE_BITS = 14  # of a place in a row: 17 bits or more are left for where a number lies in it


def draw_directions(width: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` unit vectors [width, count], spread evenly over all directions."""
    return F.normalize(torch.randn(width, count, generator=generator), dim=0)


def sliced_distances(features: Tensor, goal: Tensor, directions: Tensor) -> Tensor:
    """Squared way of each feature to its goal along each direction: [B, P, n].

    ``features`` [B, n, D] and ``goal`` [m, D], or one for each sample [B, m, D], are clouds of
    points; along a direction (column of ``directions`` [D, P]) transport between them is optimal in
    order. ``goal`` is resampled to n quantiles when m differs. The order is a constant in the
    gradient, as it is in that of a sort.
    """
    return cast(Tensor, _Ways.apply(features, goal, directions))


class _Ways(torch.autograd.Function):
    """What ``sliced_distances`` says, without the copies that its parts would keep."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, goal: Tensor, directions: Tensor) -> Tensor:
        ways = directions.mT @ features.mT
        quantiles = _resample(_sort(directions.mT @ goal.mT), ways.shape[-1])
        ways.scatter_add_(-1, _argsort(ways), -quantiles.expand_as(ways))
        ctx.save_for_backward(ways, directions)
        return ways.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        ways, directions = ctx.saved_tensors
        back = 2 * gradients[0] * ways
        if len(directions) < _NARROW:
            return (directions @ back).mT.contiguous(), None, None
        return back.mT @ directions.mT, None, None


def _resample(quantiles: Tensor, count: int) -> Tensor:
    """Read ``count`` evenly spaced quantiles [..., P, count] off sorted rows [..., P, m]."""
    if quantiles.shape[-1] == count:
        return quantiles
    rows = quantiles.reshape(1, -1, quantiles.shape[-1])
    rows = F.interpolate(rows, count, mode="linear", align_corners=False)
    return rows.view(*quantiles.shape[:-1], count)


# On one core numpy sorts rows thirty times as fast as torch does, but finds their order hardly
# faster: then numbers of 32 bits, a place's own in their last bits, are what is sorted.


def _sort(rows: Tensor) -> Tensor:
    """Sort ``rows`` [..., n]."""
    if rows.device.type != "cpu":
        return rows.sort(-1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=-1))


def _argsort(rows: Tensor) -> Tensor:
    """Index ``rows`` [..., n] in ascending order.

    Of float32 numbers on a CPU, those closer than 1/100000 of the row's range may change places.
    """
    bits = max(rows.shape[-1] - 1, 1).bit_length()
    if rows.device.type != "cpu":
        return rows.argsort(-1)
    if rows.dtype != torch.float32 or bits > _PLACE_BITS:
        return torch.from_numpy(np.argsort(rows.numpy(), axis=-1))
    low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
    # A whole number less, so that rounding leaves them below 2**(31 - bits).
    stretch = (2.0 ** (31 - bits) - 2**8) / (high - low).clamp_(min=torch.finfo(torch.float32).tiny)
    keys = ((rows - low).mul_(stretch)).to(torch.int32).bitwise_left_shift_(bits)
    keys.bitwise_or_(torch.arange(rows.shape[-1], dtype=torch.int32))
    keys.numpy().sort(axis=-1)
    return keys.bitwise_and_((1 << bits) - 1).long()


class SlicedLoss(Loss):
    """Sliced optimal transport between the features of what was grown and of the target.

    Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis" (2021), as in the PyTorch
    notebook of Self-Organising Textures: 32 directions, drawn afresh at every call, on the picture
    itself and five layers, sum of squares. Blind to where things are, up to the network's padding.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        features: str = "vgg16",
        layers: Sequence[str] | None = None,
        layer_weights: Sequence[float] | None = None,
        projections: int = 32,
        image: bool = True,
        reduce: str = "sum",
        samples: int | None = None,
        border: str = "zeros",
        weights: str | Path | FeatureNetwork | None = None,
        precision: str = "float32",
    ) -> None:
        """Take the features of ``target`` [N, 3 or 4, H, W] once; N pictures are one cloud.

        ``image`` makes the normalised picture a layer. ``reduce`` says what a layer counts:
        ``sum`` adds up places and directions, and so grows with the picture; a rule finds detail
        first. ``mean`` does not, for comparing sizes; a rule finds shapes first. ``root`` lies
        between them, the mean times the root of places per pixel. Layers are added up, each times
        its number in ``layer_weights`` (1 when None; the picture comes first).

        Of a layer with more places than ``samples``, grown or of the target, so many are drawn anew
        at every call: sorting takes its time on large pictures. ``border`` is what the network
        finds around a picture: ``zeros``, as published, of which a small grid is full, or ``wrap``:
        what was grown is a torus, and the target is mirrored. ``precision`` is the network's.
        Raises ``ValueError`` for an option that makes no sense or a target too small,
        ``MissingError`` when there are no weights.
        """
        super().__init__()
        if projections < 1:
            raise ValueError(f"projections has to be at least 1, got {projections}")
        if reduce not in REDUCTIONS:
            raise ValueError(
                f"no reduction is called {reduce!r}; choose from {', '.join(REDUCTIONS)}"
            )
        if border not in BORDERS:
            raise ValueError(f"no border is called {border!r}; choose from {', '.join(BORDERS)}")
        if samples is not None and samples < 1:
            raise ValueError(f"samples has to be at least 1, got {samples}")
        names = style_layers(features) if layers is None else tuple(layers)
        self.network = load_network(
            features, (IMAGE, *names) if image else names, weights, precision
        )
        self.projections = projections
        self.reduce = reduce
        self.samples = samples
        self.border, around_target = BORDERS[border]
        names = self.network.layers
        self.layer_weights = tuple(layer_weights or (1.0,) * len(names))
        if len(self.layer_weights) != len(names):
            raise ValueError(
                f"got {len(self.layer_weights)} layer_weights for {len(names)} layers "
                f"({', '.join(names)}); give one for each"
            )
        with torch.no_grad():
            clouds = [
                self.network.at_places(picture, lambda name, count: None, around_target).values()
                for picture in premultiply(target).split(1)
            ]
        for k, pictures in enumerate(zip(*clouds, strict=True)):
            self.register_buffer(f"goal{k}", torch.cat(pictures, 1)[0], persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B].

        At the target it is 0 whatever the directions are or, where ``samples`` are drawn, as small
        as two draws are alike.
        """
        value = grown.image.new_zeros(len(grown.image), dtype=torch.float32)
        pixels = grown.image.shape[-2] * grown.image.shape[-1]
        places: dict[str, int] = {}

        def choose(layer: str, count: int) -> Tensor | None:
            places[layer] = count
            return self._some(count, generator)

        clouds = self.network.at_places(grown.image, choose, self.border)
        for k, (layer, ours) in enumerate(clouds.items()):
            directions = draw_directions(ours.shape[-1], self.projections, generator)
            goal = self.get_buffer(f"goal{k}")
            chosen = self._some(goal.shape[-2], generator)
            if chosen is not None:
                goal = goal[..., send(chosen, goal.device), :]
            with full_precision(ours):
                distances = sliced_distances(ours, goal, send(directions, ours.device))
            score = distances.mean((1, 2))
            if self.reduce == "sum":
                score = score * (places[layer] * self.projections)
            elif self.reduce == "root":
                score = score * (places[layer] / pixels) ** 0.5
            value = value + self.layer_weights[k] * score
        return value

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)

    def _some(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Draw ``samples`` of ``count`` places; None stands for all of them."""
        if self.samples is None or self.samples >= count:
            return None
        return draw(count, self.samples, generator)
