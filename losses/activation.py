"""Feature visualisation: a texture that one channel of a network likes best."""

from pathlib import Path

import torch
from torch import Tensor

from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.features import FeatureNetwork, load_network
from nca_texture.losses.networks import before_relu


class ActivationLoss(Loss):
    """Minus the mean activation of a channel, plus a price for colours outside [0, 1].

    The objective of the neuron textures of Self-Organising Textures (Niklasson et al., Distill
    2021), taken before the ReLU, where a silent channel still has a gradient; a layer that has no
    ReLU is taken as it is. The article used the original Inception v1, whose channels are not those
    of the networks here.
    """

    def __init__(
        self,
        target: Tensor | None = None,
        *,
        channel: int,
        features: str = "inception_v3",
        layer: str = "Mixed_6b",
        range_weight: float = 1e4,
        weights: str | Path | FeatureNetwork | None = None,
    ) -> None:
        """Ignore ``target``; ``channel`` counts from 0 within ``layer`` of the network.

        ``range_weight`` times the mean squared distance of the picture from [0, 1] is added.
        Raises ``ValueError`` for a layer or channel that there is not, ``MissingError`` when there
        are no weights.
        """
        super().__init__()
        self.network = load_network(features, [before_relu(features, layer)], weights)
        self.layer = self.network.layers[0]
        width = self.network.channels[self.layer]
        if not 0 <= channel < width:
            raise ValueError(
                f"layer {layer} of {features} has the channels 0 to {width - 1}, got {channel}"
            )
        self.channel = channel
        self.range_weight = range_weight

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B], lower the stronger the channel responds."""
        image = grown.image.float()
        response = self.network(image)[self.layer][:, self.channel].mean((1, 2))
        outside = (image - image.clamp(0, 1)).square().mean((1, 2, 3))
        return self.range_weight * outside - response
