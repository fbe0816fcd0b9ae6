"""The losses of our presets, and how one that is asked for by name takes their place."""

from dataclasses import replace

from nca_texture.recipe import LossPlan

# Sliced transport through the network of the package finds detail and shapes, transport of patches
# how the larger parts of a texture lie together; each finds what the other does not.
SLICED = LossPlan(
    name="sliced",
    weight=4e-3,
    options={"features": "compact", "reduce": "root", "samples": 2048, "border": "wrap"},
)
PATCH = LossPlan(name="patch")

# Keeps states where float16 and 8-bit exports can hold them.
OVERFLOW = LossPlan(
    name="overflow", weight=10.0, options={"limit": 1.0, "power": 1, "reduce": "mean"}
)

_WEIGHTS = {"gram": 1e-3, "emd": 0.1, "activation": 0.01}


def loss_plan(name: str, features: str | None = None) -> LossPlan:
    """Put a loss into one of our presets, scaled so that the overflow term keeps its say.

    Through VGG the seed of a texture scores some hundreds by ``sliced`` and ``gram``, a few by
    ``emd``; by ``patch`` it scores a tenth. Style is seen through ``features``, or by the network
    of the package when None.
    """
    if name == SLICED.name:
        plan = SLICED
    else:
        plan = LossPlan(name=name, weight=_WEIGHTS.get(name, 1.0))
        if name in ("gram", "emd"):
            plan = through(plan, SLICED.options["features"])
    return plan if features is None else through(plan, features)


def through(plan: LossPlan, features: str) -> LossPlan:
    """Let the loss of ``plan`` look through the network ``features``, at all its style layers."""
    options = plan.options
    if features != options.get("features"):  # lists are of the layers of the other network
        options = {
            name: value for name, value in options.items() if not isinstance(value, list | tuple)
        }
    return replace(plan, options=options | {"features": features})


def auto_losses(features: str | None = None) -> tuple[tuple[LossPlan, ...], str]:
    """Choose the best losses that are at hand without waiting for a network, and say why.

    They are those of our presets: their network is part of the package. ``features`` names another
    one, whose weights are given.
    """
    plans = loss_plan("sliced", features), PATCH
    if features is None:
        return plans, "sliced, through the network that ships with the package, and patch"
    return plans, f"sliced, through {features}, whose weights are here, and patch"
