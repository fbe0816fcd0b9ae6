"""Copies to a device that nobody waits for."""

import torch
from torch import Tensor


def send(made: Tensor, device: torch.device) -> Tensor:
    """Copy ``made``, fresh on the CPU, to ``device`` while that is still at work.

    A plain copy would wait until a GPU has done all that was asked of it before, and an iteration
    draws a dozen small tensors on the CPU. CUDA reads ordinary memory before the call returns;
    other devices do not promise that.
    """
    return made.to(device, non_blocking=device.type == "cuda")
