"""Textures that the project draws itself: seamless, in colour, the same on every machine."""

from collections.abc import Callable

import numpy as np

from nca_texture.names import check_name
from nca_texture.targets.drawn_craft import bricks, honeycomb, knit, planks, weave
from nca_texture.targets.drawn_life import coral, giraffe, leaves, leopard, scales, zebra
from nca_texture.targets.drawn_matter import bubbles, caustics, cobbles, lava, marble, terrazzo
from nca_texture.targets.noise import Picture

OVERSAMPLING = 2  # drawn this much finer per axis, then averaged: smooth outlines
LARGEST = 2048  # pixels per side of a drawn sample


def finished(canvas: Callable[[int], Picture]) -> Callable[..., Picture]:
    """Turn a drawing on a fine canvas into one that returns [size, size, 3] in [0, 1]."""

    def draw(size: int = 256) -> Picture:
        fine = np.clip(canvas(OVERSAMPLING * size), 0, 1)
        return fine.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean(axis=(1, 3))

    draw.__name__, draw.__doc__ = canvas.__name__, canvas.__doc__
    return draw


SAMPLES: dict[str, Callable[..., Picture]] = {
    canvas.__name__: finished(canvas)
    for canvas in (
        bricks,
        bubbles,
        caustics,
        cobbles,
        coral,
        giraffe,
        honeycomb,
        knit,
        lava,
        leaves,
        leopard,
        marble,
        planks,
        scales,
        terrazzo,
        weave,
        zebra,
    )
}


def describe_samples() -> dict[str, str]:
    """Say in one line what each sample shows, in alphabetical order."""
    return {name: (draw.__doc__ or "").splitlines()[0] for name, draw in sorted(SAMPLES.items())}


def draw_sample(name: str, size: int = 256) -> Picture:
    """Draw one sample as [size, size, 3] in [0, 1]; the same numbers at every call.

    A picture of another size shows the same texture finer or coarser. Raises ``ValueError`` for a
    name or a size that is not there.
    """
    check_name(name, SAMPLES, "sample")
    if not 8 <= size <= LARGEST:
        raise ValueError(
            f"a sample is drawn with 8 to {LARGEST} pixels per side, not {size}; "
            "to cover more, repeat it: it tiles"
        )
    return SAMPLES[name](size)
