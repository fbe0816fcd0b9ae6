"""What a cell sees: a bank of filters over its neighbourhood.

A bank is a list of filters over a basis of five kernels: identity, two gradients and two second
derivatives. Gains say how strongly a filter answers to the functions x, y, x^2 and y^2 on the
true lattice, so that a rule trained on squares can run on hexagons and the reverse.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nca_texture.devices import send
from nca_texture.grid import Layout

FILTERS = ("identity", "gradient_x", "gradient_y", "laplacian", "laplacian_x", "laplacian_y")

# Rows top to bottom. Each answers with gain 1: gradients to x and y, second derivatives to x^2 and
# y^2, and with 0 to the other's function.
_IDENTITY = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
_SQUARE_X = [[-1 / 8, 0, 1 / 8], [-2 / 8, 0, 2 / 8], [-1 / 8, 0, 1 / 8]]
_SQUARE_XX = [[1 / 16, 0, 1 / 16], [4 / 16, -12 / 16, 4 / 16], [1 / 16, 0, 1 / 16]]
# Axial coordinates: the corners (-1, -1) and (1, 1) of the array are no neighbours.
_S3 = 1 / (2 * math.sqrt(3))
_HEX_X = [[0, -1 / 6, 1 / 6], [-2 / 6, 0, 2 / 6], [-1 / 6, 1 / 6, 0]]
_HEX_Y = [[0, -_S3, -_S3], [0, 0, 0], [_S3, _S3, 0]]
_HEX_XX = [[0, 0, 0], [1 / 2, -1, 1 / 2], [0, 0, 0]]
_HEX_YY = [[0, 1 / 3, 1 / 3], [-1 / 6, -1, -1 / 6], [1 / 3, 1 / 3, 0]]

# The published hexagonal kernels (distillpub/post--selforg-textures, public/ca.js) are these
# times their gains on the true lattice: 3/4, sqrt(3)/2 and 3/4.
_PUBLISHED_HEX_GAINS = (0.75, math.sqrt(3) / 2, 0.75)


@dataclass(frozen=True)
class Bank:
    """Filters and their gains; ``filters`` are given to every channel, or one to each channel."""

    filters: tuple[str, ...] = ("identity", "gradient_x", "gradient_y", "laplacian")
    gradient_gain: float = 1.0
    laplacian_gain: float = 1.0
    per_channel: bool = False
    published_hex: bool = False  # keep the unequal gains of the published hexagonal kernels
    # Of the two gradients, which then come second and third: how steep it is ("norm"), or both
    # turned by the angle that a cell holds in the last channel of its own ("steer"). With a living
    # mask cells are born with the angle 0, the grid's: what they grow into can know where up is.
    combine: Literal["plain", "norm", "steer"] = "plain"
    learned: bool = False  # the kernels are only a start and are trained, for each channel its own

    def __post_init__(self) -> None:
        for name in self.filters:
            if name not in FILTERS:
                raise ValueError(f"no filter is called {name!r}; there are {', '.join(FILTERS)}")
        if self.combine != "plain" and self.filters[1:3] != ("gradient_x", "gradient_y"):
            raise ValueError("what combines gradients has them second and third of its filters")


def _mu(laplacians: int, gradients: int) -> Bank:
    names = ("laplacian", "gradient_x", "gradient_y")
    counts = (laplacians, gradients, gradients)
    filters = tuple(name for name, n in zip(names, counts, strict=True) for _ in range(n))
    return Bank(filters, 8.0, 8.0, per_channel=True)


# Gains: a Sobel kernel as written has gain 8 and the 9-point Laplacian as written has gain 8.
BANKS: dict[str, Bank] = {
    "growing-2020": Bank(("identity", "gradient_x", "gradient_y")),  # Sobel / 8
    "distill-tf": Bank(),  # Sobel / 8, Laplacian / 8: the TensorFlow package and the demos
    "distill-hex": Bank(published_hex=True),  # the demos' hexagonal kernels
    "distill-2021-02": Bank(laplacian_gain=0.5),  # Sobel / 8, Laplacian / 16
    "distill-2021": Bank(gradient_gain=8.0, laplacian_gain=8.0),  # unscaled, also NoiseNCA, DyNCA
    "munca-68": _mu(2, 1),
    "munca-150": _mu(2, 2),
    "munca-264": _mu(4, 2),
    "munca-588": _mu(4, 4),
    "laplacian": Bank(("identity", "laplacian"), 8.0, 8.0),  # isotropic
    "isotropic": Bank(combine="norm"),  # and the gradient's norm
    "steerable": Bank(combine="steer"),  # a learned orientation
    "learned": Bank(learned=True),
}


class Perception(nn.Module):
    """A filter bank over the neighbourhood: [B, C, H, W] -> [B, C*F, H, W]."""

    basis: Tensor

    def __init__(
        self, bank: str | Bank = "distill-2021", layout: Layout = "square", channels: int = 12
    ):
        """Build the kernels of ``bank``, a name in ``BANKS`` or a ``Bank``, for ``layout``."""
        super().__init__()
        if isinstance(bank, str):
            if bank not in BANKS:
                raise ValueError(
                    f"no filter bank is called {bank!r}; choose from {', '.join(BANKS)}"
                )
            bank = BANKS[bank]
        if bank.per_channel and len(bank.filters) != channels:
            raise ValueError(
                f"the bank has {len(bank.filters)} filters, one a channel, "
                f"but there are {channels} channels; use {len(bank.filters)}"
            )
        self.bank = bank
        self.layout: Layout = layout
        self.channels = channels
        self.num_filters = 1 if bank.per_channel else len(bank.filters) - (bank.combine == "norm")
        self.register_buffer("basis", _basis(bank, layout))
        if bank.learned:
            start = torch.einsum("fk,kij->fij", self.mix(), self.basis)
            self.kernels = nn.Parameter(start.expand(channels, -1, -1, -1).clone())

    @property
    def reach(self) -> int:
        """How many cells away the farthest seen neighbour lies."""
        return self.basis.shape[-1] // 2

    def with_layout(self, layout: Layout) -> "Perception":
        """Return the same bank, sharing learned kernels, for another layout."""
        twin = Perception(self.bank, layout, self.channels).to(self.basis.device)
        if layout == self.layout:
            twin.basis = self.basis
        if self.bank.learned:
            twin.kernels = self.kernels
        return twin

    def mix(self, angle: float = 0.0, dx: float = 1.0, dy: float = 1.0) -> Tensor:
        """Coefficients [F, 5] that make the bank's filters from the basis.

        Gradients turn by ``angle`` (radians; kx = c*gx - s*gy, ky = s*gx + c*gy as in Growing
        NCA) and scale by 1/dx and 1/dy, second derivatives by 1/dx^2 and 1/dy^2 (NoiseNCA).
        """
        return torch.tensor(_mix(self.bank.filters, angle, dx, dy), dtype=self.basis.dtype)

    def mix_maps(self, angle: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
        """Coefficients [F, 5, *map] of every cell for maps of one shape; see ``mix``."""
        return _mix_maps(self.bank.filters, angle, dx, dy)

    def filters(self, angle: float = 0.0, dx: float = 1.0, dy: float = 1.0) -> Tensor:
        """Kernels by row parity: [R, C, F, K, K], R is 1 on squares and 2 on hexagons."""
        plain = (angle, dx, dy) == (0.0, 1.0, 1.0)
        if self.bank.learned:
            if not plain:
                raise ValueError("learned filters cannot be turned or scaled; use a fixed bank")
            return self.by_parity(self.kernels)
        mix = send(self.mix(angle, dx, dy), self.basis.device)
        kernels = torch.einsum("fk,kij->fij", mix, self.basis)
        if self.bank.per_channel:
            return self.by_parity(kernels[:, None])
        return self.by_parity(kernels.expand(self.channels, -1, -1, -1))

    def by_parity(self, kernels: Tensor) -> Tensor:
        """Lay kernels [C, F, K, K] out for even (and odd) rows of stored cells: [R, C, F, K, K]."""
        if self.layout == "square":
            return kernels[None]
        top, middle, bottom = kernels.unbind(-2)
        # Axial row -1 holds neighbours at columns 0 and +1 and row +1 at -1 and 0; in offset rows
        # an even row's upper neighbours are stored at -1 and 0, an odd row's at 0 and +1.
        nothing = torch.zeros_like(top[..., :1])
        left = torch.stack(
            [
                torch.cat([top[..., 1:], nothing], -1),
                middle,
                torch.cat([bottom[..., :2], nothing], -1),
            ],
            -2,
        )
        right = torch.stack(
            [
                torch.cat([nothing, top[..., 1:]], -1),
                middle,
                torch.cat([nothing, bottom[..., :2]], -1),
            ],
            -2,
        )
        return torch.stack([left, right])


@functools.lru_cache(maxsize=64)  # every call of `grow` asks
def _mix(names: Sequence[str], angle: float, dx: float, dy: float) -> list[list[float]]:
    """Coefficients [F, 5] of one cell; see ``Perception.mix``."""
    maps = torch.tensor([[angle], [dx], [dy]], dtype=torch.float64, device="cpu")
    return _mix_maps(names, *maps)[..., 0].tolist()


def _mix_maps(names: Sequence[str], angle: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Coefficients [F, 5, *map] of the filters called ``names``."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    rows: dict[str, Sequence[Tensor]] = {
        "identity": (one, zero, zero, zero, zero),
        "gradient_x": (zero, c / dx, -s / dy, zero, zero),
        "gradient_y": (zero, s / dx, c / dy, zero, zero),
        "laplacian": (zero, zero, zero, dx**-2.0, dy**-2.0),
        "laplacian_x": (zero, zero, zero, dx**-2.0, zero),
        "laplacian_y": (zero, zero, zero, zero, dy**-2.0),
    }
    return torch.stack([torch.stack(list(rows[name])) for name in names])


def _basis(bank: Bank, layout: Layout) -> Tensor:
    """Make the five kernels [5, 3, 3]: identity, gradients by x and y, second derivatives."""
    x = torch.tensor(_SQUARE_X if layout == "square" else _HEX_X, dtype=torch.float64)
    y = x.T if layout == "square" else torch.tensor(_HEX_Y, dtype=torch.float64)
    xx = torch.tensor(_SQUARE_XX if layout == "square" else _HEX_XX, dtype=torch.float64)
    yy = xx.T if layout == "square" else torch.tensor(_HEX_YY, dtype=torch.float64)
    if bank.published_hex and layout == "hex":
        gains = _PUBLISHED_HEX_GAINS
        x, y, xx, yy = x * gains[0], y * gains[1], xx * gains[2], yy * gains[2]
    kernels = [
        torch.tensor(_IDENTITY, dtype=torch.float64),
        x * bank.gradient_gain,
        y * bank.gradient_gain,
        xx * bank.laplacian_gain,
        yy * bank.laplacian_gain,
    ]
    return torch.stack(kernels).float()
