"""Maps of a material, made from its colours alone, with filters that go round where it tiles.

They are guesses that look right for many textures, not measurements: light is taken for high, and
what lies lower than its surroundings for hidden from the sky.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709
_SKY = (2.0, 4.0, 8.0, 16.0)  # pixels, the surroundings that hide from the sky
_GRAIN = 3.0  # pixels, the surroundings whose contrast makes rough


@dataclass(frozen=True, kw_only=True)
class Look:
    """How strong the maps are."""

    relief: float = 4.0  # pixels that the highest place lies above the lowest
    smooth: float = 0.7  # pixels, deviation of the blur of the height
    invert: bool = False  # dark is high
    occlusion: float = 1.0  # how dark the deepest places are
    roughness: float = 0.7  # mean
    spread: float = 0.3  # of the roughness

    def __post_init__(self) -> None:
        for name in ("relief", "smooth", "occlusion", "roughness", "spread"):
            most = 1.0 if name in ("roughness", "spread") else 1000.0
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name):g}; give 0 to {most:g}")


def make_maps(colours: Floats, wraps: str = "xy", look: Look = Look()) -> dict[str, Floats]:
    """Make the maps of ``colours`` [H, W, 3], which tile along the axes ``wraps``.

    Returns height, normal (OpenGL: green is up), occlusion, roughness and metal, in [0, 1]:
    [H, W], the normal [H, W, 3].
    """
    height = height_map(colours, wraps, look)
    return {
        "height": height,
        "normal": normal_map(height, wraps, look),
        "occlusion": occlusion_map(height, wraps, look),
        "roughness": roughness_map(height, wraps, look),
        "metal": np.zeros_like(height),
    }


def height_map(colours: Floats, wraps: str, look: Look) -> Floats:
    """Take light for high: [H, W] from 0 (lowest) to 1; a flat picture is 0.5 everywhere."""
    luma = _blur(colours[..., :3] @ _LUMA, look.smooth, wraps)
    low, high = np.quantile(luma, [0.002, 0.998])
    if high - low < 1e-6:
        return np.full_like(luma, 0.5)
    height = ((luma - low) / (high - low)).clip(0, 1).astype(np.float32)
    return 1 - height if look.invert else height


def normal_map(height: Floats, wraps: str, look: Look) -> Floats:
    """Turn slopes into directions, (x, y, z + 1) / 2 with y upwards: [H, W, 3]."""
    modes = _modes(wraps)
    # Sobel's filter: a derivative along one axis, a little blur along the other.
    down, right = (ndimage.sobel(height, axis, mode=modes) / 8 for axis in (0, 1))
    steep = np.stack([-right * look.relief, down * look.relief, np.ones_like(height)], axis=-1)
    return ((steep / np.linalg.norm(steep, axis=-1, keepdims=True) + 1) / 2).astype(np.float32)


def occlusion_map(height: Floats, wraps: str, look: Look) -> Floats:
    """Darken what lies lower than its surroundings: [H, W], 1 is open."""
    deep = np.zeros_like(height)
    for size in _SKY:
        deep += np.maximum(_blur(height, size, wraps) - height, 0)
    return (1 - look.occlusion * deep / len(_SKY)).clip(0, 1).astype(np.float32)


def roughness_map(height: Floats, wraps: str, look: Look) -> Floats:
    """Make what is grainy rough, and worn heights smoother: [H, W]."""
    mean = _blur(height, _GRAIN, wraps)
    contrast = np.sqrt(np.maximum(_blur(np.square(height), _GRAIN, wraps) - np.square(mean), 0))
    grain = contrast / max(float(contrast.max()), 1e-6)
    lean = (grain - grain.mean()) - (height - height.mean())
    return (look.roughness + look.spread * lean).clip(0, 1).astype(np.float32)


def _blur(image: Floats, size: float, wraps: str) -> Floats:
    """Blur ``image`` [H, W] by a deviation of ``size`` pixels, round the axes that wrap."""
    if size == 0:
        return image
    return np.asarray(ndimage.gaussian_filter(image, size, mode=_modes(wraps)), np.float32)


def _modes(wraps: str) -> Any:  # scipy's stubs know one mode for all axes only
    return ["wrap" if axis in wraps else "nearest" for axis in "yx"]
