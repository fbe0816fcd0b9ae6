"""The losses of many models as one, which scores all of their samples in one pass."""

import copy
from collections.abc import Sequence

from nca_texture.losses.base import Loss
from nca_texture.losses.total import TotalLoss


def join(losses: Sequence[Loss], batch: int) -> Loss | None:
    """Make one loss of those of many models with ``batch`` samples each, or None when it cannot be.

    ``losses`` are alike but for their targets. Samples come model by model, and what the joint loss
    draws is drawn once for all. It cannot be when a loss does not say how its goals are stacked, or
    when the targets differ in size.
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
    try:
        goals = first.stack(losses)
    except ValueError:
        return None
    joint = copy.copy(first)
    joint._buffers = {name: goal.repeat_interleave(batch, 0) for name, goal in goals.items()}
    return joint
