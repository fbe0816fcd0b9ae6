"""DDS with all its smaller copies, as 32-bit pixels or as blocks of BC1 (DXT1) or BC3 (DXT5).

Headers are those of DirectX 9, which every program reads; they have no place for metadata and do
not say that colours are sRGB. After Microsoft's "Programming Guide for DDS" and "DDS_HEADER".
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nca_texture.files import atomic_write
from nca_texture.stills.base import Picture, as_shown, only, to_linear, to_srgb

_CAPS, _SIZE, _PITCH, _FORMAT, _MIPMAPS, _LINEAR_SIZE = 1, 2 | 4, 8, 0x1000, 0x20000, 0x80000
_ALPHA, _FOURCC, _RGB, _LUMINANCE = 1, 4, 0x40, 0x20000
_COMPLEX, _TEXTURE, _HAS_MIPMAPS = 8, 0x1000, 0x400000
_BLOCKS = {".bc1": "DXT1", ".bc3": "DXT5"}  # before .dds
_BAND = 64  # rows of a smaller copy that are made at a time


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a DDS file; ``.bc1.dds`` and ``.bc3.dds`` consist of blocks of 4x4 pixels."""
    pixels = only(as_shown(picture), "DDS", 65535)
    blocks = _BLOCKS.get(Path(path.stem).suffix.lower())
    with atomic_write(path, force=force) as file:
        file.write(_header(picture.size, picture.channels, blocks))
        for level in levels(pixels, picture.space == "srgb"):
            file.write(_squeezed(level, blocks) if blocks else _packed(level))


def levels(pixels: NDArray[np.uint8], colours: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield ``pixels`` [H, W, C] and its smaller copies, each half as high and wide, down to one.

    A pixel is the mean of the area that it covers. Areas divide the picture exactly, also where
    its sides are odd, so that no copy of a picture that tiles has a seam. Means of sRGB ``colours``
    are those of their light, weighted with alpha.
    """
    yield pixels
    light = np.arange(256, dtype=np.float32) / np.float32(255)
    table = to_linear(light) if colours else light
    whole: NDArray[Any] = pixels
    while max(whole.shape[:2]) > 1:
        height, width = (max(1, side // 2) for side in whole.shape[:2])
        smaller: NDArray[np.float32] = np.empty((height, width, whole.shape[2]), np.float32)
        for first in range(0, height, _BAND):
            last = min(first + _BAND, height)
            top, bottom = first * len(whole) // height, -(-last * len(whole) // height)
            band = whole[top:bottom]
            if band.dtype == np.uint8:
                band = _lit(band, table)
            band = _means(band.swapaxes(0, 1), width, 0, width).swapaxes(0, 1)
            smaller[first:last] = _means(band, height, first, last, top, len(whole))
        whole = smaller
        yield _dimmed(smaller, colours)


def _means(
    rows: NDArray[np.float32],
    count: int,
    first: int,
    last: int,
    top: int = 0,
    height: int | None = None,
) -> NDArray[np.float32]:
    """Average ``rows`` [h, ...], from ``top`` on of ``height``, to [first, last) of ``count``."""
    height = len(rows) if height is None else height
    number = np.arange(first, last)
    begin = number * height // count
    total = np.zeros((last - first, *rows.shape[1:]), np.float32)
    for more in range(-(-height // count) + 1):
        row = begin + more
        # How much of the row lies between number and number + 1, in exact integers.
        low = np.maximum(number * height, row * count)
        shared = np.minimum((number + 1) * height, (row + 1) * count) - low
        weight = (shared.clip(min=0) / height).astype(np.float32)
        index = (row - top).clip(max=len(rows) - 1)
        total += weight.reshape(-1, *[1] * (rows.ndim - 1)) * rows[index]
    return total


def _lit(pixels: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn ``pixels`` into light, multiplied by alpha."""
    if pixels.shape[2] != 4:
        return table[pixels]
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.concatenate([table[pixels[..., :3]] * alpha, alpha], axis=2, dtype=np.float32)


def _dimmed(light: NDArray[np.float32], colours: bool) -> NDArray[np.uint8]:
    """Undo ``_lit``."""
    values = light[..., :3]
    if light.shape[2] == 4:
        values = np.divide(values, np.maximum(light[..., 3:], 1e-6), dtype=np.float32)
    values = to_srgb(values) if colours else values
    values = np.concatenate([values, light[..., 3:]], axis=2)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _packed(pixels: NDArray[np.uint8]) -> bytes:
    """Order the bytes of ``pixels`` [H, W, 1, 3 or 4]: blue, green, red, alpha."""
    if pixels.shape[2] == 1:
        return pixels.tobytes()
    alpha = pixels[..., 3:] if pixels.shape[2] == 4 else np.full_like(pixels[..., :1], 255)
    return np.concatenate([pixels[..., 2::-1], alpha], axis=2).tobytes()


def _squeezed(pixels: NDArray[np.uint8], blocks: str) -> bytes:
    """Encode ``pixels`` in blocks of 4x4; a copy smaller than one is repeated in it."""
    height, width, channels = pixels.shape
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    short = [(0, -height % 4), (0, -width % 4), (0, 0)]
    image = Image.fromarray(np.pad(pixels, short, mode="wrap"))
    stream = io.BytesIO()
    image.convert("RGB" if blocks == "DXT1" else "RGBA").save(stream, "DDS", pixel_format=blocks)
    return stream.getvalue()[128:]


def _header(size: tuple[int, int], channels: int, blocks: str | None) -> bytes:
    height, width = size
    count = max(size).bit_length()
    flags = _CAPS | _SIZE | _FORMAT | _MIPMAPS
    if blocks:
        flags |= _LINEAR_SIZE
        pitch = height * width // (2 if blocks == "DXT1" else 1)
        kind = struct.pack("<2I4s5I", 32, _FOURCC, blocks.encode(), 0, 0, 0, 0, 0)
    elif channels == 1:
        flags, pitch = flags | _PITCH, width
        kind = struct.pack("<8I", 32, _LUMINANCE, 0, 8, 0xFF, 0, 0, 0)
    else:
        flags, pitch = flags | _PITCH, 4 * width
        alpha = channels == 4
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000 if alpha else 0)
        kind = struct.pack("<8I", 32, _RGB | (_ALPHA if alpha else 0), 0, 32, *masks)
    about = struct.pack("<7I44x", 124, flags, height, width, pitch, 0, count)
    caps = struct.pack("<5I", _TEXTURE | _COMPLEX | _HAS_MIPMAPS, 0, 0, 0, 0)
    return b"DDS " + about + kind + caps
