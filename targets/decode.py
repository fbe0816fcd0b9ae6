"""Files to numbers: every kind of picture file as one array, every problem as one sentence."""

import hashlib
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from nca_texture.errors import InputError

# Formats whose readers run nothing else (Pillow hands EPS to Ghostscript). TGA has no signature
# and would claim foreign files, so it is asked last.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"),
    *("QOI", "PSD", "ICO", "ICNS", "DDS", "SGI", "PCX", "TGA"),
)
EXPECTED = "a PNG, JPEG, WebP, TIFF, AVIF, GIF or BMP file is expected"
SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
# EXIF orientation: how the stored rows and columns become the picture
UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
ORIENTATION = 0x0112

_pillow_lock = threading.Lock()


@dataclass(frozen=True)
class Raster:
    """A decoded picture, upright, in sRGB."""

    values: NDArray  # [H, W, 1 to 4] uint8, uint16 or float32 in [0, 1]; 2 and 4 end with alpha
    notes: tuple[str, ...]


def fingerprint(paths: list[Path]) -> str:
    """Hash the bytes of files, one after the other, with SHA-256."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_raster(path: Path, max_pixels: int) -> Raster:
    """Decode the file at ``path``; raises ``InputError``, one sentence, when that cannot be done.

    The number of pixels is compared with ``max_pixels`` before anything is decoded.
    """
    name = path.name
    check_file(path)
    try:
        with pillow_unwatched():
            return decode(path, max_pixels)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(unidentified(path)) from error
    except MemoryError as error:
        raise InputError(
            f"{name} does not fit into memory; reduce it with an image program first"
        ) from error
    # A damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise InputError(
            f"{name} is damaged or cut short and cannot be decoded; save or download it again"
        ) from error


def check_file(path: Path) -> None:
    """Raise ``InputError`` unless there are bytes to read."""
    try:
        if not path.is_file():
            raise InputError(f"{path.name} is not a regular file; {EXPECTED}")
        if path.stat().st_size == 0:
            raise InputError(f"{path.name} is empty (0 bytes); {EXPECTED}")
        with path.open("rb"):
            pass
    except PermissionError as error:
        raise InputError(
            f"{path.name} may not be read; ask for the permission or change its mode"
        ) from error
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise InputError(f"{path.name} cannot be opened ({reason.lower()})") from error


@contextmanager
def pillow_unwatched() -> Iterator[None]:
    """Set Pillow's own pixel limit and warnings aside: ours is checked, and told, instead."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_image(path: Path) -> ImageFile:
    """Read the header of an image file of one of our formats."""
    Image.init()
    return Image.open(path, formats=[known for known in FORMATS if known in Image.OPEN])


def unidentified(path: Path) -> str:
    """Say what a file is that no reader takes for a picture."""
    with path.open("rb") as file:
        start = file.read(4)
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return (
                f"{path.name} begins like a {kind} file but is damaged, cut short or has no "
                "pixels; save or download it again"
            )
    return f"{path.name} is not an image this program can read; {EXPECTED}"


def check_pixels(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise ``InputError`` for a picture without pixels or with too many."""
    if width < 1 or height < 1:
        raise InputError(f"{name} has no pixels ({width}x{height}); choose another picture")
    if width * height > max_pixels:
        raise InputError(
            f"{name} has {width}x{height} pixels, more than the limit of {max_pixels}; "
            "reduce or cut it with an image program first"
        )


def decode(path: Path, max_pixels: int) -> Raster:
    """Decode whatever Pillow (or, for float colour TIFF, tifffile) understands."""
    try:
        picture = open_image(path)
    except UnidentifiedImageError:
        values = read_float_tiff(path, max_pixels)
        if values is None:
            raise
        values, note = tame_floats(values, path.name)
        return Raster(values, note)
    with picture:
        check_pixels(path.name, picture.width, picture.height, max_pixels)
        notes = list(frame_notes(picture, path.name))
        # Pillow turns TIFF files itself while it decodes them, and takes the tag away; of a PNG
        # it knows the tag only after decoding.
        before = orientation(picture) if picture.format == "TIFF" else 1
        values, more = unpack(picture, path)
        after = orientation(picture)
        values = UPRIGHT.get(after, lambda a: a)(values)
    if before in UPRIGHT or after in UPRIGHT:
        notes.append(f"{path.name} was turned upright, as its EXIF orientation says.")
    return Raster(np.ascontiguousarray(values), (*notes, *more))


def orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation; 1, upright, when there is none or it is broken."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF data raise nearly anything, and do no harm
        return 1


def frame_notes(picture: ImageFile, name: str) -> Iterator[str]:
    """Say that only the first frame or page is used, if there are more."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format in ANIMATED:
        yield f"{name} is animated ({frames} frames); only the first frame is used."
    if frames > 1 and picture.format == "TIFF":
        yield f"{name} has {frames} pages; only the first is used."


def unpack(picture: ImageFile, path: Path) -> tuple[NDArray, tuple[str, ...]]:
    """Turn an opened picture of any mode into an array [H, W, 1 to 4], with notes."""
    name = path.name
    if picture.mode.startswith("I;16"):
        key = picture.info.get("transparency")
        grey = np.asarray(picture).astype(np.uint16)[..., None]
        return with_key(grey, key), (
            f"{name} was read with its full 16 bits.",
            *untagged(picture, name),
        )
    if picture.mode == "I":
        whole = np.asarray(picture).astype(np.int64)[..., None]
        # PGM files fill 16 of the 32 bits
        top = 65535 if whole.max() <= 65535 else 2**31 - 1
        return (np.clip(whole, 0, None) / top).astype(np.float32), untagged(picture, name)
    if picture.mode == "F":
        return tame_floats(np.asarray(picture)[..., None], name)
    if raw_mode(picture).partition(";")[2].startswith("16"):
        return deep_colour(picture, path), (
            f"{name} was read with its full 16 bits.",
            *untagged(picture, name),
        )
    plain, notes = to_srgb(picture, name)
    values = np.asarray(plain)
    return values.reshape(*values.shape[:2], -1), notes


def raw_mode(picture: ImageFile) -> str:
    """Name how the file stores a pixel, in Pillow's words, such as "RGB;16B"."""
    if not picture.tile:
        return ""
    args = picture.tile[0][3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def deep_colour(picture: ImageFile, path: Path) -> NDArray:
    """Read 16-bit colour [H, W, 2 to 4] uint16, of which Pillow keeps the high bytes only.

    Read once more in the other byte order, the same file gives the low bytes. Grey with alpha has
    four bytes a pixel, the same as 8-bit RGBA.
    """
    raw = raw_mode(picture)
    if raw == "LA;16B":
        parts = read_as(path, "RGBA", "RGBA")
        return parts[..., ::2] * 256 + parts[..., 1::2]
    kind, _, order = raw.partition(";16")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    high = np.asarray(picture).astype(np.uint16)
    low = read_as(path, picture.mode, f"{kind};16{'B' if little else 'L'}")
    return with_key(high * 256 + low, picture.info.get("transparency"))


def read_as(path: Path, mode: str, raw: str) -> NDArray:
    """Decode a file [H, W, C] as if its pixels were stored as ``raw``."""
    with open_image(path) as again:
        again._mode = mode
        again.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
            for tile in again.tile
        ]
        return np.asarray(again).astype(np.uint16)


def with_key(values: NDArray, key: int | tuple[int, ...] | None) -> NDArray:
    """Make the one colour ``key`` transparent, as the tRNS chunk of a PNG asks for."""
    if key is None or isinstance(key, bytes):
        return values
    hidden = (values == np.asarray(key)).all(axis=-1, keepdims=True)
    full = np.iinfo(values.dtype).max
    return np.concatenate([values, np.where(hidden, 0, full).astype(values.dtype)], -1)


def untagged(picture: ImageFile, name: str) -> tuple[str, ...]:
    """Say that a colour profile is not applied, which Pillow can do with 8 bits only."""
    icc = picture.info.get("icc_profile")
    if not icc or b"sRGB" in icc or b"s\0R\0G\0B" in icc:
        return ()
    return (f"{name} has a colour profile, which is not applied to more than 8 bits per channel.",)


def to_srgb(picture: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert any 8-bit mode to L, LA, RGB or RGBA in sRGB, with notes."""
    icc = picture.info.get("icc_profile")
    picture.load()
    if picture.mode == "CMYK":
        # Pillow inverts every CMYK JPEG, as Adobe's are; those of others are not stored inverted
        if picture.format == "JPEG" and "adobe" not in picture.info:
            picture = ImageChops.invert(picture)
        return convert_profile(picture, icc, name)
    return convert_profile(simple_mode(picture), icc, name)


def simple_mode(picture: Image.Image) -> Image.Image:
    """Convert to L, LA, RGB or RGBA."""
    grey = picture.mode in ("1", "L", "LA", "La")
    plain = ("L", "LA") if grey else ("RGB", "RGBA")
    return picture.convert(plain[picture.has_transparency_data])


def convert_profile(
    picture: Image.Image, icc: bytes | None, name: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """Apply an embedded colour profile to L, LA, RGB, RGBA or CMYK; returns sRGB, with notes."""
    ink = picture.mode == "CMYK"
    unprofiled = (
        f"{name} was converted from CMYK without a colour profile; its colours are approximate.",
    )
    plain = picture.convert("RGB") if ink else picture
    if not icc:
        return plain, unprofiled if ink else ()
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        title = ImageCms.getProfileDescription(profile).strip() or "unnamed"
        if "sRGB" in title and not ink:
            return plain, ()
        space = profile.profile.xcolor_space.strip()  # type: ignore[attr-defined]
        colours = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[space]
        if ink != (colours == "CMYK"):
            raise ValueError(f"a {space} profile in a picture of mode {picture.mode}")
        source = picture if ink else picture.convert(colours)
        converted = ImageCms.profileToProfile(
            source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert converted is not None
    except Exception:  # the profile is the least of a picture: without it, it is still there
        ignored = f"{name} has a colour profile that cannot be used; it was ignored."
        return plain, (ignored, *(unprofiled if ink else ()))
    if picture.mode in ("LA", "RGBA"):
        converted.putalpha(picture.getchannel("A"))
    return converted, (f"{name} was converted from its colour profile ({title}) to sRGB.",)


def read_float_tiff(path: Path, max_pixels: int) -> NDArray | None:
    """Read a TIFF that Pillow does not know, such as float colour, as [H, W, C]; None if it is not.

    tifffile comes with scikit-image; its absence means only that such files are not understood.
    """
    with path.open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*"):
            return None
    try:
        import tifffile
    except ImportError:
        return None
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        check_pixels(path.name, page.imagewidth, page.imagelength, max_pixels)
        values = page.asarray()
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or values.dtype.kind != "f":
        return None
    return values


def tame_floats(values: NDArray, name: str) -> tuple[NDArray, tuple[str, ...]]:
    """Bring float values [H, W, C] to float32 in [0, 1]: a few outliers are cut, others scaled."""
    if not np.isfinite(values).all():
        raise InputError(
            f"{name} contains values that are not numbers (NaN or infinite); "
            "replace them and save it again"
        )
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values.astype(np.float32), ()
    outside = float(((values < 0) | (values > 1)).mean())
    if outside < 0.01:
        note = f"{name} has values from {low:.3g} to {high:.3g}; what lies outside 0 to 1 was cut."
        return np.clip(values, 0, 1).astype(np.float32), (note,)
    note = f"{name} has values from {low:.3g} to {high:.3g}; they were scaled to 0 to 1."
    return ((values - low) / max(high - low, 1e-30)).astype(np.float32), (note,)
