"""From a stored automaton to a picture of any size, in memory that does not grow with it.

A cell after T steps is made from the cells within ``reach * T`` of it. So rows are swept from top
to bottom: a stage takes rows of one age and gives rows some steps older, and holds back only the
few that the next ones still need. What is held grows with width and steps, not with the height. On
a torus the sweep begins above the first row and ends below the last: chance is a function of
wrapped coordinates, so these rows are the world's. Where even that is too much, columns are done in
blocks whose margins are computed more than once; where the steps are many, the whole state is kept,
in memory or on disk. All four give the same picture, to the bit.
"""

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import View
from nca_texture.planning import STRIP_CELLS, Plan, stages
from nca_texture.states import States


@dataclass(frozen=True)
class Block:
    """A part of a picture."""

    top: int
    left: int
    pixels: NDArray[np.float32]  # [h, w, 3 or 4] in [0, 1], straight alpha


def render(
    automaton: CellularAutomaton,
    job: Plan,
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    progress: Callable[[float], None] = lambda share: None,
) -> NDArray[np.float32]:
    """Grow ``job`` and return its picture [H, W, 3 or 4] in [0, 1], straight alpha.

    The plan is not one with states on disk, for which there is ``paint``.
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
    states: States | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Block]:
    """Grow ``job`` and yield its picture: blocks of columns, each from top to bottom.

    ``start`` (block of columns, row of pixels) goes on where another call has stopped; where all
    cells are kept, ``save`` is given them after every pass, with the steps that they have taken,
    and ``saved`` goes on from there. A plan with states on disk needs ``states``, which keep what
    is done themselves.
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
        elif job.way == "disk":
            if states is None:
                raise ValueError("the plan keeps states on disk; give states")
            bands = _rows_on_disk(automaton, job, top, seed, kernel, states, tell)
        else:
            bands = _swept_rows(automaton, job, columns, top, seed, kernel, tell)
        for band in bands:
            block = screen.show(band)
            if block is not None:
                yield block


def straight_alpha(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide premultiplied colours of [H, W, 4] by alpha; [H, W, 3] comes back as it is."""
    if picture.shape[-1] != 4:
        return picture
    alpha = picture[..., 3:]
    colours = np.divide(
        picture[..., :3], alpha, out=np.zeros_like(picture[..., :3]), where=alpha > 0
    )
    return np.concatenate([colours.clip(0, 1), alpha], axis=-1)


def composited(
    picture: NDArray[np.float32], background: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Lay [H, W, 4] with straight alpha over a ``background`` colour: [H, W, 3]."""
    alpha = picture[..., 3:]
    over = picture[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return over.astype(np.float32)


def settle(
    automaton: CellularAutomaton,
    cells: tuple[int, int],
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    every: int = 16,
    most: int = 4096,
    tolerance: float = 0.5 / 255,
) -> tuple[int, bool]:
    """Grow until the picture no longer changes: how many steps that takes, and whether it did.

    It is still when in two stretches of ``every`` steps, one after the other, the premultiplied
    colours and alpha of what is seen change by no more than ``tolerance`` on average, and no pixel
    by more than a half. What never is takes ``most``.
    """
    with torch.inference_mode():
        state = automaton.seed(1, cells, seed=seed)
        before, calm = automaton.to_image(state), 0
        for done in range(every, most + 1, every):
            state = automaton.grow(state, every, seed=seed, start=done - every, kernel=kernel)
            image = automaton.to_image(state)
            moved = (image - before).abs().mean(1)
            seen = image[:, 3] > 0 if automaton.living else torch.ones_like(moved) > 0
            change = moved[seen].mean().item() if bool(seen.any()) else 0.0
            grows = bool((image - before).abs().amax() > 0.5)
            calm = calm + 1 if change <= tolerance and not grows else 0
            if calm == 2:
                return done - 2 * every, True
            before = image
    return most, False


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
    sweep = [
        _Stage(automaton, job, steps, start, seed, kernel)
        for steps, start in stages(job.steps, job.pass_steps)
    ]
    before, top, at = row / job.pixels[0], first, -1
    while at >= 0 or top < last:
        band = None
        with torch.inference_mode():
            if at >= 0:
                band = sweep[at].give()
            else:
                size, corner = (min(job.rows, last - top), right - left), (top, left)
                state = automaton.seed(1, size, seed=seed, origin=corner, extent=job.cells)
                band = _Band(top, left, state)
                top += size[0]
                progress(before + (1 - before) * (top - first) / (last - first))
            if band is None:
                at -= 1
                continue
            if at + 1 < len(sweep):
                at += 1
                sweep[at].put(band)
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
        for steps, start in stages(job.steps, job.pass_steps):
            if start < done:
                continue
            state = _pass(automaton, job, state, steps, start, seed, kernel)
            save(start + steps, state)
            progress((start + steps) / job.steps)
    pixels = automaton.grid.cells_under((row, job.pixels[0]), job.pixels[0], height, 0)
    rows = max(1, STRIP_CELLS // width)
    for top in range(*pixels, rows):
        index = torch.arange(top, min(top + rows, pixels[1]), device=state.device) % height
        with torch.inference_mode():
            band = _Band(top, 0, state.index_select(2, index))
        yield band


def _rows_on_disk(
    automaton: CellularAutomaton,
    job: Plan,
    row: int,
    seed: int | str,
    kernel: str,
    states: States,
    progress: Callable[[float], None],
) -> Iterator[_Band]:
    """Grow all cells, a strip at a time, and give those under the pixels from ``row`` on."""
    height, width = job.cells
    device = automaton.weight_in.device

    def take(first: int, last: int) -> Tensor:
        if states.steps == 0:
            size = (last - first, width)
            return automaton.seed(1, size, seed=seed, origin=(first, 0), extent=job.cells)
        rows = np.arange(first, last) % height
        return torch.from_numpy(np.ascontiguousarray(states.read(rows)))[None].to(device)

    while states.steps < job.steps:
        start = states.steps
        steps = min(job.pass_steps, job.steps - start)
        states.begin(start + steps)
        for top in range(states.row, height, job.rows):
            bottom = min(top + job.rows, height)
            with torch.inference_mode():
                grown = _strip(automaton, job, take, (top, bottom), steps, start, seed, kernel)
                states.write(grown[0].float().cpu().numpy())
            progress((start + steps * bottom / height) / job.steps)
    pixels = automaton.grid.cells_under((row, job.pixels[0]), job.pixels[0], height, 0)
    for top in range(*pixels, job.rows):
        with torch.inference_mode():
            band = _Band(top, 0, take(top, min(top + job.rows, pixels[1])))
        yield band


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
    height = state.shape[2]
    if height <= job.rows + 2 * automaton.reach * steps:
        return automaton.grow(state, steps, seed=seed, start=start, kernel=kernel)

    def take(first: int, last: int) -> Tensor:
        return state.index_select(2, torch.arange(first, last, device=state.device) % height)

    grown = torch.empty_like(state)
    for top in range(0, height, job.rows):
        rows = (top, min(top + job.rows, height))
        strip = _strip(automaton, job, take, rows, steps, start, seed, kernel)
        grown[:, :, slice(*rows)] = strip
    return grown


def _strip(
    automaton: CellularAutomaton,
    job: Plan,
    take: Callable[[int, int], Tensor],
    rows: tuple[int, int],
    steps: int,
    start: int,
    seed: int | str,
    kernel: str,
) -> Tensor:
    """Grow ``rows`` [top, bottom) of all cells from the rows [first, last) that ``take`` gives."""
    halo = automaton.reach * steps
    first, last = rows[0] - halo, rows[1] + halo
    if automaton.grid.edges[0] != "torus":
        first, last = max(first, 0), min(last, job.cells[0])
    grown = automaton.grow(
        take(first, last),
        steps,
        seed=seed,
        start=start,
        origin=(first, 0),
        extent=job.cells,
        kernel=kernel,
    )
    return grown[:, :, rows[0] - first : rows[1] - first]
