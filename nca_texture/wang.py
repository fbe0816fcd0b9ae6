"""Wang tiles: square tiles whose edges have colours, and fit wherever the colours agree.

Strips of texture are grown for every colour of edge, all of them around one corner that they
share, and at the same time every tile between four of them: the edge itself is the strip's, and the
cells beside it are drawn towards it at every step, the less the further inside. (Strips that are
held as they are, or drawn to with full force, show as lines.) A set of K colours on both axes has
K**4 tiles, which can be laid without end and without repeating (Cohen et al., "Wang Tiles for Image
and Texture Generation", SIGGRAPH 2003). In the sheet, tiles that touch fit (Wei, "Tile-Based
Texture Mapping on Graphics Hardware", Graphics Hardware 2004), so that it can be filtered, and
tiles itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.noise import sample_seeds

_NARROWEST_BAND = 12  # cells on either side of an edge that strips are drawn from
_PULL = 0.5  # of the way, in each step, next to the edge; less and less inside
_BESIDE = 24  # cells on either side of a strip while it grows


@dataclass(frozen=True)
class WangTile:
    """Which colours the edges of a tile have."""

    north: int
    east: int
    south: int
    west: int


@dataclass(frozen=True)
class WangSet:
    """A complete set of tiles."""

    tiles: tuple[WangTile, ...]  # row by row, as in the sheet
    pictures: NDArray[np.float32]  # [K**4, S, S, 3], not clipped
    colours: int

    @property
    def side(self) -> int:
        """Tiles along a side of the sheet."""
        return self.colours**2

    def sheet(self) -> NDArray[np.float32]:
        """Lay all tiles out so that neighbours fit."""
        return _laid(self.pictures.reshape(self.side, self.side, *self.pictures.shape[1:]))

    def assemble(self, rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
        """Lay ``rows`` x ``columns`` tiles by chance; the whole tiles, too."""
        chance = np.random.default_rng(seed)
        across = chance.integers(0, self.colours, (rows, columns))  # west edges
        down = chance.integers(0, self.colours, (rows, columns))  # north edges
        number = {tile: index for index, tile in enumerate(self.tiles)}
        picked = [
            number[
                WangTile(
                    north=int(down[y, x]),
                    east=int(across[y, (x + 1) % columns]),
                    south=int(down[(y + 1) % rows, x]),
                    west=int(across[y, x]),
                )
            ]
            for y in range(rows)
            for x in range(columns)
        ]
        return _laid(self.pictures[picked].reshape(rows, columns, *self.pictures.shape[1:]))

    def index(self) -> list[dict[str, Any]]:
        """Say where in the sheet each tile lies, and what colours its edges have."""
        size = self.pictures.shape[1]
        return [
            {
                "x": number % self.side * size,
                "y": number // self.side * size,
                "north": tile.north,
                "east": tile.east,
                "south": tile.south,
                "west": tile.west,
            }
            for number, tile in enumerate(self.tiles)
        ]


def wang_tiles(
    automaton: CellularAutomaton,
    size: int,
    steps: int,
    *,
    colours: int = 2,
    seed: int | str = 0,
    kernel: str = "auto",
    progress: Callable[[int], None] = lambda steps: None,
) -> WangSet:
    """Grow a set of tiles of ``size`` pixels a side; ``progress`` counts to ``steps``."""
    band = held_band(automaton)
    check(automaton, size, colours)
    automaton = automaton.with_grid(Grid("square", "torus"))
    order = _cycle(colours)
    side = colours**2
    tiles = [
        WangTile(north=order[row], east=order[column + 1], south=order[row + 1], west=order[column])
        for row in range(side)
        for column in range(side)
    ]
    device = automaton.weight_in.device
    seeds = iter(sample_seeds(seed, 1 + 2 * colours + len(tiles)))
    around, wide = 2 * (band + _BESIDE), size + 2 * band
    shapes = [(1, around, around), (colours, size, around), (colours, around, size)]
    shapes.append((len(tiles), wide, wide))
    middle = slice(_BESIDE, _BESIDE + 2 * band)
    ends = torch.arange(-band, band, device=device) % size  # of a strip, where the corner lies
    along = torch.arange(-band, size + band, device=device) % size
    north, east, south, west = (
        torch.tensor([getattr(tile, name) for tile in tiles], device=device)
        for name in ("north", "east", "south", "west")
    )
    pull, sideways = _pull(wide, band, device)
    with torch.inference_mode():
        chances = [[next(seeds) for _ in range(count)] for count, *_ in shapes]
        worlds = [
            automaton.seed(count, (height, width), seed=chance)
            for (count, height, width), chance in zip(shapes, chances, strict=True)
        ]
        for step in range(steps + 1):
            corner, upright, lying, tile = worlds
            # All grow at the same time: what is held moves on as it does in its own world.
            held = corner[0, :, middle, middle]
            upright[:, :, ends, middle] = held
            lying[:, :, middle, ends] = held
            beside, above = upright[:, :, along, middle], lying[:, :, middle, along]
            sides = torch.zeros_like(tile)
            sides[..., : 2 * band] = beside[west]
            sides[..., -2 * band :] = beside[east]
            caps = torch.zeros_like(tile)
            caps[:, :, : 2 * band] = above[north]
            caps[:, :, -2 * band :] = above[south]
            tile = torch.lerp(tile, torch.where(sideways, sides, caps), pull)
            worlds[3] = tile
            if step == steps:
                break
            worlds = [
                automaton.grow(world, seed=chance, start=step, kernel=kernel)
                for world, chance in zip(worlds, chances, strict=True)
            ]
            progress(step + 1)
        tile = worlds[3][:, :, band : band + size, band : band + size]
        pictures = automaton.to_image(tile, clip=False).permute(0, 2, 3, 1).float().cpu().numpy()
    if not np.isfinite(pictures).all():
        raise ValueError(
            f"the rule ran away: after {steps} steps a tile is not finite; use fewer --steps, or "
            "train for longer"
        )
    return WangSet(tuple(tiles), pictures, colours)


def held_band(automaton: CellularAutomaton) -> int:
    """Count the cells on either side of an edge that strips are drawn from."""
    return max(_NARROWEST_BAND, 2 * automaton.reach)


def check(automaton: CellularAutomaton, size: int, colours: int) -> None:
    """Raise ``ValueError`` when such a set cannot be grown."""
    if automaton.grid.layout != "square":
        raise ValueError("Wang tiles have square cells; leave out --layout hex")
    if automaton.living:
        raise ValueError("Wang tiles are for textures; this model grows a picture")
    if not 1 <= colours <= 4:
        raise ValueError(f"{colours} colours of edges; give 1 to 4: a set has colours^4 tiles")
    least = 4 * held_band(automaton)
    if size < least:
        raise ValueError(
            f"a tile of {size}x{size} pixels is too small; give --size {least} or more"
        )


def _pull(wide: int, band: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How strongly each cell of a tile, ``band`` cells beyond its edges on, is drawn to a strip.

    [wide, wide]: one beyond the edge and at it, and less and less inside, so that rule and strip
    come to terms; and whether it is a strip beside the tile that is nearer, not one above or below.
    """
    place = torch.arange(wide, device=device)
    place = torch.minimum(place, wide - 1 - place)
    down, across = place[:, None].expand(wide, wide), place.expand(wide, wide)
    inside = torch.minimum(down, across) - band
    pull = _PULL * (1 - inside / band).clamp(0, 1) ** 2
    return torch.where(inside <= 0, 1.0, pull), across <= down


def _cycle(colours: int) -> list[int]:
    """List colours round a circle so that every pair of neighbours comes once, and the first again.

    A de Bruijn sequence: each colour twice, then its way to and from every larger one.
    """
    found: list[int] = []
    for low in range(colours):
        found.append(low)
        for high in range(low + 1, colours):
            found += [low, high]
    return [*found, found[0]]


def _laid(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay tiles [rows, columns, S, S, C] out as one picture."""
    rows, columns, height, width, channels = pictures.shape
    return pictures.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
