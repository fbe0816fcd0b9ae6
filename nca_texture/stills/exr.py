"""OpenEXR of half or float, ZIP-compressed scanlines, in bands of rows.

Written here, after "OpenEXR File Layout" of the Academy Software Foundation, because the library
wants the whole picture at once. Colours are multiplied by alpha, as the format has it.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nca_texture.files import atomic_write
from nca_texture.stills.base import Picture

_LINES = 16  # of a chunk
_ZIP = 3
# Of the sRGB primaries and white: red, green, blue, white (x, y).
_CHROMATICITIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_NAMES = {1: "Y", 3: "RGB", 4: "RGBA"}
# The Color Interop Forum's names, in the attribute that OpenEXR gives them.
_SPACES = {"linear": "lin_rec709_scene", "srgb": "srgb_rec709_scene", "data": "data"}


def write(path: Path, picture: Picture, force: bool = False) -> None:
    """Write an OpenEXR file."""
    with atomic_write(path, force=force) as file:
        file.write(_header(picture))
        table = file.tell()
        chunks = -(-picture.size[0] // _LINES)
        file.write(b"\0" * 8 * chunks)
        offsets: list[int] = []
        band = max(1, picture.band // _LINES) * _LINES
        for rows in picture.bands(band):
            _write_chunks(file, rows, picture, offsets)
        file.seek(table)
        file.write(struct.pack(f"<{chunks}Q", *offsets))


def _write_chunks(
    file: BinaryIO, rows: NDArray[np.floating], picture: Picture, offsets: list[int]
) -> None:
    kind = "<f2" if picture.depth == "half" else "<f4"
    if picture.channels == 4:
        colours = rows[..., :3].astype(np.float32) * rows[..., 3:]
        rows = np.concatenate([colours.astype(rows.dtype), rows[..., 3:]], axis=-1)
    order = np.argsort(list(_NAMES[picture.channels]))
    planes = np.ascontiguousarray(rows.transpose(0, 2, 1)[:, order]).astype(kind)
    for first in range(0, len(planes), _LINES):
        raw = planes[first : first + _LINES].tobytes()
        data = _squeeze(raw)
        data = data if len(data) < len(raw) else raw
        y = len(offsets) * _LINES
        offsets.append(file.tell())
        file.write(struct.pack("<ii", y, len(data)) + data)


def _squeeze(raw: bytes) -> bytes:
    """Split bytes into first and second halves of numbers, take differences, and deflate."""
    data = np.frombuffer(raw, np.uint8)
    data = np.concatenate([data[0::2], data[1::2]])
    data[1:] = np.diff(data) + np.uint8(128)  # modulo 256
    return zlib.compress(data.tobytes(), 6)


def _header(picture: Picture) -> bytes:
    height, width = picture.size
    kind = 1 if picture.depth == "half" else 2
    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1)
        for name in sorted(_NAMES[picture.channels])
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", channels + b"\0"),
        ("compression", "compression", bytes([_ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        ("chromaticities", "chromaticities", struct.pack("<8f", *_CHROMATICITIES)),
        ("colorInteropID", "string", _SPACES[picture.space].encode()),
        *((key[:31], "string", text.encode()) for key, text in picture.metadata.items()),
    ]
    said = b"".join(
        f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
        for name, kind, value in attributes
    )
    return b"\x76\x2f\x31\x01" + struct.pack("<i", 2) + said + b"\0"
