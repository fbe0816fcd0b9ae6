"""What is cut away from a state: circles, rectangles and half planes.

Places and sizes are fractions of the grid's height and width; a circle is round in cells, its
radius a fraction of the shorter side.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Shape = Literal["circle", "rectangle", "half"]

_CENTRE = (0.25, 0.75)  # of what is cut at random: Growing NCA has U[-.5, .5] in [-1, 1]
_RADIUS = (0.05, 0.2)  # U[.1, .4] likewise
_MIDDLE = (0.4, 0.6)  # of what is halved: further out, next to nothing may be left


def circle(size: tuple[int, int], place: tuple[float, float], radius: float) -> Tensor:
    """Find the cells within ``radius`` of ``place`` (y, x): bool [H, W]."""
    y, x = _coordinates(size, place)
    return y**2 + x**2 < (radius * min(size)) ** 2


def rectangle(
    size: tuple[int, int], place: tuple[float, float], sides: tuple[float, float]
) -> Tensor:
    """Find the cells of a rectangle of ``sides`` (height, width) around ``place`` (y, x)."""
    y, x = _coordinates(size, place)
    return (y.abs() < sides[0] * size[0] / 2) & (x.abs() < sides[1] * size[1] / 2)


def half(size: tuple[int, int], place: tuple[float, float], angle: float) -> Tensor:
    """Find the cells beyond a line through ``place`` (y, x), where ``angle`` points to.

    0 is to the right, a quarter of a turn (pi / 2) downwards.
    """
    y, x = _coordinates(size, place)
    return x * math.cos(angle) + y * math.sin(angle) > 0


def at_random(shape: Shape, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw what is cut, bool [H, W].

    Circles as in Growing NCA, rectangles of like size, or all beyond a line near the middle.
    """
    if shape not in get_args(Shape):
        raise ValueError(f"no damage is called {shape!r}; choose from {', '.join(get_args(Shape))}")
    a, b, c, d = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    low, high = _MIDDLE if shape == "half" else _CENTRE
    place = (low + (high - low) * a, low + (high - low) * b)
    if shape == "half":
        return half(size, place, 2 * math.pi * c)
    low, high = _RADIUS
    reach, other = low + (high - low) * c, low + (high - low) * d
    if shape == "circle":
        return circle(size, place, reach)
    return rectangle(size, place, (2 * reach, 2 * other))


def cut(state: Tensor, gone: Tensor, held: int = 0) -> Tensor:
    """Clear the cells ``gone`` (bool [H, W] or [B, H, W]) of ``state`` [B, C, H, W].

    The last ``held`` channels stay.
    """
    gone = gone.to(state.device)
    gone = gone[:, None] if gone.ndim == 3 else gone[None, None]
    kept = state.shape[1] - held
    return torch.cat([state[:, :kept].masked_fill(gone, 0), state[:, kept:]], 1)


def _coordinates(size: tuple[int, int], place: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Distances of all cells' middles from ``place``, in cells: [H, 1] and [1, W]."""
    y, x = (torch.arange(count, dtype=torch.float64) + 0.5 for count in size)
    return (y - place[0] * size[0])[:, None], (x - place[1] * size[1])[None]
