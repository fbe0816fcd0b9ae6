"""A rule that every cell of a grid applies to itself and its neighbours."""

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from nca_texture import kernels
from nca_texture.devices import send
from nca_texture.grid import Grid, View
from nca_texture.kernels.rule import Limits, Precision, Rule, World
from nca_texture.noise import SEED_STATE, sample_seeds, uniform
from nca_texture.perception import Bank, Perception

RuleKind = Literal["mlp", "abs"]
SeedKind = Literal["zero", "noise", "cell"]
Init = Literal["uniform", "xavier", "small"]

_LIVING = (3, 0.1)  # alpha above 0.1 in a cell or next to it: Growing NCA


class CellularAutomaton(nn.Module):
    """Perception, update rule, fire rate and edges, with what turns a state into a picture.

    ``rule`` ``mlp`` is 1x1, ReLU, 1x1 (Growing NCA; Self-Organising Textures); ``abs`` is the
    single layer of muNCA over [x, p, |x|, |p|]. The first ``3`` channels times ``rgb_scale`` plus
    ``rgb_offset`` are the colours; with ``living`` there is a fourth, alpha, and colours are
    premultiplied.
    """

    def __init__(
        self,
        channels: int = 12,
        hidden: int = 96,
        grid: Grid = Grid(),  # noqa: B008 - frozen
        *,
        bank: str | Bank = "distill-2021",
        rule: RuleKind = "mlp",
        fire_rate: float = 0.5,
        living: bool = False,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        output_bias: bool = False,
        seed_kind: SeedKind = "zero",
        seed_amount: float = 1.0,
        seed_place: tuple[float, float] = (0.5, 0.5),
        rgb_scale: float = 1.0,
        rgb_offset: float = 0.5,
        init: Init = "uniform",
        init_seed: int = 0,
    ):
        """Check the settings and draw the first weights from ``init_seed``.

        ``fire_rate`` is the share of cells that act in a step; ``seed_kind`` is ``zero``, ``noise``
        (uniform in +-seed_amount / 2) or ``cell`` (one cell at ``seed_place``, fractions of
        (height, width), whose channels from the fourth on are one). ``init``: ``uniform`` as
        torch's convolution, ``xavier`` normal with gain 0.2 (NoiseNCA), ``small`` normal with
        deviation 1e-3 (muNCA); the last layer of an ``mlp`` starts at zero.
        """
        super().__init__()
        _check(channels, hidden, rule, fire_rate, living, seed_kind, init)
        self.grid = grid
        self.channels = channels
        self.hidden = hidden if rule == "mlp" else 0
        self.rule: RuleKind = rule
        self.fire_rate = fire_rate
        self.living = living
        self.limits = limits
        self.seed_kind: SeedKind = seed_kind
        self.seed_amount = seed_amount
        self.seed_place = seed_place
        self.rgb_scale = rgb_scale
        self.rgb_offset = rgb_offset
        self.perception = Perception(bank, grid.layout, channels)
        percepts = channels * self.perception.num_filters
        width, seen = (hidden, percepts) if rule == "mlp" else (channels, 2 * (channels + percepts))
        self.weight_in = nn.Parameter(torch.empty(width, seen))
        self.bias_in = nn.Parameter(torch.empty(width))
        last = torch.zeros(channels, hidden) if rule == "mlp" else None
        self.weight_out = None if last is None else nn.Parameter(last)
        bias = rule == "mlp" and output_bias
        self.bias_out = nn.Parameter(torch.zeros(channels)) if bias else None
        self.draw_weights(init, init_seed)
        if fire_rate >= 1 and seed_kind == "zero":
            warnings.warn(
                "every cell fires at every step and the seed is the same everywhere: nothing can "
                "ever break the symmetry; lower fire_rate or use seed_kind='noise'",
                stacklevel=2,
            )

    def draw_weights(self, init: Init, seed: int) -> None:
        """Draw the first layer anew from ``seed`` and set the last to zero, in place."""
        source = torch.Generator().manual_seed(seed)
        width, seen = self.weight_in.shape
        with torch.no_grad():
            if init == "small":
                weight, bias = (
                    torch.randn(n, generator=source) * 1e-3 for n in ((width, seen), width)
                )
            else:
                bound = 1 / math.sqrt(seen)
                weight = (torch.rand(width, seen, generator=source) * 2 - 1) * bound
                bias = (torch.rand(width, generator=source) * 2 - 1) * bound
                if init == "xavier":
                    deviation = 0.2 * math.sqrt(2 / (width + seen))
                    weight = torch.randn(width, seen, generator=source) * deviation
            self.weight_in.copy_(weight)
            self.bias_in.copy_(bias)
            for last in (self.weight_out, self.bias_out):
                if last is not None:
                    last.zero_()

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def shape(self) -> tuple[object, ...]:
        """All that it is but its weights."""
        kind = (self.rule, self.channels, self.hidden, self.perception.bank, self.bias_out is None)
        growth = (self.grid, self.fire_rate, self.living, self.limits)
        seed = (self.seed_kind, self.seed_amount, self.seed_place)
        return (*kind, *growth, *seed, self.rgb_scale, self.rgb_offset)

    @property
    def reach(self) -> int:
        """How many cells away a change can be felt after one step; the living mask doubles it."""
        return self.perception.reach + (1 if self.living else 0)

    def seed(
        self,
        batch: int = 1,
        size: tuple[int, int] = (128, 128),
        *,
        seed: int | str | list[int] = 0,
        origin: tuple[int, int] = (0, 0),
        extent: tuple[int, int] | None = None,
    ) -> Tensor:
        """Make states to start from: [batch, C, H, W] for ``size`` (height, width).

        ``origin`` and ``extent`` say where the block lies in how large a world, as in ``grow``.
        """
        extent = size if extent is None else extent
        self.grid.check_size(extent)
        like = self.weight_in
        state = like.new_zeros(batch, self.channels, *size, requires_grad=False)
        rows, columns = (
            torch.arange(first, first + count, device=like.device)
            for first, count in zip(origin, size, strict=True)
        )
        wrap = [edge == "torus" for edge in self.grid.edges]
        rows, columns = (
            index % end if round_ else index
            for index, end, round_ in zip((rows, columns), extent, wrap, strict=True)
        )
        if self.seed_kind == "noise":
            noise = uniform(sample_seeds(seed, batch), SEED_STATE, self.channels, rows, columns)
            state = ((noise - 0.5) * self.seed_amount).to(state.dtype)
        if self.seed_kind == "cell":
            y, x = (
                min(int(at * end), end - 1) for at, end in zip(self.seed_place, extent, strict=True)
            )
            state[:, 3:] = ((rows == y)[:, None] & (columns == x)).to(state.dtype)
        return state

    def enlarge(self, state: Tensor, size: tuple[int, int], *, seed: int | str = 0) -> Tensor:
        """Put ``state`` [B, C, H, W] in the middle of a freshly seeded grid of ``size``.

        On hexagons the offset of rows is kept even, so that no row changes its parity.
        """
        height, width = state.shape[-2:]
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        if top < 0 or left < 0:
            raise ValueError(
                f"{size[1]}x{size[0]} is smaller than the grid of {width}x{height} cells"
            )
        if self.grid.layout == "hex":
            top -= top % 2
        larger = self.seed(len(state), size, seed=seed).to(state)
        if self.seed_kind == "cell":
            larger = torch.zeros_like(larger)
        larger[..., top : top + height, left : left + width] = state
        return larger

    def grow(
        self,
        state: Tensor,
        steps: int = 1,
        *,
        seed: int | str | list[int] = 0,
        start: int = 0,
        origin: tuple[int, int] = (0, 0),
        extent: tuple[int, int] | None = None,
        kernel: str = "auto",
        precision: Precision = "float32",
        keep_every: int = 1,
        fire_rate: float | Tensor | None = None,
        dt: float = 1.0,
        dx: float | Tensor | tuple[float | Tensor, float | Tensor] = 1.0,
        angle: float | Tensor = 0.0,
    ) -> Tensor:
        """Take ``steps`` steps from ``state`` [B, C, H, W]; differentiable.

        ``seed`` is one number (each sample derives its own) or one per sample; ``start`` counts
        the steps already taken. ``origin`` (row, column) and ``extent`` (height, width) say where
        this block lies in how large a world: cells within ``reach * steps`` of a border that is
        not the world's are not to be trusted. ``fire_rate``, ``dx`` (one, or (dx, dy)) and
        ``angle`` (radians) are numbers or maps [H, W] of the world; ``dt`` scales every update.
        dx, dy and dt are NoiseNCA's continuous scales. ``precision`` is what matrix products are
        rounded to before they are multiplied; states and sums stay as they are, and a kernel that
        cannot do it is an error. With ``keep_every`` above 1 only the state of every so many steps
        is kept for the gradient, and those in between are computed again.
        """
        if steps < 0:
            raise ValueError(f"steps is {steps}; give 0 or more")
        if state.ndim != 4 or state.shape[1] != self.channels:
            raise ValueError(
                f"expected a state [B, {self.channels}, H, W], got {list(state.shape)}; "
                "make one with seed()"
            )
        extent = (state.shape[2], state.shape[3]) if extent is None else extent
        self.grid.check_size(extent)
        if precision not in get_args(Precision):
            raise ValueError(
                f"precision is {precision!r}; choose from {', '.join(get_args(Precision))}"
            )
        rule = self._rule(state, extent, fire_rate, dt, dx, angle, precision)
        _, grow = kernels.choose(kernel, rule, state)
        seeds, world = sample_seeds(seed, len(state)), World(origin, extent)
        return kernels.run(grow, rule, state, steps, seeds, start, world, keep_every=keep_every)

    def kernel_for(
        self, state: Tensor, kernel: str = "auto", precision: Precision = "float32"
    ) -> str:
        """Name the kernel that ``grow`` would take for ``state`` [B, C, H, W]."""
        extent = (state.shape[2], state.shape[3])
        rule = self._rule(state, extent, None, 1.0, 1.0, 0.0, precision)
        return kernels.choose(kernel, rule, state)[0]

    def perceive(self, state: Tensor, angle: float | Tensor = 0.0) -> Tensor:
        """Show what the cells of ``state`` [B, C, H, W] see: [B, C*F, H, W]."""
        extent = (state.shape[2], state.shape[3])
        rule = self._rule(state, extent, None, 1.0, 1.0, angle)
        rows = torch.arange(extent[0], device=state.device)
        mix = None if rule.mix is None else rule.mix.permute(3, 4, 0, 1, 2)
        cells = state.permute(0, 2, 3, 1).contiguous()
        return kernels.reference.perceive(cells, rule, rows, mix).permute(0, 3, 1, 2)

    def to_image(
        self,
        state: Tensor,
        *,
        clip: bool = True,
        size: tuple[int, int] | None = None,
        view: View | None = None,
    ) -> Tensor:
        """Show ``state`` [B, C, H, W] as a picture [B, 3 or 4, h, w] in [0, 1].

        With a living mask there is a fourth channel, alpha, and colours are premultiplied. ``clip``
        False leaves values outside [0, 1] alone, for losses. Hexagons are resampled to square
        pixels; ``size`` (height, width) asks for another number of them. A block of a larger
        world shows the pixels of ``view``.
        """
        shown = state[:, : 4 if self.living else 3]
        shown = self.grid.to_picture(shown, size) if view is None else self.grid.view(shown, view)
        picture = shown * self.rgb_scale + self.rgb_offset
        return picture.clamp(0, 1) if clip else picture

    def with_grid(self, grid: Grid) -> "CellularAutomaton":
        """Return the same rule, sharing its weights, on another grid (square or hex, any edge)."""
        twin = copy.copy(self)
        twin._modules = {"perception": self.perception.with_layout(grid.layout)}
        twin.grid = grid
        return twin

    def _rule(
        self,
        state: Tensor,
        extent: tuple[int, int],
        fire_rate: float | Tensor | None,
        dt: float,
        dx: float | Tensor | tuple[float | Tensor, float | Tensor],
        angle: float | Tensor,
        precision: Precision = "float32",
    ) -> Rule:
        rate = torch.as_tensor(
            self.fire_rate if fire_rate is None else fire_rate, dtype=torch.float64
        )
        if not bool(((rate >= 0) & (rate <= 1)).all()):
            raise ValueError("fire_rate lies between 0 (no cell acts) and 1 (every cell acts)")
        _check_map("fire_rate", rate, extent)
        scales = dx if isinstance(dx, tuple) else (dx, dx)
        maps = [angle, *scales]
        mix = None
        if any(isinstance(value, Tensor) and value.ndim for value in maps):
            filters, mix = self._mixed(maps, extent, state)
        else:
            filters = self.perception.filters(*(float(value) for value in maps))
        like = {"device": state.device, "dtype": state.dtype}
        return Rule(
            kind=self.rule,
            filters=filters.to(**like),
            mix=mix,
            weight_in=self.weight_in.to(**like),
            bias_in=self.bias_in.to(**like),
            weight_out=None if self.weight_out is None else self.weight_out.to(**like),
            bias_out=None if self.bias_out is None else self.bias_out.to(**like),
            edges=self.grid.edges,
            fire_limit=send((rate * 2**24).round().int(), state.device),
            dt=dt,
            limits=self.limits,
            living=_LIVING if self.living else None,
            precision=precision,
        )

    def _mixed(
        self, maps: list[float | Tensor], extent: tuple[int, int], state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Basis kernels for every channel, and how every cell of the world mixes them."""
        if self.perception.bank.learned:
            raise ValueError("learned filters cannot be turned or scaled; use a fixed bank")
        fields = []
        for name, value in zip(("angle", "dx", "dy"), maps, strict=True):
            field = torch.as_tensor(value, dtype=torch.float64)
            _check_map(name, field, extent)
            fields.append(field.expand(extent))
        mix = self.perception.mix_maps(*fields)  # [filters, basis, H, W]
        mix = mix[:, None] if self.perception.bank.per_channel else mix[None]
        basis = self.perception.basis.expand(self.channels, -1, -1, -1)
        return self.perception.by_parity(basis), mix.to(state.device, state.dtype)


def grow_together(
    automata: Sequence[CellularAutomaton],
    state: Tensor,
    steps: int = 1,
    *,
    seed: int | str | list[int] = 0,
    start: int = 0,
    kernel: str = "auto",
    precision: Precision = "float32",
    keep_every: int = 1,
) -> Tensor:
    """Take ``steps`` steps of every one of ``automata``, which differ in their weights only.

    ``state`` [M*B, C, H, W] has B samples of each: those of the first, those of the second, ... A
    sample gets the bits that its automaton's own ``grow`` would give it; differentiable.
    """
    first = automata[0]
    if len(automata) == 1:
        return first.grow(
            state, steps, seed=seed, start=start,
            kernel=kernel, precision=precision, keep_every=keep_every,
        )  # fmt: skip
    if any(each.shape != first.shape for each in automata):
        raise ValueError("automata that grow together differ in nothing but their weights")
    if len(state) % len(automata):
        raise ValueError(
            f"got {len(state)} samples for {len(automata)} automata; give as many for each"
        )
    extent = (state.shape[2], state.shape[3])
    first.grid.check_size(extent)
    rule = first._rule(state, extent, None, 1.0, 1.0, 0.0, precision)
    rule = _together(automata, rule, state)
    _, grow = kernels.choose(kernel, rule, state)
    seeds, world = sample_seeds(seed, len(state)), World((0, 0), extent)
    return kernels.run(grow, rule, state, steps, seeds, start, world, keep_every=keep_every)


def _together(automata: Sequence[CellularAutomaton], rule: Rule, state: Tensor) -> Rule:
    """Give ``rule``, which is the first's, the weights of all ``automata``."""
    own = {
        name: torch.stack([getattr(each, name) for each in automata]).to(state)
        for name in ("weight_in", "bias_in", "weight_out", "bias_out")
        if getattr(rule, name) is not None
    }
    if automata[0].perception.bank.learned:
        filters = torch.stack([each.perception.filters() for each in automata]).to(state)
    else:
        filters = rule.filters.expand(len(automata), *rule.filters.shape)
    return replace(rule, models=len(automata), filters=filters, **own)


def _check(
    channels: int,
    hidden: int,
    rule: str,
    fire_rate: float,
    living: bool,
    seed_kind: str,
    init: str,
) -> None:
    for name, value, known in (
        ("rule", rule, get_args(RuleKind)),
        ("seed_kind", seed_kind, get_args(SeedKind)),
        ("init", init, get_args(Init)),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(known)}")
    least = 4 if living else 3
    if channels < least:
        raise ValueError(f"channels is {channels}; a picture needs at least {least}")
    if rule == "mlp" and hidden < 1:
        raise ValueError(f"hidden is {hidden}; an mlp needs at least 1")
    if not 0 < fire_rate <= 1:
        raise ValueError(f"fire_rate is {fire_rate}; it lies above 0 and up to 1")


def _check_map(name: str, value: Tensor, extent: tuple[int, int]) -> None:
    if value.ndim and tuple(value.shape) != tuple(extent):
        raise ValueError(
            f"{name} is a map of {list(value.shape)}; "
            f"the world is {list(extent)} cells (rows, columns)"
        )
