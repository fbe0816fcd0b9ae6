"""What a grown picture is compared by; see base.py for what a loss is given.

A new loss is one file and one line of ``LOSSES``; one from outside is named "package.module:Class".
Nothing here imports torch: a name is resolved when a loss is asked for.
"""

import inspect
import typing
from typing import TYPE_CHECKING, Any

from nca_texture.names import find_class, near
from nca_texture.trees import as_hinted

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

    return find_class(name, LOSSES, "loss", Loss)


def build_loss(name: str, target: "Tensor", **options: Any) -> "Loss":
    """Measure ``target`` [N, 3 or 4, H, W] with the loss called ``name``.

    Raises ``ValueError`` for a name, or an option of that loss, which there is not, and for an
    option that is not of the type which that loss says it is.
    """
    loss_class = pick_loss_class(name)
    parameters = list(inspect.signature(loss_class).parameters.values())[1:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    for option in options:
        if option not in named and not open_ended:
            raise ValueError(f"the loss {name!r} has no option {option!r}; {near(option, named)}")
    lacking = [key for key, p in named.items() if p.default is p.empty and key not in options]
    if lacking:
        raise ValueError(f"the loss {name!r} needs the option {lacking[0]!r}")
    hints = _hints(loss_class)
    typed = {
        option: as_hinted(hints.get(option, Any), value, f"{name}.{option}")
        for option, value in options.items()
    }
    return loss_class(target, **typed)


def _hints(loss_class: "type[Loss]") -> dict[str, Any]:
    """Read the types of a loss's options; none where they cannot be read outside its file."""
    try:
        return typing.get_type_hints(loss_class.__init__)
    except NameError:
        return {}


def has_option(name: str, option: str) -> bool:
    """Tell whether the loss called ``name`` takes ``option``."""
    return option in inspect.signature(pick_loss_class(name)).parameters
