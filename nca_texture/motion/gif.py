"""GIF: 256 colours for the whole clip, without dithering, which would flicker."""

from pathlib import Path

import numpy as np
from PIL import Image

from nca_texture.motion.base import Clip
from nca_texture.motion.pillow import check_side, save

_SAMPLE = 1 << 18  # pixels that the palette is chosen from


def check(path: Path, size: tuple[int, int], channels: int) -> None:
    """Say what a GIF file cannot hold."""
    check_side(path, size, 65535)


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write a GIF file; its frames last whole hundredths of a second, and sum up right."""
    colours = clip.frames[..., :3].reshape(-1, 3)
    sample = colours[:: max(1, len(colours) // _SAMPLE)]
    most = 255 if clip.frames.shape[-1] == 4 else 256  # one is kept for what is clear
    palette = Image.fromarray(sample[None]).quantize(most, Image.Quantize.MEDIANCUT)
    images = []
    for frame in clip.frames:
        rgb = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
        image = rgb.quantize(palette=palette, dither=Image.Dither.NONE)
        if most == 255:
            indices = np.where(frame[..., 3] < 128, 255, np.asarray(image))
            image = Image.fromarray(indices.astype(np.uint8), "P")
            image.putpalette(palette.getpalette() or [])
        images.append(image)
    options = {"transparency": 255, "disposal": 2} if most == 255 else {}
    comment = "; ".join(f"{key}: {text}" for key, text in clip.metadata.items())
    save(
        path,
        clip,
        force,
        "GIF",
        images=images,
        duration=clip.durations(10),
        optimize=False,
        comment=comment.encode()[:255],
        **options,
    )
