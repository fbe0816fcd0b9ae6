"""Colour profiles for files that say their colours with one: sRGB, and linear light.

Matrix profiles after ICC.1:2022 (version 4.4), the same bytes every time.
"""

import struct

# Of the sRGB primaries and its white, adapted to D50, in 1/65536.
_WHITE = (0xF6D6, 0x10000, 0xD32D)
_PRIMARIES = {
    b"rXYZ": (0x6FA2, 0x38F5, 0x0390),
    b"gXYZ": (0x6299, 0xB785, 0x18DA),
    b"bXYZ": (0x24A0, 0x0F84, 0xB6CF),
}
_BRADFORD = (1.0478112, 0.0228866, -0.0501270, 0.0295424, 0.9904844, -0.0170491)
_BRADFORD_Z = (-0.0092345, 0.0150436, 0.7521316)
_NAMES = {"srgb": "sRGB", "linear": "Linear sRGB"}


def profile(space: str) -> bytes:
    """Make the profile of ``srgb`` or ``linear``."""
    if space == "srgb":  # (a x + b) ** g above d, c x below
        curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        shape = struct.pack(">4sIHH", b"para", 0, 3, 0) + _fixed(*curve)
    else:
        shape = struct.pack(">4sIHH", b"para", 0, 0, 0) + _fixed(1.0)
    tags = {
        b"desc": _text(_NAMES[space]),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_WHITE),
        b"chad": b"sf32\0\0\0\0" + _fixed(*_BRADFORD, *_BRADFORD_Z),
        **{name: _xyz(value) for name, value in _PRIMARIES.items()},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), shape),
    }
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    header = struct.pack(
        ">II4s4s4s4s6H4s4sI4s4sQI3I",
        *(at + len(body), 0, b"\x04\x40\0\0", b"mntr", b"RGB ", b"XYZ "),
        *(2025, 1, 1, 0, 0, 0),
        *(b"acsp", b"\0" * 4, 0, b"\0" * 4, b"\0" * 4, 0, 0),
        *_WHITE,
    )
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _xyz(value: tuple[int, int, int]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *value)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return struct.pack(">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", len(data), 28) + data
