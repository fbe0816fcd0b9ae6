"""The definition of a step, in plain PyTorch: differentiable, on any device and in any float type.

All other kernels are held to this one. Cells are kept as [B, H, W, C] while they grow. Matrix
products run over panels of one fixed shape, padded with zeros, because a BLAS may sum differently
for a few odd rows or columns: so a cell gets the same bits in any block, batch and thread count.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.kernels.rule import Rule, World, apart
from nca_texture.noise import fires, fires_each

_PANEL = {"cpu": 1024}  # rows of one matrix product
_PANEL_ELSEWHERE = 16384
_LANES = 16  # panels are padded to a multiple of this many columns


def grow(
    rule: Rule, state: Tensor, steps: int, seeds: list[int], start: int, world: World
) -> Tensor:
    """Take ``steps`` steps of ``rule`` from ``state`` [B, C, H, W], ``start`` steps old."""
    if rule.models > 1:
        return grow_apart(grow, rule, state, steps, seeds, start, world)
    height, width = state.shape[-2:]
    rows = coordinates(world.origin[0], height, world.extent[0], rule.edges[0], state.device)
    columns = coordinates(world.origin[1], width, world.extent[1], rule.edges[1], state.device)
    limit, mix = crop(rule.fire_limit, rows, columns), rule.mix
    if mix is not None:
        mix = crop(mix, rows, columns).permute(3, 4, 0, 1, 2)  # [H, W, C or 1, F, basis]
    always = bool((rule.fire_limit >= 2**24).all())
    panels = _Panels(rule, state.device.type)
    cells = state.permute(0, 2, 3, 1).contiguous()
    for step in range(start, start + steps):
        before = cells
        update = panels(cells, perceive(cells, rule, rows, mix))
        update = _clamp(update, rule.limits.update) * rule.dt
        if not always:
            if rule.fire_each:
                mask = fires_each(seeds, step, cells.shape[-1], rows, columns, limit)
            else:
                mask = fires(seeds, step, rows, columns, limit)[..., None]
            update = update * mask
        cells = cells + update
        if rule.living is not None:
            alive = _alive(before, rule.living, rule, rows)
            alive = alive & _alive(cells, rule.living, rule, rows)
            if rule.held:
                own = torch.arange(cells.shape[-1], device=cells.device)
                alive = alive | (own >= cells.shape[-1] - rule.held)
            cells = cells * alive
        cells = _clamp(cells, rule.limits.state)
    return cells.permute(0, 3, 1, 2)


def grow_apart(
    grow: Callable[[Rule, Tensor, int, list[int], int, World], Tensor],
    rule: Rule,
    state: Tensor,
    steps: int,
    seeds: list[int],
    start: int,
    world: World,
) -> Tensor:
    """Grow many models one after the other: to the same bits as if each were alone."""
    batch = len(state) // rule.models
    grown = [
        grow(each, samples, steps, seeds[i * batch : (i + 1) * batch], start, world)
        for i, (each, samples) in enumerate(zip(apart(rule), state.split(batch), strict=True))
    ]
    return torch.cat(grown)


def reasons(rule: Rule, state: Tensor) -> list[str]:
    """List what keeps this kernel from running on ``state``: only a wish for other products."""
    if rule.precision == "float32":
        return []
    return [f"it multiplies in the state's own type, not in {rule.precision}"]


def perceive(cells: Tensor, rule: Rule, rows: Tensor, mix: Tensor | None = None) -> Tensor:
    """Filter ``cells`` [B, H, W, C] to percepts [B, H, W, C*F], filters of a channel adjacent."""
    parities, channels, filters, size, _ = rule.filters.shape
    padded = pad(cells, rule.edges, size // 2).permute(0, 3, 1, 2)
    kernels = rule.filters.reshape(-1, 1, size, size)
    if parities == 2:
        padded = torch.cat([padded, padded], dim=1)
    seen = F.conv2d(padded, kernels.to(cells.dtype), groups=parities * channels)
    seen = seen.permute(0, 2, 3, 1)
    if parities == 2:
        even, odd = seen.split(channels * filters, dim=-1)
        seen = torch.where((rows % 2 == 0)[:, None, None], even, odd)
    if mix is not None:
        apart = seen.reshape(*cells.shape, filters)
        seen = (apart[..., None, :] * mix.to(cells.dtype)).sum(-1).flatten(-2)
    if rule.combine != "plain":
        seen = _combined(seen.unflatten(-1, (channels, filters)), cells, rule).flatten(-2)
    return _clamp(seen, rule.limits.percept)


def _combined(seen: Tensor, cells: Tensor, rule: Rule) -> Tensor:
    """Make of the two gradients of ``seen`` [..., C, F], filters 1 and 2, what no turn changes.

    ``norm``: how steep it is, one percept less. ``steer``: both along and across the direction that
    the cell holds, as an angle, in the last channel of its own.
    """
    x, y = seen[..., 1:2], seen[..., 2:3]
    if rule.combine == "norm":
        steep = (x.square() + y.square() + 1e-8).sqrt()
        return torch.cat([seen[..., :1], steep, seen[..., 3:]], -1)
    angle = cells[..., cells.shape[-1] - rule.held - 1, None, None]
    c, s = angle.cos(), angle.sin()
    return torch.cat([seen[..., :1], c * x + s * y, c * y - s * x, seen[..., 3:]], -1)


def pad(cells: Tensor, edges: tuple[str, str], radius: int) -> Tensor:
    """Surround ``cells`` [B, H, W, C] with ``radius`` cells of what lies beyond each edge.

    Wrapping is written as concatenation, which every device and exporter knows.
    """
    for dim, edge in zip((1, 2), edges, strict=True):
        size = cells.shape[dim]
        if edge == "zero":
            beyond = [0, 0] * (3 - dim) + [radius, radius]
            cells = F.pad(cells, beyond)
            continue
        index = torch.arange(-radius, size + radius, device=cells.device)
        if edge == "torus":
            index = index % size
        elif edge == "replicate":
            index = index.clamp(0, size - 1)
        else:
            period = max(2 * (size - 1), 1)
            index = (index % period).minimum(-index % period)
        before, after = index[:radius], index[size + radius :]
        cells = torch.cat(
            [cells.index_select(dim, before), cells, cells.index_select(dim, after)], dim
        )
    return cells


class _Panels:
    """The update of every cell from its state and percepts, as padded matrix products."""

    def __init__(self, rule: Rule, device: str) -> None:
        self.rule = rule
        self.rows = _PANEL.get(device, _PANEL_ELSEWHERE)
        most = math.inf if rule.limits.hidden is None else rule.limits.hidden
        self.activation = _Relu(most) if rule.activation == "relu" else _Atan()
        self.first = _pad_to(_pad_to(rule.weight_in, 0), 1).t()
        self.bias = _pad_to(rule.bias_in, 0)
        out = rule.weight_out
        self.last = None if out is None else _pad_to(_pad_to(out, 0), 1).t()

    def __call__(self, cells: Tensor, percepts: Tensor) -> Tensor:
        channels = cells.shape[-1]
        if self.rule.kind == "abs":
            both = torch.cat([cells, percepts], dim=-1)
            percepts = torch.cat([both, both.abs()], dim=-1)
        flat = percepts.reshape(-1, percepts.shape[-1])
        count = len(flat)
        flat = F.pad(flat, (0, self.first.shape[0] - flat.shape[1], 0, -count % self.rows))
        if self.last is None:
            outs = [torch.addmm(self.bias, panel, self.first) for panel in flat.split(self.rows)]
            update = torch.cat(outs)
        else:
            weights = self.first, self.bias, self.last
            update = _Layers.apply(flat, *weights, self.rows, self.activation)
        update = update[:count, :channels]
        if self.rule.bias_out is not None:
            update = update + self.rule.bias_out
        return update.reshape(cells.shape)


@dataclass(frozen=True)
class _Relu:
    """Cut what is below zero, and above ``most``."""

    most: float

    def bend_(self, hidden: Tensor) -> Tensor:
        return hidden.clamp_(0, self.most)

    def back(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, hidden, 0, self.most)


@dataclass(frozen=True)
class _Atan:
    """Bend everything into +-pi / 2, as Growing Pokemon (R. Davis) has it."""

    def bend_(self, hidden: Tensor) -> Tensor:
        return hidden.atan_()

    def back(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        return gradient / (1 + hidden.square())


class _Layers(torch.autograd.Function):
    """Two layers with the hidden one bent by an activation; backward makes it anew, not in panels.

    What a gradient is may depend on the size of the batch in its last bits; a state may not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        first: Tensor,
        bias: Tensor,
        last: Tensor,
        rows: int,
        activation: _Relu | _Atan,
    ) -> Tensor:
        ctx.save_for_backward(x, first, bias, last)
        ctx.activation = activation
        out = x.new_empty(len(x), last.shape[1])
        for panel, to in zip(x.split(rows), out.split(rows), strict=True):
            hidden = activation.bend_(torch.addmm(bias, panel, first))
            torch.mm(hidden, last, out=to)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (gradient,) = gradients
        x, first, bias, last = ctx.saved_tensors
        hidden = torch.addmm(bias, x, first)
        back = ctx.activation.back(gradient @ last.t(), hidden)
        hidden = ctx.activation.bend_(hidden)
        return back @ first.t(), x.t() @ back, back.sum(0), hidden.t() @ gradient, None, None


def _alive(cells: Tensor, living: tuple[int, float], rule: Rule, rows: Tensor) -> Tensor:
    """Find cells that are alive or have a living neighbour: [B, H, W, 1]."""
    channel, threshold = living
    height, width = cells.shape[1:3]
    padded = pad(cells[..., channel : channel + 1], rule.edges, 1)
    if rule.filters.shape[0] == 1:
        most = F.max_pool2d(padded.permute(0, 3, 1, 2), 3, stride=1).permute(0, 2, 3, 1)
        return most > threshold

    def window(y: int, x: int) -> Tensor:
        return padded[:, y : y + height, x : x + width]

    most = torch.stack([window(y, x) for y, x in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))]).amax(0)
    slant = torch.where(
        (rows % 2 == 0)[:, None, None],
        torch.maximum(window(0, 0), window(2, 0)),
        torch.maximum(window(0, 2), window(2, 2)),
    )
    return torch.maximum(most, slant) > threshold


def coordinates(origin: int, count: int, extent: int, edge: str, device: torch.device) -> Tensor:
    """World coordinates of ``count`` cells from ``origin`` on, wrapped on a torus axis: [count]."""
    index = torch.arange(origin, origin + count, device=device)
    return index % extent if edge == "torus" else index


def crop(world: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Cut the block's part out of a world map [..., H, W]; a scalar is the same everywhere."""
    if world.ndim == 0:
        return world
    rows = rows.clamp(0, world.shape[-2] - 1)
    columns = columns.clamp(0, world.shape[-1] - 1)
    return world.index_select(-2, rows).index_select(-1, columns)


def _pad_to(weight: Tensor, dim: int) -> Tensor:
    """Pad axis ``dim`` of ``weight`` with zeros to a multiple of ``_LANES``."""
    beyond = [0, 0] * (weight.ndim - 1 - dim) + [0, -weight.shape[dim] % _LANES]
    return F.pad(weight, beyond)


def _clamp(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)
