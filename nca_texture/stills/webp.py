"""WebP without loss."""

from pathlib import Path

from nca_texture.stills.base import Picture
from nca_texture.stills.pillow import save, words


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a WebP file that gives back every pixel."""
    options = {"lossless": True, "exact": True, "quality": 80, **words(picture)}
    save(path, picture, force, "WEBP", 16383, **options)
