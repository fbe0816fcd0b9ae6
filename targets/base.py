"""What a target is: a picture to become, and where it came from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exemplar:
    """A picture to become, and where it came from."""

    image: Tensor
    """[N, 3 or 4, H, W] float32 in [0, 1]: N pictures of one texture; a fourth channel, straight
    (not premultiplied) alpha, only when something is transparent."""
    name: str  # stem for naming outputs, e.g. "zebra"
    source: str  # the spec as the user gave it
    sha256: str  # of the file's bytes; of all files in order; of a drawn picture's uint8 samples
    source_size: tuple[int, int]  # (height, width) after the crop, before resizing
    pixels_per_cell: float  # source pixels that became one cell, per axis; 1.0 when not resized
    notes: tuple[str, ...] = ()  # sentences worth telling the user
    label: str = ""  # what a line of text calls the source, e.g. "zebra.jpg"
    classes: tuple[str, ...] = ()  # names, when each of the N pictures is one of as many classes
    padding: int = 0  # cells of nothing around the picture, which are part of ``image``

    def describe(self) -> str:
        """Say in one line what became of the source; sizes are WIDTHxHEIGHT."""
        count, _, height, width = self.image.shape
        height, width = height - 2 * self.padding, width - 2 * self.padding
        before = f"{self.source_size[1]}x{self.source_size[0]}"
        title = self.label or self.source
        pictures = f" ({count} pictures)" if count > 1 and not self.classes else ""
        room = f", with {self.padding} cells of room around" if self.padding else ""
        if (height, width) == self.source_size:
            return f"{title}{pictures} {before}: every pixel becomes one cell{room}"
        scale = (
            "every pixel becomes one cell"
            if self.pixels_per_cell == 1
            else f"{self.pixels_per_cell:.1f} source pixels become one cell"
        )
        return f"{title}{pictures} {before} -> {width}x{height}: {scale}{room}"


class Target(ABC):
    """Something a picture can be read from."""

    @abstractmethod
    def read(self, crop: str | None, exemplar_size: int) -> Exemplar:
        """Cut out ``crop`` ("WIDTHxHEIGHT+X+Y") and reduce to at most ``exemplar_size`` cells.

        The longer side is reduced, never enlarged. Raises ``InputError`` for a source that cannot
        be used and ``ValueError`` for a crop or a size that makes no sense.
        """
