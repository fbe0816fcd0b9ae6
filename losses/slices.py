"""Optimal transport between clouds of points along directions, where it is transport in order."""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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
