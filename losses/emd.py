"""Relaxed earth mover's distance between features, with their mean and covariance."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.devices import send
from nca_texture.losses.base import Grown, Loss, stack_buffers
from nca_texture.losses.features import FeatureNetwork, full_precision, load_network
from nca_texture.losses.pixel import premultiply


def relaxed_emd(left: Tensor, right: Tensor) -> Tensor:
    """Bound the cost of moving ``left`` [B, n, D] onto ``right`` [B, m, D] from below: [B].

    Kolkin, Salavon and Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity" (2019), eq. 4 to 6: each row goes to its nearest on the other side, by cosine
    distance, and the dearer of the two directions counts.
    """
    # A feature of nothing but zeros has no direction; it is as far from everything: 1.
    left, right = F.normalize(left, dim=-1, eps=1e-8), F.normalize(right, dim=-1, eps=1e-8)
    with torch.no_grad():
        likeness = left @ right.mT
        nearest_right, nearest_left = likeness.argmax(2), likeness.argmax(1)
    # Only the pairs that were found carry a gradient: n + m products instead of n * m.
    forth = 1 - (left * _take(right, nearest_right)).sum(-1)
    back = 1 - (_take(left, nearest_left) * right).sum(-1)
    return torch.maximum(forth.mean(1), back.mean(1))


def moment_distance(left: Tensor, right: Tensor) -> Tensor:
    """Compare mean and covariance of ``left`` [B, n, D] and ``right`` [B, m, D]: [B].

    Mean absolute difference of the means plus that of the covariances (Kolkin et al. 2019, eq. 7);
    the cosine distance does not see how large features are, and this does.
    """
    means = (left.mean(1) - right.mean(1)).abs().mean(1)
    covariances = (_covariance(left) - _covariance(right)).abs().mean((1, 2))
    return means + covariances


def _take(rows: Tensor, places: Tensor) -> Tensor:
    """Pick rows [B, k, D] out of ``rows`` [B, n, D] at ``places`` [B, k]."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[-1]))


def _covariance(rows: Tensor) -> Tensor:
    """Covariance [B, D, D] of the columns of ``rows`` [B, n, D]."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred.mT @ centred / max(rows.shape[1] - 1, 1)


class EmdLoss(Loss):
    """Relaxed earth mover's distance plus moments, at random places of each layer.

    As in DyNCA (Pajouheshgar et al. 2023; 1000 places) and NoiseNCA (2024; 1024): sum over layers,
    places drawn afresh at every call, as many in what was grown as in the target. At its target it
    is as small as two draws are alike, and exactly 0 when every place is drawn.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        features: str = "vgg16",
        layers: Sequence[str] | None = None,
        samples: int = 1024,
        weights: str | Path | FeatureNetwork | None = None,
    ) -> None:
        """Take the features of ``target`` [N, 3 or 4, H, W] once; N pictures are one set.

        At most ``samples`` places of a layer meet each other. Raises ``ValueError`` for an option
        that makes no sense or a target too small, ``MissingError`` when there are no weights.
        """
        super().__init__()
        if samples < 2:
            raise ValueError(f"samples has to be at least 2, got {samples}")
        self.network = load_network(features, layers, weights)
        self.samples = samples
        with torch.no_grad():
            sets = [
                self.network.at_places(picture, lambda name, count: None).values()
                for picture in premultiply(target).split(1)
            ]
        for k, pictures in enumerate(zip(*sets, strict=True)):
            self.register_buffer(f"goal{k}", torch.cat(pictures, 1), persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B]. All samples are read at the same places."""
        value = grown.image.new_zeros(len(grown.image), dtype=torch.float32)
        goals = dict(zip(self.network.layers, self.buffers(recurse=False), strict=True))

        def choose(layer: str, count: int) -> Tensor:
            return self._some(count, goals[layer].shape[1], generator)

        for layer, ours in self.network.at_places(grown.image, choose).items():
            chosen = self._some(goals[layer].shape[1], ours.shape[1], generator)
            goal = goals[layer][:, send(chosen, ours.device)].expand(len(ours), -1, -1)
            with full_precision(ours):
                value = value + relaxed_emd(ours, goal) + moment_distance(ours, goal)
        return value

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)

    def _some(self, count: int, most: int, generator: torch.Generator) -> Tensor:
        """Draw up to ``samples`` or ``most`` of ``count`` places, without repetition."""
        return torch.randperm(count, generator=generator)[: min(self.samples, most)]
