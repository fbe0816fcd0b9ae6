"""JPEG of high quality, with all of its colour."""

from pathlib import Path

from nca_texture.stills.base import Picture
from nca_texture.stills.pillow import save, words


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a JPEG file."""
    save(path, picture, force, "JPEG", 65500, quality=95, subsampling=0, **words(picture))
