"""What every kernel is given: one rule, or those of many models, as tensors and numbers."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]
Activation = Literal["relu", "atan"]


@dataclass(frozen=True)
class Limits:
    """Clamps inside a step, as the published quantised models have them; None does not clamp."""

    percept: float | None = None  # percepts to [-percept, percept]
    hidden: float | None = None  # hidden layer to [0, hidden]
    update: float | None = None  # update to [-update, update]
    state: float | None = None  # state to [-state, state]


@dataclass(frozen=True)
class Rule:
    """One step's numbers. World maps are indexed by the wrapped global row and column.

    With ``models`` above 1, filters, weights and biases have one axis more, in front: that of the
    models. A state then holds as many samples of each, all of the first, all of the second, ...
    """

    kind: Literal["mlp", "abs"]
    filters: Tensor  # [R, C, F, K, K]; R is 2 on hexagons: even rows, odd rows
    mix: Tensor | None  # [C or 1, F, basis, world H, world W]: filters made anew in every cell
    weight_in: Tensor  # mlp: [hidden, C*F]; abs: [C, 2*(C + C*F)]
    bias_in: Tensor  # [hidden]; abs: [C]
    weight_out: Tensor | None  # mlp: [C, hidden]; abs: None
    bias_out: Tensor | None  # [C] or None
    edges: tuple[str, str]  # beyond the border of (y, x): torus, zero, reflect, replicate
    fire_limit: Tensor  # round(rate * 2**24) as int32: scalar or world map [H, W]
    dt: float
    limits: Limits
    living: tuple[int, float] | None  # (channel, threshold) of the living mask
    combine: Literal["plain", "norm", "steer"] = "plain"  # what is made of the two gradients
    held: int = 0  # the last so many channels keep what they are; no living mask clears them
    fire_each: bool = False  # whether an element fires is drawn for each channel, not for each cell
    activation: Activation = "relu"  # of the hidden layer
    precision: Precision = "float32"  # of what is multiplied in matrix products; sums are float32
    models: int = 1


# What models that grow together have each for itself.
_OWN = ("filters", "weight_in", "bias_in", "weight_out", "bias_out")


def apart(rule: Rule) -> list[Rule]:
    """Take the rules of many models apart."""
    if rule.models == 1:
        return [rule]
    own = {name: getattr(rule, name) for name in _OWN}
    return [
        replace(
            rule,
            models=1,
            **{name: each if each is None else each[i] for name, each in own.items()},
        )
        for i in range(rule.models)
    ]


@dataclass(frozen=True)
class World:
    """Where a block of cells lies, and in how large a world."""

    origin: tuple[int, int]  # world (row, column) of the block's first cell
    extent: tuple[int, int]  # world (height, width)
