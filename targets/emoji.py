"""Emoji from a colour font that is installed on this machine."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nca_texture.errors import InputError, MissingError
from nca_texture.targets.base import Exemplar, Target
from nca_texture.targets.framing import frame
from nca_texture.targets.image import MAX_PIXELS, safe_stem

# Where systems keep theirs; fontconfig is asked first.
_PLACES = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
    "/System/Library/Fonts/Apple Color Emoji.ttc",
    "C:/Windows/Fonts/seguiemj.ttf",
)
_SIZES = (109, 160, 136, 128, 96, 64)  # bitmap fonts have one size each


class EmojiTarget(Target):
    """One emoji, drawn by an installed colour font."""

    def __init__(self, name: str, max_pixels: int = MAX_PIXELS) -> None:
        """Take the emoji ``name``, without the prefix; ``max_pixels`` plays no part."""
        self.name = name.strip()
        if not self.name or self.name.isascii():
            raise ValueError(
                f"{name!r} is no emoji; write the character itself, as emoji:\N{LIZARD}"
            )

    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Draw it, without what is empty around it."""
        source = f"emoji:{self.name}"
        picture = draw_emoji(self.name, find_font())
        framed = frame(picture, crop, exemplar_size, source)
        points = "-".join(f"{ord(each):x}" for each in self.name)
        return Exemplar(
            image=framed.image[None],
            name=safe_stem(f"emoji-{points}"),
            source=source,
            sha256=hashlib.sha256(picture.tobytes()).hexdigest(),
            source_size=framed.source_size,
            pixels_per_cell=framed.pixels_per_cell,
            notes=framed.notes,
            label=source,
        )


def find_font() -> Path:
    """Find a colour font with emoji, or the one that NCA_TEXTURE_EMOJI_FONT names.

    Raises ``MissingError`` when there is none.
    """
    places = [os.environ.get("NCA_TEXTURE_EMOJI_FONT", "")]
    if not places[0] and shutil.which("fc-match"):
        ask = ["fc-match", "-f", "%{color}\t%{file}", "emoji:color=true"]
        found = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=20)
        colour, _, file = found.stdout.partition("\t")
        places += [file] if colour == "True" else []
    for place in places if places[0] else [*places[1:], *_PLACES]:
        if place and Path(place).is_file():
            return Path(place)
    raise MissingError(
        "no colour font with emoji is installed; install one (on Debian: apt install "
        "fonts-noto-color-emoji), name one with NCA_TEXTURE_EMOJI_FONT, or give a picture"
    )


def draw_emoji(text: str, font: Path) -> np.ndarray:
    """Draw ``text`` with a colour ``font`` as uint8 [H, W, 4], cut to what is seen."""
    for size in _SIZES:
        try:
            face = ImageFont.truetype(str(font), size)
        except OSError:
            continue
        canvas = Image.new("RGBA", (3 * size, 3 * size))
        ImageDraw.Draw(canvas).text((size // 2, size // 2), text, font=face, embedded_color=True)
        box = canvas.getbbox()
        if box is None:
            raise InputError(f"{font.name} has no picture of {text!r}; give another emoji")
        left, top, right, bottom = box
        side = max(right - left, bottom - top)
        square = Image.new("RGBA", (side, side))
        square.paste(canvas.crop(box), ((side - right + left) // 2, (side - bottom + top) // 2))
        return np.asarray(square)
    raise InputError(f"{font.name} cannot be read as a font; install another colour font")
