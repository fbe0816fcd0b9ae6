"""The feature network that ships with the package: VGG19 to relu4_1 in a tenth of its work."""

from collections import OrderedDict
from pathlib import Path

from torch import nn

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
                "enter": nn.Conv2d(channels, read, 1, bias=False),
                "mix": nn.Conv2d(read, written, 3, padding=1, bias=False),
                "leave": nn.Conv2d(written, width, 1),
            }
            convolution: nn.Module = nn.Sequential(OrderedDict(parts))
        else:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
        stages += [(f"conv{name}", convolution), (f"relu{name}", nn.ReLU())]
        if name in _POOLED:
            stages.append((_POOLED[name], nn.MaxPool2d(2)))
        channels = width
    return stages
