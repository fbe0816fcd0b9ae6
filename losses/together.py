"""The losses of many models as one, which scores all of their samples in one pass."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.losses import LOSSES
from nca_texture.losses.base import Loss
from nca_texture.losses.total import TotalLoss

# Losses that read their goals as one for all samples or one for each.
_STACKABLE = frozenset(LOSSES[name] for name in ("emd", "gram", "overflow", "patch", "sliced"))

_DIRECTIONS = "leading"  # columns of such a goal; more of them, all zero, change nothing


def join(losses: Sequence[Loss], batch: int) -> Loss | None:
    """Make one loss of those of many models with ``batch`` samples each, or None when it cannot be.

    ``losses`` are alike but for their targets. Samples come model by model, and what the joint loss
    draws is drawn once for all. It cannot be when a loss is not one of ours that are made for it,
    or when the targets differ in size.
    """
    first = losses[0]
    if isinstance(first, TotalLoss):
        sums = [each for each in losses if isinstance(each, TotalLoss)]
        terms = [join(each, batch) for each in zip(*(total.losses for total in sums), strict=True)]
        joined = [
            (name, weight, term)
            for name, weight, term in zip(first.names, first.weights, terms, strict=True)
            if term is not None
        ]
        return TotalLoss(joined) if len(joined) == len(terms) else None
    if f"{type(first).__module__}:{type(first).__qualname__}" not in _STACKABLE:
        return None
    goals = {
        name: _stack(name, [each.get_buffer(name) for each in losses]) for name in _goals(first)
    }
    joint = copy.copy(first)
    joint._buffers = {n: g.repeat_interleave(batch, 0) for n, g in goals.items() if g is not None}
    return joint if len(joint._buffers) == len(goals) else None


def _goals(loss: Loss) -> list[str]:
    return [name for name, _ in loss.named_buffers(recurse=False)]


def _stack(name: str, goals: list[Tensor]) -> Tensor | None:
    """Stack what was measured of each target to [M, ...]; None when the shapes differ."""
    if name.startswith(_DIRECTIONS):
        most = max(goal.shape[-1] for goal in goals)
        goals = [F.pad(goal, (0, most - goal.shape[-1])) for goal in goals]
    if any(goal.shape != goals[0].shape for goal in goals):
        return None
    return torch.cat(goals) if len(goals[0]) == 1 else torch.stack(goals)
