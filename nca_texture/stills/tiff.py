"""TIFF; from some size on a tiled pyramid, BigTIFF where offsets need it, tile after tile."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import MissingError
from nca_texture.files import atomic_write
from nca_texture.stills.base import DTYPES, Picture
from nca_texture.stills.icc import profile

PYRAMID_FROM = 4096  # pixels of the longer side
TILE = 256
_BIG = 2**31  # bytes of pixels, from which offsets have 64 bits


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write a TIFF file; a large one has tiles and smaller copies of itself, each half as wide."""
    try:
        import tifffile
    except ImportError as reason:
        raise MissingError(
            "TIFF files need a package that is not here: pip install tifffile"
        ) from reason
    height, width = picture.size
    dtype = np.dtype(DTYPES[picture.depth])
    count = height * width * picture.channels * dtype.itemsize
    smaller = []
    while max(height, width) >> len(smaller) >= PYRAMID_FROM:
        smaller.append(len(smaller) + 1)
    smaller = [level for level in smaller if min(height, width) >> level]
    said: dict[str, Any] = {
        "photometric": "rgb" if picture.channels > 1 else "minisblack",
        "compression": "zlib",
        "predictor": dtype.kind == "u",
        "extrasamples": ["unassalpha"] if picture.channels == 4 else None,
        "iccprofile": None if picture.space == "data" else profile(picture.space),
        "metadata": None,
    }
    about = json.dumps(dict(picture.metadata), ensure_ascii=True)
    with (
        atomic_write(path, force=force) as file,
        tifffile.TiffWriter(file, bigtiff=count > _BIG) as writer,
    ):
        if not smaller:
            writer.write(
                picture.whole(),
                rowsperstrip=16,
                description=about,
                software="nca-texture",
                **said,
            )
            return
        for level in (0, *smaller):
            shape = (height >> level, width >> level, picture.channels)
            writer.write(
                _tiles(picture, level),
                shape=shape,
                dtype=dtype,
                tile=(TILE, TILE),
                subifds=len(smaller) if level == 0 else None,
                subfiletype=1 if level else 0,
                description=about if level == 0 else None,
                software="nca-texture" if level == 0 else None,
                **said,
            )


def _tiles(picture: Picture, level: int) -> Iterator[NDArray[Any]]:
    """Yield the tiles of ``picture``, halved ``level`` times, row by row; the last are padded."""
    height, width = (side >> level for side in picture.size)
    for top in range(0, height, TILE):
        rows = _halved(picture, level, top, min(top + TILE, height))
        for left in range(0, width, TILE):
            tile = rows[:, left : min(left + TILE, width)]
            short = [(0, TILE - side) for side in tile.shape[:2]]
            yield np.pad(tile, [*short, (0, 0)], mode="edge")


def _halved(picture: Picture, level: int, first: int, last: int) -> NDArray[Any]:
    """Read rows of ``picture`` halved ``level`` times: means of squares of pixels."""
    side = 1 << level
    width = picture.size[1] >> level
    if level == 0:
        return picture.read(first, last)
    parts = []
    step = max(1, picture.band // side)
    for top in range(first, last, step):
        rows = picture.read(top * side, min(top + step, last) * side)[:, : width * side]
        squares = rows.reshape(len(rows) // side, side, width, side, -1)
        means = squares.mean(axis=(1, 3), dtype=np.float64)
        parts.append(np.rint(means) if rows.dtype.kind == "u" else means)
    return np.concatenate(parts).astype(DTYPES[picture.depth])
