"""From a stored automaton to a picture of any size, in memory that does not grow with it.

A cell after T steps is made from the cells within ``reach * T`` of it. So rows are swept from top
to bottom: a stage takes rows of one age and gives rows some steps older, and holds back only the
few that the next ones still need. What is held grows with width and steps, not with the height. On
a torus the sweep begins above the first row and ends below the last: chance is a function of
wrapped coordinates, so these rows are the world's. Where even that is too much, columns are done in
blocks whose margins are computed more than once; where the steps are many and the picture is small,
the whole state is kept. All three give the same picture, to the bit.
"""

import bisect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.grid import HEX_ROW, View

Way = Literal["whole", "rows", "columns"]

_STRIP_CELLS = 2**17  # cells of a strip of the whole state, and of what is shown at a time
_STRIP_STEPS = 8  # steps of a strip between two passes; its halo is reach times as wide
_BAND_ROWS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # to choose from, and so below
_PASS_STEPS = (1, 2, 4, 8, 16)
_NARROWEST = 16  # pixels of a column block
# In steps of a cell, measured on the cpu kernel: what a pass costs each cell, and what a call does.
# Blocks beyond some size come from the system afresh each time, page by page.
_PASS_COST, _LARGE_PASS_COST, _CALL_COST = 0.35, 1.2, 10_000
_LARGE = 32 << 20  # bytes of a block's two states
_NEAR_BEST = 1.2  # of the ways to work that are nearly as fast, the one with the least memory
_SPARE = 1.15  # what the allocator takes on top
_COMFORT = 96 << 20  # bytes that nobody minds, and that caches like
_ENDLESS = 2**22  # rows
_WORTH = 1.25  # the whole state is kept when sweeping would take so many times as long


@dataclass(frozen=True)
class Plan:
    """What it takes to make a picture of ``pixels``; sizes are (height, width)."""

    pixels: tuple[int, int]
    cells: tuple[int, int]
    steps: int
    memory: int  # bytes of working buffers, about
    way: Way
    columns: int  # pixels of a block of columns; all of them unless the way is columns
    rows: int  # rows of cells that are taken in at a time
    pass_steps: int  # steps that they take in one call
    work: float  # steps of cells that are computed for each one of the picture's own

    @property
    def stretch(self) -> float:
        """Share by which the picture's rows are stretched to a whole number of cells."""
        return self.pixels[0] / self.pixels[1] / (self.cells[0] * HEX_ROW / self.cells[1]) - 1

    @property
    def cell_steps(self) -> float:
        """How many steps of one cell are computed."""
        return self.work * self.cells[0] * self.cells[1] * self.steps

    @property
    def blocks(self) -> int:
        """Into how many blocks of columns the picture is divided."""
        return -(-self.pixels[1] // self.columns)


@dataclass(frozen=True)
class Block:
    """A part of a picture."""

    top: int
    left: int
    pixels: NDArray[np.float32]  # [h, w, 3 or 4] in [0, 1], straight alpha


def plan(
    automaton: CellularAutomaton,
    pixels: tuple[int, int],
    steps: int,
    *,
    kernel: str = "auto",
    memory: int | None = None,
    columns: int | None = None,
) -> Plan:
    """Work out how to make a picture of ``pixels`` (height, width) with ``memory`` bytes at most.

    One cell is one pixel; on hexagons rows are sqrt(3)/2 of a cell apart, so that there are more
    rows than pixels. ``columns`` asks for blocks of so many columns. Raises ``InputError`` when
    the memory is too little.
    """
    if min(pixels) < 1:
        raise ValueError(f"the size is {pixels[1]}x{pixels[0]}; give at least 1x1")
    if steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more")
    cells = automaton.grid.cells_for(pixels)
    automaton.grid.check_size(cells)
    estimate = _Estimate(automaton, pixels, cells, steps, kernel)
    whole = estimate.whole()
    swept = estimate.sweep(memory or math.inf, columns)
    fits = [job for job in (swept, whole) if job.memory <= (memory or math.inf)]
    if columns is not None:
        fits = [job for job in fits if job is swept]
    if len(fits) == 2 and (swept.work > _WORTH * whole.work or swept.memory >= whole.memory):
        return whole
    if fits:
        return fits[0]
    least = min(whole.memory, swept.memory)
    raise InputError(
        f"{steps} steps of {pixels[1]}x{pixels[0]} pixels need {least / 2**20:.0f} MB of memory "
        f"or more; give --memory {math.ceil(least / 2**20)}MB, or fewer --steps"
    )


class _Estimate:
    """What the ways to make one picture cost."""

    def __init__(
        self,
        automaton: CellularAutomaton,
        pixels: tuple[int, int],
        cells: tuple[int, int],
        steps: int,
        kernel: str,
    ) -> None:
        self.grid, self.reach = automaton.grid, automaton.reach
        self.pixels, self.cells, self.steps = pixels, cells, steps
        channels = automaton.channels
        self.held = 4 * channels  # bytes of a cell that waits
        # Of a cell at work: measured; the reference holds percepts up to four times.
        if automaton.kernel_for(automaton.seed(1, (2, 2)), kernel) == "reference":
            inputs = automaton.perception.num_filters * (2 if automaton.rule == "abs" else 1)
            self.busy = 4 * (4 * channels * inputs + 8 * channels)
        else:
            self.busy = 4 * (4 * channels + 4 * (-(-channels // 16) * 16))
        self.shown = 32 * (4 if automaton.living else 3)
        self.states = 8 * (-(-channels // 16) * 16)  # of a cell in two states

    def _pass_cost(self, cells: int) -> float:
        """Say what a pass over a block of so many ``cells`` costs each of them."""
        return _PASS_COST if cells * self.states <= _LARGE else _LARGE_PASS_COST

    def whole(self) -> Plan:
        """Plan to keep all cells."""
        height, width = self.cells
        halo = self.reach * min(self.steps, _STRIP_STEPS)
        rows = _strip_rows(width, halo)
        strip = min(height, rows + 2 * halo) * width
        memory = 2 * self.held * height * width + strip * (self.busy + self.shown)
        memory = int(_SPARE * memory)
        passes = max(1, -(-self.steps // _STRIP_STEPS))
        work = (1 + 2 * halo / rows) if height > rows + 2 * halo else 1.0
        work *= 1 + self._pass_cost(strip) * passes / max(self.steps, 1)
        job = Plan(self.pixels, self.cells, self.steps, memory, "whole", self.pixels[1], 0, 0, work)
        return replace(job, rows=rows, pass_steps=_STRIP_STEPS)

    def sweep(self, memory: float, columns: int | None = None) -> Plan:
        """Plan to sweep rows, in blocks of ``columns`` pixels when these are given.

        Chosen as if the picture were endless, so that its height changes nothing: of all that is
        nearly as fast as can be, what needs the least memory, as far as that matters.
        """
        width = self.pixels[1]
        across = [width] if columns is None else [columns]
        while columns is None and across[-1] > _NARROWEST:
            across.append(-(-across[-1] // 2))
        jobs = [
            self._sweep(_ENDLESS, columns, rows, steps)
            for columns in across
            for rows in _BAND_ROWS
            for steps in _PASS_STEPS
            if steps <= max(self.steps, 1)
        ]
        fits = [job for job in jobs if job.memory <= memory]
        if fits:
            best = min(job.work for job in fits)
            fits = [job for job in fits if job.work <= _NEAR_BEST * best]
            job = min(fits, key=lambda job: (max(job.memory, _COMFORT), job.work))
        else:
            job = min(jobs, key=lambda job: job.memory)
        return self._sweep(self.cells[0], job.columns, job.rows, job.pass_steps)

    def _sweep(self, height: int, columns: int, rows: int, steps: int) -> Plan:
        """Plan to sweep so many ``rows`` of ``columns`` at a time, ``steps`` steps a pass."""
        width = self.cells[1]
        left, right = self.grid.cells_under((0, columns), self.pixels[1], width, 1)
        held = done = widest = 0
        stages = list(reversed(_stages(self.steps, steps)))  # the last one, with the least margin
        margin = 0
        for taken, _ in stages:
            halo = self.reach * taken
            margin += halo
            across = min(right - left + 2 * margin, width)
            tall = height + 2 * (margin - halo)
            calls = -(-tall // rows)
            held += 2 * halo * across
            block = across * (min(rows, tall) + 2 * halo)
            passed = taken + self._pass_cost(block)
            done += (tall + 2 * halo * calls) * across * passed + calls * _CALL_COST
            widest = max(widest, block)
        widest = widest or min(rows, height) * min(right - left, width)
        memory = held * self.held + widest * self.busy + rows * columns * self.shown
        memory = int(_SPARE * memory)
        blocks = -(-self.pixels[1] // columns)
        work = max(1.0, done * blocks / (height * width * max(self.steps, 1)))
        way: Way = "rows" if blocks == 1 else "columns"
        return Plan(self.pixels, self.cells, self.steps, memory, way, columns, rows, steps, work)


def render(
    automaton: CellularAutomaton,
    job: Plan,
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Grow ``job`` and return its picture [H, W, 3 or 4] in [0, 1], straight alpha.

    ``progress`` is told which share is done. Raises ``ValueError`` when the rule runs away.
    """
    picture = np.empty((*job.pixels, 4 if automaton.living else 3), np.float32)
    for block in paint(automaton, job, seed=seed, kernel=kernel, progress=progress):
        height, width = block.pixels.shape[:2]
        picture[block.top : block.top + height, block.left : block.left + width] = block.pixels
    return picture


def paint(
    automaton: CellularAutomaton,
    job: Plan,
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    start: tuple[int, int] = (0, 0),
    saved: tuple[int, Tensor] | None = None,
    save: Callable[[int, Tensor], None] = lambda steps, state: None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Block]:
    """Grow ``job`` and yield its picture: blocks of columns, each from top to bottom.

    ``start`` (block of columns, row of pixels) goes on where another call has stopped; where all
    cells are kept, ``save`` is given them after every pass, with the steps that they have taken,
    and ``saved`` goes on from there.
    ``progress`` is told which share is done. Raises ``ValueError`` when the rule runs away.
    """
    first, row = start
    for number in range(first, job.blocks):

        def tell(share: float, number: int = number) -> None:
            progress((number + share) / job.blocks)

        left = number * job.columns
        columns = (left, min(left + job.columns, job.pixels[1]))
        top = row if number == first else 0
        if top >= job.pixels[0]:
            continue
        screen = _Screen(automaton, job, columns, top)
        if job.way == "whole":
            bands = _all_rows(automaton, job, top, seed, kernel, saved, save, tell)
        else:
            bands = _swept_rows(automaton, job, columns, top, seed, kernel, tell)
        for band in bands:
            block = screen.show(band)
            if block is not None:
                yield block


def seconds(automaton: CellularAutomaton, job: Plan, kernel: str = "auto") -> float:
    """Estimate how long ``job`` takes, from a few steps of a small part of it."""
    if job.steps == 0:
        return 0.0
    size = (min(job.cells[0], 96) // 2 * 2 or 2, min(job.cells[1], 512))
    steps = min(job.steps, 8)
    with torch.inference_mode():
        state = automaton.seed(1, size, seed=1)
        state[:] = torch.rand(state.shape[1:], generator=torch.Generator().manual_seed(0))
        automaton.grow(state[:, :, :2], 1, kernel=kernel)  # what is done only once
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < 0.2:
            automaton.grow(state, steps, kernel=kernel).sum().item()
            done += steps * size[0] * size[1]
        return job.cell_steps * (time.perf_counter() - began) / (done * (1 + _PASS_COST / steps))


def straight_alpha(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide premultiplied colours of [H, W, 4] by alpha; [H, W, 3] comes back as it is."""
    if picture.shape[-1] != 4:
        return picture
    alpha = picture[..., 3:]
    colours = np.divide(
        picture[..., :3], alpha, out=np.zeros_like(picture[..., :3]), where=alpha > 0
    )
    return np.concatenate([colours.clip(0, 1), alpha], axis=-1)


@dataclass(frozen=True)
class _Band:
    """Rows of cells of one age: a state [1, C, h, w] and the world coordinates of its corner.

    On a torus these may lie outside the world.
    """

    top: int
    left: int
    state: Tensor

    @property
    def bottom(self) -> int:
        return self.top + self.state.shape[2]


class _Stage:
    """Takes bands of cells from top to bottom and gives them ``steps`` steps later."""

    def __init__(
        self,
        automaton: CellularAutomaton,
        job: Plan,
        steps: int,
        start: int,
        seed: int | str,
        kernel: str,
    ) -> None:
        self.automaton, self.job = automaton, job
        self.steps, self.start, self.seed, self.kernel = steps, start, seed, kernel
        self.halo = automaton.reach * steps
        self.open = [edge != "torus" for edge in automaton.grid.edges]
        self.held: _Band | None = None
        self.store: Tensor | None = None
        self.next = 0  # row that comes out next

    def put(self, band: _Band) -> None:
        """Take the next rows in."""
        if self.held is None:
            self.held = band
            self.next = band.top if self.open[0] and band.top == 0 else band.top + self.halo
        else:
            joined = torch.cat([self.held.state, band.state], dim=2)
            self.held = _Band(self.held.top, band.left, joined)

    def give(self) -> _Band | None:
        """Give the next rows, no more than the plan has in a band; None when more have to come."""
        if self.held is None:
            return None
        height, width = self.job.cells
        top, left, state = self.held.top, self.held.left, self.held.state
        # The true border of a world needs no halo, nor do columns that go all the way round.
        ends = self.open[0] and self.held.bottom == height
        last = min(self.held.bottom - (0 if ends else self.halo), self.next + self.job.rows)
        if last <= self.next:
            return None
        right = left + state.shape[3]
        round_ = not self.open[1] and state.shape[3] == width
        inner_left = left + (0 if round_ or (self.open[1] and left == 0) else self.halo)
        inner_right = right - (0 if round_ or (self.open[1] and right == width) else self.halo)
        first = max(self.next - self.halo, top)
        block = state[:, :, first - top : last + self.halo - top]
        grown = self.automaton.grow(
            block,
            self.steps,
            seed=self.seed,
            start=self.start,
            origin=(first, left),
            extent=self.job.cells,
            kernel=self.kernel,
        )
        rows = slice(self.next - first, last - first)
        columns = slice(inner_left - left, inner_right - left)
        out = _Band(self.next, inner_left, grown[:, :, rows, columns])
        keep = max(last - self.halo, top)
        self.held = _Band(keep, left, self._stored(state[:, :, keep - top :]))
        self.next = last
        return out

    def _stored(self, rest: Tensor) -> Tensor:
        """Copy ``rest`` to where the rows before it were.

        Small blocks that come and go between large ones would leave the heap full of holes.
        """
        old = self.store
        if old is None or old.shape != rest.shape or _share_memory(old, rest):
            self.store = rest.clone()
        else:
            self.store = old.copy_(rest)
        return self.store


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class _Screen:
    """Takes bands of cells from top to bottom and gives the pixels that they make."""

    def __init__(
        self, automaton: CellularAutomaton, job: Plan, columns: tuple[int, int], row: int
    ) -> None:
        self.automaton, self.job, self.columns = automaton, job, columns
        self.next = row
        self.held: _Band | None = None

    def show(self, band: _Band) -> Block | None:
        """Take the next rows in; return the pixels that they complete."""
        if self.held is not None:
            joined = torch.cat([self.held.state, band.state], dim=2)
            band = _Band(self.held.top, band.left, joined)
        top, height = self.next, self.job.pixels[0]
        later = range(top + 1, height + 1)
        last = top + bisect.bisect_right(later, band.bottom, key=lambda row: self._under(row)[1])
        if last == top:
            self.held = band
            return None
        left, right = self.columns
        view = View(
            origin=(band.top, band.left),
            extent=self.job.cells,
            picture=self.job.pixels,
            top_left=(top, left),
            size=(last - top, right - left),
        )
        with torch.inference_mode():
            image = self.automaton.to_image(band.state, clip=False, view=view)[0]
            picture = image.permute(1, 2, 0).float().cpu().numpy()
            self.next = last
            keep = max(self._under(last + 1)[0], band.top) - band.top
            rest = band.state[:, :, keep:].clone() if last < height else band.state[:, :, :0]
            self.held = _Band(band.top + keep, band.left, rest)
        if not np.isfinite(picture).all():
            raise ValueError(
                f"the rule ran away: after {self.job.steps} steps the picture is not finite; "
                "use fewer --steps, or train for longer"
            )
        return Block(top, left, straight_alpha(picture.clip(0, 1)))

    def _under(self, last: int) -> tuple[int, int]:
        """Which rows of cells make the pixels from the next one to ``last``."""
        pixels, cells = self.job.pixels[0], self.job.cells[0]
        return self.automaton.grid.cells_under((self.next, last), pixels, cells, 0)


def _stages(steps: int, pass_steps: int) -> list[tuple[int, int]]:
    """Divide ``steps`` into passes: (steps, steps before them)."""
    return [(min(pass_steps, steps - done), done) for done in range(0, steps, max(pass_steps, 1))]


def _needed(
    automaton: CellularAutomaton, job: Plan, pixels: tuple[int, int], axis: int
) -> tuple[int, int]:
    """Which seeds of one axis the ``pixels`` [first, last) grow from."""
    cells = job.cells[axis]
    margin = automaton.reach * job.steps
    first, last = automaton.grid.cells_under(pixels, job.pixels[axis], cells, axis)
    if automaton.grid.edges[axis] != "torus":
        return max(first - margin, 0), min(last + margin, cells)
    if axis == 1 and last - first + 2 * margin >= cells:
        return 0, cells
    return first - margin, last + margin


def _swept_rows(
    automaton: CellularAutomaton,
    job: Plan,
    columns: tuple[int, int],
    row: int,
    seed: int | str,
    kernel: str,
    progress: Callable[[float], None],
) -> Iterator[_Band]:
    """Grow the cells under ``columns`` of pixels from ``row`` on, from top to bottom."""
    first, last = _needed(automaton, job, (row, job.pixels[0]), 0)
    left, right = _needed(automaton, job, columns, 1)
    stages = [
        _Stage(automaton, job, steps, start, seed, kernel)
        for steps, start in _stages(job.steps, job.pass_steps)
    ]
    before, top, at = row / job.pixels[0], first, -1
    while at >= 0 or top < last:
        band = None
        with torch.inference_mode():
            if at >= 0:
                band = stages[at].give()
            else:
                size, corner = (min(job.rows, last - top), right - left), (top, left)
                state = automaton.seed(1, size, seed=seed, origin=corner, extent=job.cells)
                band = _Band(top, left, state)
                top += size[0]
                progress(before + (1 - before) * (top - first) / (last - first))
            if band is None:
                at -= 1
                continue
            if at + 1 < len(stages):
                at += 1
                stages[at].put(band)
                continue
        yield band


def _all_rows(
    automaton: CellularAutomaton,
    job: Plan,
    row: int,
    seed: int | str,
    kernel: str,
    saved: tuple[int, Tensor] | None,
    save: Callable[[int, Tensor], None],
    progress: Callable[[float], None],
) -> Iterator[_Band]:
    """Grow all cells, a few steps a pass, and give those under the pixels from ``row`` on."""
    height, width = job.cells
    with torch.inference_mode():
        done, state = saved or (0, automaton.seed(1, job.cells, seed=seed))
        state = state.to(automaton.weight_in.device)
        for steps, start in _stages(job.steps, job.pass_steps):
            if start < done:
                continue
            state = _pass(automaton, job, state, steps, start, seed, kernel)
            save(start + steps, state)
            progress((start + steps) / job.steps)
    pixels = automaton.grid.cells_under((row, job.pixels[0]), job.pixels[0], height, 0)
    rows = max(1, _STRIP_CELLS // width)
    for top in range(*pixels, rows):
        index = torch.arange(top, min(top + rows, pixels[1]), device=state.device) % height
        with torch.inference_mode():
            band = _Band(top, 0, state.index_select(2, index))
        yield band


def _strip_rows(width: int, halo: int) -> int:
    """Count the rows of a strip of the whole state, without its halo."""
    return max(2 * halo, math.ceil(_STRIP_CELLS / width))


def _pass(
    automaton: CellularAutomaton,
    job: Plan,
    state: Tensor,
    steps: int,
    start: int,
    seed: int | str,
    kernel: str,
) -> Tensor:
    """Take ``steps`` steps of all cells, ``state`` [1, C, H, W], strip by strip."""
    height, width = state.shape[-2:]
    halo = automaton.reach * steps
    if height <= job.rows + 2 * halo:
        return automaton.grow(state, steps, seed=seed, start=start, kernel=kernel)
    wraps = automaton.grid.edges[0] == "torus"
    grown = torch.empty_like(state)
    for top in range(0, height, job.rows):
        bottom = min(top + job.rows, height)
        first, last = top - halo, bottom + halo
        if not wraps:
            first, last = max(first, 0), min(last, height)
        index = torch.arange(first, last, device=state.device) % height
        strip = automaton.grow(
            state.index_select(2, index),
            steps,
            seed=seed,
            start=start,
            origin=(first, 0),
            extent=(height, width),
            kernel=kernel,
        )
        grown[:, :, top:bottom] = strip[:, :, top - first : bottom - first]
    return grown
