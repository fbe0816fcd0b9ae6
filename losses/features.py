"""Features of pictures: a pretrained network that answers with some of its layers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nca_texture.devices import send
from nca_texture.losses.networks import IMAGE, build_stages, pool_first, style_layers, up_to
from nca_texture.losses.weights import load_weights

PRECISIONS = ("float32", "bfloat16")
_FLOAT32_ONLY = ("squeezenet1_1",)  # gradients would turn by ten degrees; it is small anyway
BORDERS = ("zeros", "circular", "replicate")

# Given the name of a layer and the number of its places, which of them are wanted; None: all.
Choice = Callable[[str, int], Tensor | None]

_LARGEST_SIDE = 1024  # where the search for the smallest picture a network can take ends


class FeatureNetwork(nn.Module):
    """A frozen network that answers with the features of some of its layers.

    ``layers`` are those it answers with, ``channels`` how many features each of them has,
    ``smallest`` the smallest side in pixels of a picture it can take, ``source`` the file its
    weights came from.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: str,
        layers: Sequence[str] | None = None,
        weights: str | Path | None = None,
        precision: str = "float32",
    ) -> None:
        """Build ``network`` up to the deepest of ``layers`` (its style layers when None).

        ``weights`` names a file of torchvision's keys, else they are looked for as ``find_weights``
        does and, unless NCA_TEXTURE_OFFLINE=1, downloaded. ``precision`` bfloat16 multiplies in
        bfloat16 where that is faster, and in float32 elsewhere and in SqueezeNet. Raises
        ``ValueError`` for an unknown network, layer or precision, ``MissingError`` when there are
        no weights, ``InputError`` when a file lacks a tensor of a layer that is used.
        """
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(
                f"networks have no precision {precision!r}; choose from {', '.join(PRECISIONS)}"
            )
        self.precision = precision
        self.layers = style_layers(network) if layers is None else tuple(layers)
        stages = pool_first(up_to(network, build_stages(network), self.layers), self.layers)
        self.network = network
        self.names = tuple(stage.name for stage in stages)
        self.stages = nn.ModuleList(stage.module for stage in stages)
        self.smallest, self.channels = self._measure()
        self.source, (mean, std) = load_weights(network, stages, weights)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        # Features of a place side by side: a tenth to a fifth faster on a CPU.
        self.stages.to(memory_format=torch.channels_last)
        self.bordered: list[_Bordered] = []
        for path, module in list(self.stages.named_modules()):
            if isinstance(module, nn.Conv2d) and any(module.padding):
                self.bordered.append(_Bordered(module))
                self.stages.set_submodule(path, self.bordered[-1])
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, border: str = "zeros") -> dict[str, Tensor]:
        """Read ``image`` [B, 3 or 4, H, W] in [0, 1]: layer name -> float32 [B, D, h, w].

        A fourth channel is alpha of premultiplied colours, and white lies behind it. ``border`` is
        what convolutions find around their input: ``zeros``, as they were trained, its other side
        (``circular``) or its outermost pixels again (``replicate``). Circular, and with sides that
        every pooling divides, the features are those of the endless tiling. Raises ``ValueError``
        for a picture too small for the deepest layer and for an unknown border.
        """
        return self._read(image, border, None)

    def at_places(self, image: Tensor, choose: Choice, border: str = "zeros") -> dict[str, Tensor]:
        """Read ``image`` as ``forward`` does, at some places: layer name -> float32 [B, n, D].

        ``choose`` is given the name of a layer and the number of its places, and answers with those
        [n] that are wanted, or with None for all of them. Gradients are added to those few alone.
        """
        return self._read(image, border, choose)

    def _read(self, image: Tensor, border: str, choose: Choice | None) -> dict[str, Tensor]:
        """Normalise ``image`` and send it through all stages."""
        if border not in BORDERS:
            raise ValueError(f"no border is called {border!r}; choose from {', '.join(BORDERS)}")
        if image.ndim != 4 or image.shape[1] not in (3, 4):
            raise ValueError(f"expected images [B, 3 or 4, H, W], got {list(image.shape)}")
        height, width = image.shape[-2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"{self.network} needs at least {self.smallest}x{self.smallest} pixels for its "
                f"layer {self.names[-1]}, got {width}x{height}; use a larger picture, or layers "
                "that are less deep"
            )
        for convolution in self.bordered:
            convolution.border = border
        with full_precision(image):
            flow = (over_white(image.float()) - self.mean) / self.std
        fewer_digits = self.precision == "bfloat16" and self.network not in _FLOAT32_ONLY
        fewer_digits = fewer_digits and multiplies_bfloat16(image.device)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=fewer_digits):
            kept = self._run(flow, choose)
        return {name: kept[name].float() for name in self.layers}

    def _run(self, flow: Tensor, choose: Choice | None = None) -> dict[str, Tensor]:
        """Send a normalised picture through all stages, keeping what was asked for.

        That is whole layers or, when ``choose`` is given, rows of those places.
        """
        kept = {}
        before = ""
        for name, stage in zip((IMAGE, *self.names), (nn.Identity(), *self.stages), strict=True):
            asked = name in self.layers
            mine = before not in self.layers and not (asked and choose is None)
            flow = _Rectify.apply(flow) if isinstance(stage, nn.ReLU) and mine else stage(flow)
            if asked and choose is None:
                kept[name] = flow
            elif asked and choose is not None:
                places = choose(name, flow.shape[-2] * flow.shape[-1])
                places = None if places is None else send(places, flow.device)
                flow, kept[name] = _Places.apply(flow, places)
            before = name
        return kept

    def _measure(self) -> tuple[int, dict[str, int]]:
        """Find the smallest side that passes, and the channels of each layer, by shapes alone."""
        low, high = 1, _LARGEST_SIDE
        while low < high:
            side = (low + high) // 2
            try:
                self._shapes(side)
                high = side
            except RuntimeError:  # a convolution or pooling wider than what is left
                low = side + 1
        return low, self._shapes(low)

    def _shapes(self, side: int) -> dict[str, int]:
        """Count the channels of each layer, of a picture with sides of ``side`` pixels."""
        picture = torch.empty(1, 3, side, side, device="meta")
        kept = self._run(picture)
        return {name: features.shape[1] for name, features in kept.items()}


def load_network(
    network: str,
    layers: Sequence[str] | None = None,
    weights: str | Path | FeatureNetwork | None = None,
    precision: str = "float32",
) -> FeatureNetwork:
    """Build a ``FeatureNetwork``, or share the one that is given for its weights."""
    if not isinstance(weights, FeatureNetwork):
        return FeatureNetwork(network, layers, weights, precision)
    asked = network, style_layers(network) if layers is None else tuple(layers)
    if asked != (weights.network, weights.layers):
        raise ValueError(f"a network of other layers is there already: {', '.join(weights.layers)}")
    if precision != weights.precision:
        raise ValueError(f"the network that is there already multiplies in {weights.precision}")
    return weights


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether ``device`` has instructions for products of bfloat16: else they are slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public names
    return any(getattr(torch.cpu, name, lambda: False)() for name in known)


def full_precision(image: Tensor) -> AbstractContextManager:
    """Suspend autocast where ``image`` is: style statistics are taken in float32."""
    return torch.autocast(image.device.type, enabled=False)


def over_white(image: Tensor) -> Tensor:
    """Lay premultiplied ``image`` [B, 4, H, W] over white; [B, 3, H, W] is returned as it is."""
    if image.shape[1] == 3:
        return image
    return image[:, :3] + 1 - image[:, 3:].clamp(0, 1)


class _Places(torch.autograd.Function):
    """Features of some places, as rows [B, n, D], and all of them to go on with.

    Taken by an index, their gradient would be a layer of zeros that is added to another.
    """

    @staticmethod
    def forward(ctx: Any, flow: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.places, ctx.like = places, torch.empty_like(flow, device="meta")
        rows = _rows(flow)
        return flow, rows.clone() if places is None else rows[:, places]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None]:  # pyright: ignore
        flow, rows = gradients
        if rows is None:
            return flow, None
        if flow is None:
            flow = torch.zeros_like(ctx.like, dtype=rows.dtype, device=rows.device)
        # Nobody else holds it: it is what the stage behind has just computed.
        flow = flow.contiguous(memory_format=torch.channels_last)
        if ctx.places is None:
            _rows(flow).add_(rows)
        else:
            sample = torch.arange(len(flow), device=rows.device)[:, None]
            _rows(flow).index_put_((sample, ctx.places), rows, accumulate=True)
        return flow, None


class _Rectify(torch.autograd.Function):
    """A ReLU that writes over what it is given, both ways: new memory costs more than its work."""

    @staticmethod
    def forward(ctx: Any, flow: Tensor) -> Tensor:
        flow = flow.clamp_(min=0)
        ctx.mark_dirty(flow)
        ctx.save_for_backward(flow)
        return flow

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore
        (gradient,), (flow,) = gradients, ctx.saved_tensors
        return torch.ops.aten.threshold_backward.grad_input(gradient, flow, 0, grad_input=gradient)


def _rows(flow: Tensor) -> Tensor:
    """Look at ``flow`` [B, D, h, w], whose features lie side by side, as [B, h*w, D]."""
    return flow.permute(0, 2, 3, 1).view(len(flow), -1, flow.shape[1])


class _Bordered(nn.Module):
    """A convolution that finds around its input what ``border`` says."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.border = "zeros"
        self.around = cast(tuple[int, int], convolution.padding)
        centred = all(
            2 * a + 1 == k for a, k in zip(self.around, convolution.kernel_size, strict=True)
        )
        plain = convolution.stride == convolution.dilation == (1, 1) and convolution.groups == 1
        self.turns_around = centred and plain

    def forward(self, flow: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, D, h, w]."""
        own = self.convolution
        if self.border == "zeros":
            return own(flow)
        if self.border == "circular" and self.turns_around:
            return cast(Tensor, _Circular.apply(flow, own.weight, own.bias, self.around))
        y, x = self.around
        padded = F.pad(flow, (x, x, y, y), mode=self.border)
        return F.conv2d(padded, own.weight, own.bias, own.stride, 0, own.dilation, own.groups)


class _Circular(torch.autograd.Function):
    """A convolution on a torus, with a gradient for the features alone.

    That is a convolution on a torus as well, by the kernel turned around; what ``F.pad`` and
    ``F.conv2d`` have for gradients takes half as long again.
    """

    @staticmethod
    def forward(
        ctx: Any, flow: Tensor, weight: Tensor, bias: Tensor | None, around: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.around = around
        return F.conv2d(_wrap(flow, *around), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        if weight.shape[1] * 4 < len(weight):  # to few channels: one product, for all offsets
            return _to_few(gradient, weight.to(gradient.dtype), ctx.around), None, None, None
        turned = weight.flip(2, 3).transpose(0, 1).to(gradient.dtype)
        turned = turned.contiguous(memory_format=torch.channels_last)
        return F.conv2d(_wrap(gradient, *ctx.around), turned), None, None, None


def _to_few(gradient: Tensor, weight: Tensor, around: tuple[int, int]) -> Tensor:
    """Go back through a convolution [D, C, h, w] on a torus: [B, D, H, W] to [B, C, H, W]."""
    (batch, _, height, width), (y, x) = gradient.shape, around
    _, channels, *offsets = weight.shape
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    parts = (matrix @ gradient.permute(0, 2, 3, 1).reshape(-1, len(weight)).mT).view(
        -1, channels, batch, height, width
    )
    flow = gradient.new_zeros(channels, batch, height + 2 * y, width + 2 * x)
    for part, (down, right) in zip(parts, product(*map(range, offsets)), strict=True):
        flow[..., down : down + height, right : right + width] += part
    return _fold(flow, y, x).transpose(0, 1)


def _fold(flow: Tensor, y: int, x: int) -> Tensor:
    """Add the margins of ``flow`` [..., H + 2y, W + 2x] to its other side: [..., H, W]."""
    height, width = flow.shape[-2] - 2 * y, flow.shape[-1] - 2 * x
    flow[..., height : height + y, :] += flow[..., :y, :]
    flow[..., y : 2 * y, :] += flow[..., height + y :, :]
    flow[..., width : width + x] += flow[..., :x]
    flow[..., x : 2 * x] += flow[..., width + x :]
    return flow[..., y : y + height, x : x + width]


def _wrap(flow: Tensor, y: int, x: int) -> Tensor:
    """Surround ``flow`` [B, C, H, W] with its other side; one copy, where ``F.pad`` takes more."""
    batch, channels, height, width = flow.shape
    last = flow.is_contiguous(memory_format=torch.channels_last)
    padded = torch.empty(
        (batch, channels, height + 2 * y, width + 2 * x),
        dtype=flow.dtype,
        device=flow.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    inside = padded[:, :, y : y + height]
    inside[..., x : x + width] = flow
    inside[..., :x] = flow[..., width - x :]
    inside[..., x + width :] = flow[..., :x]
    padded[:, :, :y] = inside[:, :, height - y :]
    padded[:, :, y + height :] = inside[:, :, :y]
    return padded
