"""Optimal transport between the small patches of what was grown and of the exemplar."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.devices import send
from nca_texture.kernels.plans import transport
from nca_texture.kernels.smooth import blur
from nca_texture.losses.base import Grown, Loss, draw_places, stack_goals
from nca_texture.losses.slices import draw_directions, sliced_distances

METHODS = ("sinkhorn", "sliced")
BORDERS = ("wrap", "inside")

_MOST_LEVELS = 5
_ACROSS = 3  # so many patches at least lie side by side in what was grown
_MOST_PATCHES = 16384  # of the exemplar, to find its principal directions


def pyramid(images: Tensor, levels: int, *, wrap: bool) -> list[tuple[Tensor, Tensor]]:
    """Halve ``images`` [B, C, H, W] again and again, keeping every phase of the subsampling.

    Level l is [B, 4**l, C, H / 2**l, W / 2**l], and comes with itself smoothed: there are four ways
    of keeping every second pixel, and with all of them a shift of the image only reorders its
    patches. A side that cannot be halved loses its last row or column.
    """
    batch = len(images)
    fine, found = images[:, None], []
    for _ in range(levels):
        smooth = blur(fine.flatten(0, 1), wrap=wrap)
        found.append((fine, smooth.view_as(fine)))
        height, width = (length // 2 * 2 for length in fine.shape[-2:])
        phases = [smooth[..., y:height:2, x:width:2] for y, x in product((0, 1), repeat=2)]
        fine = torch.stack(phases, 1).unflatten(0, (batch, -1)).flatten(1, 2)
    return found


def sharpen(images: Tensor, smooth: Tensor, amount: float) -> Tensor:
    """Exaggerate the detail that ``images`` have and ``smooth`` ones have not (unsharp masking)."""
    return torch.lerp(smooth, images, 1 + amount)


def count_patches(images: Tensor, size: int, *, wrap: bool) -> int:
    """Count the patches of ``size`` x ``size`` pixels in one sample of [B, P, C, H, W]."""
    margin = 0 if wrap else size - 1
    phases, height, width = images.shape[1], images.shape[-2] - margin, images.shape[-1] - margin
    return phases * max(height, 0) * max(width, 0)


def patches_at(images: Tensor, places: Tensor, size: int, *, wrap: bool) -> Tensor:
    """Cut patches [B, n, C*size**2], numbered ``places`` [n], out of ``images`` [B, P, C, H, W]."""
    batch, _, channels, height, width = images.shape
    margin = 0 if wrap else size - 1
    columns = width - margin
    area = (height - margin) * columns
    phase, place = places // area, places % area
    reach = torch.arange(size, device=places.device)
    y = ((place // columns)[:, None] + reach) % height
    x = ((place % columns)[:, None] + reach) % width
    pixel = (phase[:, None, None] * height + y[:, :, None]) * width + x[:, None, :]
    flat = images.transpose(1, 2).reshape(batch, channels, -1)
    index = pixel.reshape(1, 1, -1).expand(batch, channels, -1)
    cut = flat.gather(-1, index).view(batch, channels, len(places), size * size)
    return cut.transpose(1, 2).flatten(2)


def leading_directions(patches: Tensor, share: float) -> Tensor:
    """Find the fewest principal directions of ``patches`` [n, D] that hold ``share`` of variance.

    Orthonormal columns [D, k], the greatest variance first.
    """
    spread, directions = torch.linalg.eigh(torch.cov(patches.double().T, correction=0))
    held = spread.flip(0).clamp(min=0).cumsum(0)
    count = int((held < share * held[-1]).sum()) + 1
    return directions.flip(1)[:, :count].to(patches.dtype)


def _count_levels(images: Tensor, least: int, most: int) -> int:
    """Count the levels, 1 to ``most``, on which ``images`` [..., H, W] have ``least`` pixels."""
    return max(1, sum(min(images.shape[-2:]) >> k >= least for k in range(most)))


@dataclass(frozen=True)
class _Draw:
    """Patches of one level, in two halves."""

    ours: Tensor  # [2, B, n, D]
    theirs: Tensor  # [2, 1 or B, m, D]
    leading: Tensor  # [1 or B, D, k]: the exemplar's principal directions


class PatchLoss(Loss):
    """Transport between small patches on every scale; no network, nothing to download.

    The idea is muNCA's (Mordvintsev and Niklasson, 2021): 5 x 5 patches of sharpened images over a
    pyramid, compared by optimal transport. Here the exemplar keeps every phase of its pyramid, the
    plan is a constant in the gradient, and a grown torus is read as a torus.

    Few patches never lie close to few others, and the cheapest answer to that is a blurred image:
    transport alone prefers one to the exemplar itself. So two sets X and X' are drawn from what was
    grown and two from the exemplar, Y and Y', and their distance is
    (W(X, Y) + W(X', Y') - debias W(X, X')) / 2, as in the minibatch energy distance (Salimans et
    al., "Improving GANs Using Optimal Transport", 2018). Taken over whole patches, the last term
    pays for fine noise exactly what the first two ask for it, and noise grows. So it looks at
    patches along the exemplar's leading principal directions only, those that hold ``variance`` of
    its variance on each level: blur is paid for, noise is not.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        method: str = "sinkhorn",
        size: int = 5,
        levels: int | None = None,
        samples: int = 512,
        exemplar_samples: int = 512,
        unsharp: float = 2.0,
        epsilon: float = 0.01,
        iterations: int = 20,
        debias: float = 1.0,
        variance: float = 0.9,
        projections: int = 64,
        border: str = "wrap",
    ) -> None:
        """Build the pyramid of ``target`` [N, 3 or 4, H, W] once.

        ``samples`` patches of what was grown meet ``exemplar_samples`` of the exemplar on each of
        at most ``levels`` levels; None takes those whose patches span at most a third of what was
        grown: coarser ones ask a small grid for the layout of the whole exemplar, which a rule
        cannot give, and drown out what it could learn. ``border`` says what the grown image is:
        ``wrap`` for a torus, ``inside`` for one whose patches must not cross its border.
        """
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"no method is called {method!r}; choose from {', '.join(METHODS)}")
        if border not in BORDERS:
            raise ValueError(f"no border is called {border!r}; choose from {', '.join(BORDERS)}")
        counts = {
            "size": size,
            "levels": 1 if levels is None else levels,
            "samples": samples,
            "exemplar_samples": exemplar_samples,
            "iterations": iterations,
            "projections": projections,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} has to be at least 1, got {count}")
        if not 0 <= debias <= 1:
            raise ValueError(f"debias has to be between 0 and 1, got {debias}")
        if not 0 < variance <= 1:
            raise ValueError(f"variance has to be above 0 and at most 1, got {variance}")
        if epsilon <= 0:
            raise ValueError(f"epsilon has to be above 0, got {epsilon}")
        if target.ndim != 4 or target.shape[1] not in (3, 4):
            raise ValueError(f"expected a target [N, 3 or 4, H, W], got {list(target.shape)}")
        if min(target.shape[-2:]) < size:
            raise ValueError(
                f"the exemplar is {target.shape[-1]}x{target.shape[-2]} pixels, smaller than one "
                f"patch of {size}x{size}; give a larger picture or a smaller size"
            )
        self.method = method
        self.size = size
        self.samples = samples
        self.exemplar_samples = exemplar_samples
        self.unsharp = unsharp
        self.epsilon = epsilon
        self.iterations = iterations
        self.projections = projections
        self.debias = debias
        self.wrap = border == "wrap"
        self.channels = target.shape[1]
        self.across = _ACROSS if levels is None else 1
        most = _MOST_LEVELS if levels is None else levels
        self.levels = _count_levels(target, size, most)
        for level, each in enumerate(pyramid(target.float(), self.levels, wrap=False)):
            sharp = sharpen(*each, unsharp)
            # The pictures of a set are so many more phases of one.
            exemplar = sharp.flatten(0, 1)[None]
            self.register_buffer(f"level{level}", exemplar, persistent=False)
            leading = leading_directions(self._every(exemplar), variance)[None]
            self.register_buffer(f"leading{level}", leading, persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], squared difference per number of a patch, level mean."""
        image = grown.image.float()
        if image.ndim != 4 or image.shape[1] != self.channels:
            raise ValueError(
                f"expected images [B, {self.channels}, H, W] like the exemplar, "
                f"got {list(image.shape)}"
            )
        if min(image.shape[-2:]) < self.size:
            raise ValueError(
                f"what was grown is {image.shape[-1]}x{image.shape[-2]} pixels, smaller than one "
                f"patch of {self.size}x{self.size}; grow on a larger grid"
            )
        levels = _count_levels(image, self.size * self.across, self.levels)
        draws = []
        for level, each in enumerate(pyramid(image, levels, wrap=self.wrap)):
            # A torus that was not halved evenly has a seam: its patches stay off it.
            whole = self.wrap and all(side % 2**level == 0 for side in image.shape[-2:])
            sharp = sharpen(*each, self.unsharp)
            exemplar = self.get_buffer(f"level{level}")
            draws.append(
                _Draw(
                    self._sample(sharp, self.samples, generator, wrap=whole),
                    self._sample(exemplar, self.exemplar_samples, generator, wrap=False),
                    self.get_buffer(f"leading{level}"),
                )
            )
        if self.method == "sliced":
            return torch.stack([self._sliced(each, generator) for each in draws]).mean(0)
        return self._sinkhorn(draws).mean(0)

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``.

        Exemplars differ in how many directions hold most of their variance: zeros fill up.
        """
        stacked = {}
        for name, _ in self.named_buffers(recurse=False):
            goals = [loss.get_buffer(name) for loss in losses]
            if name.startswith("leading"):
                most = max(goal.shape[-1] for goal in goals)
                goals = [F.pad(goal, (0, most - goal.shape[-1])) for goal in goals]
            stacked[name] = stack_goals(goals)
        return stacked

    def _sample(
        self, images: Tensor, samples: int, generator: torch.Generator, *, wrap: bool
    ) -> Tensor:
        """Draw ``samples`` in two halves, [2, B, n, D], from [B, P, C, H, W]: alike in each."""
        total = count_patches(images, self.size, wrap=wrap)
        places = torch.cat([draw_places(total, -(-samples // 2), generator) for _ in range(2)])
        cut = patches_at(images, send(places, images.device), self.size, wrap=wrap)
        return cut.unflatten(1, (2, -1)).transpose(0, 1)

    def _every(self, exemplar: Tensor) -> Tensor:
        """Cut the patches of ``exemplar`` [1, P, C, H, W], or so many that more teach nothing."""
        total = count_patches(exemplar, self.size, wrap=False)
        places = draw_places(total, _MOST_PATCHES, torch.Generator().manual_seed(0))
        return patches_at(exemplar, places.to(exemplar.device), self.size, wrap=False)[0]

    def _sinkhorn(self, draws: list[_Draw]) -> Tensor:
        """Distances [levels, B] per number of a patch; levels of one size go through together."""
        sizes = [(each.ours.shape, each.theirs.shape) for each in draws]
        distances = []
        for size in dict.fromkeys(sizes):
            group = [each for each, its in zip(draws, sizes, strict=True) if its == size]
            ours = torch.stack([each.ours for each in group])  # [L, 2, B, n, D]
            theirs = torch.stack([each.theirs for each in group])
            theirs = theirs.expand(*ours.shape[:3], -1, -1)
            total = self._transport(ours, theirs).sum(1)
            if self.debias:
                widest = max(each.leading.shape[-1] for each in group)
                leading = torch.stack(
                    [F.pad(each.leading, (0, widest - each.leading.shape[-1])) for each in group]
                )
                first, second = (ours @ leading[:, None]).unbind(1)
                total = total - self.debias * self._transport(first, second)
            distances.append(total / (2 * ours.shape[-1]))
        return torch.cat(distances)

    def _transport(self, left: Tensor, right: Tensor) -> Tensor:
        """Cost [...] of moving the rows of ``left`` [..., n, D] to ``right`` [..., m, D]."""
        over = left.shape[:-2]
        cost = transport(left.flatten(0, -3), right.flatten(0, -3), self.epsilon, self.iterations)
        return cost.view(over)

    def _sliced(self, each: _Draw, generator: torch.Generator) -> Tensor:
        """Distance [B] between all of ours and all of theirs, along random directions."""
        ours, theirs = (torch.cat(list(side), 1) for side in (each.ours, each.theirs))
        directions = draw_directions(ours.shape[-1], self.projections, generator)
        return sliced_distances(ours, theirs, send(directions, ours.device)).mean((1, 2))
