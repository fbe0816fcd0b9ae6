"""PNG of 8 or 16 bits, in bands of rows."""

from pathlib import Path

from nca_texture.images import PngWriter
from nca_texture.stills.base import Picture, as_shown


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a PNG file."""
    if picture.depth not in ("8", "16"):
        picture = as_shown(picture)
    with PngWriter(
        path,
        picture.size,
        channels=picture.channels,
        depth=8 if picture.depth == "8" else 16,
        metadata=picture.metadata,
        srgb=picture.space == "srgb",
        gamma=100000 if picture.space == "linear" else None,
        force=force,
    ) as writer:
        for band in picture.bands():
            writer.write_rows(band)
