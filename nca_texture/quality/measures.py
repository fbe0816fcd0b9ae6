"""How far a picture is from a target, whatever its size is and wherever things are in it.

Every distance is 0 at the target itself, up to what another crop of it differs by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from torch import Tensor

from nca_texture.losses.base import draw_places
from nca_texture.losses.features import FeatureNetwork, full_precision
from nca_texture.losses.networks import COMPACT, NETWORKS
from nca_texture.losses.patch import count_patches, patches_at, pyramid
from nca_texture.losses.slices import draw_directions, sliced_distances
from nca_texture.losses.weights import have_weights
from nca_texture.seams import check_seams

STYLE = "style"  # and the name of a network behind it
PATCHES, SPECTRUM, COLOUR, SEAM = "patches", "spectrum", "colour", "seam"

UNITS = {
    STYLE: "share of the target's spread of features",
    PATCHES: "share of the target's spread of patches",
    SPECTRUM: "dB",
    COLOUR: "CIELAB units (2.3 is just noticeable)",
    SEAM: "0 as inside, above 1 a seam",
}

_DIRECTIONS = 128
_PATCH, _LEVELS = 7, 4  # pixels of a side; scales, each half as fine
_SAMPLES = 8192  # patches of a scale, at most
_FEWEST = 64  # patches of a scale that are worth a look
_WINDOW, _HOP = 64, 16  # pixels of a piece that spectra are averaged over
_VISIBLE = (1 / 255) ** 2  # noise of that variance is below one level of 8 bits
_COLOURS = 4096  # pixels that colours are compared by
_LARGEST = 512  # pixels of a side of what is looked at


@dataclass(frozen=True)
class Measured:
    """Distances of pictures to a target, by measure; the mean of the pictures."""

    distances: dict[str, float]
    seam: float | None  # the largest; None where no axis wraps

    @property
    def values(self) -> dict[str, float]:
        """All of them by name."""
        return self.distances | ({} if self.seam is None else {SEAM: self.seam})


class Yardstick:
    """Measures pictures against one target, which is measured once."""

    def __init__(
        self,
        target: Tensor,
        networks: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Measure ``target`` [N, 3, H, W] in [0, 1], N pictures of one texture.

        ``networks`` are those that style is seen through: all whose weights are at hand when None.
        Raises ``ValueError`` for an unknown one and for a target too small for it, ``MissingError``
        when its weights are not here.
        """
        if target.ndim != 4 or target.shape[1] != 3:
            raise ValueError(f"expected a target [N, 3, H, W], got {list(target.shape)}")
        self.target = middle(target.float().to(device))
        names = at_hand() if networks is None else tuple(networks)
        self.networks = {name: FeatureNetwork(name).to(device) for name in names}
        with torch.no_grad():
            self._clouds = {name: self._features(name, self.target, "") for name in names}
            self._patches = _patches(self.target, wrap=False)
            self._spectrum = spectrum(self.target, "")
            self._colours = _lab(self.target)

    @torch.no_grad()
    def __call__(self, pictures: Tensor, wraps: str = "") -> Measured:
        """Measure ``pictures`` [B, 3, h, w] in [0, 1], which tile along the axes ``wraps``."""
        distances: dict[str, list[float]] = {}
        for picture in middle(pictures.float(), wraps).split(1):
            for name, value in self._measure(picture, wraps).items():
                distances.setdefault(name, []).append(value)
        means = {name: sum(values) / len(values) for name, values in distances.items()}
        return Measured(means, seam(pictures, wraps) if wraps else None)

    @torch.no_grad()
    def style(self, picture: Tensor, network: str = COMPACT, wraps: str = "") -> float:
        """Compare features of ``picture`` [1, 3, h, w] and target, by sliced transport.

        Of each layer, the root of the mean squared way along random directions, over the target's
        standard deviation along them; the mean of layers.
        """
        apart = []
        pairs = zip(self._features(network, picture, wraps), self._clouds[network], strict=True)
        for layer, (ours, theirs) in enumerate(pairs):
            chance = torch.Generator().manual_seed(layer)
            directions = draw_directions(theirs.shape[1], _DIRECTIONS, chance).to(theirs.device)
            with full_precision(ours):
                way = sliced_distances(ours[None], theirs, directions).mean()
                spread = (theirs @ directions).var(0, correction=0).mean()
            apart.append((way / spread.clamp(min=1e-12)).sqrt().item())
        return sum(apart) / len(apart)

    def _measure(self, picture: Tensor, wraps: str) -> dict[str, float]:
        found = {f"{STYLE} {name}": self.style(picture, name, wraps) for name in self.networks}
        found[PATCHES] = self._patch_distance(picture, wraps == "xy")
        found[SPECTRUM] = _decibels(spectrum(picture, wraps), self._spectrum)
        found[COLOUR] = _colour_distance(_lab(picture), self._colours)
        return found

    def _features(self, name: str, pictures: Tensor, wraps: str) -> list[Tensor]:
        """Take the features [n, D] of each style layer, of all ``pictures`` together."""
        border = "circular" if wraps == "xy" else "replicate"
        layers = self.networks[name].at_places(pictures, lambda *_: None, border).values()
        return [features.flatten(0, 1) for features in layers]

    def _patch_distance(self, picture: Tensor, wrap: bool) -> float:
        """Compare patches of ``picture`` [1, 3, h, w] and target by sliced transport.

        On every scale of a Laplacian pyramid, so that fine detail is not drowned by what is coarse,
        the root of the mean squared way over the target's standard deviation; the mean of scales
        (Karras et al., "Progressive Growing of GANs", 2018, section 5).
        """
        apart = []
        for level, (ours, theirs) in enumerate(
            zip(_patches(picture, wrap=wrap), self._patches, strict=False)
        ):
            chance = torch.Generator().manual_seed(level)
            directions = draw_directions(theirs.shape[1], _DIRECTIONS, chance).to(theirs.device)
            way = sliced_distances(ours[None], theirs, directions).mean()
            spread = (theirs @ directions).var(0, correction=0).mean()
            apart.append((way / (spread + _VISIBLE)).sqrt().item())
        return sum(apart) / len(apart)


def _patches(pictures: Tensor, *, wrap: bool) -> list[Tensor]:
    """Cut patches [n, D], evenly spread, out of each band of ``pictures`` [B, 3, H, W]."""
    found = []
    levels = pyramid(pictures, _LEVELS, wrap=wrap)
    for level, (images, smooth) in enumerate(levels):
        # Pictures of one texture are so many more phases of one.
        whole = wrap and all(side % 2**level == 0 for side in pictures.shape[-2:])
        if level < len(levels) - 1:
            images = images - smooth
        images = images.flatten(0, 1)
        count = count_patches(images[None], _PATCH, wrap=whole)
        if level and count < _FEWEST:
            break
        places = draw_places(count, _SAMPLES, torch.Generator().manual_seed(level)).to(
            images.device
        )
        found.append(patches_at(images[None], places, _PATCH, wrap=whole)[0])
    return found


def at_hand() -> tuple[str, ...]:
    """Name the feature networks whose weights are here, the one of the package first."""
    return (COMPACT, *(name for name in NETWORKS if name != COMPACT and have_weights(name)))


def middle(pictures: Tensor, wraps: str = "") -> Tensor:
    """Cut very large ``pictures`` [B, 3, H, W] to their middle; what wraps stays whole."""
    height, width = pictures.shape[-2:]
    if wraps or max(height, width) <= _LARGEST:
        return pictures
    top, left = max(height - _LARGEST, 0) // 2, max(width - _LARGEST, 0) // 2
    return pictures[..., top : top + _LARGEST, left : left + _LARGEST]


def spectrum(pictures: Tensor, wraps: str) -> Tensor:
    """Average the power of ``pictures`` [B, 3, H, W] by frequency: [window, window // 2 + 1].

    Welch's method: overlapping pieces of one size under a Hann window, so that pictures of any size
    have the same frequencies. Summed over the colours; slightly smoothed.
    """
    if wraps == "xy":
        pictures = F.pad(pictures, [0, min(_WINDOW, pictures.shape[-1])] * 2, mode="circular")
    side = min(_WINDOW, *pictures.shape[-2:])
    pieces = pictures.unfold(2, side, _HOP).unfold(3, side, _HOP).flatten(2, 3)
    pieces = pieces - pieces.mean((-2, -1), keepdim=True)
    window = torch.hann_window(side, periodic=True, device=pictures.device)
    window = window[:, None] * window
    power = torch.fft.rfft2(pieces * window).abs().square() / window.square().sum()
    power = power.mean((0, 2)).sum(0)
    return F.avg_pool2d(F.pad(power[None], [1, 1, 1, 1], "replicate"), 3, 1)[0]


def _decibels(ours: Tensor, theirs: Tensor) -> float:
    """Compare two spectra: the root mean square of their ratio in dB, where either is visible."""
    if ours.shape != theirs.shape:
        size = min(len(ours), len(theirs)), min(ours.shape[1], theirs.shape[1])
        ours, theirs = (F.adaptive_avg_pool2d(each[None], size)[0] for each in (ours, theirs))
    ratio = 10 * ((ours + _VISIBLE) / (theirs + _VISIBLE)).log10()
    return ratio.square().mean().sqrt().item()


def _lab(pictures: Tensor) -> Tensor:
    """Turn pixels into CIELAB: [n, 3], evenly spread over ``pictures`` [B, 3, H, W]."""
    pixels = rgb_to_lab(pictures.clamp(0, 1)).movedim(1, -1).flatten(0, 2)
    places = draw_places(len(pixels), _COLOURS, torch.Generator().manual_seed(0))
    return pixels[places.to(pixels.device)]


def _colour_distance(ours: Tensor, theirs: Tensor) -> float:
    """Compare two sets of colours [n, 3]: how far one has to move to be the other, on average."""
    directions = draw_directions(3, _DIRECTIONS, torch.Generator().manual_seed(0)).to(ours.device)
    # Along a random direction of space, half of a way is seen.
    return 2 * sliced_distances(ours[None], theirs, directions).sqrt().mean().item()


def seam(pictures: Tensor, wraps: str) -> float | None:
    """Say how far the edges of ``pictures`` [B, 3, H, W] are from their inside, at the worst.

    0 is the median of the gaps inside, 1 the most that an edge may be; None for pictures too small.
    """
    worst = None
    for picture in pictures.clamp(0, 1):
        report = check_seams(picture.permute(1, 2, 0).float().cpu().numpy(), axes=wraps)
        for axis in report.axes:
            for measure in axis.measures:
                worst = max(measure.excess, -1e9 if worst is None else worst)
    return worst
