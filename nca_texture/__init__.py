"""Neural cellular automata that learn a texture from one image and grow it at any size."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nca_texture.automaton import CellularAutomaton
    from nca_texture.grid import Grid
    from nca_texture.perception import Perception
    from nca_texture.recipe import Recipe
    from nca_texture.store import load, save
    from nca_texture.training import train

__version__ = "0.1.0"
__all__ = ["CellularAutomaton", "Grid", "Perception", "Recipe", "load", "save", "train"]

_HOMES = {
    "CellularAutomaton": "nca_texture.automaton",
    "Grid": "nca_texture.grid",
    "Perception": "nca_texture.perception",
    "Recipe": "nca_texture.recipe",
    "load": "nca_texture.store",
    "save": "nca_texture.store",
    "train": "nca_texture.training",
}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: the command line starts without torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
