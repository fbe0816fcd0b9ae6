"""What every kernel is given: one rule as tensors and numbers."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Limits:
    """Clamps inside a step, as the published quantised models have them; None does not clamp."""

    percept: float | None = None  # percepts to [-percept, percept]
    hidden: float | None = None  # hidden layer to [0, hidden]
    update: float | None = None  # update to [-update, update]
    state: float | None = None  # state to [-state, state]


@dataclass(frozen=True)
class Rule:
    """One step's numbers. World maps are indexed by the wrapped global row and column."""

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
    precision: Precision = "float32"  # of what is multiplied in matrix products; sums are float32


@dataclass(frozen=True)
class World:
    """Where a block of cells lies, and in how large a world."""

    origin: tuple[int, int]  # world (row, column) of the block's first cell
    extent: tuple[int, int]  # world (height, width)
