"""What all files of moving pictures share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Clip:
    """Frames that are shown one after the other."""

    frames: NDArray[np.uint8]  # [N, H, W, 3 or 4], sRGB, straight alpha
    fps: float = 24.0
    loops: bool = True
    wraps: str = "xy"  # the axes on which each frame tiles
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of a frame."""
        return self.frames.shape[1], self.frames.shape[2]

    def durations(self, unit: float = 1.0) -> list[int]:
        """Milliseconds of each frame in multiples of ``unit``, whose sum is right."""
        ends = np.arange(len(self.frames) + 1) * 1000 / self.fps / unit
        return (np.diff(np.rint(ends)) * unit).astype(int).tolist()
