"""Correlations between the channels of a feature network: Gatys' style statistics."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss, stack_buffers
from nca_texture.losses.features import FeatureNetwork, full_precision, load_network
from nca_texture.losses.pixel import premultiply

TRANSFORMS = ("none", "sqrt")

# Original Oxford features are this many times those of torchvision's inputs: 255 * 0.229.
OXFORD_SCALE = 58.395


def gram(features: Tensor) -> Tensor:
    """Mean product of each two channels of ``features`` [B, D, h, w] over all places: [B, D, D].

    Gatys, Ecker and Bethge, "Texture Synthesis Using Convolutional Neural Networks" (2015), eq. 1,
    divided by h * w, so that the size of the picture does not matter. Blind to where things are.
    """
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


def soft_root(features: Tensor) -> Tensor:
    """Compress ``features`` to sqrt(a + 1) - 1 with a in the units of the Oxford networks.

    The TensorFlow version of Self-Organising Textures does so before it takes the Gram matrix;
    what a layer before its ReLU has below zero counts as zero.
    """
    return (OXFORD_SCALE * features.clamp(min=0) + 1).sqrt() - 1


class GramLoss(Loss):
    """Squared difference between the Gram matrices of what was grown and of the target.

    As in the first PyTorch notebook of Self-Organising Textures (Niklasson et al., Distill 2021):
    mean over a matrix, sum over layers. A Gram matrix is blind to where things are, but a network
    pads its input, so that moving a torus changes the value a little.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        features: str = "vgg16",
        layers: Sequence[str] | None = None,
        layer_weights: Sequence[float] | None = None,
        transform: str = "none",
        weights: str | Path | FeatureNetwork | None = None,
    ) -> None:
        """Measure ``target`` [N, 3 or 4, H, W] once: the mean of the Gram matrices of N pictures.

        ``features`` names the network, ``layers`` some of its layers, ``weights`` a file to load;
        ``transform`` ``sqrt`` is the TensorFlow version's. Raises ``ValueError`` for an option that
        makes no sense or a target too small, ``MissingError`` when there are no weights.
        """
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(
                f"no transform is called {transform!r}; choose from {', '.join(TRANSFORMS)}"
            )
        self.network = load_network(features, layers, weights)
        self.transform = transform
        names = self.network.layers
        self.layer_weights = tuple(layer_weights or (1.0,) * len(names))
        if len(self.layer_weights) != len(names):
            raise ValueError(
                f"got {len(self.layer_weights)} layer_weights for {len(names)} layers "
                f"({', '.join(names)}); give one for each"
            )
        with torch.no_grad():
            measured = [self._measure(picture) for picture in premultiply(target).split(1)]
        for k, grams in enumerate(zip(*measured, strict=True)):
            self.register_buffer(f"goal{k}", torch.stack(grams).mean(0), persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], 0 at the target. Draws nothing from ``generator``."""
        value = grown.image.new_zeros(len(grown.image), dtype=torch.float32)
        for k, ours in enumerate(self._measure(grown.image)):
            distance = (ours - self.get_buffer(f"goal{k}")).square().mean((1, 2))
            value = value + self.layer_weights[k] * distance
        return value

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)

    def _measure(self, image: Tensor) -> list[Tensor]:
        """Take the Gram matrices [B, D, D] of each layer of ``image`` [B, 3 or 4, H, W]."""
        layers = self.network(image).values()
        with full_precision(image):
            if self.transform == "none":
                return [gram(features) for features in layers]
            return [gram(soft_root(features)) for features in layers]
