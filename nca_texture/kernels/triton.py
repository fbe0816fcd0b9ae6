"""A step as one fused kernel and its gradient as two, written in Triton for NVIDIA GPUs.

State in, state out: percepts and the hidden layer stay on the chip, and for a gradient only the
states are kept; everything else is made anew on the way back. Triton comes with torch on Linux and
is imported when a state runs here, not before. With TRITON_INTERPRET=1 in the environment before
anything imports Triton the kernels run in its interpreter, without a GPU: slow, but the same code.
"""

import functools
import importlib.util
import os
import shutil
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.devices import send
from nca_texture.kernels.reference import coordinates, crop
from nca_texture.kernels.rule import Rule, World
from nca_texture.noise import signed

_LEAST = 16  # rows and columns of the smallest matrix product
_CELLS = 64  # of a program at most
_UNITS = 32  # of the hidden layer that a program holds at a time
_PERCEPTS = 256  # of a cell, padded: more do not fit on every chip
_PROGRAMS_PER_PROCESSOR = 2  # of a step backward


def grow(
    rule: Rule, state: Tensor, steps: int, seeds: list[int], start: int, world: World
) -> Tensor:
    """Take ``steps`` steps of ``rule`` from ``state`` [B, C, H, W], ``start`` steps old."""
    cells = state.permute(0, 2, 3, 1).contiguous()
    weights = _lay_out(rule)
    growth = _Growth(rule, cells, seeds, world)
    numbers = range(start, start + steps)
    needed = torch.is_grad_enabled() and any(each.requires_grad for each in (cells, *weights))
    if needed and steps:
        cells = _Grow.apply(growth, numbers, cells, *weights)
    else:
        for number in numbers:
            cells, _ = growth.step(number, cells, weights)
    return cells.permute(0, 3, 1, 2)


def reasons(rule: Rule, state: Tensor) -> list[str]:
    """List what keeps this kernel from running on ``state``; empty means it can."""
    found = []
    if not _installed():
        found.append("triton is not installed")
    if interpreted():
        if rule.precision == "bfloat16":
            found.append("Triton's interpreter cannot multiply in bfloat16")
    elif state.device.type != "cuda":
        found.append(f"the state is on {state.device.type}, not cuda")
    else:
        if (capability := torch.cuda.get_device_capability(state.device)) < (8, 0):
            found.append(f"the GPU is of compute capability {capability}, older than (8, 0)")
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            found.append("Triton finds no C compiler (gcc, clang or $CC)")
    if state.dtype != torch.float32:
        found.append(f"the state is {str(state.dtype).removeprefix('torch.')}, not float32")
    if rule.mix is not None:
        found.append("filters that differ from cell to cell are not supported")
    if rule.activation != "relu":
        found.append(f"the activation {rule.activation} is not supported")
    if rule.fire_each:
        found.append("a mask for each element, not for each cell, is not supported")
    channels, filters = _padded_sizes(rule)
    if channels * filters > _PERCEPTS:
        found.append(f"a cell has {channels * filters} percepts (padded), more than {_PERCEPTS}")
    if state[:, 0].numel() > 2**30:
        found.append("there are more than 2**30 cells")
    return found


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _padded_sizes(rule: Rule) -> tuple[int, int]:
    """Channels and filters as powers of two; an abs rule also sees the cell itself."""
    channels, filters = rule.filters.shape[-4:-2]
    filters += rule.kind == "abs"
    return max(_power(channels), _LEAST), _power(filters)


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


class _Weights(NamedTuple):
    """Rules' numbers as the kernels read them: padded, percepts sorted by (filter, channel).

    M is how many models grow together.
    """

    filters: Tensor  # [M, R, K*K, FP, CP]
    first: Tensor  # [M, P, hidden]; abs: [M, 2, P, CP]
    bias: Tensor  # [M, hidden]; abs: not used
    last: Tensor  # [M, hidden, CP]; abs: not used
    bias_out: Tensor  # [M, CP]; abs: its only bias


def _lay_out(rule: Rule) -> _Weights:
    """Lay out rules' numbers; differentiable, so that gradients find their way back."""
    channels, filters = _padded_sizes(rule)
    bank, first, bias, last, bias_out = (
        each if each is None or rule.models > 1 else each[None]
        for each in (rule.filters, rule.weight_in, rule.bias_in, rule.weight_out, rule.bias_out)
    )
    assert bank is not None
    assert first is not None
    assert bias is not None
    count = bank.shape[2]
    if last is not None:
        units = -(-first.shape[1] // _UNITS) * _UNITS
        first = first.unflatten(-1, (count, -1)).permute(0, 3, 2, 1)
        first = _room(first, rule)
        first = _pad(first, (filters, channels, units)).flatten(1, 2)
        bias = _pad(bias, (units,))
        last = _pad(last.mT, (units, channels))
    else:  # the cell itself becomes one more filter, and both halves of [x, p, |x|, |p|] alike
        size = bank.shape[-1]
        itself = bank.new_zeros(size, size)
        itself[size // 2, size // 2] = 1
        bank = torch.cat([itself.expand(*bank.shape[:3], 1, -1, -1), bank], dim=3)
        halves = first.unflatten(-1, (2, -1))
        own, seen = halves[..., :count, None], halves[..., count:].unflatten(-1, (count, -1))
        first = torch.cat([own, seen], dim=-1).permute(0, 2, 4, 3, 1)
        first = _room(first, rule)
        first = _pad(first, (filters, channels, channels)).flatten(2, 3)
        bias_out = bias
        bias = last = bank.new_zeros(rule.models, 1)
    bank = _pad(bank.permute(0, 1, 4, 5, 3, 2).flatten(2, 3), (filters, channels))
    if bias_out is None:
        bias_out = bank.new_zeros(rule.models, channels)
    bias_out = _pad(bias_out, (channels,))
    return _Weights(*(tensor.contiguous() for tensor in (bank, first, bias, last, bias_out)))


def _room(first: Tensor, rule: Rule) -> Tensor:
    """Put zeros into ``first`` [..., F, C, n] for a second gradient where there is only a norm."""
    if rule.combine != "norm":
        return first
    at = 3 if rule.kind == "abs" else 2
    before, after = first.tensor_split([at], dim=-3)
    return torch.cat([before, torch.zeros_like(first.narrow(-3, 0, 1)), after], dim=-3)


def _pad(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Pad ``tensor`` with zeros at the end of its last axes up to ``shape``."""
    sizes = zip(reversed(shape), reversed(tensor.shape), strict=False)
    return F.pad(tensor, [n for size, own in sizes for n in (0, size - own)])


class _Growth:
    """The steps of a rule from one state on: what every launch of a kernel is given.

    Models that grow together share a launch; a block of cells belongs to one of them.

    Blocks are fixed by the rule alone, never by the batch or by timing: so are a state's bits. They
    are about as large as an H200 has registers for, by the compiler's count.
    """

    def __init__(self, rule: Rule, cells: Tensor, seeds: list[int], world: World) -> None:
        from nca_texture.kernels import _triton_step

        self.kernels: Any = _triton_step  # numbers are handed over where it declares constants
        self.living = rule.living
        self.models = rule.models
        batch, height, width, channels = cells.shape
        self.mortal = channels - rule.held
        padded, filters = _padded_sizes(rule)
        percepts = padded * filters
        exact = rule.precision == "float32"  # without tensor cores, which need fewer registers
        warps = 4 if percepts <= 64 else 8
        self.forward = {
            "N": max(_LEAST, min(_CELLS, 8192 // percepts)),
            "UNITS": _UNITS,
            "num_warps": warps,
        }
        self.backward = {
            "N": max(_LEAST, min(_CELLS, 4096 // percepts)),
            "UNITS": _UNITS // 2 if exact else _UNITS,
            "num_warps": 8 if exact else warps,
        }
        device = cells.device
        rows = coordinates(world.origin[0], height, world.extent[0], rule.edges[0], device)
        columns = coordinates(world.origin[1], width, world.extent[1], rule.edges[1], device)
        limits = crop(rule.fire_limit, rows, columns).expand(height, width)
        words = torch.tensor([signed(seed) for seed in seeds], dtype=torch.int32)
        self.grid = {
            "rows": rows.int(),
            "count": batch // rule.models * height * width,
            "height": height,
            "width": width,
            "EDGE_Y": rule.edges[0],
            "EDGE_X": rule.edges[1],
            "C": channels,
            "CP": padded,
            "R": rule.filters.shape[-5],
            "enable_fp_fusion": True,  # the default of Triton 3.6; 3.9 warns when it is not said
        }
        self.bank = {"FP": filters, "K": rule.filters.shape[-1]}
        self.used = {"F": rule.filters.shape[-3] + (rule.kind == "abs")}
        self.rule = {
            "columns": columns.int(),
            "seeds": send(words, device),
            "limits": limits,
            "stride_y": limits.stride(0),
            "stride_x": limits.stride(1),
            "dt": rule.dt,
            "ABS": rule.kind == "abs",
            "COMBINE": rule.combine,
            "MORTAL": self.mortal,
            "PERCEPT_LIMIT": rule.limits.percept,
            "HIDDEN_LIMIT": rule.limits.hidden,
            "UPDATE_LIMIT": rule.limits.update,
            "PRECISION": rule.precision,
        }
        self.state_limit = rule.limits.state

    def step(self, number: int, cells: Tensor, weights: _Weights) -> tuple[Tensor, Tensor | None]:
        """Take step ``number`` from ``cells`` [B, H, W, C]; also say which live, [B, H, W]."""
        grown = cells.new_empty(cells.shape)
        with torch.cuda.device_of(cells):
            self.kernels.step_forward[self._blocks(self.forward["N"]), self.models](
                before=cells,
                after=grown,
                **weights._asdict(),
                **self.grid,
                **self.bank,
                **self.rule,
                **self.forward,
                HIDDEN=weights.bias.shape[1],
                step=signed(number),
                STATE_LIMIT=None if self.living else self.state_limit,
            )
            if self.living is None:
                return grown, None
            after = cells.new_empty(cells.shape)
            alive = cells.new_empty(cells.shape[:3], dtype=torch.bool)
            self.kernels.keep_living[self._blocks(_CELLS), self.models](
                before=cells,
                grown=grown,
                after=after,
                alive=alive,
                channel=self.living[0],
                threshold=self.living[1],
                MORTAL=self.mortal,
                STATE_LIMIT=self.state_limit,
                N=_CELLS,
                **self.grid,
            )
        return after, alive

    def back(
        self,
        number: int,
        cells: Tensor,
        alive: Tensor | None,
        gradient: Tensor,
        weights: _Weights,
        sums: _Weights,
        learned: bool,
    ) -> Tensor:
        """Go back through step ``number``: from its result's gradient to that of ``cells``.

        Every program adds the gradients of ``weights`` to its own row of ``sums``.
        """
        to_cells = cells.new_empty(cells.shape)
        percepts = weights.filters.shape[-2] * weights.filters.shape[-1]
        to_percepts = cells.new_empty(*cells.shape[:3], percepts)
        with torch.cuda.device_of(cells):
            self.kernels.step_backward[sums.bias.shape[1], self.models](
                before=cells,
                alive=cells if alive is None else alive,
                gradient=gradient,
                to_cells=to_cells,
                to_percepts=to_percepts,
                **{f"to_{name}": tensor for name, tensor in sums._asdict().items()},
                **weights._asdict(),
                **self.grid,
                **self.bank,
                **self.used,
                **self.rule,
                **self.backward,
                HIDDEN=weights.bias.shape[1],
                step=signed(number),
                STATE_LIMIT=self.state_limit,
                LIVING=alive is not None,
                LEARNED=learned,
            )
            self.kernels.gather_percepts[self._blocks(_CELLS), self.models](
                to_percepts=to_percepts,
                to_cells=to_cells,
                filters=weights.filters,
                **self.grid,
                **self.bank,
                **self.used,
                N=_CELLS,
            )
        return to_cells

    def empty_sums(self, weights: _Weights) -> _Weights:
        """Make room for gradients of ``weights``, one row for every program of a step backward.

        Each tensor is [M, programs, ...]: the programs there is room for are shared by the models.
        """
        device = weights.first.device
        processors = 1
        if device.type == "cuda":
            processors = torch.cuda.get_device_properties(device).multi_processor_count
        count = -(-processors * _PROGRAMS_PER_PROCESSOR // self.models)
        count = min(count, self._blocks(self.backward["N"]))
        return _Weights(
            *(tensor.new_zeros(self.models, count, *tensor.shape[1:]) for tensor in weights)
        )

    def _blocks(self, cells: int) -> int:
        return -(-self.grid["count"] // cells)


class _Grow(torch.autograd.Function):
    """All steps at once; states are kept, and where they were masked, which cells live."""

    @staticmethod
    def forward(
        ctx: Any, growth: _Growth, numbers: range, cells: Tensor, *weights: Tensor
    ) -> Tensor:
        states, masks = [cells], []
        for number in numbers:
            cells, alive = growth.step(number, cells, _Weights(*weights))
            states.append(cells)
            masks.append(alive)
        ctx.growth, ctx.numbers = growth, numbers
        ctx.save_for_backward(*weights, *states[:-1], *masks)
        return cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        gradient = gradients[0].contiguous()
        kept, steps = ctx.saved_tensors, len(ctx.numbers)
        weights = _Weights(*kept[:5])
        states, masks = kept[5 : 5 + steps], kept[5 + steps :]
        sums = ctx.growth.empty_sums(weights)
        learned = ctx.needs_input_grad[3]
        for number, cells, alive in reversed(list(zip(ctx.numbers, states, masks, strict=True))):
            gradient = ctx.growth.back(number, cells, alive, gradient, weights, sums, learned)
        return None, None, gradient, *(tensor.sum(1) for tensor in sums)
