"""Copies to a device that nobody waits for, and memory that is not given back too soon."""

import contextlib
import ctypes

import torch
from torch import Tensor


def send(made: Tensor, device: torch.device) -> Tensor:
    """Copy ``made``, fresh on the CPU, to ``device`` while that is still at work.

    A plain copy would wait until a GPU has done all that was asked of it before, and an iteration
    draws a dozen small tensors on the CPU. CUDA reads ordinary memory before the call returns;
    other devices do not promise that.
    """
    return made.to(device, non_blocking=device.type == "cuda")


# Of glibc's malloc.h: up to so many bytes come from memory that the process keeps.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 2**28


def hold_memory() -> None:
    """Let this process keep what it frees, for as long as it runs.

    A training asks for the same large tensors in every iteration. By default glibc returns them to
    the system each time, and to touch them afresh costs a tenth of the iteration. Does nothing
    where there is another C library.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
