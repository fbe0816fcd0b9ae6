"""Animated AVIF, lossy but hardly visibly so."""

from pathlib import Path

from PIL import features

from nca_texture.errors import MissingError
from nca_texture.motion.base import Clip
from nca_texture.motion.pillow import check_side, save


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Say what an AVIF file cannot hold, and whether it can be written here."""
    check_side(path, size, 65536)
    if not features.check("avif"):
        raise MissingError(
            "this Pillow cannot write AVIF files; install a newer one: pip install -U pillow"
        )


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write an AVIF file."""
    save(path, clip, force, "AVIF", quality=80, subsampling="4:4:4", speed=8)
