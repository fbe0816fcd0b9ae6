"""Animated PNG: every pixel, and the metadata as in a still picture."""

from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from nca_texture.motion.base import Clip
from nca_texture.motion.pillow import save


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Accept every clip."""


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write an APNG file; programs that do not know them show the first frame."""
    texts = PngInfo()
    for key, text in clip.metadata.items():
        texts.add_itxt(key, text)
    save(path, clip, force, "PNG", pnginfo=texts, blend=0, disposal=0)
