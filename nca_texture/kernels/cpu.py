"""Steps on a CPU without the waste: only cells that fire are computed, only states are kept.

The work is done by cpu.c, which is built when the package is installed and a C compiler is there;
without it this kernel says so and the reference takes over. All steps are one call into C. Going
backward, percepts and hidden layers are made anew from the kept states.
"""

import ctypes
import functools
import importlib.machinery
import math
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.kernels.reference import coordinates, crop, grow_apart
from nca_texture.kernels.rule import Rule, World
from nca_texture.noise import signed

_LANES = 16  # channels and hidden units are padded to a multiple of this
_ROWS = 4  # sums of weights are blocks of this many rows
_MOST_SIZE = 9  # cells across a filter
_STRIP_BYTES = 2**17  # of a strip of rows: with its sums it fits into a core's cache
_MOST_GROUPS = 32  # strips share this many sums of weights; fixed, so that threads change no bit
_STRIPS = 8  # at least so many in a sample, if they are not too thin: shared out evenly
_CHUNK = 2**24  # cell-steps of one call without gradients, so that Ctrl+C is heard
_MOST_STEPS = 2**12  # of one such call
_SHARE = 2**12  # cell-steps that are worth waking a thread for

_COMBINE = ("plain", "norm", "steer")  # as cpu.c numbers them
_SETS: dict[str, str | None] = {"float32": None, "bfloat16": "avx512bf16"}  # None: the best here
_EMULATED = "avx2bf16"
_PROCESS = os.getpid()
_LARGE = 2**22  # bytes; what is smaller is in good hands with torch
_MOST_HELD = 4  # pieces of memory: a training iteration uses three at a time


def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    """List fields of one kind for a structure."""
    return [(name, kind) for name in names.split()]


class _Job(ctypes.Structure):
    """``struct job`` of cpu.c: the same fields in the same order."""

    _fields_ = (
        *fields(
            ctypes.c_int32,
            "kind batch height width channels lanes filters size radius parities hidden wide "
            "inputs inputs_stride inputs_rows inputs_lanes channels_rows bank "
            "always limit_map living hex strip groups threads steps first_step first_slot keep "
            "held combine percepts",
        ),
        *fields(
            ctypes.c_float,
            "dt percept_limit hidden_limit update_limit state_limit threshold",
        ),
        *fields(
            ctypes.c_void_p,
            "rows columns near_rows near_columns limit seeds coefs "
            "in_weight out_weight in_back out_back in_bias out_bias "
            "zeros given result states alive gradient local "
            "sum_in_weight sum_in_bias sum_out_weight sum_out_bias sum_coefs team",
        ),
    )


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Load the compiled code, or None where the package was installed without them.

    Those that were compiled from older sources, as in an editable install, would misread a job.
    """
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_cpu{suffix}")
        if path.exists():
            library = ctypes.CDLL(str(path))
            library.instruction_set.restype = ctypes.c_char_p
            size = getattr(library, "job_size", lambda: 0)()
            return library if size == ctypes.sizeof(_Job) else None
    return None


class _Store:
    """Large memory that was used and will be again, so that not every call pays for fresh pages.

    What nobody uses any more is held until it serves again: the last ``_MOST_HELD`` pieces, and no
    more than ``most`` bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: dict[int, np.ndarray] = {}  # the one that came back last is last

    def take(self, count: int) -> Tensor:
        """Hand out ``count`` numbers, whatever they are."""
        memory = None
        for key, held in list(self.held.items()):
            if count <= len(held) <= 4 * count:
                memory = self.held.pop(key, None)  # None: another thread was faster
            if memory is not None:
                break
        if memory is None:
            memory = np.empty(count, np.float32)
        lent = memory[:count]
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return torch.from_numpy(lent)  # which holds `lent` for as long as it lives

    def _take_back(self, memory: np.ndarray) -> None:
        self.held[id(memory)] = memory
        held = list(self.held.items())
        while len(held) > _MOST_HELD or sum(each.nbytes for _, each in held) > self.most:
            self.held.pop(held.pop(0)[0], None)


def _physical_memory() -> int:
    """Bytes of this machine; 8 GiB where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**33


_STORE = _Store(_physical_memory() // 8)


@functools.cache
def _find_team() -> int | None:
    """Find the OpenMP that torch runs its own loops with: the address of its GOMP_parallel."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None


def share_team() -> int | None:
    """Share torch's threads where that can be: others would wait while these spin for more work.

    In a process that was forked they are gone, and OpenMP would wait for them without end.
    """
    return _find_team() if os.getpid() == _PROCESS else None


def _instructions(precision: str) -> str | None:
    """Name the instruction set for products of ``precision``; None is the best here.

    NCA_TEXTURE_EMULATE_BFLOAT16=1 lets processors without bfloat16 compute what others would, up to
    the order of sums, several times more slowly: for tests and comparisons.
    """
    emulate = os.environ.get("NCA_TEXTURE_EMULATE_BFLOAT16", "") not in ("", "0")
    return _EMULATED if precision == "bfloat16" and emulate else _SETS[precision]


def instruction_set(wanted: str | None = None) -> str | None:
    """Name the best instruction set here (avx512, avx2, plain), or ``wanted`` if it is here."""
    library = load_library()
    if library is None:
        return None
    found = library.instruction_set(wanted.encode() if wanted else None)
    return found.decode() if found else None


def reasons(rule: Rule, state: Tensor) -> list[str]:
    """List what keeps this kernel from running ``rule`` on ``state``."""
    found = []
    if load_library() is None:
        found.append("it was not compiled when this version was installed (no C compiler?)")
    if state.device.type != "cpu":
        found.append(f"the state is on {state.device.type}")
    if state.dtype != torch.float32:
        found.append(f"the state is {str(state.dtype).removeprefix('torch.')}, not float32")
    if rule.precision not in _SETS:
        found.append(f"it cannot multiply in {rule.precision}")
    elif (wanted := _instructions(rule.precision)) and not instruction_set(wanted):
        found.append(f"this processor cannot multiply in {rule.precision}")
    if rule.mix is not None:
        found.append("filters that differ from cell to cell are the reference kernel's")
    if rule.activation != "relu":
        found.append(f"the activation {rule.activation} is the reference kernel's")
    if rule.fire_each:
        found.append("a mask for each element, not for each cell, is the reference kernel's")
    if rule.filters.shape[-1] > _MOST_SIZE:
        found.append(f"filters are wider than {_MOST_SIZE} cells")
    return found


def grow(
    rule: Rule, state: Tensor, steps: int, seeds: list[int], start: int, world: World
) -> Tensor:
    """Take ``steps`` steps of ``rule`` from ``state`` [B, C, H, W], ``start`` steps old."""
    if rule.models > 1:
        return grow_apart(grow, rule, state, steps, seeds, start, world)
    weights = (rule.weight_in, rule.bias_in, rule.weight_out, rule.bias_out, rule.filters)
    if torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (state, *weights)
    ):
        return _Grow.apply(state, *weights, rule, steps, seeds, start, world)
    return _Steps(rule, state, seeds, world).forward(state, steps, start)


class _Grow(torch.autograd.Function):
    """All steps as one function of the first state and the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        weight_in: Tensor,
        bias_in: Tensor,
        weight_out: Tensor | None,
        bias_out: Tensor | None,
        filters: Tensor,
        rule: Rule,
        steps: int,
        seeds: list[int],
        start: int,
        world: World,
    ) -> Tensor:
        job = _Steps(rule, state, seeds, world)
        ctx.job, ctx.steps, ctx.start = job, steps, start
        after, kept, alive = job.keep(state, steps, start)
        ctx.save_for_backward(kept, alive)
        return after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        kept, alive = ctx.saved_tensors
        found = ctx.job.backward(kept, alive, gradients[0], ctx.steps, ctx.start)
        return *found, None, None, None, None, None


class _Steps:
    """What C is given, prepared once for any number of steps of one rule in one block."""

    def __init__(self, rule: Rule, state: Tensor, seeds: list[int], world: World) -> None:
        self.rule = rule
        self.batch, self.channels, self.height, self.width = state.shape
        parities, _, filters, size, _ = rule.filters.shape
        self.filters, self.parities, self.size = filters, parities, size
        self.percepts = self.channels * (filters - (rule.combine == "norm"))
        radius = max(1, size // 2)
        self.lanes = lanes = _up(self.channels, _LANES)
        self.is_abs = rule.kind == "abs"
        inputs = rule.weight_in.shape[1]
        self.hidden = 0 if self.is_abs else len(rule.weight_in)
        self.wide = lanes if self.is_abs else _up(self.hidden, _LANES)
        self.inputs, self.inputs_rows = inputs, _up(inputs, _ROWS)
        self.order = self._order()
        strip = min(32, _STRIP_BYTES // (self.width * lanes * 4), -(-self.height // _STRIPS))
        strip = max(4 * radius, strip)
        self.strip, self.strips = strip, -(-self.height // strip)
        self.groups = min(_MOST_GROUPS, self.batch * self.strips)
        self.radius = radius
        limits = rule.limits
        numbers = {
            "kind": int(self.is_abs),
            "batch": self.batch,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "lanes": lanes,
            "filters": filters,
            "size": size,
            "radius": radius,
            "parities": parities,
            "hidden": self.hidden,
            "wide": self.wide,
            "inputs": inputs,
            "inputs_stride": _up(inputs + lanes, _LANES),
            "inputs_rows": self.inputs_rows,
            "inputs_lanes": _up(inputs, _LANES),
            "channels_rows": _up(self.channels, _ROWS),
            "bank": filters * size * size * lanes,
            "always": int(bool((rule.fire_limit >= 2**24).all())),
            "living": -1 if rule.living is None else rule.living[0],
            "held": rule.held,
            "combine": _COMBINE.index(rule.combine),
            "percepts": self.percepts,
            "hex": int(parities == 2),
            "strip": strip,
            "groups": self.groups,
        }
        floats = {
            "dt": rule.dt,
            "percept_limit": limits.percept,
            "hidden_limit": limits.hidden,
            "update_limit": limits.update,
            "state_limit": limits.state,
            "threshold": 0.0 if rule.living is None else rule.living[1],
        }
        axes = [
            coordinates(origin, count, extent, edge, state.device)
            for origin, count, extent, edge in zip(
                world.origin, state.shape[2:], world.extent, rule.edges, strict=True
            )
        ]
        near = [
            _near(count, edge, radius)
            for count, edge in zip(state.shape[2:], rule.edges, strict=True)
        ]
        arrays = {
            "rows": axes[0].int(),
            "columns": axes[1].int(),
            "near_rows": near[0],
            "near_columns": near[1],
            "limit": crop(rule.fire_limit, *axes).int().contiguous(),
            "seeds": torch.tensor([signed(seed) for seed in seeds], dtype=torch.int32),
            "coefs": self._coefs(),
            **self._weights(),
            "zeros": torch.zeros(lanes),
        }
        self.settings = numbers | {
            name: math.inf if value is None else value for name, value in floats.items()
        }
        self.settings["limit_map"] = int(rule.fire_limit.ndim > 0)
        self.arrays = arrays

    def _coefs(self) -> Tensor:
        """Lay the filters out as [parities, filters, taps, lanes]."""
        coefs = self.rule.filters.detach().flatten(3).permute(0, 2, 3, 1)
        return _padded(coefs, self.lanes)

    def _order(self) -> Tensor:
        """Which column of ``weight_in`` each input here is: percepts come filter by filter."""
        percepts = torch.arange(self.percepts).view(self.channels, -1).t().flatten()
        if not self.is_abs:
            return percepts
        half = torch.cat([torch.arange(self.channels), self.channels + percepts])
        return torch.cat([half, len(half) + half])

    def _weights(self) -> dict[str, Tensor]:
        rule, lanes, wide = self.rule, self.lanes, self.wide
        first = rule.weight_in.detach()[:, self.order]
        found = {
            "in_weight": self._factor(first.t(), wide),
            "in_back": self._factor(first, _up(self.inputs, _LANES)),
            "in_bias": _padded(rule.bias_in.detach(), wide),
        }
        if rule.weight_out is not None:
            last = rule.weight_out.detach()
            found["out_weight"] = self._factor(last.t(), lanes)
            found["out_back"] = self._factor(last, wide)
        bias = torch.zeros(self.channels) if rule.bias_out is None else rule.bias_out.detach()
        return found | {"out_bias": _padded(bias, lanes)}

    def _factor(self, weight: Tensor, columns: int) -> Tensor:
        """Pad ``weight`` [k, n] to ``columns``; in bfloat16, lay two rows side by side."""
        if self.rule.precision == "float32":
            return _padded(weight, len(weight), columns)
        padded = _padded(weight, _up(len(weight), 2), columns)
        return padded.view(-1, 2, columns).transpose(1, 2).bfloat16().contiguous()

    def forward(self, state: Tensor, steps: int, start: int) -> Tensor:
        """Take ``steps`` steps from ``state`` [B, C, H, W] and forget the way."""
        states, alive = self._empty(2), self._alive(1)
        result = state.new_empty(state.shape)
        work = {"states": states, "alive": alive, "given": state.detach().contiguous()}
        cells = self.batch * self.height * self.width
        chunk = max(1, min(_MOST_STEPS, _CHUNK // max(1, cells)))
        for done in range(0, max(steps, 1), chunk):
            count = min(chunk, steps - done)
            if done + count == steps:
                work["result"] = result
            self._run("grow", count, start + done, work, first_slot=done % 2)
            work["given"] = None
        return result

    def keep(self, state: Tensor, steps: int, start: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take ``steps`` steps from ``state`` [B, C, H, W] and keep the way.

        The state after them, all states [steps + 1, B, H, W, lanes] and who lived
        [steps, B, H, W].
        """
        states, alive = self._empty(steps + 1), self._alive(steps)
        result = state.new_empty(state.shape)
        given = state.detach().contiguous()
        work = {"states": states, "alive": alive, "given": given, "result": result}
        self._run("grow", steps, start, work, keep=True)
        return result, states, alive

    def backward(
        self, states: Tensor, alive: Tensor | None, gradient: Tensor, steps: int, start: int
    ) -> tuple[Tensor | None, ...]:
        """Turn the last state's ``gradient`` [B, C, H, W] into those of the first and the weights.

        Gradients of state, weight_in, bias_in, weight_out, bias_out and filters; None for those
        that nobody asked for.
        """
        rule, groups, out = self.rule, self.groups, self.lanes if self.is_abs else self.wide
        local = (self.batch, self.strips, self.strip + 2 * self.radius, self.width, self.lanes)
        learned = rule.filters.requires_grad
        result = gradient.new_empty(gradient.shape)
        work = {
            "states": states,
            "alive": alive,
            "given": gradient.contiguous(),
            "result": result,
            "gradient": self._empty(),
            "local": _empty(*local),
            "sum_in_weight": states.new_zeros(groups, self.inputs_rows, out),
            "sum_in_bias": states.new_zeros(groups, self.wide),
            "sum_out_weight": states.new_zeros(groups, _up(self.channels, _ROWS), self.wide),
            "sum_out_bias": states.new_zeros(groups, self.lanes),
            "sum_coefs": states.new_zeros(groups, *self.arrays["coefs"].shape) if learned else None,
        }
        self._run("grow_back", steps, start, work, keep=True)
        sums = {
            name: value.sum(0)
            for name, value in work.items()
            if name.startswith("sum") and value is not None
        }
        channels, hidden = self.channels, self.hidden
        first = channels if self.is_abs else hidden
        bias = sums["sum_out_bias"][:channels]
        weight_in = torch.empty_like(rule.weight_in)
        weight_in[:, self.order] = sums["sum_in_weight"][: self.inputs, :first].t()
        filters = None
        if learned:
            filters = sums["sum_coefs"][..., :channels].permute(0, 3, 1, 2)
            filters = filters.reshape(rule.filters.shape)
        return (
            result,
            weight_in,
            bias if self.is_abs else sums["sum_in_bias"][:hidden],
            None if rule.weight_out is None else sums["sum_out_weight"][:channels, :hidden],
            None if rule.bias_out is None else bias,
            filters,
        )

    def _empty(self, *slots: int) -> Tensor:
        """Make room for cells [*slots, B, H, W, lanes]."""
        return _empty(*slots, self.batch, self.height, self.width, self.lanes)

    def _alive(self, steps: int) -> Tensor | None:
        if self.rule.living is None:
            return None
        return torch.empty(steps, self.batch, self.height, self.width, dtype=torch.uint8)

    def _run(
        self,
        call: str,
        steps: int,
        start: int,
        work: dict[str, Tensor | None],
        *,
        keep: bool = False,
        first_slot: int = 0,
    ) -> None:
        library = load_library()
        assert library is not None  # reasons() was asked
        worth = self.batch * self.height * self.width * steps // _SHARE
        job = _Job(
            **self.settings,
            threads=max(1, min(torch.get_num_threads(), self.batch * self.strips, worth)),
            steps=steps,
            first_step=signed(start),
            first_slot=first_slot,
            keep=int(keep),
            team=share_team(),
        )
        for name, array in (self.arrays | work).items():
            setattr(job, name, None if array is None else array.data_ptr())
        wanted = _instructions(self.rule.precision)
        if getattr(library, call)(ctypes.byref(job), wanted.encode() if wanted else None):
            raise MemoryError("the cpu kernel found no memory for its threads")


def _empty(*shape: int) -> Tensor:
    """Make room for numbers, with those of before still in it."""
    count = math.prod(shape)
    return torch.empty(shape) if 4 * count < _LARGE else _STORE.take(count).view(shape)


def _near(count: int, edge: str, radius: int) -> Tensor:
    """Which cell is seen at each place from ``radius`` before ``count`` cells to as many after.

    int32 [count + 2 * radius]; what lies beyond a zero edge is -1.
    """
    near = torch.arange(-radius, count + radius)
    if edge == "torus":
        near = near % count
    elif edge == "replicate":
        near = near.clamp(0, count - 1)
    elif edge == "reflect":
        period = max(2 * (count - 1), 1)
        near = (near % period).minimum(-near % period)
    else:
        near = torch.where((near < 0) | (near >= count), -1, near)
    return near.int()


def _padded(values: Tensor, *shape: int) -> Tensor:
    """Copy ``values`` [..., a, b] into zeros whose last axes are ``shape``."""
    padded = values.new_zeros(*values.shape[: values.ndim - len(shape)], *shape)
    padded[..., *(slice(n) for n in values.shape[values.ndim - len(shape) :])] = values
    return padded


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
