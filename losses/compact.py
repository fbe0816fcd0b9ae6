"""The feature network that ships with the package: VGG19 to relu4_1 in a sixth of its work."""

from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WEIGHTS = Path(__file__).with_name("compact.safetensors")

# Channels of VGG19 (Simonyan and Zisserman, 2015), and to how many each convolution narrows what
# it reads and what it writes. The first reads three colours: there is nothing to narrow.
_CONVOLUTIONS: dict[str, tuple[int, int, int]] = {
    "1_1": (64, 0, 0),
    "1_2": (64, 24, 24),
    "2_1": (128, 32, 40),
    "2_2": (128, 40, 48),
    "3_1": (256, 64, 72),
    "3_2": (256, 72, 72),
    "3_3": (256, 72, 72),
    "3_4": (256, 72, 80),
    "4_1": (512, 96, 112),
}
_POOLED = {"1_2": "pool1", "2_2": "pool2", "3_4": "pool3"}


def compact_stages() -> list[tuple[str, nn.Module]]:
    """Build the network, without its numbers, as a list of named stages.

    A convolution of 3 x 3 between many channels is three: 1 x 1 to few, 3 x 3 between few, 1 x 1 to
    many (Zhang et al., "Accelerating Very Deep Convolutional Networks for Classification and
    Detection", 2016, with their input narrowed as well). The first two have no bias, so that the
    zeros around a picture stay zeros, as in VGG19.
    """
    stages: list[tuple[str, nn.Module]] = []
    channels = 3
    for name, (width, read, written) in _CONVOLUTIONS.items():
        if read:
            parts = {
                "enter": _Pointwise(channels, read, 1, bias=False),
                "mix": nn.Conv2d(read, written, 3, padding=1, bias=False),
                "leave": _Pointwise(written, width, 1),
            }
            convolution: nn.Module = nn.Sequential(OrderedDict(parts))
        else:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
        stages += [(f"conv{name}", convolution), (f"relu{name}", nn.ReLU())]
        if name in _POOLED:
            stages.append((_POOLED[name], nn.MaxPool2d(2)))
        channels = width
    return stages


class _Pointwise(nn.Conv2d):
    """A convolution of 1 x 1, which on one core is sooner done than ``nn.Conv2d``'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, D, H, W]."""
        return cast(Tensor, _Product.apply(input, self.weight, self.bias))


class _Product(torch.autograd.Function):
    """Features [B, C, H, W] times a matrix [D, C, 1, 1], with a gradient for the features alone."""

    @staticmethod
    def forward(ctx: Any, flow: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(matrix)
        return _multiply(flow, matrix, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (matrix,) = ctx.saved_tensors
        turned = matrix.transpose(0, 1).to(gradients[0].dtype)
        return _multiply(gradients[0], turned, None), None, None


def _multiply(flow: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply features [B, C, H, W] by ``matrix`` [D, C, 1, 1].

    Rows of pixels pass for pictures: torch leaves large batches to oneDNN, and does small ones in
    one thread with a slower matrix product.
    """
    batch, channels, height, width = flow.shape
    rows = flow.permute(0, 2, 3, 1).reshape(batch * height, 1, width, channels)
    made = F.conv2d(rows.permute(0, 3, 1, 2), matrix, bias)
    made = made.permute(0, 2, 3, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
    # Not a view any more: it will be written over.
    return made.new_empty(0).set_(made.untyped_storage(), 0, made.shape, made.stride())
