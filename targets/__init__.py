"""What to become: pictures from files, folders, scikit-image, and drawn by the project."""

if __name__ != "nca_texture.targets":
    raise ImportError("import nca_texture.targets, not targets (see README, 'Layout')")

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nca_texture.names import check_name
from nca_texture.targets.base import Exemplar, Target
from nca_texture.targets.emoji import EmojiTarget
from nca_texture.targets.figures import FIGURES, describe_figures, draw_figure
from nca_texture.targets.framing import embed
from nca_texture.targets.image import (
    MAX_PIXELS,
    FigureTarget,
    SampleTarget,
    SkimageTarget,
    path_target,
    stack,
)
from nca_texture.targets.pattern import SAMPLES, describe_samples, draw_sample

__all__ = [
    "FIGURES",
    "SAMPLES",
    "TARGETS",
    "Exemplar",
    "Target",
    "describe_figures",
    "describe_samples",
    "draw_figure",
    "draw_sample",
    "find_target",
    "read_classes",
    "read_target",
    "with_room",
]

TARGETS: dict[str, Callable[[str, int], Target]] = {
    "emoji": EmojiTarget,
    "figure": FigureTarget,
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
    texture), ``sample:NAME``, ``figure:NAME``, ``emoji:`` and a character, or ``skimage:NAME``.
    ``crop`` is WIDTHxHEIGHT+X+Y in source pixels, WIDTHxHEIGHT for the middle, "square" for the
    largest square in the middle. The longer side is reduced to ``exemplar_size`` cells, never
    enlarged. Raises ``InputError`` for a source that cannot be used (missing, damaged, foreign,
    larger than ``max_pixels``, fully transparent, too small) and ``ValueError`` for a spec, a crop
    or a size that makes no sense; each is one sentence.
    """
    return find_target(spec, max_pixels).read(crop, exemplar_size)


def read_classes(
    specs: Sequence[str],
    *,
    crop: str | None = None,
    exemplar_size: int = 128,
    max_pixels: int = MAX_PIXELS,
) -> Exemplar:
    """Read pictures that one model is to become, a class each, as ``read_target`` does.

    Pictures with transparency come to stand in the middle of the largest size, others are cut to
    the size that they have in common. A class is named after its file; of two with one name the
    later has a number.
    """
    read = [
        read_target(spec, crop=crop, exemplar_size=exemplar_size, max_pixels=max_pixels)
        for spec in specs
    ]
    for each in read:
        if len(each.image) > 1:
            raise ValueError(
                f"{each.label or each.source} has {len(each.image)} pictures; "
                "of several classes each is one picture"
            )
    images = [each.image[0] for each in read]
    heights, widths = ([image.shape[axis] for image in images] for axis in (1, 2))
    if any(image.shape[0] == 4 for image in images):
        size = max(heights), max(widths)
        picture = stack([embed(image, size) for image in images], *size)
    else:
        picture = stack(images, min(heights), min(widths))
    names: list[str] = []
    for each in read:
        count = sum(name == each.name or name.startswith(f"{each.name}-") for name in names)
        names.append(f"{each.name}-{count + 1}" if count else each.name)
    return replace(
        read[0],
        image=picture,
        name="-".join(names) if len(names) < 4 else f"{names[0]}-and-{len(names) - 1}-more",
        source=" ".join(each.source for each in read),
        sha256=hashlib.sha256("".join(each.sha256 for each in read).encode()).hexdigest(),
        source_size=max((each.source_size for each in read), key=lambda size: size[0] * size[1]),
        pixels_per_cell=max(each.pixels_per_cell for each in read),
        notes=tuple(note for each in read for note in each.notes),
        label=", ".join(each.label or each.source for each in read),
        classes=tuple(names),
    )


def with_room(exemplar: Exemplar, padding: int) -> Exemplar:
    """Surround a picture that is to grow with ``padding`` cells of nothing; all get an alpha."""
    height, width = exemplar.image.shape[-2:]
    size = height + 2 * padding, width + 2 * padding
    images = [embed(image, size) for image in exemplar.image]
    return replace(exemplar, image=stack(images, *size), padding=padding)
