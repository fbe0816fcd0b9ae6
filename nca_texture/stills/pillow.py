"""What the formats that Pillow writes share; they want the whole picture at once."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from nca_texture.files import atomic_write
from nca_texture.stills.base import Picture, as_shown, only
from nca_texture.stills.icc import profile

_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131  # EXIF


def save(path: Path, picture: Picture, force: bool, kind: str, side: int, **options: Any) -> None:
    """Write ``picture`` as a file of ``kind`` that holds ``side`` pixels a side at most."""
    pixels = only(as_shown(picture), kind, side)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    with atomic_write(path, force=force) as file:
        image.save(file, kind, **options)


def words(picture: Picture) -> dict[str, Any]:
    """Say the colours and the metadata of ``picture``, as options of Pillow's writers."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = json.dumps(dict(picture.metadata), ensure_ascii=True)
    exif[_SOFTWARE] = "nca-texture"
    colours = {} if picture.space == "data" else {"icc_profile": profile("srgb")}
    return {**colours, "exif": exif.tobytes()}
