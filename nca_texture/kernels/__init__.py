"""Implementations of a step, and the one place that chooses between them.

Kernels know tensors and numbers (see rule.py), none of our classes. A new kernel is one file with
``grow`` and one line in ``KERNELS``.
"""

from collections.abc import Callable

from torch import Tensor

from nca_texture.kernels import reference
from nca_texture.kernels.rule import Rule, World

Grow = Callable[[Rule, Tensor, int, list[int], int, World], Tensor]


def _always(rule: Rule, state: Tensor) -> list[str]:
    """List what keeps a kernel that can do everything from running: nothing."""
    return []


# Fastest first: name -> (grow, reasons why it cannot run on this rule and state).
KERNELS: dict[str, tuple[Grow, Callable[[Rule, Tensor], list[str]]]] = {
    "reference": (reference.grow, _always),
}


def choose(name: str, rule: Rule, state: Tensor) -> tuple[str, Grow]:
    """Return the kernel called ``name``, or for ``auto`` the fastest that can run here.

    Raises ``ValueError`` with every reason when the kernel asked for cannot run: a demand is never
    answered with another kernel.
    """
    if name == "auto":
        for known, (grow, reasons) in KERNELS.items():
            if not reasons(rule, state):
                return known, grow
        raise AssertionError("the reference kernel runs everywhere")
    if name not in KERNELS:
        raise ValueError(f"no kernel is called {name!r}; choose from auto, {', '.join(KERNELS)}")
    grow, reasons = KERNELS[name]
    if found := reasons(rule, state):
        raise ValueError(f"the {name} kernel cannot run here: " + "; ".join(found))
    return name, grow
