"""What all files of still pictures share: a picture that is read in rows, and what it says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import InputError
from nca_texture.images import quantize

Depth = Literal["8", "16", "half", "float"]
Space = Literal["srgb", "linear", "data"]

DTYPES: dict[Depth, str] = {"8": "uint8", "16": "uint16", "half": "float16", "float": "float32"}
_BAND_BYTES = 8 << 20


@dataclass(frozen=True)
class Picture:
    """A picture of any size, its rows read when they are wanted; alpha is straight."""

    size: tuple[int, int]  # (height, width)
    channels: int  # 1, 3, or 4 with alpha
    depth: Depth
    read: Callable[[int, int], NDArray[Any]]  # rows [first, last) -> [h, W, C] of the depth's type
    space: Space = (
        "srgb"  # what the colours are: sRGB, linear with the same primaries, or no colour
    )
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def band(self) -> int:
        """Rows that make a few megabytes."""
        row = self.size[1] * self.channels * np.dtype(DTYPES[self.depth]).itemsize
        return max(1, _BAND_BYTES // row)

    def bands(self, rows: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the picture from top to bottom, so many ``rows`` at a time."""
        rows = self.band if rows is None else rows
        for first in range(0, self.size[0], rows):
            yield self.read(first, min(first + rows, self.size[0]))

    def whole(self) -> NDArray[Any]:
        """Return all rows [H, W, C]."""
        return self.read(0, self.size[0])


def picture_of(
    image: NDArray[Any], *, space: Space = "srgb", metadata: Mapping[str, str] | None = None
) -> Picture:
    """Make a picture of an array [H, W, C] of uint8, uint16, float16 or float32."""
    depth = _depth_of(image)
    height, width, channels = image.shape
    return Picture(
        (height, width), channels, depth, lambda a, b: image[a:b], space, dict(metadata or {})
    )


def _depth_of(image: NDArray[Any]) -> Depth:
    for depth in get_args(Depth):
        if DTYPES[depth] == image.dtype.name:
            return depth
    raise ValueError(f"expected {', '.join(DTYPES.values())}, got {image.dtype}")


def convert(image: NDArray[np.float32], depth: Depth, space: Space) -> NDArray[Any]:
    """Turn sRGB ``image`` [h, w, C] (floats in [0, 1]) into numbers of a depth and a space."""
    if space == "linear":
        image = np.concatenate([to_linear(image[..., :3]), image[..., 3:]], axis=-1)
    if depth in ("8", "16"):
        return quantize(image, 8 if depth == "8" else 16)
    return image.astype(DTYPES[depth])


def as_shown(picture: Picture) -> Picture:
    """Turn ``picture`` into sRGB of 8 or 16 bits, for files that hold nothing else."""
    if picture.depth in ("8", "16") and picture.space != "linear":
        return picture
    depth: Depth = "8"

    def read(first: int, last: int) -> NDArray[Any]:
        return convert(floats(picture, first, last), depth, "srgb")

    return replace(picture, depth=depth, space="srgb", read=read)


def floats(picture: Picture, first: int, last: int) -> NDArray[np.float32]:
    """Read rows as floats in [0, 1], sRGB."""
    rows = picture.read(first, last)
    if rows.dtype.kind == "u":
        rows = rows.astype(np.float32) / np.iinfo(rows.dtype).max
    rows = rows.astype(np.float32)
    if picture.space == "linear":
        rows = np.concatenate([to_srgb(rows[..., :3]), rows[..., 3:]], axis=-1)
    return rows


def to_linear(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo the sRGB curve (IEC 61966-2-1) of ``colours`` in [0, 1]."""
    low = colours / 12.92
    return np.where(colours <= 0.04045, low, ((colours + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the sRGB curve to linear ``colours`` in [0, 1]."""
    high = 1.055 * np.maximum(colours, 0) ** (1 / 2.4) - 0.055
    return np.where(colours <= 0.0031308, colours * 12.92, high).astype(np.float32)


def repeated(picture: Picture, repeats: tuple[int, int]) -> Picture:
    """Lay copies of ``picture`` side by side, ``repeats`` (down, across) of them."""
    down, across = repeats
    if down < 1 or across < 1:
        raise ValueError(f"repeats are {down} down and {across} across; give at least 1 of each")
    height, width = picture.size

    def read(first: int, last: int) -> NDArray[Any]:
        return np.tile(_around(picture, first, last), (1, across, 1))

    return replace(picture, size=(height * down, width * across), read=read)


def half_rolled(picture: Picture) -> Picture:
    """Shift ``picture`` around by half its size, so that its edges cross in the middle."""
    height, width = picture.size

    def read(first: int, last: int) -> NDArray[Any]:
        rows = _around(picture, first - height // 2, last - height // 2)
        return np.roll(rows, width // 2, axis=1)

    return replace(picture, read=read)


def _around(picture: Picture, first: int, last: int) -> NDArray[Any]:
    """Read rows [first, last) of a picture that repeats up and down without end."""
    height = picture.size[0]
    parts = []
    while first < last:
        at = first % height
        count = min(last - first, height - at)
        parts.append(picture.read(at, at + count))
        first += count
    return np.concatenate(parts)


def only(picture: Picture, name: str, most: int) -> NDArray[np.uint8]:
    """Return all of an 8-bit picture for a file that holds no more than ``most`` pixels a side."""
    height, width = picture.size
    if max(height, width) > most:
        raise InputError(
            f"{name} holds {most}x{most} pixels at most, not {width}x{height}; "
            "give a smaller --size, or a name that ends in .png or .tif"
        )
    return picture.whole()
