"""Sliced optimal transport between the features of pictures."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nca_texture.devices import send
from nca_texture.losses.base import Grown, Loss, draw_places, stack_buffers
from nca_texture.losses.features import FeatureNetwork, full_precision, load_network
from nca_texture.losses.networks import IMAGE, style_layers
from nca_texture.losses.pixel import premultiply
from nca_texture.losses.slices import draw_directions, sliced_distances

REDUCTIONS = ("sum", "mean", "root")
BORDERS = {"zeros": ("zeros", "zeros"), "wrap": ("circular", "replicate")}  # of grown, of target


class SlicedLoss(Loss):
    """Sliced optimal transport between the features of what was grown and of the target.

    Heitz et al., "A Sliced Wasserstein Loss for Neural Texture Synthesis" (2021), as in the PyTorch
    notebook of Self-Organising Textures: 32 directions, drawn afresh at every call, on the picture
    itself and five layers, sum of squares. Blind to where things are, up to the network's padding.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        features: str = "vgg16",
        layers: Sequence[str] | None = None,
        layer_weights: Sequence[float] | None = None,
        projections: int | Sequence[int] = 32,
        image: bool = True,
        reduce: str = "sum",
        samples: int | None = None,
        border: str = "zeros",
        weights: str | Path | FeatureNetwork | None = None,
        precision: str = "float32",
    ) -> None:
        """Take the features of ``target`` [N, 3 or 4, H, W] once; N pictures are one cloud.

        ``image`` makes the normalised picture a layer. ``reduce`` says what a layer counts:
        ``sum`` adds up places and directions, and so grows with the picture; a rule finds detail
        first. ``mean`` does not, for comparing sizes; a rule finds shapes first. ``root`` lies
        between them, the mean times the root of places per pixel. Layers are added up, each times
        its number in ``layer_weights`` (1 when None; the picture comes first). ``projections`` is
        how many directions are drawn, in all layers or in each.

        Of a layer with more places than ``samples``, grown or of the target, so many are drawn anew
        at every call: sorting takes its time on large pictures. ``border`` is what the network
        finds around a picture: ``zeros``, as published, of which a small grid is full, or ``wrap``:
        what was grown is a torus, and the target is mirrored. ``precision`` is the network's.
        Raises ``ValueError`` for an option that makes no sense or a target too small,
        ``MissingError`` when there are no weights.
        """
        super().__init__()
        counts = projections if isinstance(projections, Sequence) else [projections]
        if not all(count >= 1 for count in counts):
            raise ValueError(f"projections has to be at least 1, got {projections!r}")
        if reduce not in REDUCTIONS:
            raise ValueError(
                f"no reduction is called {reduce!r}; choose from {', '.join(REDUCTIONS)}"
            )
        if border not in BORDERS:
            raise ValueError(f"no border is called {border!r}; choose from {', '.join(BORDERS)}")
        if samples is not None and samples < 1:
            raise ValueError(f"samples has to be at least 1, got {samples}")
        names = style_layers(features) if layers is None else tuple(layers)
        self.network = load_network(
            features, (IMAGE, *names) if image else names, weights, precision
        )
        self.reduce = reduce
        self.samples = samples
        self.border, around_target = BORDERS[border]
        names = self.network.layers
        self.layer_weights = tuple(layer_weights or (1.0,) * len(names))
        alike = counts is not projections
        self.projections = tuple(counts) * (len(names) if alike else 1)
        for option in ("layer_weights", "projections"):
            count = len(getattr(self, option))
            if count != len(names):
                raise ValueError(
                    f"got {count} {option} for {len(names)} layers ({', '.join(names)}); "
                    "give one for each"
                )
        with torch.no_grad():
            clouds = [
                self.network.at_places(picture, lambda name, count: None, around_target).values()
                for picture in premultiply(target).split(1)
            ]
        for k, pictures in enumerate(zip(*clouds, strict=True)):
            self.register_buffer(f"goal{k}", torch.cat(pictures, 1)[0], persistent=False)

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample; returns [B].

        At the target it is 0 whatever the directions are or, where ``samples`` are drawn, as small
        as two draws are alike.
        """
        value = grown.image.new_zeros(len(grown.image), dtype=torch.float32)
        pixels = grown.image.shape[-2] * grown.image.shape[-1]
        places: dict[str, int] = {}

        def choose(layer: str, count: int) -> Tensor | None:
            places[layer] = count
            return self._some(count, generator)

        clouds = self.network.at_places(grown.image, choose, self.border)
        for k, (layer, ours) in enumerate(clouds.items()):
            directions = draw_directions(ours.shape[-1], self.projections[k], generator)
            goal = self.get_buffer(f"goal{k}")
            chosen = self._some(goal.shape[-2], generator)
            if chosen is not None:
                goal = goal[..., send(chosen, goal.device), :]
            with full_precision(ours):
                distances = sliced_distances(ours, goal, send(directions, ours.device))
            score = distances.mean((1, 2))
            if self.reduce == "sum":
                score = score * (places[layer] * self.projections[k])
            elif self.reduce == "root":
                score = score * (places[layer] / pixels) ** 0.5
            value = value + self.layer_weights[k] * score
        return value

    def stack(self, losses: Sequence[Loss]) -> dict[str, Tensor]:
        """Stack the goals of ``losses``; see ``Loss.stack``."""
        return stack_buffers(losses)

    def _some(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Draw ``samples`` of ``count`` places; None stands for all of them."""
        if self.samples is None or self.samples >= count:
            return None
        return draw_places(count, self.samples, generator)
