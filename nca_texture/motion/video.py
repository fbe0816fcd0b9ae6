"""What videos share: PyAV, which brings FFmpeg's libraries along."""

import importlib
from fractions import Fraction
from pathlib import Path
from typing import Any

from nca_texture.errors import InputError, MissingError
from nca_texture.files import atomic_write
from nca_texture.motion.base import Clip


def check_video(path: Path, size: tuple[int, int], channels: int) -> None:
    """Raise when the package is missing or a video cannot have such frames."""
    _av()
    if channels == 4:
        raise InputError(
            f"{path.suffix} files of ours have no transparency; give a name that ends in .webp "
            "or .apng"
        )
    if size[0] % 2 or size[1] % 2:
        raise InputError(
            f"videos have an even width and height, not {size[1]}x{size[0]}; give another --size"
        )


def save(
    path: Path, clip: Clip, force: bool, kind: str, codec: str, options: dict[str, str]
) -> None:
    """Encode the frames; a clip that loops is one turn of it."""
    av = _av()
    height, width = clip.size
    rate = Fraction(clip.fps).limit_denominator(1001)
    with atomic_write(path, force=force) as file:
        container = av.open(file, "w", format=kind)
        for key, text in clip.metadata.items():
            container.metadata[key] = text
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # sRGB pictures as BT.709 video, said in the file
        stream.codec_context.color_primaries = stream.codec_context.colorspace = 1
        stream.codec_context.color_trc = 13
        for pixels in clip.frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.close()


def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as reason:
        raise MissingError(
            'videos need a package that is not here: pip install "nca-texture[video]"'
        ) from reason
