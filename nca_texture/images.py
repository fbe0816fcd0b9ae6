"""Still pictures: PNG files of 8 and 16 bits, written row by row, and views that show a seam.

Pillow cannot write colour of 16 bits, so the PNG format is written here, after the specification
(W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", 2025).
"""

import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import InputError
from nca_texture.files import atomic_write

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR colour type
BAND_BYTES = 1 << 20  # raw bytes filtered and compressed at a time
MAX_TEXT = 64 << 20  # bytes a compressed text may unpack to
# Of sRGB, for programs that do not know the sRGB chunk (specification, 11.3.2.5).
SRGB_GAMMA = 45455
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def quantize(image: NDArray[Any], depth: Literal[8, 16] = 8) -> NDArray[Any]:
    """Clip ``image`` (floats of any shape) to [0, 1] and round it to integers of ``depth`` bits.

    Returns uint8 or uint16 of the same shape. Raises ``ValueError`` for integers (their scale is
    unknown) and for NaN.
    """
    if depth not in (8, 16):
        raise ValueError(f"depth is {depth}; a picture has 8 or 16 bits per channel")
    image = np.asarray(image)
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"expected floats in [0, 1], got {image.dtype}; divide by its maximum")
    if np.isnan(image).any():
        raise ValueError("the picture holds NaN; expected numbers in [0, 1]")
    # Products of 16 bits and float32 would already be rounded, some of them to the wrong side.
    wide = np.float32 if depth == 8 else np.float64
    scaled = image.clip(0, 1).astype(np.result_type(image.dtype, wide), copy=False)
    return np.rint(scaled * ((1 << depth) - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Clip ``image`` (floats of any shape) to [0, 1] and round it to 0...255.

    Raises ``ValueError`` for integers and NaN.
    """
    return quantize(image, 8)


def proof(image: NDArray[Any], repeats: tuple[int, int] = (3, 3)) -> NDArray[Any]:
    """Lay copies of ``image`` [H, W, C] side by side, ``repeats`` (down, across) of them.

    Returns [H * down, W * across, C]: a picture that tiles shows no grid.
    """
    down, across = repeats
    if down < 1 or across < 1:
        raise ValueError(f"repeats are {down} down and {across} across; give at least 1 of each")
    return np.tile(image, (down, across, 1))


def half_rolled(image: NDArray[Any]) -> NDArray[Any]:
    """Shift ``image`` [H, W, C] around by half its size, so that its edges cross in the middle."""
    height, width = image.shape[:2]
    return np.roll(image, (height // 2, width // 2), axis=(0, 1))


def write_png(
    path: str | os.PathLike[str],
    image: NDArray[Any],
    *,
    depth: Literal[8, 16] = 8,
    metadata: Mapping[str, str] | None = None,
    srgb: bool = True,
    force: bool = False,
) -> None:
    """Write ``image`` [H, W, 1, 3 or 4] (floats in [0, 1], straight alpha) as a PNG file.

    The other arguments are those of `PngWriter`, and so are the errors.
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"expected a picture [H, W, 1, 3 or 4], got {list(image.shape)}")
    height, width, channels = image.shape
    with PngWriter(
        path,
        (height, width),
        channels=channels,
        depth=depth,
        metadata=metadata,
        srgb=srgb,
        force=force,
    ) as writer:
        writer.write_rows(image)


class PngWriter:
    """A PNG file that takes its rows in bands of any height, in little memory.

    Used as a context manager; the file appears under its name when the block ends, complete, or
    not at all (see `nca_texture.files.atomic_write`)::

        with PngWriter("zebra.png", (4096, 4096), channels=3, depth=16) as writer:
            for band in bands:  # [h, 4096, 3], floats in [0, 1]
                writer.write_rows(band)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        *,
        channels: int,
        depth: Literal[8, 16] = 8,
        metadata: Mapping[str, str] | None = None,
        srgb: bool = True,
        gamma: int | None = None,
        force: bool = False,
    ) -> None:
        """Describe a file at ``path`` of ``size`` (height, width) pixels; nothing is written yet.

        ``channels`` are 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and straight alpha).
        ``metadata`` maps keywords (1 to 79 Latin-1 characters) to texts (any but NUL). ``srgb``
        says that the numbers are sRGB colours; pass False for data such as heights or normals, and
        a ``gamma`` (100000 is linear) for other colours of the same primaries.
        ``force`` allows a file to be replaced. Raises ``ValueError`` for impossible arguments;
        entering the block raises ``InputError`` when ``path`` cannot be written.
        """
        height, width = size
        if not (1 <= height < 2**31 and 1 <= width < 2**31):
            raise ValueError(f"a PNG file of {width}x{height} pixels cannot be; give 1 or more")
        if channels not in COLOUR_TYPES:
            raise ValueError(f"expected 1, 2, 3 or 4 channels, got {channels}")
        if depth not in (8, 16):
            raise ValueError(f"depth is {depth}; a PNG file has 8 or 16 bits per channel")
        self.path = Path(path)
        self.size = (height, width)
        self.channels = channels
        self.depth: Literal[8, 16] = depth
        self.srgb = srgb
        self.gamma = gamma
        self.force = force
        self.rows_written = 0
        self._texts = [_text_chunk(key, text) for key, text in (metadata or {}).items()]
        self._above = np.zeros(width * channels * depth // 8, np.uint8)  # the row above the first
        self._zip = zlib.compressobj(6)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(atomic_write(self.path, force=self.force))
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:  # puts the file in place, or removes what there is of it
            if error is not None:
                raise error
            self._end()

    def write_rows(self, rows: NDArray[Any]) -> None:
        """Append ``rows`` [h, W, C] (floats in [0, 1], clipped and rounded) below those before.

        Integers of the file's own depth are taken as they are.

        Raises ``ValueError`` for another width or number of channels, too many rows, and NaN.
        """
        rows = np.asarray(rows)
        height, width = self.size
        if rows.ndim != 3 or rows.shape[1:] != (width, self.channels):
            raise ValueError(f"expected rows [h, {width}, {self.channels}], got {list(rows.shape)}")
        if self.rows_written + len(rows) > height:
            raise ValueError(
                f"{self.rows_written + len(rows)} rows are too many for a picture of {height}"
            )
        band = max(1, BAND_BYTES // self._above.size)
        for first in range(0, len(rows), band):
            part = rows[first : first + band]
            exact = part.dtype == (np.uint8 if self.depth == 8 else np.uint16)
            self._write_band(part if exact else quantize(part, self.depth))

    def _write_band(self, rows: NDArray[Any]) -> None:
        raw = rows.astype(f">u{self.depth // 8}").reshape(len(rows), -1).view(np.uint8)
        above = np.concatenate([self._above[None], raw[:-1]])
        filtered = _filter_rows(raw, above, self.channels * self.depth // 8)
        self._above = raw[-1]
        self.rows_written += len(rows)
        if data := self._zip.compress(filtered):
            _write_chunk(self._file, b"IDAT", data)

    def _begin(self) -> None:
        height, width = self.size
        self._file.write(SIGNATURE)
        kind = COLOUR_TYPES[self.channels]
        header = struct.pack(">IIBBBBB", width, height, self.depth, kind, 0, 0, 0)
        _write_chunk(self._file, b"IHDR", header)
        if self.srgb:
            _write_chunk(self._file, b"sRGB", b"\0")  # rendering intent: perceptual
        if self.srgb or self.gamma:
            _write_chunk(self._file, b"gAMA", struct.pack(">I", self.gamma or SRGB_GAMMA))
            _write_chunk(self._file, b"cHRM", struct.pack(">8I", *SRGB_CHROMATICITIES))
        for kind, data in self._texts:
            _write_chunk(self._file, kind, data)

    def _end(self) -> None:
        if self.rows_written != self.size[0]:
            raise ValueError(f"{self.rows_written} rows came for a picture of {self.size[0]}")
        _write_chunk(self._file, b"IDAT", self._zip.flush())
        _write_chunk(self._file, b"IEND", b"")


def read_png_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the texts of a PNG file by keyword (tEXt, zTXt and iTXt chunks; the last one counts).

    Raises ``InputError`` when ``path`` cannot be read, is no PNG file, or is damaged.
    """
    texts: dict[str, str] = {}
    try:
        with Path(path).open("rb") as file:
            if file.read(8) != SIGNATURE:
                raise InputError(f"{path} is not a PNG file")
            while True:
                length, kind = struct.unpack(">I4s", file.read(8))
                if kind == b"IEND":
                    return texts
                if kind not in (b"tEXt", b"zTXt", b"iTXt"):
                    file.seek(length + 4, os.SEEK_CUR)
                    continue
                data = file.read(length)
                if file.read(4) != struct.pack(">I", zlib.crc32(kind + data)):
                    raise InputError(f"{path} is damaged: a text in it has a wrong checksum")
                keyword, text = _parse_text(kind, data)
                texts[keyword] = text
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (struct.error, zlib.error, UnicodeDecodeError, IndexError) as error:
        raise InputError(f"{path} is damaged: it ends early or holds a broken text") from error


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _filter_rows(raw: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> bytes:
    """Filter bytes ``raw`` [h, n] given the rows ``above`` [h, n] and the bytes of a ``pixel``.

    Each row gets the filter whose signed results have the smallest sum, the heuristic that the
    specification recommends (section 12.7). Returns the rows, each led by its filter's number.
    """
    left = np.zeros_like(raw)
    left[:, pixel:] = raw[:, :-pixel]
    corner = np.zeros_like(raw)
    corner[:, pixel:] = above[:, :-pixel]
    average = (left & above) + ((left ^ above) >> 1)  # floor of the mean, without overflow
    best = raw
    least = _signed_sum(raw)
    number = np.zeros(len(raw), np.uint8)
    for kind, guess in enumerate((left, above, average, _paeth(left, above, corner)), start=1):
        trial: NDArray[np.uint8] = np.subtract(raw, guess)  # modulo 256
        total = _signed_sum(trial)
        better = total < least
        best = np.where(better[:, None], trial, best)
        least = np.where(better, total, least)
        number[better] = kind
    return np.concatenate([number[:, None], best], axis=1).tobytes()


def _signed_sum(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.minimum(rows, 0 - rows).sum(axis=1, dtype=np.int64)


def _paeth(
    left: NDArray[np.uint8], above: NDArray[np.uint8], corner: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Choose the neighbour closest to left + above - corner; ties go in this order."""
    across = above.astype(np.int16) - corner
    down = left.astype(np.int16) - corner
    to_left, to_above, to_corner = abs(across), abs(down), abs(across + down)
    nearest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)


def _text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """Encode one text: plain Latin-1 as tEXt, everything else as iTXt in UTF-8."""
    name = keyword.encode("latin-1", errors="replace")
    printable = all(32 <= code <= 126 or code >= 161 for code in name)
    if not 1 <= len(name) <= 79 or name.decode("latin-1") != keyword or not printable:
        raise ValueError(f"the keyword {keyword!r} is not 1 to 79 printable Latin-1 characters")
    if keyword != keyword.strip(" ") or "  " in keyword:
        raise ValueError(f"the keyword {keyword!r} has a space too many")
    if "\0" in text:
        raise ValueError(f"the text of {keyword!r} holds a NUL character, which PNG cannot store")
    if all(char == "\n" or " " <= char <= "~" or "\xa1" <= char <= "\xff" for char in text):
        return b"tEXt", name + b"\0" + text.encode("latin-1")
    return b"iTXt", name + b"\0\0\0\0\0" + text.encode()  # not compressed, no language


def _parse_text(kind: bytes, data: bytes) -> tuple[str, str]:
    name, _, rest = data.partition(b"\0")
    keyword = name.decode("latin-1")
    if kind == b"tEXt":
        return keyword, rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword, _unzip(rest[1:]).decode("latin-1")
    text = rest[2:].split(b"\0", 2)[2]  # after the language and the keyword in that language
    return keyword, (_unzip(text) if rest[0] else text).decode()


def _unzip(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_TEXT)
