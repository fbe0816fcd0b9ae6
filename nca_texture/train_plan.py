"""How long and how hard to train, in numbers that a recipe can hold."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from nca_texture.automaton import Precision
from nca_texture.curriculum import Curriculum
from nca_texture.damage import Shape

Gradients = Literal["equalise", "clip", "none"]
Schedule = Literal["cosine", "steps", "constant"]
Reseed = Literal["turn", "worst"]
Optimiser = Literal["adam", "soap"]

_LARGE = 1.5  # times as high and as wide as the training's: larger grids
_SIDES = 4  # cells: sides of those are multiples, which networks can halve


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """How long and how hard to train. Counts are iterations unless they say otherwise."""

    iterations: int = 900
    batch_size: int = 2
    pool_size: int = 64
    width: int = 80  # cells; a growing picture has its own, with the padding
    height: int = 80  # cells
    whole_periods: bool = False  # sides are moved to where what repeats in a texture comes out even
    large_every: int = 0  # every so many states of the pool, one has a larger grid; 0: none has
    steps: tuple[int, int] = (24, 48)  # least and most of a batch, drawn afresh for each
    persistent: bool = True  # states are gone on with, from a pool; else all start from a seed
    from_seeds: float = 0.0  # share of the iterations before that, where all do start from a seed
    reseed: Reseed = "turn"  # which sample of a batch starts anew: the first, or the worst
    reseed_every: int = 8  # one sample of a batch starts anew every so often
    window_every: int = 0  # so often a sample is cut out of a larger grid grown old; 0: never
    damage: int = 0  # so many samples of a batch are damaged: with reseed = "worst", the best
    damage_every: int = 1  # that is done every so often
    damage_shapes: tuple[Shape, ...] = ("circle",)  # one of these each
    switch: int = 0  # so many samples of a batch are told that they are of another class
    curriculum: Curriculum = field(default_factory=Curriculum)
    optimiser: Optimiser = "adam"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"  # to a hundredth; "steps" multiplies by decay at milestones
    milestones: tuple[int, ...] = ()
    decay: float = 0.3
    warmup: int = 0
    gradients: Gradients = "equalise"  # each parameter tensor's gradient to norm 1
    clip_norm: float = 1.0  # of all gradients together, with gradients = "clip"
    unit_state_gradients: bool = False  # the state's gradient to norm 1 at every step (muNCA)
    judge_every: int = 100  # keep the weights that do best in a long roll-out; 0: keep the last
    judge_steps: int = 1000  # of it, on a larger grid if there is one; fewer in the first half
    precision: Precision = "float32"  # of products, in the rule and in a loss that allows it
    keep_every: int = 1  # states kept for the gradient; those in between are computed again
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "iterations", "batch_size", "pool_size", "width", "height", "reseed_every",
            "damage_every", "keep_every",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; give at least 1")
        for name, known in (
            ("optimiser", get_args(Optimiser)),
            ("gradients", get_args(Gradients)),
            ("schedule", get_args(Schedule)),
            ("precision", get_args(Precision)),
            ("reseed", get_args(Reseed)),
        ):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ValueError(f"training.{name} is {value!r}; choose from {', '.join(known)}")
        if self.batch_size > self.pool_size:
            raise ValueError(
                f"training.batch_size {self.batch_size} exceeds training.pool_size "
                f"{self.pool_size}; a batch is drawn from the pool without repetition"
            )
        if len(self.steps) != 2 or not 1 <= self.steps[0] <= self.steps[1]:
            raise ValueError(f"training.steps is {list(self.steps)}; give [least, most], 1 or more")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"training.learning_rate is {self.learning_rate}; give more than 0")
        if not 0 <= self.from_seeds <= 1:
            raise ValueError(f"training.from_seeds is {self.from_seeds}; give 0 to 1")
        if self.from_seeds and self.curriculum.threshold:
            raise ValueError(
                "a curriculum starts from pictures, not from seeds; set training.from_seeds or "
                "training.curriculum.threshold to 0"
            )
        for name in ("decay", "clip_norm"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"training.{name} is {getattr(self, name)}; give more than 0")
        for name in (
            "judge_every", "judge_steps", "warmup", "weight_decay", "damage", "switch",
            "window_every", "large_every",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} is {getattr(self, name)}; give 0 or more")
        if self.damage + self.switch >= self.batch_size > 1 or self.damage > self.batch_size:
            raise ValueError(
                f"training.damage {self.damage} and training.switch {self.switch} leave nothing of "
                f"training.batch_size {self.batch_size} that simply goes on; give less"
            )
        if self.damage and not self.damage_shapes:
            raise ValueError("training.damage_shapes is empty; give circle, rectangle or half")
        alone = self.batch_size == 1 and self.damage_every % self.reseed_every == 0
        if self.damage and alone:
            raise ValueError(
                f"training.damage never comes about: whenever one of training.damage_every "
                f"{self.damage_every} is due, the only sample starts anew; set another than a "
                f"multiple of training.reseed_every {self.reseed_every}, or a larger batch_size"
            )
        turns = self.window_every // 4, self.window_every // 4 + self.window_every
        alone = self.batch_size == 1 and not any(turn % self.reseed_every for turn in turns)
        if self.window_every and alone:
            raise ValueError(
                f"training.window_every {self.window_every} never comes about: whenever a window "
                f"is due, the only sample starts anew; set another training.reseed_every than "
                f"{self.reseed_every}, or a larger batch_size"
            )
        if self.large_every and (self.curriculum.threshold or not self.persistent):
            raise ValueError(
                "training.large_every needs a pool of states of two sizes; set it to 0 where "
                "training does not go on with states, or has a curriculum, whose pictures are of "
                "one size"
            )
        if self.large_every > 1:
            large = math.ceil(self.pool_size / self.large_every)
            fewest = min(large, self.pool_size - large)
            if fewest < self.batch_size:
                raise ValueError(
                    f"training.large_every {self.large_every} leaves {fewest} of {self.pool_size} "
                    f"states on grids of one size, and a batch of {self.batch_size} is of one; "
                    "give a larger training.pool_size"
                )
        if self.damage and not self.persistent:
            raise ValueError(
                "training.damage needs states that are gone on with; set training.persistent"
            )
        if self.window_every and (self.curriculum.threshold or not self.persistent):
            raise ValueError(
                "training.window_every lends a pool what grew on a larger grid; set it to 0 where "
                "training does not go on with states, or starts from pictures by a curriculum"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Cells (height, width) of a training grid."""
        return self.height, self.width

    @property
    def large_size(self) -> tuple[int, int]:
        """Cells (height, width) of larger grids: some of the pool's, and the one of windows."""
        return larger_size(self.size)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Cells (height, width) of the pool's grids, the largest first; its places take turns.

        What comes out even on one torus does not on the other. On one alone a rule may learn what
        only that torus keeps in order.
        """
        if not self.large_every:
            return (self.size,)
        return (self.large_size, *[self.size] * (self.large_every - 1))

    @property
    def judge_size(self) -> tuple[int, int]:
        """Cells (height, width) of the grid of long roll-outs."""
        return self.large_size if self.large_every or self.window_every else self.size

    def starts_from_seeds(self, iteration: int) -> bool:
        """Whether every sample of an iteration starts from a seed."""
        return not self.persistent or iteration < self.from_seeds * self.iterations

    def cuts_window(self, iteration: int) -> bool:
        """Whether a sample is replaced by a window of a larger grid before an iteration.

        A quarter of their turn after it begins: seeds and wounds, when they have the same or half
        of it, come at other times.
        """
        every = self.window_every
        due = every > 0 and iteration % every == every // 4
        return due and not self.starts_from_seeds(iteration)

    def damages(self, iteration: int) -> bool:
        """Whether samples are damaged before an iteration."""
        done = self.damage > 0 and iteration % self.damage_every == 0
        return done and not self.starts_from_seeds(iteration)

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration, a function of the plan alone."""
        rate = self.learning_rate * min(1.0, (iteration + 1) / (self.warmup + 1))
        if self.schedule == "steps":
            return rate * self.decay ** sum(iteration >= at for at in self.milestones)
        if self.schedule == "cosine":
            done = iteration / self.iterations
            return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        return rate


def larger_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the cells (height, width) of larger grids that go with grids of ``size``."""
    height, width = (math.ceil(_LARGE * side / _SIDES) * _SIDES for side in size)
    return height, width
