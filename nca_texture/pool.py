"""States on loan between training iterations, so that a rule learns to go on from what it made."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nca_texture.devices import send


@dataclass(frozen=True)
class Loan:
    """Some of a pool's states, and where to put them back."""

    places: Tensor  # [B] indices into the pool
    states: Tensor  # [B, C, H, W], a copy
    classes: Tensor  # [B] the class of each
    ages: Tensor  # [B] steps of each since it was sown

    def sorted(self, order: Tensor) -> "Loan":
        """Return the same loan in another ``order`` [B]."""
        return replace(
            self,
            places=self.places[order],
            states=self.states[order],
            classes=self.classes[order],
            ages=self.ages[order],
        )


class Pool:
    """``size`` states [C, H, W]; a batch is taken without repetition and put back grown."""

    def __init__(
        self, states: Tensor, classes: Tensor | None = None, ages: Tensor | None = None
    ) -> None:
        """Start from ``states`` [size, C, H, W], which the pool makes its own.

        ``classes`` [size] says which class each is of; without it all are of the first. ``ages``
        [size] are their steps so far; without it all are new.
        """
        self.states = states.detach().clone(memory_format=torch.channels_last)
        if classes is None:
            classes = torch.zeros(len(states), dtype=torch.long)
        self.classes = classes.to(states.device, copy=True)
        ages = torch.zeros_like(classes) if ages is None else ages
        self.ages = ages.to(states.device, torch.long, copy=True)

    def take(self, batch: int, generator: torch.Generator) -> Loan:
        """Lend ``batch`` different states, drawn with the CPU ``generator``."""
        places = torch.randperm(len(self.states), generator=generator)[:batch]
        places = send(places, self.states.device)
        return Loan(places, self.states[places], self.classes[places], self.ages[places])

    def put(self, loan: Loan, states: Tensor) -> None:
        """Take back what became of a loan: ``states`` [B, C, H, W], of its classes and ages."""
        self.states[loan.places] = states.detach()
        self.classes[loan.places] = loan.classes
        self.ages[loan.places] = loan.ages
