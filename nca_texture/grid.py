"""Which cells are neighbours, what lies beyond the border, and how cells become a picture.

Hexagonal cells are stored in offset rows: odd rows lie half a cell to the right and rows are
sqrt(3)/2 of a cell apart, so that a state is a rectangle and, with an even number of rows, its
torus is a plain wrap.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

Layout = Literal["square", "hex"]
Edge = Literal["torus", "zero", "reflect", "replicate"]

HEX_ROW = math.sqrt(3) / 2  # distance of two rows of hexagonal cells, in cells


@dataclass(frozen=True)
class View:
    """Some pixels of a picture that a block of cells, cut from a larger world, has to show.

    All pairs are (rows, columns). On a torus ``origin`` may lie outside the world.
    """

    origin: tuple[int, int]  # world coordinates of the block's first cell
    extent: tuple[int, int]  # cells of the world
    picture: tuple[int, int]  # pixels of the whole picture
    top_left: tuple[int, int]  # the first pixel that is wanted
    size: tuple[int, int]  # pixels that are wanted


@dataclass(frozen=True)
class Grid:
    """Which cells are neighbours, and what lies beyond the last row and column."""

    layout: Layout = "square"
    edge: Edge | tuple[Edge, Edge] = "torus"  # of both axes, or of (y, x)

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is {self.layout!r}; choose from square, hex")
        if isinstance(self.edge, list):
            object.__setattr__(self, "edge", tuple(self.edge))
        for edge in self.edges:
            if edge not in get_args(Edge):
                raise ValueError(f"edge is {edge!r}; choose from {', '.join(get_args(Edge))}")
        if len(self.edges) != 2:
            raise ValueError(f"edge has {len(self.edges)} axes; give one kind, or one for (y, x)")

    @property
    def edges(self) -> tuple[Edge, Edge]:
        """The kind of edge on the (y, x) axes."""
        return (self.edge, self.edge) if isinstance(self.edge, str) else self.edge

    @property
    def wraps(self) -> str:
        """The axes on which pictures tile: ``xy``, ``x``, ``y`` or an empty string."""
        y, x = self.edges
        return ("x" if x == "torus" else "") + ("y" if y == "torus" else "")

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ``ValueError`` when a world of ``size`` (height, width) cannot be such a grid."""
        height, width = size
        if height < 1 or width < 1:
            raise ValueError(f"a grid of {width}x{height} cells is empty; give at least 1x1")
        if self.layout == "hex" and self.edges[0] == "torus" and height % 2:
            raise ValueError(
                f"a hexagonal torus needs an even number of rows, not {height}; "
                "odd rows lie half a cell to the right"
            )
        for edge, cells, axis in zip(self.edges, size, ("rows", "columns"), strict=True):
            if edge == "reflect" and cells < 2:
                raise ValueError(f"a reflecting edge needs at least 2 {axis}, not {cells}")

    def picture_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Pixels (height, width) of the picture of ``size`` (height, width) cells, one a cell."""
        height, width = size
        return (height, width) if self.layout == "square" else (round(height * HEX_ROW), width)

    def cells_for(self, picture: tuple[int, int]) -> tuple[int, int]:
        """Cells (height, width) whose picture is nearest to ``picture`` (height, width) pixels."""
        height, width = picture
        if self.layout == "square":
            return height, width
        rows = height / HEX_ROW
        return (max(2, 2 * round(rows / 2)) if self.edges[0] == "torus" else round(rows)), width

    def cells_under(
        self, pixels: tuple[int, int], picture: int, cells: int, axis: int
    ) -> tuple[int, int]:
        """Which cells the ``pixels`` [first, last) of one axis (0: y, 1: x) are made from.

        The axis has so many ``picture`` pixels and ``cells``; on a torus the range [first, last)
        may reach beyond them.
        """
        first, last = pixels
        if self.layout == "hex":
            step = cells / picture
            reach = math.ceil(2 * max(step, 1.0)) + axis  # rows lie a quarter of a cell off
            first = math.floor((first + 0.5) * step - 0.5) + 1 - reach
            last = math.floor((last - 0.5) * step - 0.5) + 1 + reach
        return (first, last) if self.edges[axis] == "torus" else (max(first, 0), min(last, cells))

    def to_picture(self, cells: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Resample ``cells`` [B, D, H, W] to square pixels [B, D, h, w]; differentiable.

        On a square grid one cell is one pixel and ``cells`` come back as they are unless another
        ``size`` (height, width) is asked for. On a hexagonal grid even rows are shifted by a
        quarter of a cell to the left and odd rows by a quarter to the right, so that all rows are
        filtered alike and none is blurred more than its neighbours; then rows are resampled.
        Both use the Catmull-Rom cubic, widened when it reduces, and go round the torus.
        """
        extent = (cells.shape[-2], cells.shape[-1])
        size = self.picture_size(extent) if size is None else size
        return self.view(cells, View((0, 0), extent, size, (0, 0), size))

    def view(self, cells: Tensor, view: View) -> Tensor:
        """Show a block of ``cells`` [B, D, H, W] as ``view`` says: pixels [B, D, h, w].

        They are those of ``to_picture`` of the whole world, to the bit, if the block holds the
        ``cells_under`` them.
        """
        if self.layout == "square" and view.picture == view.extent:
            for dim, axis in ((-2, 0), (-1, 1)):
                count, size = view.size[axis], cells.shape[dim]
                first = view.top_left[axis] - view.origin[axis]
                if self.edges[axis] == "torus":
                    first %= view.extent[axis]
                if (first, count) != (0, size):
                    cells = cells.narrow(dim, first, count)
            return cells
        if self.layout == "square":
            return self._resample(self._resample(cells, 1, view), 0, view)
        parity = view.origin[0] % 2
        even = self._resample(cells[..., parity::2, :], 1, view, offset=-0.25)
        odd = self._resample(cells[..., 1 - parity :: 2, :], 1, view, offset=0.25)
        rows = torch.cat([even, odd], dim=-2)
        order = torch.arange(cells.shape[-2], device=cells.device)
        order = order // 2 + ((order + parity) % 2) * even.shape[-2]
        return self._resample(rows.index_select(-2, order), 0, view)

    def _resample(self, x: Tensor, axis: int, view: View, offset: float = 0.0) -> Tensor:
        """Resample one axis of ``x`` [B, D, H, W] at positions moved by ``-offset``."""
        extent, first, dim = view.extent[axis], view.top_left[axis], axis - 2
        wrap = self.edges[axis] == "torus"
        index, weight = _taps(extent, view.picture[axis], wrap, offset)
        wanted = slice(first, first + view.size[axis])
        index = index[:, wanted] - view.origin[axis]
        index = (index % extent if wrap else index).to(x.device)
        weight = weight[:, wanted].to(x.device, x.dtype)
        shape = [1] * x.ndim
        shape[dim] = view.size[axis]
        out = x.index_select(dim, index[0]) * weight[0].view(shape)
        for taps, weights in zip(index[1:], weight[1:], strict=True):
            out = out + x.index_select(dim, taps) * weights.view(shape)
        return out


@lru_cache(maxsize=32)
def _taps(source: int, size: int, wrap: bool, offset: float) -> tuple[Tensor, Tensor]:
    """Which samples, and how much of each, make every new sample: two tensors [taps, size]."""
    step = source / size
    scale = max(step, 1.0)
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * step - 0.5 - offset
    reach = math.ceil(2 * scale)
    index = centre.floor().long() + torch.arange(1 - reach, reach + 1)[:, None]
    t = ((index - centre) / scale).abs()
    inner = 1.5 * t**3 - 2.5 * t**2 + 1
    outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weight = torch.where(t < 1, inner, torch.where(t < 2, outer, 0.0))
    weight = weight / weight.sum(0)
    used = weight.abs().amax(1) > 0
    index = index % source if wrap else index.clamp(0, source - 1)
    return index[used], weight[used]
