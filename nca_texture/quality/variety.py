"""How much of a texture is new: whether two seeds differ, and how much is copied from the target.

A regular target repeats itself, and so has to do whoever learns it: each number is to be read
beside the one that the target has for itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 32  # pixels of a side of what is looked for elsewhere, at most
_BLOCKS = 16
_PROBE, _STRIDE = 12, 4  # pixels: side of what is looked for to find copies, and steps between
_PROBES = 1024
_OFFSETS = 48  # likely places of copies that are looked at closely
_VERBATIM = 0.05  # of a patch's variance: what a copy may differ by
_PLAIN = 0.2  # of the picture's variance: a patch with less of it is nothing to copy


@torch.no_grad()
def diversity(first: Tensor, second: Tensor, *, wrap: bool = False) -> float:
    """Say how unlike two pictures [3, H, W] are, wherever they are laid upon each other: 0 to 1.

    One minus the correlation of blocks of the first with the place in the second most like each.
    With ``wrap`` they are tori.
    """
    if wrap:
        second = F.pad(second[None], [0, _side(first)] * 2, mode="circular")[0]
    blocks, _ = _cut(first, _side(first), _side(first) // 2)
    likeness = _correlations(_spread(blocks, _BLOCKS), second)
    return 1 - likeness.flatten(1).amax(1).mean().item()


@torch.no_grad()
def own_diversity(target: Tensor) -> float:
    """Say the same of a picture [3, H, W] and itself, overlapping places left out."""
    side = _side(target)
    blocks, corners = _cut(target, side, side // 2)
    chosen = _spread(torch.arange(len(blocks)), _BLOCKS)
    likeness = _correlations(blocks[chosen], target)
    for found, (top, left) in zip(likeness, corners[chosen].tolist(), strict=True):
        found[
            max(top - side // 2, 0) : top + side // 2, max(left - side // 2, 0) : left + side // 2
        ] = -1
    return 1 - likeness.flatten(1).amax(1).mean().item()


@torch.no_grad()
def largest_copy(picture: Tensor, target: Tensor) -> int:
    """Find the side in pixels of the largest square of ``picture`` [3, H, W] that is in ``target``.

    As it is there, but for a twentieth of its variance; squares nearly without content do not
    count. 0 when there is none of at least 12 pixels.
    """
    return _largest(picture, target, own=False)


@torch.no_grad()
def largest_repeat(target: Tensor) -> int:
    """Find the side of the largest square of ``target`` [3, H, W] that is there twice."""
    return _largest(target, target, own=True)


def _side(picture: Tensor) -> int:
    return max(4, min(_BLOCK, min(picture.shape[-2:]) // 3) // 2 * 2)


def _spread(values: Tensor, count: int) -> Tensor:
    """Take ``count`` of ``values`` [n, ...], evenly spread."""
    if len(values) <= count:
        return values
    return values[torch.linspace(0, len(values) - 1, count).long()]


def _cut(picture: Tensor, side: int, stride: int) -> tuple[Tensor, Tensor]:
    """Cut blocks [n, 3, side, side] out of ``picture`` [3, H, W], and say where: corners [n, 2]."""
    blocks = picture.unfold(1, side, stride).unfold(2, side, stride)
    rows, columns = blocks.shape[1:3]
    corners = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) * stride
    return blocks.permute(1, 2, 0, 3, 4).flatten(0, 1), corners


def _correlations(blocks: Tensor, picture: Tensor) -> Tensor:
    """Correlate ``blocks`` [n, 3, s, s] with every place of ``picture`` [3, H, W]: [n, h, w]."""
    side = blocks.shape[-1]
    centred = blocks - blocks.mean((1, 2, 3), keepdim=True)
    norms = centred.square().sum((1, 2, 3)).sqrt()
    sums, squares = (_box(values.sum(0), side) for values in (picture, picture.square()))
    spread = (squares - sums.square() / (3 * side * side)).clamp(min=1e-6).sqrt()
    products = F.conv2d(picture[None], centred)[0]
    return products / (norms[:, None, None].clamp(min=1e-3) * spread)


def _box(plane: Tensor, side: int) -> Tensor:
    """Sum ``plane`` [H, W] over every square of ``side``: [H - side + 1, W - side + 1]."""
    sums = F.pad(plane.double().cumsum(0).cumsum(1), [1, 0, 1, 0])
    return (
        sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    ).to(plane)


def _largest(picture: Tensor, target: Tensor, *, own: bool) -> int:
    side = _PROBE
    if min(*picture.shape[-2:], *target.shape[-2:]) < side:
        return 0
    probes, corners = _cut(picture, side, _STRIDE)
    content = probes.var((2, 3), correction=0).sum(1)
    worth = (content > _PLAIN * target.var((1, 2), correction=0).sum()).nonzero()[:, 0]
    worth = _spread(worth, _PROBES)
    if not len(worth):
        return 0
    probes, corners = probes[worth], corners[worth]
    # Squared distances to every place, as sums of squares less twice the products.
    squares = _box(target.square().sum(0), side)
    found: list[tuple[float, int, int]] = []
    for some, where in zip(probes.split(128), corners.split(128), strict=True):
        apart = squares - 2 * F.conv2d(target[None], some)[0]
        apart = apart + some.square().sum((1, 2, 3))[:, None, None]
        if own:
            for each, (top, left) in zip(apart, where.tolist(), strict=True):
                each[max(top - side, 0) : top + side, max(left - side, 0) : left + side] = 1e9
        least, place = apart.flatten(1).min(1)
        relative = least / (some.var((2, 3), correction=0).sum(1) * side * side)
        for value, at, (top, left) in zip(
            relative.tolist(), place.tolist(), where.tolist(), strict=True
        ):
            if value < _VERBATIM:
                found.append((value, at // apart.shape[-1] - top, at % apart.shape[-1] - left))
    offsets = list(dict.fromkeys((down, right) for _, down, right in sorted(found)))[:_OFFSETS]
    return max((_square_at(picture, target, *offset) for offset in offsets), default=0)


def _square_at(picture: Tensor, target: Tensor, down: int, right: int) -> int:
    """Find the largest square that is the same when ``target`` is moved by (down, right)."""
    rows = slice(max(0, -down), min(picture.shape[1], target.shape[1] - down))
    columns = slice(max(0, -right), min(picture.shape[2], target.shape[2] - right))
    ours = picture[:, rows, columns]
    theirs = target[
        :, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right
    ]
    least = _PLAIN * target.var((1, 2), correction=0).sum()
    error = (ours - theirs).square().sum(0)
    low, high = _PROBE - 1, min(ours.shape[1:])
    while low < high:
        side = (low + high + 1) // 2
        area = side * side
        means = torch.stack([_box(plane, side) for plane in theirs]) / area
        power = _box(theirs.square().sum(0), side) / area
        spread = power - means.square().sum(0)
        same = (_box(error, side) / area < _VERBATIM * spread) & (spread > least)
        low, high = (side, high) if bool(same.any()) else (low, side - 1)
    return low if low >= _PROBE else 0
