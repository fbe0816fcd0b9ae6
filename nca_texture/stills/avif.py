"""AVIF, lossy but hardly visibly so."""

from pathlib import Path

from PIL import features

from nca_texture.errors import MissingError
from nca_texture.stills.base import Picture
from nca_texture.stills.pillow import save, words


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write an AVIF file with all of its colour."""
    if not features.check("avif"):
        raise MissingError(
            "this Pillow cannot write AVIF files; install a newer one: pip install -U pillow"
        )
    options = {"quality": 90, "subsampling": "4:4:4", **words(picture)}
    save(path, picture, force, "AVIF", 65536, **options)
