"""What to become: pictures from files, folders, scikit-image, and drawn by the project."""

if __name__ != "nca_texture.targets":
    raise ImportError("import nca_texture.targets, not targets (see README, 'Layout')")

import re
from collections.abc import Callable
from pathlib import Path

from nca_texture.targets.base import Exemplar, Target, check_name
from nca_texture.targets.image import MAX_PIXELS, SampleTarget, SkimageTarget, path_target
from nca_texture.targets.pattern import SAMPLES, describe_samples, draw_sample

__all__ = [
    "SAMPLES",
    "TARGETS",
    "Exemplar",
    "Target",
    "describe_samples",
    "draw_sample",
    "find_target",
    "read_target",
]

TARGETS: dict[str, Callable[[str, int], Target]] = {
    "sample": SampleTarget,
    "skimage": SkimageTarget,
}


def find_target(spec: str, max_pixels: int = MAX_PIXELS) -> Target:
    """Choose what ``spec`` means: ``PREFIX:NAME`` of the table, or else a path.

    Raises ``ValueError`` for an unknown prefix or name, ``InputError`` for a missing path.
    """
    prefix, colon, name = spec.partition(":")
    if colon and prefix in TARGETS:
        return TARGETS[prefix](name, max_pixels)
    if prefix in ("http", "https", "ftp", "file") and name.startswith("//"):
        raise ValueError(f"{spec} is a web address; download the picture and give its path")
    # one letter is a drive of Windows
    if colon and re.fullmatch(r"[A-Za-z]\w+", prefix) and not Path(spec).exists():
        check_name(prefix, TARGETS, "kind of target")
    if spec in SAMPLES and not Path(spec).exists():
        raise ValueError(f"there is no file {spec!r}; to use the drawn sample, say sample:{spec}")
    if not spec.strip():
        raise ValueError("the target is empty; give a path, or sample:NAME")
    return path_target(spec, max_pixels)


def read_target(
    spec: str,
    *,
    crop: str | None = None,
    exemplar_size: int = 128,
    max_pixels: int = MAX_PIXELS,
) -> Exemplar:
    """Read the picture to become.

    ``spec`` is the path of an image file, the path of a folder (its images are pictures of one
    texture), ``sample:NAME`` or ``skimage:NAME``. ``crop`` is WIDTHxHEIGHT+X+Y in source pixels,
    WIDTHxHEIGHT for the middle, "square" for the largest square in the middle. The longer side is
    reduced to ``exemplar_size`` cells, never enlarged. Raises ``InputError`` for a source that
    cannot be used (missing, damaged, foreign, larger than ``max_pixels``, fully transparent, too
    small) and ``ValueError`` for a spec, a crop or a size that makes no sense; each is one
    sentence.
    """
    return find_target(spec, max_pixels).read(crop, exemplar_size)
