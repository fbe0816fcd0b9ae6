"""Entropic optimal transport between sets of points: plans, and what they cost."""

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.kernels import cpu

_STAGES = 4
_LEAST_SUM = 1e-30
_LEAST_EXPONENT = -80.0  # its power is next to nothing, but a normal float32: others are slow


class _Plans(ctypes.Structure):
    """``struct plans`` of cpu.c: the same fields in the same order."""

    _fields_ = (
        *cpu.fields(ctypes.c_int32, "count rows columns width threads"),
        ("iterations", ctypes.c_int32 * _STAGES),
        ("temperatures", ctypes.c_float * _STAGES),
        *cpu.fields(
            ctypes.c_void_p,
            "costs plans left right totals left_gradients right_gradients team",
        ),
    )


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Compare every row of ``left`` [B, n, D] with every row of ``right`` [B, m, D]: [B, n, m]."""
    norms = left.square().sum(-1)[:, :, None] + right.square().sum(-1)[:, None, :]
    return norms.baddbmm_(left, right.mT, alpha=-2).clamp_(min=0)


def transport(left: Tensor, right: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Cost of moving the rows of ``left`` [B, n, D] onto those of ``right`` [B, m, D]: [B].

    That of ``sinkhorn_plan`` for their squared distances. The plan is a constant in the gradient,
    which then is that of the squared distance of each row to the mean of the rows it is moved to:
    nothing is kept for the iterations.
    """
    return cast(Tensor, _Transport.apply(left, right, epsilon, iterations))


class _Transport(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, epsilon: float, iterations: int) -> Tensor:
        totals, *gradients = _move(left, right, epsilon, iterations, ctx.needs_input_grad[:2])
        ctx.save_for_backward(*gradients)
        return totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        share = gradients[0][:, None, None]
        return *(None if to is None else share * to for to in ctx.saved_tensors), None, None


def _move(
    left: Tensor, right: Tensor, epsilon: float, iterations: int, asked: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Say what transport costs [B], and the gradients of that by ``left`` and ``right``.

    Those that are ``asked`` for, one answer for each side.
    """
    library = _library(left)
    if library is None:
        cost = squared_distances(left, right)
        plan = sinkhorn_plan(cost, epsilon, iterations)
        to_left = 2 * (plan.sum(2)[..., None] * left - plan @ right) if asked[0] else None
        to_right = 2 * (plan.sum(1)[..., None] * right - plan.mT @ left) if asked[1] else None
        return (plan * cost).sum((1, 2)), to_left, to_right
    left, right = left.contiguous(), right.contiguous()
    totals = left.new_empty(len(left))
    to_left, to_right = (
        torch.empty_like(side) if wanted else None
        for side, wanted in zip((left, right), asked, strict=True)
    )
    _run(
        library,
        (len(left), left.shape[1], right.shape[1], left.shape[2]),
        epsilon,
        iterations,
        left=left,
        right=right,
        totals=totals,
        left_gradients=to_left,
        right_gradients=to_right,
    )
    return totals, to_left, to_right


def sinkhorn_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Find the entropic transport plan between two sets of equal weights.

    ``cost`` [B, n, m] to plan [B, n, m], whose rows sum to 1/n exactly and whose columns sum to 1/m
    when enough ``iterations`` were made. ``epsilon`` is in units of each sample's mean cost. It is
    reached in four stages, and what a stage scaled is absorbed into the potentials before the next
    (Schmitzer, "Stabilized Sparse Scaling Algorithms", 2019): products of a matrix and a vector do
    the work of logarithms of sums, and float32 is enough. On a CPU compiled code does it, where it
    is there. A constant in gradients.
    """
    library = _library(cost)
    if library is None:
        return _plain(cost.detach(), *_stages(epsilon, iterations))
    cost = cost.detach().contiguous()
    plans = torch.empty_like(cost)
    count, rows, columns = cost.shape
    _run(library, (count, rows, columns, 0), epsilon, iterations, costs=cost, plans=plans)
    return plans


def _stages(epsilon: float, iterations: int) -> tuple[list[float], list[int]]:
    """Say how large epsilon is in each stage, and how many iterations it has."""
    powers = [k / (_STAGES - 1) for k in range(_STAGES)]
    return (
        [max(epsilon, 1.0) ** (1 - power) * epsilon**power for power in powers],
        [iterations // _STAGES + (k >= _STAGES - iterations % _STAGES) for k in range(_STAGES)],
    )


def _library(numbers: Tensor) -> Any:
    """Load the compiled code that can work on ``numbers``, or None."""
    if numbers.device.type != "cpu" or numbers.dtype != torch.float32:
        return None
    library = cpu.load_library()
    known = library is not None and getattr(library, "plans_size", int)() == ctypes.sizeof(_Plans)
    return library if known else None


def _run(
    library: Any,
    shape: tuple[int, int, int, int],
    epsilon: float,
    iterations: int,
    **arrays: Tensor | None,
) -> None:
    """Make plans of ``shape`` (count, rows, columns, numbers in a row of either side)."""
    temperatures, counts = _stages(epsilon, iterations)
    job = _Plans(
        *shape,
        threads=max(1, min(torch.get_num_threads(), shape[0])),
        iterations=(ctypes.c_int32 * _STAGES)(*counts),
        temperatures=(ctypes.c_float * _STAGES)(*temperatures),
        team=cpu.share_team(),
    )
    for name, array in arrays.items():
        setattr(job, name, None if array is None else array.data_ptr())
    if library.make_all_plans(ctypes.byref(job), None):
        raise MemoryError("there is no memory for plans of transport")


def _plain(cost: Tensor, temperatures: list[float], counts: list[int]) -> Tensor:
    _, rows, columns = cost.shape
    cost = cost / cost.mean((1, 2), keepdim=True).clamp(min=torch.finfo(cost.dtype).tiny * 1e8)
    f = cost.new_zeros(len(cost), rows, 1)
    g = cost.new_zeros(len(cost), 1, columns)
    kernel = torch.empty_like(cost)
    u, v = torch.ones_like(f), torch.ones_like(g)
    for temperature, count in zip(temperatures, counts, strict=True):
        torch.sub(f, cost, out=kernel).add_(g).div_(temperature)
        kernel.clamp_(min=_LEAST_EXPONENT).exp_()
        u, v = torch.ones_like(f), torch.ones_like(g)
        for _ in range(count):
            v = columns**-1 / (kernel.mT @ u).mT.clamp(min=_LEAST_SUM)
            u = rows**-1 / (kernel @ v.mT).clamp(min=_LEAST_SUM)
        f = f + temperature * u.log()
        g = g + temperature * v.log()
    return kernel.mul_(u).mul_(v)
