"""Files of still pictures: one module per format, and the one place that chooses by suffix.

A new format is one file with ``write(path, picture, force)`` and one line in ``FORMATS``.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nca_texture.errors import InputError
from nca_texture.stills.base import Depth, Picture, Space

Write = Callable[[Path, Picture, bool], None]


@dataclass(frozen=True)
class Format:
    """What a kind of file can hold; the first depth and space are what it holds by default."""

    name: str
    module: str  # in this folder
    depths: tuple[Depth, ...] = ("8",)
    spaces: tuple[Space, ...] = ("srgb",)
    alpha: bool = True
    side: int = 2**31 - 1  # pixels at most
    whole: bool = True  # whether its writer wants all pixels in memory
    block: int = 1  # pixels that its sides are multiples of

    def writer(self) -> Write:
        """Import what writes it."""
        return importlib.import_module(f"nca_texture.stills.{self.module}").write


_TIFF = Format("TIFF", "tiff", ("8", "16", "half", "float"), ("srgb", "linear"), whole=False)
_JPEG = Format("JPEG", "jpeg", alpha=False, side=65500)
FORMATS: dict[str, Format] = {
    ".png": Format("PNG", "png", ("8", "16"), ("srgb", "linear"), whole=False),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".exr": Format("OpenEXR", "exr", ("half", "float"), ("linear", "srgb"), whole=False),
    ".webp": Format("WebP", "webp", side=16383),
    ".avif": Format("AVIF", "avif", side=65536),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".pat": Format("GIMP pattern", "pat", side=10000, whole=False),
    ".dds": Format("DDS", "dds", side=65535),
    ".bc1.dds": Format("DDS with BC1", "dds", alpha=False, side=65532, block=4),
    ".bc3.dds": Format("DDS with BC3", "dds", side=65532, block=4),
    ".npy": Format("NumPy", "npy", ("float", "half", "16", "8"), ("srgb", "linear"), whole=False),
}


def split(name: str) -> tuple[str, str]:
    """Split a file's name into a stem and the longest suffix that names a format, or none."""
    found = max((s for s in FORMATS if name.lower().endswith(s)), key=len, default="")
    stem = name[: len(name) - len(found)]
    return (stem, name[len(stem) :]) if stem else (name, "")


def format_of(path: Path) -> Format:
    """Return the format that the suffix of ``path`` names; ``ValueError`` when there is none."""
    _, suffix = split(path.name)
    if not suffix:
        raise ValueError(
            f"{path.name} does not say what to write; give a name that ends in {', '.join(FORMATS)}"
        )
    return FORMATS[suffix.lower()]


def choose(
    path: Path,
    size: tuple[int, int],
    channels: int,
    depth: str | None = None,
    space: str | None = None,
) -> tuple[Format, Depth, Space]:
    """Check that ``path`` can hold what is asked for, and fill in what is not.

    Raises ``ValueError`` for depths and spaces that it cannot have, ``InputError`` for sizes, and
    ``MissingError`` when a package is missing; long work calls this before it begins.
    """
    known = format_of(path)
    height, width = size
    depths: list[Depth] = [each for each in known.depths if depth in (None, each)]
    if not depths:
        raise ValueError(
            f"depth is {depth}; {known.name} files hold {_either(known.depths)} bits a channel"
            if depth in ("8", "16", "half", "float")
            else f"depth is {depth}; give 8, 16, half or float"
        )
    spaces: list[Space] = [each for each in known.spaces if space in (None, each)]
    if not spaces:
        raise ValueError(
            f"space is {space}; {known.name} files hold {_either(known.spaces)} colours"
        )
    if spaces[0] == "linear" and depths[0] == "8":
        raise ValueError("linear colours of 8 bits show steps in the dark; give --depth 16")
    if channels == 4 and not known.alpha:
        raise ValueError(f"{known.name} files have no transparency; give a name that ends in .png")
    if max(height, width) > known.side:
        raise InputError(
            f"{known.name} files hold {known.side}x{known.side} pixels at most, not "
            f"{width}x{height}; give a smaller --size, or a name that ends in .png or .tif"
        )
    if height % known.block or width % known.block:
        raise ValueError(
            f"{known.name} consists of blocks of {known.block}x{known.block} pixels, not of "
            f"{width}x{height}; give a --size of multiples of {known.block}"
        )
    known.writer()
    return known, depths[0], spaces[0]


def write(path: Path, picture: Picture, *, force: bool = False) -> None:
    """Write ``picture`` to ``path`` in the format that its suffix names, complete or not at all."""
    format_of(path).writer()(path, picture, force)


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
