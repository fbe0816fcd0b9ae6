"""DDS, uncompressed, without smaller copies; it has no place for metadata."""

from pathlib import Path

from nca_texture.stills.base import Picture
from nca_texture.stills.pillow import save


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a DDS file."""
    save(path, picture, force, "DDS", 65535)
