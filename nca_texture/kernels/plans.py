"""Plans of entropic optimal transport."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from nca_texture.kernels import cpu

_STAGES = 4
_LEAST_SUM = 1e-30
_LEAST_EXPONENT = -80.0  # its power is next to nothing, but a normal float32: others are slow


class _Plans(ctypes.Structure):
    """``struct plans`` of cpu.c: the same fields in the same order."""

    _fields_ = (
        *cpu.fields(ctypes.c_int32, "count rows columns threads"),
        ("iterations", ctypes.c_int32 * _STAGES),
        ("temperatures", ctypes.c_float * _STAGES),
        *cpu.fields(ctypes.c_void_p, "costs plans team"),
    )


def sinkhorn_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Find the entropic transport plan between two sets of equal weights.

    ``cost`` [B, n, m] to plan [B, n, m], whose rows sum to 1/n exactly and whose columns sum to 1/m
    when enough ``iterations`` were made. ``epsilon`` is in units of each sample's mean cost. It is
    reached in four stages, and what a stage scaled is absorbed into the potentials before the next
    (Schmitzer, "Stabilized Sparse Scaling Algorithms", 2019): products of a matrix and a vector do
    the work of logarithms of sums, and float32 is enough. On a CPU compiled code does it, where it
    is there. A constant in gradients.
    """
    cost = cost.detach()
    temperatures = [
        max(epsilon, 1.0) ** (1 - k / (_STAGES - 1)) * epsilon ** (k / (_STAGES - 1))
        for k in range(_STAGES)
    ]
    counts = [iterations // _STAGES + (k >= _STAGES - iterations % _STAGES) for k in range(_STAGES)]
    library = cpu.load_library()
    known = library is not None and getattr(library, "plans_size", int)() == ctypes.sizeof(_Plans)
    if known and cost.device.type == "cpu" and cost.dtype == torch.float32:
        return _compiled(library, cost.contiguous(), temperatures, counts)
    return _plain(cost, temperatures, counts)


def _compiled(library: Any, cost: Tensor, temperatures: list[float], counts: list[int]) -> Tensor:
    plans = torch.empty_like(cost)
    count, rows, columns = cost.shape
    job = _Plans(
        count=count,
        rows=rows,
        columns=columns,
        threads=max(1, min(torch.get_num_threads(), count)),
        iterations=(ctypes.c_int32 * _STAGES)(*counts),
        temperatures=(ctypes.c_float * _STAGES)(*temperatures),
        costs=cost.data_ptr(),
        plans=plans.data_ptr(),
        team=cpu.share_team(),
    )
    if library.make_all_plans(ctypes.byref(job), None):
        raise MemoryError("there is no memory for plans of transport")
    return plans


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
