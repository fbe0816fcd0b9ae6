"""Implementations of a step, and the one place that chooses between them.

Kernels know tensors and numbers (see rule.py), none of our classes. A new kernel is one file with
``grow`` and ``reasons`` and one line in ``KERNELS``.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nca_texture.kernels import cpu, reference, triton
from nca_texture.kernels.rule import Rule, World

Grow = Callable[[Rule, Tensor, int, list[int], int, World], Tensor]


# Fastest first: name -> (grow, reasons why it cannot run on this rule and state).
KERNELS: dict[str, tuple[Grow, Callable[[Rule, Tensor], list[str]]]] = {
    "triton": (triton.grow, triton.reasons),
    "cpu": (cpu.grow, cpu.reasons),
    "reference": (reference.grow, reference.reasons),
}

# While this is true of a kernel, it runs only when asked for by name.
_SLOW: dict[str, Callable[[], bool]] = {"triton": triton.interpreted}


def choose(name: str, rule: Rule, state: Tensor) -> tuple[str, Grow]:
    """Return the kernel called ``name``, or for ``auto`` the fastest that can run here.

    Raises ``ValueError`` with every reason when what is asked for cannot run: a demand is never
    answered with another kernel.
    """
    if name == "auto":
        refused = []
        for known, (grow, reasons) in KERNELS.items():
            slow = known in _SLOW and _SLOW[known]()
            found = ["it runs in an interpreter"] if slow else reasons(rule, state)
            if not found:
                return known, grow
            refused.append(f"{known} ({'; '.join(found)})")
        raise ValueError("no kernel can run here: " + ", ".join(refused))
    if name not in KERNELS:
        raise ValueError(f"no kernel is called {name!r}; choose from auto, {', '.join(KERNELS)}")
    grow, reasons = KERNELS[name]
    if found := reasons(rule, state):
        raise ValueError(f"the {name} kernel cannot run here: " + "; ".join(found))
    return name, grow


def run(
    grow: Grow,
    rule: Rule,
    state: Tensor,
    steps: int,
    seeds: list[int],
    start: int,
    world: World,
    *,
    keep_every: int = 1,
) -> Tensor:
    """Take ``steps`` steps and keep, for the way back, only the state of every so many.

    Steps in between are taken again on the way back: less memory for one more forward pass.
    """
    if keep_every < 1:
        raise ValueError(f"keep_every is {keep_every}; give 1 to keep every state, or more")
    if keep_every == 1 or not torch.is_grad_enabled():
        return grow(rule, state, steps, seeds, start, world)
    for done in range(0, steps, keep_every):
        count = min(keep_every, steps - done)
        state = checkpoint(
            grow, rule, state, count, seeds, start + done, world,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
    return state
