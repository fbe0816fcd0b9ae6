"""What a format of other programs gives: models by name, with all that is needed to grow them."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.recipe import AutomatonPlan

MOST_CHANNELS = 256  # of a state; published models have up to 16
MOST_HIDDEN = 4096
MOST_MODELS = 65_536


@dataclass(frozen=True, kw_only=True)
class Published:
    """One model of a file: the shape of its rule, its numbers, and how it was meant to be grown."""

    name: str
    format: str  # the format's name
    plan: AutomatonPlan
    weights: Mapping[str, np.ndarray]  # the automaton's parameters by name, float32
    steps: int  # how long to grow it by default
    size: tuple[int, int] | None = None  # cells (height, width) it was made for; None: any

    def build(self) -> CellularAutomaton:
        """Make the automaton."""
        automaton = self.plan.build()
        given = {name: torch.tensor(value) for name, value in self.weights.items()}
        automaton.load_state_dict(automaton.state_dict() | given)
        return automaton.requires_grad_(False).eval()


@dataclass(frozen=True)
class Document:
    """The text of a file, and the JSON in it where it is JSON."""

    name: str  # of the file
    text: str
    data: Any  # None where the text is no JSON
    problem: str = ""  # what is wrong with it as JSON

    @classmethod
    def parse(cls, name: str, text: str) -> "Document":
        """Read ``text`` as JSON if it is, also as the JavaScript file that assigns it."""
        body = re.sub(r"^\s*(?:export\s+)?(?:const|var|let)\s+\w+\s*=", "", text, count=1)
        try:
            return cls(name, text, json.loads(body.strip().removesuffix(";")))
        except RecursionError:
            return cls(name, text, None, "it is nested too deeply")
        except ValueError as reason:
            return cls(name, text, None, " ".join(str(reason).split()))

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return self.name.rpartition(".")[0] or self.name


class Format(ABC):
    """One published format of trained models."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def recognises(self, document: Document) -> bool:
        """Tell whether ``document`` wants to be such a file, damaged or not."""

    @abstractmethod
    def read(self, document: Document) -> list[Published]:
        """Read all models; raises ``InputError`` with one sentence for a damaged file."""


def whole(table: Any, key: str, where: str, most: int) -> int:
    """Return the whole number from 1 to ``most`` that ``table`` has under ``key``."""
    value = table.get(key) if isinstance(table, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"{where} has {key} {short(value)}; expected a whole number up to {most}")
    return value


def number(table: Any, key: str, where: str) -> float:
    """Return the finite number that ``table`` has under ``key``."""
    value = table.get(key) if isinstance(table, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e6:
        raise InputError(f"{where} has {key} {short(value)}; expected a number")
    return float(value)


def short(value: Any) -> str:
    """Show a value of a foreign file in a few characters."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
