"""Animated WebP, without loss."""

from pathlib import Path

from nca_texture.motion.base import Clip
from nca_texture.motion.pillow import check_side, save


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Say what a WebP file cannot hold."""
    check_side(path, size, 16383)


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write a WebP file that gives back every pixel."""
    save(path, clip, force, "WEBP", lossless=True, exact=True, quality=50, method=2)
