"""From a stored automaton to a picture of any size."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import HEX_ROW

_STRIP_CELLS = 2**19  # cells of a strip: its percepts and hidden layer are the working memory
_STEPS_A_PASS = 8  # steps of a strip between two passes; its halo is reach times as wide


@dataclass(frozen=True)
class Plan:
    """What it takes to make a picture of ``pixels``; sizes are (height, width)."""

    pixels: tuple[int, int]
    cells: tuple[int, int]
    steps: int
    memory: int  # bytes, about

    @property
    def stretch(self) -> float:
        """Share by which the picture's rows are stretched to a whole number of cells."""
        return self.pixels[0] / self.pixels[1] / (self.cells[0] * HEX_ROW / self.cells[1]) - 1


def plan(automaton: CellularAutomaton, pixels: tuple[int, int], steps: int) -> Plan:
    """Work out the cells and the memory of a picture of ``pixels`` (height, width).

    One cell is one pixel; on hexagons rows are sqrt(3)/2 of a cell apart, so that there are more
    rows than pixels.
    """
    if min(pixels) < 1:
        raise ValueError(f"the size is {pixels[1]}x{pixels[0]}; give at least 1x1")
    if steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more")
    cells = automaton.grid.cells_for(pixels)
    automaton.grid.check_size(cells)
    whole = 2 * automaton.channels + (0 if cells == pixels else 8)
    # Measured: percepts are held up to four times; hidden layers only a panel at a time.
    wide = 4 * automaton.channels * automaton.perception.num_filters + 6 * automaton.channels
    halo = automaton.reach * min(steps, _STEPS_A_PASS)
    strip = min(cells[0], _strip_rows(cells[1], halo) + 2 * halo) * cells[1]
    return Plan(pixels, cells, steps, 4 * (cells[0] * cells[1] * whole + strip * wide))


def render(
    automaton: CellularAutomaton,
    job: Plan,
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    progress: Callable[[int], None] = lambda steps: None,
) -> NDArray[np.float32]:
    """Grow ``job`` and return its picture [H, W, 3 or 4] in [0, 1], straight alpha.

    The grid is swept in strips with a halo, a few steps a pass; the result is that of growing it
    whole, to the bit. ``progress`` is told how many steps are done. Raises ``ValueError`` when the
    rule runs away.
    """
    with torch.inference_mode():
        state = automaton.seed(1, job.cells, seed=seed)
        done = 0
        while done < job.steps:
            steps = min(_STEPS_A_PASS, job.steps - done)
            state = _sweep(automaton, state, steps, done, seed, kernel)
            done += steps
            progress(done)
        image = automaton.to_image(state, clip=False, size=job.pixels)[0]
        picture = image.permute(1, 2, 0).float().cpu().numpy()
    if not np.isfinite(picture).all():
        raise ValueError(
            f"the rule ran away: after {job.steps} steps the picture is not finite; "
            "use fewer --steps, or train for longer"
        )
    return straight_alpha(picture.clip(0, 1))


def straight_alpha(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide premultiplied colours of [H, W, 4] by alpha; [H, W, 3] comes back as it is."""
    if picture.shape[-1] != 4:
        return picture
    alpha = picture[..., 3:]
    colours = np.divide(
        picture[..., :3], alpha, out=np.zeros_like(picture[..., :3]), where=alpha > 0
    )
    return np.concatenate([colours.clip(0, 1), alpha], axis=-1)


def _strip_rows(width: int, halo: int) -> int:
    """Count the rows of a strip, without its halo."""
    return max(2 * halo, math.ceil(_STRIP_CELLS / width))


def _sweep(
    automaton: CellularAutomaton, state: Tensor, steps: int, done: int, seed: int | str, kernel: str
) -> Tensor:
    """Take ``steps`` steps of ``state`` [1, C, H, W], strip by strip."""
    height, width = state.shape[-2:]
    halo = automaton.reach * steps
    rows = _strip_rows(width, halo)
    if height <= rows + 2 * halo:
        return automaton.grow(state, steps, seed=seed, start=done, kernel=kernel)
    wraps = automaton.grid.edges[0] == "torus"
    grown = torch.empty_like(state)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = top - halo, bottom + halo
        if not wraps:
            first, last = max(first, 0), min(last, height)
        index = torch.arange(first, last, device=state.device) % height
        strip = automaton.grow(
            state.index_select(2, index),
            steps,
            seed=seed,
            start=done,
            origin=(first, 0),
            extent=(height, width),
            kernel=kernel,
        )
        grown[:, :, top:bottom] = strip[:, :, top - first : bottom - first]
    return grown
