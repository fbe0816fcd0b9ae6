"""What all exporters are: reasons why not, and files as bytes."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton

Weights = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained automaton, and what an export tells of it.

    Of several classes, an export that holds one makes what the first plant of the automaton's
    garden is a mixture of.
    """

    name: str  # a plain word: of files, identifiers and titles
    automaton: CellularAutomaton
    steps: int = 0  # how long to grow by default
    size: tuple[int, int] = (64, 64)  # (height, width) of the grid it was trained on
    source: str = ""  # what it learned, in words
    sha256: str = ""  # of its model file
    classes: tuple[str, ...] = ()  # their names, if it has several
    weights: Weights = "float32"  # what its numbers are rounded to
    rounding: tuple[float, float] = (0.0, 0.0)  # mean and largest change of colours by that

    @property
    def mixture(self) -> str:
        """Name the class that an export of one class makes, or the shares of several."""
        count = self.automaton.classes
        names = self.classes or [str(i + 1) for i in range(count)]
        weights = self.automaton.garden[0].mixture or (1.0,)
        shares = {name: share for name, share in zip(names, weights, strict=False) if share}
        if list(shares.values()) == [1]:
            return next(iter(shares))
        return " + ".join(f"{name}={share:g}" for name, share in shares.items())


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What a target can run; whatever a model needs beyond it is a reason not to write it."""

    rules: tuple[str, ...] = ("mlp", "abs")
    activations: tuple[str, ...] = ("relu",)
    layouts: tuple[str, ...] = ("square", "hex")
    edges: tuple[str, ...] = ("torus", "zero", "reflect", "replicate")
    living: bool = True
    classes: bool = False  # of a model that has several, all or one
    elements: bool = False  # chance for each number of a cell
    learned: bool = True  # filters of each channel that were trained
    combined: bool = False  # percepts made of two gradients: their norm, or both turned
    channels: int | None = None  # the most
    numbers: int | None = None  # the most parameters; in a shader they are constants

    def lacking(self, automaton: CellularAutomaton) -> list[str]:
        """List what ``automaton`` needs and the target has not."""
        found = []
        for what, needed, known in (
            ("the rule", automaton.rule, self.rules),
            ("the activation", automaton.activation, self.activations),
            ("the layout", automaton.grid.layout, self.layouts),
            *(("the edge", edge, self.edges) for edge in dict.fromkeys(automaton.grid.edges)),
        ):
            if needed not in known:
                found.append(f"{what} {needed} is not among {', '.join(known)}")
        if automaton.living and not self.living:
            found.append("it has a living mask")
        if automaton.perception.bank.learned and not self.learned:
            found.append("its filters were learned")
        if automaton.perception.bank.combine != "plain" and not self.combined:
            found.append(f"its percepts are combined by {automaton.perception.bank.combine}")
        if automaton.condition != "none" and not self.classes:
            found.append(f"it has {automaton.classes} classes, told apart by {automaton.condition}")
        if automaton.fire_by != "cell" and not self.elements:
            found.append(f"chance decides for each {automaton.fire_by}, not for each cell")
        if self.channels is not None and automaton.channels > self.channels:
            found.append(f"it has {automaton.channels} channels, more than {self.channels}")
        if self.numbers is not None and automaton.num_parameters > self.numbers:
            found.append(f"it has {automaton.num_parameters} parameters, more than {self.numbers}")
        return found


class Exporter(ABC):
    """Writes trained automata for another program."""

    suffix: ClassVar[str] = ""  # of the one file it writes; empty when it writes a folder
    many: ClassVar[bool] = False  # whether several models go into one export
    one_class: ClassVar[bool] = False  # whether of a model with several classes only one does
    abilities: ClassVar[Abilities | None] = None  # None: it writes whatever there is

    def reasons(self, model: Trained) -> list[str]:
        """List what keeps ``model`` from being written, each a clause; empty when it can be."""
        return [] if self.abilities is None else self.abilities.lacking(model.automaton)

    @abstractmethod
    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Make all files: their bytes by name below the output; one called "" is the output."""

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say, a sentence each, what to do with what was written."""
        return []


def quantised(weight: Tensor) -> tuple[Tensor, float]:
    """Turn ``weight`` into int8 and the scale that turns it back: scale * int8."""
    scale = max(weight.abs().max().item() / 127, 1e-12)
    return (weight / scale).round().to(torch.int8), scale


def rounded(model: Trained, weights: Weights) -> Trained:
    """Return ``model`` with its numbers rounded to ``weights``, and how much that changes.

    The change is measured in colours, in [0, 1], after 32 steps on 64 x 64 cells: mean and
    largest. Longer growth of a texture amplifies any change, so that only its statistics stay.
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights is {weights!r}; choose from {', '.join(get_args(Weights))}")
    if weights == "float32":
        return model
    automaton = copy.deepcopy(model.automaton)
    with torch.no_grad():
        for parameter in automaton.parameters():
            if weights == "float16":
                parameter.copy_(parameter.half().float())
            else:
                numbers, scale = quantised(parameter)
                parameter.copy_(numbers.float() * scale)
        before, after = (
            each.to_image(each.grow(each.seed(1, (64, 64), seed=0), 32, seed=0))
            for each in (model.automaton, automaton)
        )
    change = (after - before).abs()
    return replace(
        model,
        automaton=automaton,
        weights=weights,
        rounding=(change.mean().item(), change.max().item()),
    )
