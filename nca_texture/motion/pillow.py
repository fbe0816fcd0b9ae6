"""What the formats that Pillow writes share."""

from pathlib import Path
from typing import Any

from PIL import Image

from nca_texture.errors import InputError
from nca_texture.files import atomic_write
from nca_texture.motion.base import Clip


def save(path: Path, clip: Clip, force: bool, kind: str, **options: Any) -> None:
    """Write the frames as a file of ``kind``."""
    images = options.pop("images", None) or [Image.fromarray(frame) for frame in clip.frames]
    if clip.loops:
        options["loop"] = 0
    elif kind in ("WEBP", "PNG"):
        options["loop"] = 1
    options.setdefault("duration", clip.durations())
    with atomic_write(path, force=force) as file:
        images[0].save(file, kind, save_all=True, append_images=images[1:], **options)


def check_side(path: Path, size: tuple[int, int], side: int) -> None:
    """Raise ``InputError`` when a frame of ``size`` (height, width) is larger than ``side``."""
    if max(size) > side:
        raise InputError(
            f"{path.suffix} files hold {side}x{side} pixels at most, not {size[1]}x{size[0]}; "
            "give a smaller --size"
        )
