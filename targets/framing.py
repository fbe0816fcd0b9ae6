"""Crop a picture, reduce it to cells, and keep transparency only where there is some."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nca_texture.errors import InputError

SMALLEST = 8  # cells per side: less than that has no texture
OPAQUE = 0.98  # alpha from here on is rounding, not transparency
FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


@dataclass(frozen=True)
class Framed:
    """A picture as cells, with the sizes it had."""

    image: Tensor  # [3 or 4, H, W] float32 in [0, 1], straight alpha
    source_size: tuple[int, int]  # (height, width) after the crop
    pixels_per_cell: float
    notes: tuple[str, ...]


def frame(values: NDArray, crop: str | None, exemplar_size: int, name: str) -> Framed:
    """Crop and reduce a decoded picture [H, W, 1 to 4], uint8, uint16 or float32.

    Two channels are grey and alpha. Sides keep their proportion; the longer one becomes at most
    ``exemplar_size`` cells. ``name`` is what messages call the picture.
    """
    if exemplar_size < SMALLEST:
        raise ValueError(
            f"an exemplar needs at least {SMALLEST} cells per side, not {exemplar_size}"
        )
    top, left, height, width = parse_crop(crop, values.shape[:2], name)
    values = values[top : top + height, left : left + width]
    notes = []

    colours = values.shape[2] - (values.shape[2] in (2, 4))
    transparent = False
    if colours < values.shape[2]:
        alpha, full = values[..., -1], FULL_SCALE[values.dtype.name]
        if alpha.max() == 0:
            raise InputError(
                f"{name} is fully transparent{' in the crop' if crop else ''}; "
                "a picture with something to see is needed"
            )
        transparent = bool(alpha.min() < OPAQUE * full)
        if not transparent:
            notes.append(f"{name} has an alpha channel that is opaque; it was left out.")

    size = cells(height, width, exemplar_size)
    if min(size) < SMALLEST:
        raise InputError(too_small(name, (height, width), size, exemplar_size))
    planes = reduce(values, size, colours, transparent)
    if colours == 1:
        planes = np.concatenate([planes[:1]] * 3 + [planes[1:]])
    ratio = max(height, width) / max(size)
    return Framed(torch.from_numpy(planes), (height, width), ratio, tuple(notes))


def embed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Put ``image`` [3 or 4, h, w] in the middle of ``size`` (height, width) cells of nothing.

    What comes back is [4, H, W]; a picture without alpha is opaque.
    """
    if image.shape[0] == 3:
        image = torch.cat([image, torch.ones_like(image[:1])])
    below, beside = size[0] - image.shape[1], size[1] - image.shape[2]
    sides = (beside // 2, beside - beside // 2, below // 2, below - below // 2)
    return torch.nn.functional.pad(image, sides)


def parse_crop(crop: str | None, shape: tuple[int, int], name: str) -> tuple[int, int, int, int]:
    """Read "WIDTHxHEIGHT+X+Y" as (top, left, height, width); without "+X+Y" it is the middle.

    "square" is the largest square in the middle, "all" everything, and so is None.
    """
    rows, columns = shape
    if crop is None or crop == "all":
        return 0, 0, rows, columns
    if crop == "square":
        side = min(rows, columns)
        return (rows - side) // 2, (columns - side) // 2, side, side
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})(?:\+(\d{1,9})\+(\d{1,9}))?", crop.strip())
    if match is None:
        raise ValueError(
            f"cannot read the crop {crop!r}; write WIDTHxHEIGHT+X+Y, such as 512x512+100+40, "
            "WIDTHxHEIGHT for the middle, square, or all"
        )
    width, height = int(match[1]), int(match[2])
    left = int(match[3]) if match[3] else max(columns - width, 0) // 2
    top = int(match[4]) if match[4] else max(rows - height, 0) // 2
    if width == 0 or height == 0 or left + width > columns or top + height > rows:
        raise ValueError(
            f"the crop {crop} does not lie inside {name}, which is {columns}x{rows}; "
            "choose a smaller one or another corner"
        )
    return top, left, height, width


def cells(height: int, width: int, exemplar_size: int) -> tuple[int, int]:
    """Work out (height, width) in cells: the longer side at most ``exemplar_size``."""
    scale = min(1.0, exemplar_size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def too_small(name: str, source: tuple[int, int], size: tuple[int, int], exemplar_size: int) -> str:
    """Say what a picture would need to have enough cells."""
    if min(source) < SMALLEST:
        return (
            f"{name} is {source[1]}x{source[0]} pixels; "
            f"at least {SMALLEST} on each side are needed, so choose a larger picture or crop"
        )
    needed = int(np.ceil(SMALLEST * max(source) / min(source)))
    return (
        f"{name} is {source[1]}x{source[0]} pixels and becomes {size[1]}x{size[0]} cells; at least "
        f"{SMALLEST} on each side are needed, so crop it, or raise the exemplar size "
        f"from {exemplar_size} to {needed}"
    )


def reduce(values: NDArray, size: tuple[int, int], colours: int, transparent: bool) -> NDArray:
    """Resample [H, W, C] to planes [colours (+ 1), h, w] float32 in [0, 1].

    One plane at a time, so that a large picture is not held in float32 as a whole. Colour is
    weighted by alpha: what is invisible does not bleed into what is seen.
    """
    full = np.float32(FULL_SCALE[values.dtype.name])
    if not transparent:
        planes = [resize(values[..., channel] / full, size) for channel in range(colours)]
        return np.clip(np.stack(planes), 0, 1)
    alpha = values[..., -1] / full
    small = resize(alpha, size)
    visible = small > 1 / 1024
    planes = []
    for channel in range(colours):
        weighted = resize(values[..., channel] / full * alpha, size)
        planes.append(np.where(visible, weighted / np.where(visible, small, 1), 0))
    return np.clip(np.stack([*planes, small]), 0, 1).astype(np.float32)


def resize(plane: NDArray, size: tuple[int, int]) -> NDArray:
    """Resample one float plane [H, W] with Lanczos, which overshoots beside hard edges."""
    if plane.shape == size:
        return plane
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    small = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32)
