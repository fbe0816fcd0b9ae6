"""A folder of PNG files, numbered from 0001."""

import os
import secrets
import shutil
from pathlib import Path

from nca_texture.errors import InputError
from nca_texture.files import check_folder, unwritable
from nca_texture.images import write_png
from nca_texture.motion.base import Clip


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Accept every clip."""


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write ``path/<name>_0001.png`` and so on; the folder appears when all are there.

    With ``force`` a folder of such frames is replaced; one that holds anything else is not.
    """
    check_place(path, force)
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{secrets.token_hex(8)}.frames")
    try:
        aside.mkdir(parents=True)
        for number, frame in enumerate(clip.frames, start=1):
            values = frame.astype("float32") / 255
            name = f"{path.name}_{number:04}.png"
            write_png(aside / name, values, metadata=clip.metadata)
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_place(path: Path, force: bool) -> None:
    """Raise ``InputError`` when a folder of frames cannot be put at ``path``."""
    if path.is_dir():
        others = [
            each.name
            for each in path.iterdir()
            if each.suffix != ".png" or not each.name.startswith(f"{path.name}_")
        ]
        if others:
            raise InputError(f"{path} holds {others[0]}, which is no frame; give another folder")
        if not force and any(path.iterdir()):
            raise InputError(f"{path} exists; pass --force to overwrite it")
    elif path.exists():
        raise InputError(f"{path} is a file; give the name of a folder, or a name with a suffix")
    check_folder(path.parent)
