"""States on loan between training iterations, so that a rule learns to go on from what it made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.devices import send


@dataclass(frozen=True)
class Loan:
    """Some of a pool's states, and where to put them back."""

    places: Tensor  # [B] indices into the pool
    states: Tensor  # [B, C, H, W], a copy
    classes: Tensor  # [B] the class of each
    ages: Tensor  # [B] steps of each since it was sown

    @property
    def size(self) -> tuple[int, int]:
        """Cells (height, width) of the grid that the states lie on."""
        return self.states.shape[-2], self.states.shape[-1]

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
    """``size`` states [C, H, W]; a batch is taken without repetition and put back grown.

    Places may have smaller grids: those lie in the first cells of theirs. A batch is of one size.
    """

    def __init__(
        self,
        states: Tensor,
        classes: Tensor | None = None,
        ages: Tensor | None = None,
        sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Start from ``states`` [size, C, H, W], which the pool makes its own.

        ``classes`` [size] says which class each is of; without it all are of the first. ``ages``
        [size] are their steps so far; without it all are new. Places take turns with ``sizes``
        (height, width); without them all are H x W.
        """
        self.sizes = tuple(sizes) or (tuple(states.shape[-2:]),)
        self.states = states.detach().clone(memory_format=torch.channels_last)
        if classes is None:
            classes = torch.zeros(len(states), dtype=torch.long)
        self.classes = classes.to(states.device, copy=True)
        ages = torch.zeros_like(classes) if ages is None else ages
        self.ages = ages.to(states.device, torch.long, copy=True)

    def take(self, batch: int, generator: torch.Generator) -> Loan:
        """Lend ``batch`` different states of one size, drawn with the CPU ``generator``."""
        places = torch.randperm(len(self.states), generator=generator)
        sizes = [self.sizes[place % len(self.sizes)] for place in places.tolist()]
        return self.lend(places[[size == sizes[0] for size in sizes]][:batch])

    def lend(self, places: Tensor) -> Loan:
        """Lend the states at ``places`` [B], on the CPU, which have to be of one size."""
        height, width = self.sizes[int(places[0]) % len(self.sizes)]
        places = send(places, self.states.device)
        states = self.states[places]
        if (height, width) != states.shape[-2:]:
            states = states.flatten(2)[..., : height * width].unflatten(2, (height, width))
        return Loan(places, states, self.classes[places], self.ages[places])

    def put(self, loan: Loan, states: Tensor) -> None:
        """Take back what became of a loan: ``states`` [B, C, H, W], of its classes and ages."""
        states, whole = states.detach(), self.states.shape[-2:]
        if states.shape[-2:] != whole:
            rest = math.prod(whole) - math.prod(states.shape[-2:])
            states = F.pad(states.flatten(2), (0, rest)).unflatten(2, whole)
        self.states[loan.places] = states
        self.classes[loan.places] = loan.classes
        self.ages[loan.places] = loan.ages
