"""NumPy arrays [H, W, C], with what they are in a JSON file beside them."""

import json
from pathlib import Path

import numpy as np

from nca_texture.files import atomic_write, check_writable
from nca_texture.stills.base import DTYPES, Picture


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write an array; ``numpy.load(path, mmap_mode="r")`` opens it, however large."""
    about = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(DTYPES[picture.depth])),
        "fortran_order": False,
        "shape": (*picture.size, picture.channels),
    }
    beside = path.with_name(f"{path.name}.json")
    check_writable(beside, force=force)
    said = {"space": picture.space, "metadata": dict(picture.metadata)}
    with atomic_write(path, force=force) as file:
        np.lib.format.write_array_header_2_0(file, about)
        for band in picture.bands():
            file.write(np.ascontiguousarray(band).data)
    with atomic_write(beside, force=force) as file:
        file.write(json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n")
