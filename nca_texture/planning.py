"""How to make a picture: in which of the ways of ``render``, in how much memory, in what time.

Costs are counted in steps of a cell. What a pass and a call cost besides was measured.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Literal

import torch

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.grid import HEX_ROW

Way = Literal["whole", "rows", "columns", "disk"]

STRIP_CELLS = 2**17  # cells of a strip of the whole state, and of what is shown at a time
_STRIP_STEPS = 8  # steps of a strip between two passes; its halo is reach times as wide
_BAND_ROWS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)  # to choose from, and so below
_PASS_STEPS = (1, 2, 4, 8, 16)
_NARROWEST = 16  # pixels of a column block
# In steps of a cell, measured on the cpu kernel: what a pass costs each cell, and what a call does.
_PASS_COST, _CALL_COST = 0.35, 40_000
_NEAR_BEST = 1.15  # of the ways to work that are nearly as fast, the one with the least memory
_SPARE = 1.25  # what the allocator takes on top, measured
_COMFORT = 192 << 20  # bytes that nobody minds
_ENDLESS = 2**22  # rows
_WORTH = 1.25  # the whole state is kept when sweeping would take so many times as long
_DISK_WORTH = 1.5  # and likewise on disk
_DISK_COST = 2.5  # in steps of a cell: to read and write it once
_DISK_PASS_STEPS = (8, 16, 32, 64)
_HEADER = 4096  # bytes, of a file of states


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
    disk: int = 0  # bytes of states on disk

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


def plan(
    automaton: CellularAutomaton,
    pixels: tuple[int, int],
    steps: int,
    *,
    kernel: str = "auto",
    memory: int | None = None,
    columns: int | None = None,
    disk: int = 0,
) -> Plan:
    """Work out how to make a picture of ``pixels`` (height, width) with ``memory`` bytes at most.

    One cell is one pixel; on hexagons rows are sqrt(3)/2 of a cell apart, so that there are more
    rows than pixels. ``columns`` asks for blocks of so many columns; ``disk`` are the bytes of disk
    that states may take. Raises ``InputError`` when the memory is too little.
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
    on_disk = estimate.on_disk(memory or math.inf)
    can = columns is None and on_disk.memory <= (memory or math.inf) and on_disk.disk <= disk
    if can and (not fits or fits[0].work > _DISK_WORTH * on_disk.work):
        return on_disk
    if fits:
        return fits[0]
    least = min(whole.memory, swept.memory)
    also = ""
    if on_disk.memory < least and on_disk.disk <= disk:
        least = on_disk.memory
    elif on_disk.memory < least:
        also = (
            f" (or {on_disk.memory / 2**20:.0f} MB, and {on_disk.disk / 2**20:.0f} MB of disk for "
            "their states, which is not free)"
        )
    raise InputError(
        f"{steps} steps of {pixels[1]}x{pixels[0]} pixels need {least / 2**20:.0f} MB of memory or "
        f"more{also}; give --memory {math.ceil(least / 2**20)}MB, or fewer --steps"
    )


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


def stages(steps: int, pass_steps: int) -> list[tuple[int, int]]:
    """Divide ``steps`` into passes: (steps, steps before them)."""
    return [(min(pass_steps, steps - done), done) for done in range(0, steps, max(pass_steps, 1))]


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
        work *= 1 + _PASS_COST * passes / max(self.steps, 1)
        job = Plan(self.pixels, self.cells, self.steps, memory, "whole", self.pixels[1], 0, 0, work)
        return replace(job, rows=rows, pass_steps=_STRIP_STEPS)

    def on_disk(self, memory: float) -> Plan:
        """Plan to keep all cells on disk, and to take strips of them into memory."""
        height, width = self.cells
        jobs = []
        for taken in _DISK_PASS_STEPS:
            halo = self.reach * taken
            for rows in _BAND_ROWS:
                strip = min(height, rows + 2 * halo) * width
                block = 2 * strip * self.held + strip * self.busy
                shown = min(height, rows) * width * (2 * self.held + self.shown)
                passes = -(-self.steps // taken)
                work = strip / (min(rows, height) * width)
                work *= 1 + _PASS_COST * passes / max(self.steps, 1)
                work += _DISK_COST * passes / max(self.steps, 1)
                job = Plan(self.pixels, self.cells, self.steps, 0, "disk", self.pixels[1], 0, 0, 0)
                jobs.append(
                    replace(
                        job,
                        memory=int(_SPARE * max(block, shown)),
                        rows=rows,
                        pass_steps=taken,
                        work=work,
                        disk=_HEADER + 2 * self.held * height * width,
                    )
                )
        fits = [job for job in jobs if job.memory <= memory]
        if not fits:
            return min(jobs, key=lambda job: job.memory)
        best = min(job.work for job in fits)
        near = [job for job in fits if job.work <= _NEAR_BEST * best]
        return min(near, key=lambda job: (max(job.memory, _COMFORT), job.work))

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
        margin = 0
        passes = reversed(stages(self.steps, steps))  # the last one has the least margin
        for taken, _ in passes:
            halo = self.reach * taken
            margin += halo
            across = min(right - left + 2 * margin, width)
            tall = height + 2 * (margin - halo)
            calls = -(-tall // rows)
            held += 2 * halo * across
            block = across * (min(rows, tall) + 2 * halo)
            passed = taken + _PASS_COST
            done += (tall + 2 * halo * calls) * across * passed + calls * _CALL_COST
            widest = max(widest, block)
        widest = widest or min(rows, height) * min(right - left, width)
        memory = held * self.held + widest * self.busy + rows * columns * self.shown
        memory = int(_SPARE * memory)
        blocks = -(-self.pixels[1] // columns)
        work = max(1.0, done * blocks / (height * width * max(self.steps, 1)))
        way: Way = "rows" if blocks == 1 else "columns"
        return Plan(self.pixels, self.cells, self.steps, memory, way, columns, rows, steps, work)


def _strip_rows(width: int, halo: int) -> int:
    """Count the rows of a strip of the whole state, without its halo."""
    return max(2 * halo, math.ceil(STRIP_CELLS / width))
