"""States on loan between training iterations, so that a rule learns to go on from what it made."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nca_texture.devices import send


@dataclass(frozen=True)
class Loan:
    """Some of a pool's states, and where to put them back."""

    places: Tensor  # [B] indices into the pool
    states: Tensor  # [B, C, H, W], a copy


class Pool:
    """``size`` states [C, H, W]; a batch is taken without repetition and put back grown."""

    def __init__(self, states: Tensor) -> None:
        """Start from ``states`` [size, C, H, W], which the pool makes its own."""
        self.states = states.detach().clone(memory_format=torch.channels_last)

    def take(self, batch: int, generator: torch.Generator) -> Loan:
        """Lend ``batch`` different states, drawn with the CPU ``generator``."""
        places = torch.randperm(len(self.states), generator=generator)[:batch]
        places = send(places, self.states.device)
        return Loan(places, self.states[places])

    def put(self, loan: Loan, states: Tensor) -> None:
        """Take back what became of a loan: ``states`` [B, C, H, W]."""
        self.states[loan.places] = states.detach()
