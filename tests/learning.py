"""Rules, losses and plans so small that a training shows what it does within a second."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.losses.base import Grown, Loss
from nca_texture.pool import Pool
from nca_texture.train_plan import TrainPlan
from nca_texture.training import train
from nca_texture.wide import Wide


class ToColour(Loss):
    """Distance to one colour; how much each channel counts is drawn, as real losses draw."""

    factor = 1.0  # tests change it while a run goes on

    def __init__(self, target: Tensor | None = None) -> None:
        super().__init__()
        self.draws: list[float] = []

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        weight = torch.rand(3, generator=generator)
        self.draws.append(weight.sum().item())
        goal = torch.tensor([0.2, 0.9, 0.4]).view(1, 3, 1, 1)
        difference = (grown.image[:, :3] - goal).square() * weight.view(1, 3, 1, 1)
        return difference.mean((1, 2, 3)) * self.factor


class Watching(Loss):
    """Difference to nothing, which keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Grown] = []

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        self.shown.append(grown)
        return grown.image.square().mean((1, 2, 3))


def small_plan(**settings: Any) -> TrainPlan:
    tiny = {
        "iterations": 12,
        "batch_size": 2,
        "pool_size": 5,
        "width": 10,
        "height": 8,
        "steps": (2, 4),
        "reseed_every": 3,
        "judge_every": 0,
    }
    return TrainPlan(**tiny | settings)


def small(**settings: Any) -> CellularAutomaton:
    return CellularAutomaton(**{"channels": 4, "hidden": 6, "bank": "distill-tf"} | settings)


def scramble(automaton: CellularAutomaton, seed: int, scale: float) -> CellularAutomaton:
    """Give every parameter random numbers, of deviation ``scale``."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in automaton.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * scale)
    return automaton


def awake(**settings: Any) -> CellularAutomaton:
    """Make an automaton whose last layer is not zero, so that it changes states at once."""
    return scramble(small(**{"seed_kind": "noise"} | settings), 6, 0.1)


def weights_of(automaton: CellularAutomaton) -> dict[str, Tensor]:
    return copy.deepcopy(automaton.state_dict())


def same(one: Any, other: Any) -> bool:
    """Compare trees of dictionaries, lists and tensors to the bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, Wide):
        return isinstance(other, Wide) and same(vars(one), vars(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def creature(**settings: Any) -> CellularAutomaton:
    """Make a small living automaton that does something."""
    usual = {"channels": 8, "hidden": 12, "grid": Grid("square", "zero"), "bank": "growing-2020"}
    usual |= {"living": True, "seed_kind": "cell", "rgb_offset": 0.0}
    automaton = CellularAutomaton(**usual | settings)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        assert automaton.weight_out is not None
        automaton.weight_out.copy_(torch.randn(automaton.weight_out.shape, generator=source) * 0.1)
    return automaton


def growing_plan(**settings: Any) -> TrainPlan:
    usual = {"iterations": 3, "batch_size": 4, "pool_size": 8, "width": 14, "height": 12}
    return TrainPlan(**usual | {"steps": (2, 3), "judge_every": 0} | settings)


def losses_of(plan: TrainPlan, **settings: Any) -> list[float]:
    return [report.loss for report in train(small(**settings), ToColour(), plan)]


class Spy:
    """Note what each iteration draws: places in the pool, steps, seeds; and where growth starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[Any] = []
        self.starts: list[Tensor] = []
        self.seeds: list[list[int]] = []
        take, grow = Pool.take, CellularAutomaton.grow

        def spy_take(pool: Pool, batch: int, generator: torch.Generator) -> Any:
            loan = take(pool, batch, generator)
            self.drawn.append(loan.places.tolist())
            return loan

        def spy_grow(automaton: Any, state: Tensor, steps: int = 1, **settings: Any) -> Tensor:
            self.drawn.append((steps, settings["seed"]))
            self.starts.append(state.detach().clone())
            self.seeds.append(settings["seed"])
            return grow(automaton, state, steps, **settings)

        monkeypatch.setattr(Pool, "take", spy_take)
        monkeypatch.setattr(CellularAutomaton, "grow", spy_grow)
