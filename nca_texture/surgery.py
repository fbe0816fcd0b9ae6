"""What is done to a state while it grows: events at steps, which a timeline in TOML lists.

    [[event]]
    at = 96                          # before the step of this number
    do = "erase"
    circle = [0.5, 0.3, 0.2]         # x, y, radius

Places are fractions of the grid, x first. A region is a ``circle`` [x, y, radius], a ``rectangle``
[x, y, width, height] around its middle, or a ``half`` plane [x, y, degrees]; without one it is the
whole grid. The events are

- ``erase``: clear the region;
- ``damage``: clear a region drawn by chance, of the ``shape`` circle, rectangle or half;
- ``graft``: copy the region to where its middle is ``to`` = [x, y];
- ``freeze``: the region keeps its state, or with ``what`` = "visible" its colours and alpha; with
  ``living`` = true only what lives there does; until
- ``thaw``: nothing is frozen any more;
- ``enlarge``: go on in the middle of ``size`` = [width, height] cells;
- ``resample``: what has grown is turned by ``angle`` degrees and drawn ``scale`` times as large,
  and what is frozen with it; ``around`` = [x, y] stays where it is;
- ``rotate``: turn perception in the region by ``angle`` degrees;
- ``fire``: let the share ``rate`` of the region's cells act in a step;
- ``class``: tell the region that it is of the class, or mixture, ``name``;
- ``weights``: let the rule of another ``model`` act in the region, ``blur`` cells soft.

With ``every`` and ``times`` an event comes that many times, so many steps apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from nca_texture.automaton import ALIVE, CellularAutomaton
from nca_texture.damage import Shape, at_random, circle, cut, half, rectangle
from nca_texture.noise import generator, sample_seeds

Deed = Literal[
    "erase", "damage", "graft", "freeze", "thaw", "enlarge", "resample", "rotate", "fire", "class",
    "weights"
]  # fmt: skip

SURGERY = 31  # stream of chance, apart from those of noise.py and training.py


@dataclass(frozen=True, kw_only=True)
class Event:
    """One deed of a timeline; see the head of this module."""

    at: int
    do: Deed
    every: int = 0  # steps from one time to the next
    times: int = 1
    circle: tuple[float, ...] = ()  # x, y, radius
    rectangle: tuple[float, ...] = ()  # x, y, width, height
    half: tuple[float, ...] = ()  # x, y, degrees
    shape: Shape = "circle"
    to: tuple[float, ...] = ()  # x, y
    what: Literal["all", "visible"] = "all"
    living: bool = False
    size: tuple[int, ...] = ()  # width, height
    angle: float = 0.0  # degrees
    scale: float = 1.0
    around: tuple[float, ...] = (0.5, 0.5)  # x, y
    rate: float = 0.5
    name: str = ""
    model: str = ""
    blur: float = 0.0

    def __post_init__(self) -> None:
        where = f"the event {self.do!r} at step {self.at}"
        if self.do not in get_args(Deed):
            raise ValueError(f"no event is called {self.do!r}; choose from {', '.join(_DEEDS)}")
        if self.at < 0:
            raise ValueError(f"{where}: steps count from 0")
        regions = {"circle": 3, "rectangle": 4, "half": 3}
        given = [name for name in regions if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{where} has two regions, {given[0]} and {given[1]}; give one")
        lengths = {name: regions[name] for name in given}
        needed = {"graft": ("to", 2), "enlarge": ("size", 2), "resample": ("around", 2)}
        if self.do in needed:
            name, count = needed[self.do]
            lengths[name] = count
        for name, count in lengths.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{where}: {name} needs {count} numbers")
        if self.do == "graft" and not given:
            raise ValueError(f"{where}: say which circle or rectangle is copied")
        if self.times < 1 or (self.times > 1 and self.every < 1):
            raise ValueError(f"{where}: it comes once, or more times with every at 1 or more")
        if not 0.01 <= self.scale <= 100:
            raise ValueError(f"{where}: scale lies between 0.01 and 100")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"{where}: rate lies between 0 and 1")
        for deed, key in (("class", "name"), ("weights", "model")):
            if self.do == deed and not getattr(self, key):
                raise ValueError(f"{where}: {key} is missing")

    def region(self, size: tuple[int, int]) -> Tensor:
        """Find the cells it is about: bool [H, W]."""
        if self.circle:
            x, y, radius = self.circle
            return circle(size, (y, x), radius)
        if self.rectangle:
            x, y, width, height = self.rectangle
            return rectangle(size, (y, x), (height, width))
        if self.half:
            x, y, degrees = self.half
            return half(size, (y, x), math.radians(degrees))
        return torch.ones(size, dtype=torch.bool)


_DEEDS = get_args(Deed)


class Theatre:
    """An automaton that grows under a timeline; differentiable as the automaton is."""

    def __init__(
        self,
        automaton: CellularAutomaton,
        events: Sequence[Event],
        *,
        kernel: str = "auto",
        mixtures: Mapping[str, tuple[float, ...]] | None = None,
        models: Mapping[str, CellularAutomaton] | None = None,
    ) -> None:
        """Get ready: ``mixtures`` are the weights of the classes that events name.

        ``models`` are the automata whose weights are swapped in. Raises ``ValueError`` for an event
        that this automaton cannot undergo.
        """
        self.automaton, self.kernel = automaton, kernel
        self.events = sorted(
            (
                replace(event, at=event.at + turn * event.every, times=1)
                for event in events
                for turn in range(event.times)
            ),
            key=lambda event: event.at,
        )
        self.mixtures, self.models = mixtures or {}, models or {}
        for event in self.events:
            self._check(event)
        self.reset()

    def reset(self) -> None:
        """Forget what was frozen, turned, slowed and swapped."""
        self.frozen: list[tuple[Tensor, Tensor, int]] = []  # cells, state, channels
        self.angle: Tensor | None = None
        self.rate: Tensor | None = None
        self.others: list[tuple[CellularAutomaton, Tensor]] = []

    def _check(self, event: Event) -> None:
        where = f"the event {event.do!r} at step {event.at}"
        if event.do == "class":
            if not self.automaton.held:
                raise ValueError(
                    f"{where}: this model is not told a class at every step; "
                    "train one with --condition one-hot, genome or embedding"
                )
            if event.name not in self.mixtures:
                raise ValueError(f"{where}: there is no class {event.name!r}")
        if event.living and not self.automaton.living:
            raise ValueError(f"{where}: cells of this model do not live and die")
        if event.do == "resample" and self.automaton.grid.layout != "square":
            raise ValueError(f"{where}: hexagons cannot be turned and scaled; use --layout square")
        if event.do == "weights":
            other = self.models.get(event.model)
            if other is None:
                raise ValueError(f"{where}: the model {event.model!r} was not loaded")
            if other.channels != self.automaton.channels:
                raise ValueError(
                    f"{where}: {event.model} has {other.channels} channels, "
                    f"not {self.automaton.channels}"
                )

    def grow(
        self, state: Tensor, steps: int, *, seed: int | str | list[int] = 0, start: int = 0
    ) -> Tensor:
        """Take ``steps`` steps from ``state`` [B, C, H, W], ``start`` steps old, and what befalls.

        An event comes before the step of its number.
        """
        at, end = start, start + steps
        seeds = sample_seeds(seed, len(state))
        for event in [each for each in self.events if start <= each.at < end]:
            state = self._advance(state, event.at - at, seeds, at)
            at = event.at
            state = self._do(event, state, seeds)
        return self._advance(state, end - at, seeds, at)

    def _advance(self, state: Tensor, steps: int, seeds: list[int], at: int) -> Tensor:
        """Take steps without an event in them; one by one where the rule alone is not enough."""
        if not self.frozen and not self.others:
            return self._grow(self.automaton, state, steps, seeds, at)
        for step in range(at, at + steps):
            grown = self._grow(self.automaton, state, 1, seeds, step)
            for other, share in self.others:
                grown = torch.lerp(grown, self._grow(other, state, 1, seeds, step), share)
            for cells, kept, channels in self.frozen:
                same = torch.where(cells, kept[:, :channels], grown[:, :channels])
                grown = torch.cat([same, grown[:, channels:]], 1)
            state = grown
        return state

    def _grow(
        self, automaton: CellularAutomaton, state: Tensor, steps: int, seeds: list[int], at: int
    ) -> Tensor:
        if not steps:
            return state
        angle = 0.0 if self.angle is None else self.angle
        if isinstance(angle, Tensor) and bool((angle == angle[0, 0]).all()):
            angle = float(angle[0, 0])  # one angle is for every kernel, a map for the reference
        return automaton.grow(
            state, steps, seed=seeds, start=at, kernel=self.kernel, angle=angle, fire_rate=self.rate
        )

    def _do(self, event: Event, state: Tensor, seeds: list[int]) -> Tensor:
        size = state.shape[2], state.shape[3]
        cells = event.region(size).to(state.device)
        held = self.automaton.held
        if event.do == "erase":
            return cut(state, cells, held)
        if event.do == "damage":
            chance = [generator(seed, event.at, SURGERY) for seed in seeds]
            return cut(state, torch.stack([at_random(event.shape, size, c) for c in chance]), held)
        if event.do == "graft":
            return self._graft(event, state, cells)
        if event.do == "freeze":
            channels = self.automaton.own if event.what == "all" else self._visible
            if event.living:
                cells = cells & (state[:, 3:4] > ALIVE)
            self.frozen = [*self.frozen, (cells, state, channels)]
        elif event.do == "thaw":
            self.frozen = []
        elif event.do == "enlarge":
            return self._enlarge(event, state)
        elif event.do == "resample":
            return self._resample(event, state)
        elif event.do == "rotate":
            self.angle = self._painted(self.angle, 0.0, cells, math.radians(event.angle))
        elif event.do == "fire":
            self.rate = self._painted(self.rate, self.automaton.fire_rate, cells, event.rate)
        elif event.do == "class":
            weights = torch.tensor([self.mixtures[event.name]], device=state.device)
            told = self.automaton.tell(state, weights.expand(len(state), -1))
            return torch.where(cells, told, state)
        elif event.do == "weights":
            share = _soft(cells.to(state.dtype), event.blur)
            self.others = [*self.others, (self.models[event.model], share)]
        return state

    @property
    def _visible(self) -> int:
        return 4 if self.automaton.living else 3

    def _painted(self, field: Tensor | None, usual: float, cells: Tensor, value: float) -> Tensor:
        if field is None:
            field = torch.full(cells.shape, usual, dtype=torch.float64)
        return torch.where(cells.cpu(), value, field)

    def _graft(self, event: Event, state: Tensor, cells: Tensor) -> Tensor:
        """Copy ``cells`` of ``state`` to another place; what falls beyond the grid is lost."""
        x, y = (event.circle or event.rectangle or event.half)[:2]
        height, width = state.shape[2:]
        down, right = round((event.to[1] - y) * height), round((event.to[0] - x) * width)
        moved, there = state.roll((down, right), (2, 3)), cells.roll((down, right), (0, 1))
        rows = torch.arange(height, device=state.device)[:, None] - down
        columns = torch.arange(width, device=state.device) - right
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        own = self.automaton.own
        grafted = torch.where(there & inside, moved[:, :own], state[:, :own])
        return torch.cat([grafted, state[:, own:]], 1)

    def _enlarge(self, event: Event, state: Tensor) -> Tensor:
        width, height = event.size
        before = state.shape[2], state.shape[3]
        larger = self.automaton.enlarge(state, (height, width))

        def around(values: Tensor) -> Tensor:
            """Put what was said of a smaller grid in the middle of the larger one."""
            top, left = (height - before[0]) // 2, (width - before[1]) // 2
            if self.automaton.grid.layout == "hex":
                top -= top % 2
            sides = (left, width - before[1] - left, top, height - before[0] - top)
            return torch.nn.functional.pad(values, sides)

        self.frozen = [
            (around(cells.float()) > 0, around(kept), channels)
            for cells, kept, channels in self.frozen
        ]
        self.others = [(other, around(share)) for other, share in self.others]
        inside = around(torch.ones(before)) > 0
        if self.angle is not None:
            self.angle = torch.where(inside, around(self.angle), 0.0)
        if self.rate is not None:
            self.rate = torch.where(inside, around(self.rate), self.automaton.fire_rate)
        return larger

    def _resample(self, event: Event, state: Tensor) -> Tensor:
        """Turn and scale what the rule has made; where it comes from beyond the grid is nothing."""

        def turned(field: Tensor) -> Tensor:
            return resampled(field, math.radians(event.angle), event.scale, event.around)

        def of_rule(values: Tensor) -> Tensor:
            own = self.automaton.own
            return torch.cat([turned(values[:, :own]), values[:, own:]], 1)

        self.frozen = [
            (
                turned(cells.to(kept).expand(len(kept), 1, *cells.shape[-2:])) > 0.5,
                of_rule(kept),
                channels,
            )
            for cells, kept, channels in self.frozen
        ]
        return of_rule(state)

    def size_at(self, size: tuple[int, int], step: int) -> tuple[int, int]:
        """Cells (height, width) of a grid of ``size`` when it is ``step`` steps old."""
        for event in self.events:
            if event.do == "enlarge" and event.at <= step:
                size = (event.size[1], event.size[0])
        return size


def resampled(
    field: Tensor, angle: float, scale: float, around: Sequence[float] = (0.5, 0.5)
) -> Tensor:
    """Turn ``field`` [B, C, H, W] by so many radians and draw it ``scale`` times as large.

    From 0 to the right a quarter of a turn leads downwards. ``around`` (x, y), fractions, stays;
    values in between are linear, and beyond the field they are zero.
    """
    height, width = field.shape[2:]
    like = {"device": field.device, "dtype": field.dtype}
    y = torch.arange(height, **like)[:, None] + 0.5 - around[1] * height
    x = torch.arange(width, **like) + 0.5 - around[0] * width
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    down, right = c * y - s * x, c * x + s * y  # where what comes to lie here lay before
    grid = torch.stack(
        [2 * right / width + 2 * around[0] - 1, 2 * down / height + 2 * around[1] - 1], -1
    )
    grid = grid.expand(len(field), -1, -1, -1)
    return torch.nn.functional.grid_sample(field, grid, align_corners=False)


def with_models(events: Sequence[Event], folder: str) -> tuple[Event, ...]:
    """Let the models that events name be looked for in a timeline's own ``folder``."""
    from pathlib import Path

    return tuple(
        replace(each, model=str(Path(folder) / each.model)) if each.model else each
        for each in events
    )


def _soft(share: Tensor, blur: float) -> Tensor:
    """Blur a mask [H, W] by so many cells."""
    if blur <= 0:
        return share
    reach = math.ceil(3 * blur)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=share.device) / blur) ** 2)
    taps = (taps / taps.sum()).to(share.dtype)
    padded = torch.nn.functional.pad(share[None, None], [reach] * 4, mode="replicate")
    smooth = torch.nn.functional.conv2d(padded, taps.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(smooth, taps.view(1, 1, -1, 1))[0, 0]
