"""A flipbook: all frames in one PNG, row by row from the top left, as engines expect them.

Beside it lie what Aseprite would write about it (JSON, its "array" form) and a Unity ``.meta``
that imports it as an array of textures.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nca_texture.files import atomic_write, check_writable
from nca_texture.images import write_png
from nca_texture.motion.base import Clip


def layout(frames: int) -> tuple[int, int]:
    """Choose (rows, columns) for so many frames: all cells filled, nearly square when it can be."""
    rows = next(rows for rows in range(math.isqrt(frames), 0, -1) if frames % rows == 0)
    return rows, frames // rows


def files(path: Path) -> tuple[Path, Path, Path]:
    """Name the picture, its JSON and its ``.meta``."""
    return path, path.with_suffix(".json"), path.with_name(f"{path.name}.meta")


def write(
    path: Path, clip: Clip, shape: tuple[int, int], gutter: int = 0, force: bool = False
) -> None:
    """Write a sheet of ``shape`` (rows, columns) with ``gutter`` pixels around every frame.

    A gutter repeats the frame beyond its edges, the other side of it where it tiles, so that no
    filter sees the neighbour.
    """
    rows, columns = shape
    count = len(clip.frames)
    if rows * columns < count or rows < 1 or columns < 1:
        raise ValueError(f"a sheet of {columns}x{rows} has no room for {count} frames")
    if gutter < 0:
        raise ValueError(f"the gutter is {gutter} pixels; give 0 or more")
    picture, beside, meta = files(path)
    for file in (beside, meta):
        check_writable(file, force=force)
    sheet = assemble(clip, shape, gutter)
    write_png(picture, sheet.astype(np.float32) / 255, metadata=clip.metadata, force=force)
    with atomic_write(beside, force=force) as file:
        about = aseprite(clip, shape, gutter, picture.name)
        file.write(json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")
    with atomic_write(meta, force=force) as file:
        file.write(unity(clip, shape, gutter, picture.name).encode())


def assemble(clip: Clip, shape: tuple[int, int], gutter: int) -> NDArray[np.uint8]:
    """Lay the frames out: [H, W, C]; cells without a frame are black, or clear."""
    rows, columns = shape
    padded = clip.frames
    for axis, name in ((1, "y"), (2, "x")):
        widths = [(0, 0)] * 4
        widths[axis] = (gutter, gutter)
        padded = np.pad(padded, widths, mode="wrap" if name in clip.wraps else "edge")
    _, height, width, channels = padded.shape
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[: len(padded)] = padded
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(sheet.reshape(rows * height, columns * width, channels))


def aseprite(clip: Clip, shape: tuple[int, int], gutter: int, name: str) -> dict[str, Any]:
    """Describe the sheet as Aseprite's "array" export does."""
    height, width = clip.size
    rows, columns = shape
    durations = clip.durations()
    frames = []
    for number, duration in enumerate(durations):
        row, column = divmod(number, columns)
        x, y = (at * (side + 2 * gutter) + gutter for at, side in ((column, width), (row, height)))
        frames.append(
            {
                "filename": f"{Path(name).stem} {number}.png",
                "frame": {"x": x, "y": y, "w": width, "h": height},
                "rotated": False,
                "trimmed": False,
                "spriteSourceSize": {"x": 0, "y": 0, "w": width, "h": height},
                "sourceSize": {"w": width, "h": height},
                "duration": duration,
            }
        )
    tag = {"name": "loop" if clip.loops else "once", "from": 0, "to": len(frames) - 1}
    return {
        "frames": frames,
        "meta": {
            "app": "nca-texture",
            "version": "1.0",
            "image": name,
            "format": "RGBA8888",
            "size": {"w": columns * (width + 2 * gutter), "h": rows * (height + 2 * gutter)},
            "scale": "1",
            "frameTags": [tag | {"direction": "forward"}],
        },
    }


def unity(clip: Clip, shape: tuple[int, int], gutter: int, name: str) -> str:
    """Write the import settings for Unity: the true size, and an array of textures.

    With a gutter or cells without a frame it stays one picture, which an array cannot be cut from.
    """
    rows, columns = shape
    height, width = clip.size
    array = gutter == 0 and rows * columns == len(clip.frames)
    side = max(rows * (height + 2 * gutter), columns * (width + 2 * gutter))
    largest = max(32, 1 << (side - 1).bit_length())
    guid = hashlib.blake2s(clip.frames.tobytes() + name.encode(), digest_size=16).hexdigest()
    wrap = {axis: 0 if axis in clip.wraps else 1 for axis in "xy"}
    return f"""fileFormatVersion: 2
guid: {guid}
TextureImporter:
  internalIDToNameTable: []
  externalObjects: {{}}
  serializedVersion: 12
  mipmaps:
    mipMapMode: 0
    enableMipMap: 1
    sRGBTexture: 1
    linearTexture: 0
  isReadable: 0
  textureFormat: 1
  maxTextureSize: {largest}
  textureSettings:
    serializedVersion: 2
    filterMode: 1
    aniso: 1
    mipBias: 0
    wrapU: {wrap["x"]}
    wrapV: {wrap["y"]}
    wrapW: 0
  nPOTScale: 0
  alphaUsage: {int(clip.frames.shape[-1] == 4)}
  alphaIsTransparency: {int(clip.frames.shape[-1] == 4)}
  textureType: 0
  textureShape: {4 if array else 1}
  flipbookRows: {rows if array else 1}
  flipbookColumns: {columns if array else 1}
  maxTextureSizeSet: 0
  platformSettings:
  - serializedVersion: 3
    buildTarget: DefaultTexturePlatform
    maxTextureSize: {largest}
    resizeAlgorithm: 0
    textureFormat: -1
    textureCompression: 1
    compressionQuality: 50
    crunchedCompression: 0
    allowsAlphaSplitting: 0
    overridden: 0
  userData:
  assetBundleName:
  assetBundleVariant:
"""
