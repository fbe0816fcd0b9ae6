"""Everything needed to repeat a run, as one tree of frozen values; TOML in and out.

This is the only place where losses and targets meet.
"""

import dataclasses
import json
import re
import tomllib
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from nca_texture.automaton import (
    CellularAutomaton,
    Condition,
    FireBy,
    Init,
    RuleKind,
    SeedKind,
)
from nca_texture.grid import HEX_ROW, Edge, Grid, Layout
from nca_texture.kernels.rule import Activation, Limits
from nca_texture.losses import LOSSES, build_loss, has_option
from nca_texture.losses.base import Loss
from nca_texture.losses.classes import ByClass
from nca_texture.losses.moving import Moving
from nca_texture.losses.pixel import premultiply
from nca_texture.losses.total import TotalLoss
from nca_texture.periods import periods, whole_sides
from nca_texture.surgery import Event
from nca_texture.targets import Exemplar
from nca_texture.train_plan import TrainPlan, larger_size
from nca_texture.trees import from_dict, to_dict

Wraps = Literal["xy", "x", "y", "none"]
Task = Literal["texture", "grow"]


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """What to become."""

    source: str = ""  # a path, a folder, sample:NAME or skimage:NAME
    sources: tuple[str, ...] = ()  # pictures of as many classes, instead of one source
    classes: tuple[str, ...] = ()  # their names; found when they are read
    crop: str = "all"  # WIDTHxHEIGHT+X+Y in source pixels, or "square": the largest in the middle
    exemplar_size: int = 128  # cells of the longer side
    padding: int = 0  # cells of room around a picture that grows
    motion: tuple[float, float] = (0.0, 0.0)  # cells per step (down, right) that it moves

    def __post_init__(self) -> None:
        if self.exemplar_size < 8:
            raise ValueError(f"target.exemplar_size is {self.exemplar_size}; give at least 8")
        if self.padding < 0:
            raise ValueError(f"target.padding is {self.padding}; give 0 or more")


@dataclass(frozen=True, kw_only=True)
class AutomatonPlan:
    """The shape of the rule; see ``CellularAutomaton``."""

    channels: int = 12
    hidden: int = 96
    rule: RuleKind = "mlp"
    activation: Activation = "relu"  # of the hidden layer of an mlp
    bank: str = "distill-2021"
    layout: Layout = "square"
    edge: Wraps = "xy"  # the axes that wrap
    beyond: Edge = "reflect"  # what lies beyond the others
    fire_rate: float = 0.5
    fire_by: FireBy = "cell"
    living: bool = False
    limits: Limits = field(default_factory=Limits)
    output_bias: bool = False
    seed_kind: SeedKind = "zero"
    seed_amount: float = 1.0
    seed_place: tuple[float, float] = (0.5, 0.5)  # fractions of (height, width)
    rgb_scale: float = 1.0
    rgb_offset: float = 0.5
    init: Init = "uniform"
    condition: Condition = "none"  # how a rule of several classes is told which one to become
    classes: int = 1
    embedding: int = 4  # learned numbers of a class, with condition = "embedding"

    def __post_init__(self) -> None:
        if self.edge not in typing.get_args(Wraps):
            known = ", ".join(typing.get_args(Wraps))
            raise ValueError(f"automaton.edge is {self.edge!r}; choose from {known}")
        if self.beyond == "torus":
            raise ValueError(
                "automaton.beyond is 'torus'; choose from zero, reflect, replicate, "
                "or name the axis in automaton.edge"
            )

    def grid(self) -> Grid:
        """Return the grid that ``layout``, ``edge`` and ``beyond`` describe."""
        y: Edge = "torus" if "y" in self.edge else self.beyond
        x: Edge = "torus" if "x" in self.edge else self.beyond
        return Grid(self.layout, (y, x))

    def build(self, init_seed: int = 0) -> CellularAutomaton:
        """Make the automaton, its first weights drawn from ``init_seed``."""
        settings = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name not in ("layout", "edge", "beyond")
        }
        return CellularAutomaton(grid=self.grid(), init_seed=init_seed, **settings)


@dataclass(frozen=True, kw_only=True)
class LossPlan:
    """One loss of a sum; ``options`` are those of its class, any of them may be left out."""

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything needed to repeat a run."""

    preset: str = "draft"  # "": of a model that was trained elsewhere, nobody knows how
    task: Task = "texture"
    target: TargetPlan = field(default_factory=TargetPlan)
    automaton: AutomatonPlan = field(default_factory=AutomatonPlan)
    losses: tuple[LossPlan, ...] = ()
    training: TrainPlan = field(default_factory=TrainPlan)
    event: tuple[Event, ...] = ()  # what befalls in every roll-out of the training

    def build_automaton(self) -> CellularAutomaton:
        """Make the untrained automaton; its first weights come from the run's seed."""
        return self.automaton.build(self.training.seed)

    def build_loss(self, exemplar: Exemplar, weights: str | None = None) -> TotalLoss:
        """Measure ``exemplar`` by all losses; ``weights`` is a file for their feature network."""
        return self.build_losses([exemplar], weights)[0]

    def build_losses(
        self, exemplars: Collection[Exemplar], weights: str | None = None
    ) -> list[TotalLoss]:
        """Measure each of ``exemplars`` by losses of its own, which share a feature network.

        Where a loss lets it, a network multiplies as the rule does, but never in float16, whose
        range is too small for its gradients.
        """
        if not self.losses:
            raise ValueError("the recipe has no loss; add one, such as patch")
        self._check_motion()
        precision = "float32" if self.training.precision == "float32" else "bfloat16"
        terms: list[list[tuple[str, float, Loss]]] = [[] for _ in exemplars]
        for plan in self.losses:
            options = dict(plan.options)
            if weights is not None and "features" in options:
                options["weights"] = weights
            if plan.name in LOSSES and has_option(plan.name, "precision"):
                options.setdefault("precision", precision)
            for term, exemplar in zip(terms, exemplars, strict=True):
                images = exemplar.image.split(1) if exemplar.classes else [exemplar.image]
                found: list[Loss] = []
                for image in images:
                    loss = build_loss(plan.name, image, **options)
                    found.append(loss)
                    if plan.name in LOSSES and hasattr(loss, "network"):
                        options["weights"] = loss.network
                loss = ByClass(found) if exemplar.classes else found[0]
                loss = Moving(loss, self.target.motion) if any(self.target.motion) else loss
                term.append((plan.name, plan.weight, loss))
        return list(map(TotalLoss, terms))

    def _check_motion(self) -> None:
        """Raise ``ValueError`` for a picture that moves where it cannot go round."""
        grid = self.automaton.grid()
        for axis, speed, edge in zip("yx", self.target.motion, grid.edges, strict=True):
            if speed and (edge != "torus" or grid.layout != "square"):
                raise ValueError(
                    f"target.motion is {list(self.target.motion)}, but along {axis} the grid is "
                    f"{grid.layout} with the edge {edge}; a picture moves on squares that wrap: "
                    "set automaton.edge to 'xy'"
                )


def fitted(recipe: Recipe, exemplar: Exemplar) -> Recipe:
    """Give ``recipe`` what its picture decides: the classes and the grid.

    That is the grid of a growth, and with ``training.whole_periods`` that of a texture.
    """
    plan, training = recipe.automaton, recipe.training
    if exemplar.classes:
        condition = "one-hot" if plan.condition == "none" else plan.condition
        plan = dataclasses.replace(plan, condition=condition, classes=len(exemplar.classes))
    if recipe.task == "grow":
        height, width = exemplar.image.shape[-2:]
        height, width = plan.grid().cells_for((height, width))
        training = dataclasses.replace(training, height=height, width=width)
    elif training.whole_periods:
        repeats = [_repeats(picture[None], plan.grid()) for picture in exemplar.image]
        share = 1 / training.large_every if training.large_every else 0.0
        height, width = whole_sides(training.size, repeats, larger_size, share)
        training = dataclasses.replace(training, height=height, width=width)
    return dataclasses.replace(
        recipe,
        target=dataclasses.replace(recipe.target, classes=exemplar.classes),
        automaton=plan,
        training=training,
    )


def _repeats(picture: Tensor, grid: Grid) -> tuple[float | None, float | None]:
    """Find after how many cells (y, x) ``picture`` [1, C, H, W] repeats where a grid wraps."""
    y, x = periods(picture)
    if y is not None and grid.layout == "hex":
        y /= HEX_ROW
    return (y if "y" in grid.wraps else None), (x if "x" in grid.wraps else None)


def goals_of(recipe: Recipe, exemplar: Exemplar) -> Tensor | None:
    """Return what a curriculum starts from, [classes, 4, H, W] premultiplied; None without one."""
    if not recipe.training.curriculum.threshold or exemplar.image.shape[1] != 4:
        return None
    return premultiply(exemplar.image)


def to_toml(recipe: Recipe) -> str:
    """Write ``recipe`` as TOML text that ``from_toml`` reads back to the same recipe."""
    lines: list[str] = []
    _write_table(to_dict(recipe), "", lines)
    return "\n".join(lines).strip() + "\n"


def from_toml(text: str, base: Recipe | None = None) -> Recipe:
    """Read a recipe from TOML over ``base``; raises ``ValueError`` as ``from_dict`` does."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise ValueError(f"this is not TOML: {reason}") from reason
    return from_dict(Recipe, given, base)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What befalls while something grows, in a file of its own."""

    event: tuple[Event, ...] = ()


def timeline_from_toml(text: str) -> tuple[Event, ...]:
    """Read the events of a timeline; raises ``ValueError`` as ``from_dict`` does."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise ValueError(f"this is not TOML: {reason}") from reason
    found = from_dict(Timeline, given).event
    if not found:
        raise ValueError("this timeline has no events; give at least one [[event]]")
    return found


def with_settings(recipe: Recipe, settings: Collection[str]) -> Recipe:
    """Apply ``section.key=value`` settings; losses are reached by name, ``patch.levels=4``."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ValueError(f"expected section.key=value, got {setting!r}")
        path, value = path.strip(), _toml_value(text.strip())
        of_loss = [p.name for p in recipe.losses if path.startswith(f"{p.name}.")]
        if of_loss:
            recipe = _with_loss_option(recipe, of_loss[0], path[len(of_loss[0]) + 1 :], value)
            continue
        keys = path.split(".")
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        recipe = from_dict(Recipe, nested, recipe)
    return recipe


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """List where ``recipe`` departs from ``other``: one ``key is A, not B`` each."""
    here, there = _flatten(to_dict(recipe)), _flatten(to_dict(other))
    return [
        f"{key} is {_show(here.get(key))}, not {_show(there.get(key))}"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]


def _with_loss_option(recipe: Recipe, name: str, key: str, value: Any) -> Recipe:
    losses = []
    for plan in recipe.losses:
        if plan.name == name and key in ("name", "weight", "options"):
            plan = from_dict(LossPlan, {key: value}, plan)
        elif plan.name == name:
            plan = dataclasses.replace(plan, options=plan.options | {key: value})
        losses.append(plan)
    return dataclasses.replace(recipe, losses=tuple(losses))


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _write_table(table: Mapping[str, Any], path: str, lines: list[str]) -> None:
    """Append ``table``: its plain values first, then tables and lists of tables in it."""
    for key, value in table.items():
        if not (isinstance(value, Mapping) or _is_list_of_tables(value)):
            lines.append(f"{_key(key)} = {_show(value)}")
    for key, value in table.items():
        inner = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping) and value:
            lines += ["", f"[{inner}]"]
            _write_table(value, inner, lines)
        elif _is_list_of_tables(value):
            for item in value:
                lines += ["", f"[[{inner}]]"]
                _write_table(item, inner, lines)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _show(name)


def _show(value: Any) -> str:
    """Write a plain value as TOML does."""
    if value is None:
        return "unset"
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()  # a file name's bytes may be no text
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_show(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        pairs = value.items()
    elif _is_list_of_tables(value):
        pairs = ((item.get("name", index), item) for index, item in enumerate(value))
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in pairs:
        flat |= _flatten(inner, f"{path}.{key}" if path else str(key))
    return flat
