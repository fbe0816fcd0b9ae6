"""Smoothing of pictures, on a torus or inside a border."""

import ctypes
import functools
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nca_texture.kernels import cpu

_REACH = 2  # pixels to each side


def blur(images: Tensor, *, wrap: bool) -> Tensor:
    """Smooth ``images`` [B, C, H, W] with a 5 x 5 Gaussian of sigma 1.

    Beyond the border lies the far side (``wrap``), or the border again. On a CPU compiled code
    smooths a torus, where it is there. Elsewhere two products with matrices take a third to a fifth
    of the time of convolutions, which are slow on few channels.
    """
    if wrap and _library(images) is not None:
        return cast(Tensor, _Smooth.apply(images))
    down, across = (
        _smoothing(length, wrap, images.dtype, images.device) for length in images.shape[-2:]
    )
    return down @ (images @ across.mT)


class _Smooth(torch.autograd.Function):
    """Compiled smoothing of a torus, whose gradient is smoothed in the same way."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return _smooth(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore
        return _smooth(gradients[0])


def _smooth(images: Tensor) -> Tensor:
    """Smooth ``images`` [B, C, H, W] of a torus."""
    batch, channels, height, width = images.shape
    images = images.contiguous()
    smooth = torch.empty_like(images)
    weights = (ctypes.c_float * (_REACH + 1))(*_weights()[_REACH:].tolist())
    sizes = (ctypes.c_long(size) for size in (batch * channels, height, width))
    pictures = (ctypes.c_void_p(each.data_ptr()) for each in (images, smooth))
    if cast(Any, _library(images)).smooth(*pictures, *sizes, weights, None):
        raise MemoryError("there is no memory to smooth a picture")
    return smooth


def _library(images: Tensor) -> Any:
    """Load the compiled code that can work on ``images``, or None."""
    if images.device.type != "cpu" or images.dtype != torch.float32:
        return None
    library = cpu.load_library()
    return library if hasattr(library, "smooth") else None


def _weights() -> Tensor:
    """Return what a pixel and those to both sides count: [5], 1 in all."""
    weights = (-torch.arange(-_REACH, _REACH + 1).square() / 2).exp()
    return weights / weights.sum()


@functools.lru_cache(maxsize=32)
def _smoothing(length: int, wrap: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix [length, length] that smooths a column of pixels."""
    index = torch.arange(length)[:, None] + torch.arange(-_REACH, _REACH + 1)
    index = index % length if wrap else index.clamp(0, length - 1)
    matrix = torch.zeros(length, length)
    matrix.scatter_add_(1, index, _weights().expand(length, -1))
    return matrix.to(device, dtype)
