"""What a grown picture is compared by; see base.py for what a loss is given.

A new loss is one file and one line of ``LOSSES``; one from outside is named "package.module:Class".
Nothing here imports torch: a name is resolved when a loss is asked for.
"""

import difflib
import importlib
import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if __name__ != "nca_texture.losses":
    raise ImportError("import nca_texture.losses, not losses (see README, 'Layout')")

if TYPE_CHECKING:
    from torch import Tensor

    from nca_texture.losses.base import Loss

LOSSES = {
    "activation": "nca_texture.losses.activation:ActivationLoss",
    "emd": "nca_texture.losses.emd:EmdLoss",
    "gram": "nca_texture.losses.gram:GramLoss",
    "overflow": "nca_texture.losses.overflow:OverflowLoss",
    "patch": "nca_texture.losses.patch:PatchLoss",
    "pixel": "nca_texture.losses.pixel:PixelLoss",
    "rotation": "nca_texture.losses.rotation:RotationLoss",
    "sliced": "nca_texture.losses.sliced:SlicedLoss",
}


def pick_loss_class(name: str) -> "type[Loss]":
    """Find the class of a loss by its name in ``LOSSES`` or as "package.module:Class".

    Raises ``ValueError`` with the nearest name when there is none, or when what is there is not a
    loss.
    """
    from nca_texture.losses.base import Loss

    place = LOSSES.get(name, name)
    if ":" not in place:
        raise ValueError(f"no loss is called {name!r}; {_hint(name, LOSSES)}")
    module_name, _, class_name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as reason:
        raise ValueError(f"the loss {name!r} cannot be imported: {reason}") from reason
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise ValueError(f"{place} is not a loss; expected a class made from nca_texture's Loss")
    return found


def build_loss(name: str, target: "Tensor", **options: Any) -> "Loss":
    """Measure ``target`` [N, 3 or 4, H, W] with the loss called ``name``.

    Raises ``ValueError`` for a name, or an option of that loss, which there is not.
    """
    loss_class = pick_loss_class(name)
    parameters = list(inspect.signature(loss_class).parameters.values())[1:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    for option in options:
        if option not in named and not open_ended:
            raise ValueError(f"the loss {name!r} has no option {option!r}; {_hint(option, named)}")
    lacking = [key for key, p in named.items() if p.default is p.empty and key not in options]
    if lacking:
        raise ValueError(f"the loss {name!r} needs the option {lacking[0]!r}")
    return loss_class(target, **options)


def has_option(name: str, option: str) -> bool:
    """Tell whether the loss called ``name`` takes ``option``."""
    return option in inspect.signature(pick_loss_class(name)).parameters


def _hint(name: str, known: Collection[str]) -> str:
    """Name what ``name`` was perhaps meant to be, and all that it could be."""
    if not known:
        return "there are none"
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(sorted(known))}"
