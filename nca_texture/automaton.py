"""A rule that every cell of a grid applies to itself and its neighbours."""

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nca_texture import kernels
from nca_texture.devices import send
from nca_texture.grid import Grid, View
from nca_texture.kernels.rule import Activation, Limits, Precision, Rule, World
from nca_texture.noise import SEED_STATE, sample_seeds, uniform
from nca_texture.perception import Bank, Perception

RuleKind = Literal["mlp", "abs"]
SeedKind = Literal["zero", "noise", "cell"]
Init = Literal["uniform", "xavier", "small"]
FireBy = Literal["cell", "element"]
Condition = Literal["none", "trainable-seed", "one-hot", "genome", "embedding"]

ALIVE = 0.1  # alpha above it, in a cell or next to it: Growing NCA


@dataclass(frozen=True)
class Plant:
    """One seed of a garden: where it stands, and how much of each class it has."""

    place: tuple[float, float]  # fractions of (height, width)
    mixture: tuple[float, ...] = ()  # a weight for each class; none is the first class


class CellularAutomaton(nn.Module):
    """Perception, update rule, fire rate and edges, with what turns a state into a picture.

    ``rule`` ``mlp`` is 1x1, ReLU, 1x1 (Growing NCA; Self-Organising Textures), or with
    ``activation`` ``atan`` that in its place (Growing Pokemon); ``abs`` is the single layer of
    muNCA over [x, p, |x|, |p|]. The first ``3`` channels times ``rgb_scale`` plus
    ``rgb_offset`` are the colours; with ``living`` there is a fourth, alpha, and colours are
    premultiplied.

    One rule can have several ``classes``. By ``condition`` a sample's class is written in channels
    that are ``held``: they follow the others, are the same in every cell, and no step changes them.
    ``one-hot`` has a channel for each class, ``genome`` the digits of its number in base two,
    ``embedding`` some learned numbers. ``trainable-seed`` holds nothing: each class has a learned
    seed, from which all that is told about it has to follow.
    """

    codes: Tensor | None  # [classes, held]: what is written for each class
    seeds: Tensor | None  # [classes, ...]: what each class grows from

    def __init__(
        self,
        channels: int = 12,
        hidden: int = 96,
        grid: Grid = Grid(),  # noqa: B008 - frozen
        *,
        bank: str | Bank = "distill-2021",
        rule: RuleKind = "mlp",
        activation: Activation = "relu",
        fire_rate: float = 0.5,
        fire_by: FireBy = "cell",
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
        condition: Condition = "none",
        classes: int = 1,
        embedding: int = 4,
    ):
        """Check the settings and draw the first weights from ``init_seed``.

        ``channels`` are those that the rule changes. ``fire_rate`` is the share of cells that act
        in a step, or with ``fire_by`` ``element`` of all their numbers; ``seed_kind`` is ``zero``,
        ``noise`` (uniform in +-seed_amount / 2) or ``cell`` (one cell at ``seed_place``, fractions
        of (height, width), whose channels from the fourth on are one). ``init``: ``uniform`` as
        torch's convolution, ``xavier`` normal with gain 0.2 (NoiseNCA), ``small`` normal with
        deviation 1e-3 (muNCA), and so ``abs`` in any case; the last layer of an ``mlp`` starts at
        zero. ``embedding`` is how many numbers a class has with that ``condition``.
        """
        super().__init__()
        _check(channels, hidden, rule, fire_rate, living, seed_kind, init)
        _check_condition(condition, classes, embedding, fire_by)
        _check_activation(activation, rule, limits)
        self.grid = grid
        self.condition: Condition = condition
        self.classes = classes
        self.held = _held(condition, classes, embedding)
        self.own = channels  # those that the rule changes
        channels += self.held
        self.channels = channels
        self.fire_by: FireBy = fire_by
        self.hidden = hidden if rule == "mlp" else 0
        self.rule: RuleKind = rule
        self.activation: Activation = activation
        self.fire_rate = fire_rate
        self.living = living
        self.limits = limits
        self.seed_kind: SeedKind = seed_kind
        self.seed_amount = seed_amount
        self.rgb_scale = rgb_scale
        self.rgb_offset = rgb_offset
        self.perception = Perception(bank, grid.layout, channels)
        percepts = channels * self.perception.num_filters
        width, seen = (hidden, percepts) if rule == "mlp" else (self.own, 2 * (channels + percepts))
        self.weight_in = nn.Parameter(torch.empty(width, seen))
        self.bias_in = nn.Parameter(torch.empty(width))
        last = torch.zeros(self.own, hidden) if rule == "mlp" else None
        self.weight_out = None if last is None else nn.Parameter(last)
        bias = rule == "mlp" and output_bias
        self.bias_out = nn.Parameter(torch.zeros(self.own)) if bias else None
        self.garden = (Plant(seed_place),)
        if condition == "embedding":
            self.codes = nn.Parameter(torch.empty(classes, embedding))
        else:
            codes = _codes(condition, classes) if self.held else None
            self.register_buffer("codes", codes, persistent=False)
        learned = condition == "trainable-seed"
        seeds = torch.empty(classes, self.own - self._first_seeded) if learned else None
        self.seeds = None if seeds is None else nn.Parameter(seeds)
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
            if init == "small" or self.weight_out is None:  # the only layer is the whole update
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
            if self.condition == "embedding":
                assert self.codes is not None
                self.codes.copy_(torch.randn(self.codes.shape, generator=source))
            if self.seeds is not None:  # around the usual seed, and apart from each other
                usual = 1.0 if self.living else 0.0
                self.seeds.copy_(usual + 0.5 * torch.randn(self.seeds.shape, generator=source))

    @property
    def seed_place(self) -> tuple[float, float]:
        """Where the first seed stands, in fractions of (height, width)."""
        return self.garden[0].place

    @property
    def _first_seeded(self) -> int:
        """The first channel of a learned seed; before it are colours and alpha."""
        return 4 if self.living else 0

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def shape(self) -> tuple[object, ...]:
        """All that it is but its weights."""
        layers = (self.rule, self.activation, self.channels, self.hidden, self.bias_out is None)
        growth = (self.grid, self.fire_rate, self.fire_by, self.living, self.limits)
        seed = (self.seed_kind, self.seed_amount, self.garden, self.condition, self.classes)
        return (*layers, self.perception.bank, *growth, *seed, self.rgb_scale, self.rgb_offset)

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
        classes: Tensor | None = None,
    ) -> Tensor:
        """Make states to start from: [batch, C, H, W] for ``size`` (height, width).

        ``origin`` and ``extent`` say where the block lies in how large a world, as in ``grow``.
        ``classes`` [batch], or their weights [batch, classes], are those of the samples; without
        them, and with several plants in the ``garden``, each cell has the class of the nearest
        plant. With a learned seed or embedding the states have a gradient.
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
            noise = uniform(sample_seeds(seed, batch), SEED_STATE, self.own, rows, columns)
            state[:, : self.own] = ((noise - 0.5) * self.seed_amount).to(state.dtype)
        if self.condition == "none" and self.seed_kind != "cell":
            return state
        nearest, stands = self._garden(rows, columns, extent)
        mixtures = self._mixtures(batch, classes).to(state)  # [B or 1, plants, classes]
        if self.seed_kind == "cell":
            state[:, 3 : self.own] = stands.any(0).to(state.dtype)
        if self.seeds is not None:
            first, learned = self._first_seeded, mixtures @ self.seeds
            places = stands if self.seed_kind == "cell" else nearest
            learned = torch.einsum("bpc,phw->bchw", learned, places.to(state.dtype))
            rest = state[:, first : self.own]
            if self.seed_kind == "cell":
                rest = rest * 0
            state = torch.cat([state[:, :first], rest + learned], 1)
        if self.codes is not None:
            codes = torch.einsum("bpc,phw->bchw", mixtures @ self.codes, nearest.to(state.dtype))
            state = torch.cat([state[:, : self.own], codes.expand(batch, -1, -1, -1)], 1)
        return state

    def tell(self, state: Tensor, classes: Tensor) -> Tensor:
        """Give ``state`` [B, C, H, W] its classes anew: in the channels that are held, everywhere.

        ``classes`` are [B], or their weights [B, classes]. Where nothing is held the state comes
        back as it is.
        """
        if self.codes is None:
            return state
        codes = self._mixtures(len(state), classes)[:, 0].to(state) @ self.codes.to(state)
        codes = codes[:, :, None, None].expand(len(state), -1, *state.shape[2:])
        return torch.cat([state[:, : self.own], codes], 1)

    def planted(self, garden: Sequence[Plant]) -> "CellularAutomaton":
        """Return the same rule, sharing its weights, whose seeds are those of ``garden``.

        Raises ``ValueError`` for a garden without plants, and for a mixture of other classes.
        """
        if not garden:
            raise ValueError("a garden needs at least one plant")
        for plant in garden:
            if plant.mixture and len(plant.mixture) != self.classes:
                raise ValueError(
                    f"a plant has weights for {len(plant.mixture)} classes, "
                    f"but the rule has {self.classes}"
                )
        twin = copy.copy(self)
        twin.garden = tuple(garden)
        return twin

    def _garden(
        self, rows: Tensor, columns: Tensor, extent: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Which plant each cell is nearest to, and where plants stand: bool [plants, H, W]."""
        distances, stands = [], []
        for plant in self.garden:
            (y, x), (height, width) = plant.place, extent
            y, x = min(int(y * height), height - 1), min(int(x * width), width - 1)
            apart = [(index - at).abs() for index, at in ((rows, y), (columns, x))]
            for axis, edge in enumerate(self.grid.edges):
                if edge == "torus":
                    apart[axis] = apart[axis].minimum(extent[axis] - apart[axis])
            distances.append(apart[0][:, None] ** 2 + apart[1] ** 2)
            stands.append((rows == y)[:, None] & (columns == x))
        nearest = torch.stack(distances).argmin(0)
        numbers = torch.arange(len(self.garden), device=rows.device)
        return nearest == numbers[:, None, None], torch.stack(stands)

    def _mixtures(self, batch: int, classes: Tensor | None) -> Tensor:
        """Weigh all classes for every plant: [batch or 1, plants, classes]."""
        device = self.weight_in.device
        if classes is None:
            first = (1.0, *(0.0 for _ in range(self.classes - 1)))
            weights = [plant.mixture or first for plant in self.garden]
            return torch.tensor(weights, device=device)[None]
        if classes.ndim == 1:
            classes = torch.nn.functional.one_hot(classes.long(), self.classes)
        if classes.shape != (batch, self.classes):
            raise ValueError(
                f"expected classes [{batch}] or weights [{batch}, {self.classes}], "
                f"got {list(classes.shape)}"
            )
        return classes.float().to(device)[:, None].expand(-1, len(self.garden), -1)

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
        larger = self.seed(len(state), size, seed=seed).detach().to(state)
        if self.seed_kind == "cell":
            larger[:, : self.own] = 0
        larger[..., top : top + height, left : left + width] = state
        if self.held:  # what is beyond has the class of the cell that is nearest
            sides = (left, size[1] - width - left, top, size[0] - height - top)
            held = torch.nn.functional.pad(state[:, self.own :], sides, mode="replicate")
            larger[:, self.own :] = held
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

    def _layers(self, state: Tensor) -> dict[str, Any]:
        """Lay out the weights for kernels: channels that are held get updates of zero."""
        like = {"device": state.device, "dtype": state.dtype}
        found: dict[str, Any] = {}
        of_channels = ("weight_in", "bias_in") if self.rule == "abs" else ("weight_out", "bias_out")
        for name in ("weight_in", "bias_in", "weight_out", "bias_out"):
            own = getattr(self, name)
            if own is not None and self.held and name in of_channels:
                below = (0, 0) * (own.ndim - 1) + (0, self.held)
                own = torch.nn.functional.pad(own, below)
            found[name] = None if own is None else own.to(**like)
        return found

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
            **self._layers(state),
            edges=self.grid.edges,
            fire_limit=send((rate * 2**24).round().int(), state.device),
            dt=dt,
            limits=self.limits,
            living=(3, ALIVE) if self.living else None,
            combine=self.perception.bank.combine,
            held=self.held,
            fire_each=self.fire_by == "element",
            activation=self.activation,
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
    layers = [each._layers(state) for each in automata]
    own = {
        name: torch.stack([each[name] for each in layers])
        for name in layers[0]
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


def _check_condition(condition: str, classes: int, embedding: int, fire_by: str) -> None:
    for name, value, known in (
        ("condition", condition, get_args(Condition)),
        ("fire_by", fire_by, get_args(FireBy)),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(known)}")
    if classes < 1:
        raise ValueError(f"classes is {classes}; give at least 1")
    if condition == "none" and classes > 1:
        raise ValueError(f"{classes} classes need a condition, such as one-hot")
    if embedding < 1:
        raise ValueError(f"embedding is {embedding}; give at least 1")


def _check_activation(activation: str, rule: str, limits: Limits) -> None:
    known = get_args(Activation)
    if activation not in known:
        raise ValueError(f"activation is {activation!r}; choose from {', '.join(known)}")
    if activation != "relu" and (rule != "mlp" or limits.hidden is not None):
        raise ValueError(
            f"activation {activation!r} is that of an mlp whose hidden layer has no limit; "
            "set rule to 'mlp' and leave limits.hidden out"
        )


def _held(condition: str, classes: int, embedding: int) -> int:
    """Count the channels that say what class a cell is of."""
    digits = max(1, (classes - 1).bit_length())
    return {"one-hot": classes, "genome": digits, "embedding": embedding}.get(condition, 0)


def _codes(condition: str, classes: int) -> Tensor:
    """Make what is written in those channels for each class: [classes, held]."""
    if condition == "one-hot":
        return torch.eye(classes)
    digits = torch.arange(_held(condition, classes, 1))
    return ((torch.arange(classes)[:, None] >> digits) & 1).float()


def _check_map(name: str, value: Tensor, extent: tuple[int, int]) -> None:
    if value.ndim and tuple(value.shape) != tuple(extent):
        raise ValueError(
            f"{name} is a map of {list(value.shape)}; "
            f"the world is {list(extent)} cells (rows, columns)"
        )
