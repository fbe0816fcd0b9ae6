"""Files of moving pictures: one module per format, and the one place that chooses by suffix.

A new format is one file with ``write(path, clip, force)`` and ``check(path, size, channels)``, and
one line in ``FORMATS``.
"""

import importlib
from pathlib import Path
from types import ModuleType

from nca_texture.motion.base import Clip

# Suffix -> module in this folder; a name without a suffix is a folder of frames.
FORMATS = {
    ".gif": "gif",
    ".webp": "webp",
    ".apng": "apng",
    ".png": "apng",
    ".avif": "avif",
    ".mp4": "mp4",
    ".webm": "webm",
    "": "frames",
}


def module_of(path: Path) -> ModuleType:
    """Return the module that writes ``path``; ``ValueError`` when its suffix says nothing."""
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        known = ", ".join(filter(None, FORMATS))
        raise ValueError(
            f"{path.name} does not say what to write; give a name that ends in {known}, or one "
            "without a dot for a folder of frames"
        )
    return importlib.import_module(f"nca_texture.motion.{name}")


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Say before the work what ``path`` cannot hold, and what is missing to write it."""
    module_of(path).check(path, size, channels)


def write(path: Path, clip: Clip, *, force: bool = False) -> None:
    """Write ``clip`` to ``path`` in the format that its suffix names, complete or not at all."""
    module_of(path).write(path, clip, force)
