"""Pictures from files, folders and scikit-image, and those that the project draws itself."""

import difflib
import hashlib
import importlib.util
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.errors import InputError, MissingError
from nca_texture.names import check_name
from nca_texture.targets.base import Exemplar, Target
from nca_texture.targets.decode import fingerprint, read_raster
from nca_texture.targets.figures import check_figure, draw_figure
from nca_texture.targets.framing import Framed, frame
from nca_texture.targets.pattern import SAMPLES, draw_sample

MAX_PIXELS = 2**28
SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".gif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
        *(".qoi", ".psd", ".ico", ".icns", ".dds", ".sgi", ".pcx", ".tga"),
    )
)
# What scikit-image carries in its package (its other pictures are downloads)
SKIMAGE = {
    "astronaut": ("astronaut.png", "Portrait of an astronaut, colour."),
    "brick": ("brick.png", "Brick wall, grey."),
    "camera": ("camera.png", "Photographer with his camera, grey."),
    "cat": ("chelsea.png", "Tabby cat, colour."),
    "cell": ("cell.png", "Cell under the microscope, grey."),
    "coffee": ("coffee.png", "Cup of coffee on wood, colour."),
    "coins": ("coins.png", "Ancient coins, grey."),
    "grass": ("grass.png", "Lawn from above, grey."),
    "gravel": ("gravel.png", "Gravel, grey."),
    "hubble_deep_field": ("hubble_deep_field.jpg", "Galaxies in the deep field, colour."),
    "immunohistochemistry": ("ihc.png", "Stained tissue, colour."),
    "moon": ("moon.png", "Surface of the moon, grey."),
    "page": ("page.png", "Printed page, grey."),
    "retina": ("retina.jpg", "Vessels of a retina, colour."),
    "rocket": ("rocket.jpg", "Rocket at its launch, colour."),
    "text": ("text.png", "Handwritten words, grey."),
}


class FileTarget(Target):
    """One image file."""

    def __init__(self, spec: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the path ``spec``; files of more than ``max_pixels`` are refused."""
        self.spec = spec
        self.max_pixels = max_pixels

    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Read the file as one picture."""
        path = Path(self.spec).expanduser()
        framed = read_framed(path, crop, exemplar_size, self.max_pixels)
        return Exemplar(
            image=framed.image[None],
            name=safe_stem(path.stem),
            source=self.spec,
            sha256=fingerprint([path]),
            source_size=framed.source_size,
            pixels_per_cell=framed.pixels_per_cell,
            notes=framed.notes,
            label=path.name,
        )


class FolderTarget(Target):
    """All images directly inside a folder, as pictures of one texture."""

    def __init__(self, spec: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the path ``spec``; files of more than ``max_pixels`` are refused."""
        self.spec = spec
        self.max_pixels = max_pixels

    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Reduce each picture, then cut all to the size they have in common, at their middle."""
        folder = Path(self.spec).expanduser()
        label = folder.resolve().name or "the folder"
        paths = images_inside(folder, label)
        framed = [read_framed(path, crop, exemplar_size, self.max_pixels) for path in paths]
        height, width = (min(part.image.shape[axis] for part in framed) for axis in (1, 2))
        notes = [note for part in framed for note in part.notes]
        if any(part.image.shape[1:] != (height, width) for part in framed):
            notes.append(f"The pictures in {label} were cut to {width}x{height} cells.")
        if len({round(part.pixels_per_cell, 3) for part in framed}) > 1:
            notes.append(f"The pictures in {label} differ in size and were reduced differently.")
        return Exemplar(
            image=stack([part.image for part in framed], height, width),
            name=safe_stem(folder.resolve().name),
            source=self.spec,
            sha256=fingerprint(paths),
            source_size=framed[0].source_size,
            pixels_per_cell=framed[0].pixels_per_cell,
            notes=tuple(notes),
            label=label,
        )


class SkimageTarget(Target):
    """A picture that scikit-image carries in its package; nothing is downloaded."""

    def __init__(self, name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the picture ``name``, without the prefix."""
        check_name(name, SKIMAGE, "scikit-image picture")
        self.name = name
        self.max_pixels = max_pixels

    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Read the picture from the installed package."""
        path = skimage_data() / SKIMAGE[self.name][0]
        if not path.exists():
            raise MissingError(
                f"this scikit-image does not carry {path.name}; install it from PyPI: "
                "pip install scikit-image"
            )
        exemplar = FileTarget(str(path), self.max_pixels).read(crop, exemplar_size)
        source = f"skimage:{self.name}"
        return replace(exemplar, name=self.name, source=source, label=source)


class _Drawn(Target):
    """A picture that the project draws itself."""

    name: str
    kind: ClassVar[str]  # what stands before the name in a spec

    @abstractmethod
    def draw(self) -> NDArray[np.floating]:
        """Draw it: [H, W, 3 or 4] in [0, 1]."""

    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Use the drawn picture, as if it had been read from a PNG file."""
        source = f"{self.kind}:{self.name}"
        picture = np.rint(self.draw() * 255).astype(np.uint8)
        framed = frame(picture, crop, exemplar_size, source)
        return Exemplar(
            image=framed.image[None],
            name=self.name,
            source=source,
            sha256=hashlib.sha256(picture.tobytes()).hexdigest(),
            source_size=framed.source_size,
            pixels_per_cell=framed.pixels_per_cell,
            notes=framed.notes,
            label=source,
        )


class SampleTarget(_Drawn):
    """A texture that the project draws itself."""

    kind = "sample"

    def __init__(self, name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the sample ``name``, without the prefix; ``max_pixels`` plays no part."""
        check_name(name, SAMPLES, "sample")
        self.name = name

    def draw(self) -> NDArray[np.floating]:
        """Draw it: [H, W, 3]."""
        return draw_sample(self.name)


class FigureTarget(_Drawn):
    """A figure with transparency around it that the project draws itself."""

    kind = "figure"

    def __init__(self, name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the figure ``name``, without the prefix; ``max_pixels`` plays no part."""
        check_figure(name)
        self.name = name

    def draw(self) -> NDArray[np.floating]:
        """Draw it: [H, W, 4]."""
        return draw_figure(self.name)


def read_framed(path: Path, crop: str | None, exemplar_size: int, max_pixels: int) -> Framed:
    """Decode, crop and reduce one file; the notes of all three come together."""
    raster = read_raster(path, max_pixels)
    framed = frame(raster.values, crop, exemplar_size, path.name)
    return replace(framed, notes=(*raster.notes, *framed.notes))


def path_target(spec: str, max_pixels: int) -> Target:
    """Choose between file and folder; raises ``InputError`` when there is neither."""
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return FolderTarget(spec, max_pixels)
        if path.exists() or path.is_symlink():
            return FileTarget(spec, max_pixels)
        neighbours = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise InputError(f"{path.name} cannot be reached ({reason}); check the path") from error
    except ValueError as error:  # a zero byte in the path
        raise InputError(f"{spec!r} cannot be a path; give the path of an image file") from error
    near = difflib.get_close_matches(path.name, neighbours, 1, 0.7)
    hint = f"did you mean {near[0]!r}?" if near else "check the path"
    raise InputError(f"there is no file or folder {path.name!r}; {hint}")


def images_inside(folder: Path, label: str) -> list[Path]:
    """List the image files directly inside ``folder``, sorted by name."""
    try:
        inside = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise InputError(f"the folder {label} cannot be read ({reason})") from error
    paths = [
        path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not any(path.is_file() for path in paths):
        raise InputError(
            f"the folder {label} has no images directly inside; "
            "give an image file, or a folder of pictures of one texture"
        )
    return [path for path in paths if not path.is_dir()]


def stack(images: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Cut images [3 or 4, H, W] to their middles and stack them; a missing alpha is opaque."""
    channels = max(image.shape[0] for image in images)
    pictures = []
    for image in images:
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        middle = image[:, top : top + height, left : left + width]
        opaque = middle.new_ones(channels - image.shape[0], height, width)
        pictures.append(torch.cat([middle, opaque]))
    return torch.stack(pictures)


def skimage_data() -> Path:
    """Find the folder of scikit-image's pictures without importing it."""
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data"


def safe_stem(stem: str) -> str:
    """Make a file stem that is harmless in a name: letters, digits, dots, dashes, underscores."""
    return re.sub(r"[^\w.-]+", "_", stem).strip("._-") or "texture"
