"""GIMP patterns, which Krita reads as well: six numbers, a name and the pixels as they are.

After GIMP's developer documentation, "The GIMP Pattern File Format (.pat)".
"""

import struct
from pathlib import Path

import numpy as np

from nca_texture.files import atomic_write
from nca_texture.stills.base import Picture, as_shown


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a pattern that is called like its file."""
    picture = as_shown(picture)
    name = path.stem.encode()[:200] + b"\0"
    height, width = picture.size
    header = struct.pack(">5I4s", 24 + len(name), 1, width, height, picture.channels, b"GPAT")
    with atomic_write(path, force=force) as file:
        file.write(header + name)
        for band in picture.bands():
            file.write(np.ascontiguousarray(band).data)
