"""Pretrained image networks, cut after the last layer that is asked for, and their weights.

A network is a list of named stages, each of which can be kept. Its layers are

- vgg16, vgg19: ``conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 ...`` to ``pool5``;
- compact: those of vgg19 to ``relu4_1``, to whose features it comes close; part of the package;
- squeezenet1_1: ``conv1 relu1 pool1 fire2 fire3 pool3 fire4 fire5 pool5 fire6 ... fire9``;
- googlenet: ``conv1 maxpool1 conv2 conv3 maxpool2 inception3a ... inception5b``;
- inception_v3: ``Conv2d_1a_3x3 ... Conv2d_4a_3x3 maxpool2 Mixed_5b ... Mixed_7c``;

``image``, the normalised picture itself, in all of them; and in the last three each block again as
``..._pre_relu``, before its ReLU. ``layer_names`` lists them. VGG16's layers 1, 6, 11, 18 and 25 of
the published recipes (torchvision's count) are ``relu1_1`` to ``relu5_1``.
"""

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision import models
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConv
from torchvision.models.inception import BasicConv2d as InceptionConv
from torchvision.models.squeezenet import Fire

from nca_texture.devices import send
from nca_texture.errors import InputError, MissingError
from nca_texture.losses import compact

COMPACT = "compact"  # the one network whose weights are part of the package

STYLE_LAYERS = {
    COMPACT: ("relu1_1", "relu2_1", "relu3_1", "relu4_1"),
    "vgg16": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "vgg19": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "inception_v3": ("Conv2d_1a_3x3", "Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5b", "Mixed_5d"),
    "googlenet": ("conv1", "conv3", "inception3a", "inception3b", "inception4a"),
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire7", "fire9"),
}
NETWORKS = tuple(STYLE_LAYERS)

PRECISIONS = ("float32", "bfloat16")
_FLOAT32_ONLY = ("squeezenet1_1",)  # gradients would turn by ten degrees; it is small anyway
BORDERS = ("zeros", "circular", "replicate")

IMAGE = "image"
_PRE_RELU = "_pre_relu"

# The convolutions whose outputs a block joins: their ReLUs are drawn together behind the block.
_ENDS = {
    "InceptionA": "branch1x1 branch5x5_2 branch3x3dbl_3 branch_pool",
    "InceptionB": "branch3x3 branch3x3dbl_3",
    "InceptionC": "branch1x1 branch7x7_3 branch7x7dbl_5 branch_pool",
    "InceptionD": "branch3x3_2 branch7x7x3_4",
    "InceptionE": "branch1x1 branch3x3_2a branch3x3_2b branch3x3dbl_3a branch3x3dbl_3b branch_pool",
    "Inception": "branch1 branch2.1 branch3.1 branch4.1",
}

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_NORM_EPSILON = 0.001  # of the batch norm in torchvision's Inception networks

# Given the name of a layer and the number of its places, which of them are wanted; None: all.
Choice = Callable[[str, int], Tensor | None]

_LARGEST_SIDE = 1024  # where the search for the smallest picture a network can take ends


@dataclass(frozen=True)
class Stage:
    """One step of a network: what it is called here, and under which keys torchvision keeps it."""

    name: str
    prefix: str
    module: nn.Module


@dataclass(frozen=True)
class WeightsStatus:
    """Where the weights of one network are, for a listing."""

    network: str
    path: Path | None  # None when they are not on this machine
    place: str  # how they were found, or "not here"
    url: str  # where torchvision has them; empty for the one that ships with the package
    megabytes: float  # of that file


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
        stages = _pool_first(_cut(network, _stages(network), self.layers), self.layers)
        self.network = network
        self.names = tuple(stage.name for stage in stages)
        self.stages = nn.ModuleList(stage.module for stage in stages)
        self.smallest, self.channels = self._measure()
        self.source, (mean, std) = _load(network, stages, weights)
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
        turned = weight.flip(2, 3).transpose(0, 1).to(gradient.dtype)
        turned = turned.contiguous(memory_format=torch.channels_last)
        return F.conv2d(_wrap(gradient, *ctx.around), turned), None, None, None


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


def layer_names(network: str) -> tuple[str, ...]:
    """List the layers of ``network`` from shallow to deep."""
    return (IMAGE, *(stage.name for stage in _stages(network)))


def style_layers(network: str) -> tuple[str, ...]:
    """List the layers of ``network`` that style statistics are taken of when none are named."""
    _check_network(network)
    return STYLE_LAYERS[network]


def before_relu(network: str, layer: str) -> str:
    """Name the layer that ``layer`` of ``network`` is the ReLU of; itself when it is no ReLU."""
    stages = _cut(network, _stages(network), [layer])
    behind = len(stages) > 1 and isinstance(stages[-1].module, nn.ReLU)
    return stages[-2].name if behind else layer


def find_weights(network: str, weights: str | Path | None = None) -> tuple[Path, str]:
    """Say which file the weights of ``network`` would be loaded from, and how it was found.

    Looks at the file ``weights`` and nowhere else when it is given; those of ``compact`` are part
    of the package; then in the folder NCA_TEXTURE_WEIGHTS for ``<network>.safetensors``, then in
    torchvision's cache. Opens nothing, downloads nothing. Raises ``InputError`` when ``weights`` is
    no file, ``MissingError`` when none are found.
    """
    _check_network(network)
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InputError(f"there is no weights file {path}; name a file, or leave it out")
        return path, "the file that was named"
    if network == COMPACT:
        return compact.WEIGHTS, "part of the package"
    for path, description in _places(network):
        if path is not None and path.is_file():
            return path, description
    permit = "unset NCA_TEXTURE_OFFLINE and " if _offline() else ""
    raise MissingError(
        f"{_nowhere(network)}; {permit}download them with `nca-texture weights fetch {network}` "
        f"({_megabytes(network):.0f} MB), or name a file with --weights"
    )


def have_weights(network: str, weights: str | Path | None = None) -> bool:
    """Tell whether the weights of ``network`` are on this machine; uses no network."""
    try:
        find_weights(network, weights)
    except (MissingError, InputError):
        return False
    return True


def fetch_weights(network: str) -> Path:
    """Download torchvision's weights of ``network`` into its cache, unless they are there.

    Those of ``compact`` always are. Raises ``MissingError`` when NCA_TEXTURE_OFFLINE=1 or the
    download fails.
    """
    if network == COMPACT:
        return compact.WEIGHTS
    path = _cache_path(network)
    if path.is_file():
        return path
    if _offline():
        raise MissingError(
            f"the weights of {network} are not in {path}, and NCA_TEXTURE_OFFLINE forbids to "
            "download them; unset it, or name a file with --weights"
        )
    url = _url(network)
    digits = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed by torch; its hash is part of the name.
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=digits[1] if digits else None, progress=False
        )
    except (OSError, RuntimeError) as reason:
        raise MissingError(
            f"the weights of {network} could not be downloaded from {url} to {path.parent}: "
            f"{reason}; get them on another machine, or name a file with --weights"
        ) from reason
    return path


def weights_status() -> list[WeightsStatus]:
    """List where the weights of each network are; uses no network."""
    rows = []
    for network in NETWORKS:
        path, place = find_weights(network) if have_weights(network) else (None, "not here")
        rows.append(WeightsStatus(network, path, place, _url(network), _megabytes(network)))
    return rows


def _check_network(network: str) -> None:
    if network not in NETWORKS:
        raise ValueError(f"no network is called {network!r}; there are {', '.join(NETWORKS)}")


def _places(network: str) -> list[tuple[Path | None, str]]:
    """List where weights may lie, in the order they are looked for."""
    folder = os.environ.get("NCA_TEXTURE_WEIGHTS")
    ours = Path(folder).expanduser() / f"{network}.safetensors" if folder else None
    how = "NCA_TEXTURE_WEIGHTS" if folder else "NCA_TEXTURE_WEIGHTS, which is not set"
    return [(ours, how), (_cache_path(network), "torchvision's cache")]


def _offline() -> bool:
    return os.environ.get("NCA_TEXTURE_OFFLINE", "") not in ("", "0")


def _published(network: str) -> Any:
    """Describe torchvision's own weights, from which all published recipes start."""
    _check_network(network)
    return models.get_model_weights(network)["IMAGENET1K_V1"]


def _url(network: str) -> str:
    return "" if network == COMPACT else _published(network).url


def _megabytes(network: str) -> float:
    if network == COMPACT:
        return compact.WEIGHTS.stat().st_size / 1e6
    return float(_published(network).meta["_file_size"])


def _cache_path(network: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _url(network).rpartition("/")[2]


def _stages(network: str) -> list[Stage]:
    """Build all of ``network`` without a number in it (on the meta device), as a list of stages."""
    _check_network(network)
    with torch.device("meta"):
        if network == COMPACT:
            stages = [Stage(name, name, module) for name, module in compact.compact_stages()]
        elif network.startswith("vgg"):
            stages = _vgg_stages(models.get_model(network, weights=None, init_weights=False))
        elif network == "squeezenet1_1":
            stages = _squeezenet_stages(models.get_model(network, weights=None))
        else:
            model = models.get_model(network, weights=None, init_weights=False, aux_logits=False)
            stages = _inception_stages(model)
    for stage in stages:
        for module in stage.module.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # else it would overwrite the layer kept before it
    return stages


def _vgg_stages(model: nn.Module) -> list[Stage]:
    """Name the convolutions, ReLUs and poolings of a VGG by block and number."""
    stages, block, number = [], 1, 0
    for index, module in enumerate(model.get_submodule("features").children()):
        number += isinstance(module, nn.Conv2d)
        if isinstance(module, nn.MaxPool2d):
            name = f"pool{block}"
            block, number = block + 1, 0
        else:
            kind = "conv" if isinstance(module, nn.Conv2d) else "relu"
            name = f"{kind}{block}_{number}"
        stages.append(Stage(name, f"features.{index}", module))
    return stages


def _squeezenet_stages(model: nn.Module) -> list[Stage]:
    """Name the layers of SqueezeNet as its paper does; a pooling has the number of its input."""
    stages, number = [], 1
    for index, module in enumerate(model.get_submodule("features").children()):
        prefix = f"features.{index}"
        if isinstance(module, Fire):
            number += 1
            for end in ("expand1x1_activation", "expand3x3_activation"):
                module.set_submodule(end, nn.Identity())
            stages += _with_relu(f"fire{number}", prefix, module)
        else:
            kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool"}
            stages.append(Stage(f"{kinds[type(module)]}{number}", prefix, module))
    return stages


def _inception_stages(model: nn.Module) -> list[Stage]:
    """Name the blocks of an Inception network as torchvision does, without batch norm."""
    stages = []
    for name, module in model.named_children():
        if name == "avgpool":
            break
        if isinstance(module, nn.MaxPool2d):
            stages.append(Stage(name, name, module))
        elif isinstance(module, InceptionConv | GoogLeNetConv):
            stages += _with_relu(name, name, _unfold(module, relu=False))
        else:
            _unfold_all(module, _ENDS[type(module).__name__].split())
            stages += _with_relu(name, name, module)
    return stages


def _with_relu(name: str, prefix: str, module: nn.Module) -> list[Stage]:
    """Follow a stage, whose outputs have lost their ReLU, by that ReLU.

    What a block passes on from a pooling is not negative, and stays what it is.
    """
    return [Stage(name + _PRE_RELU, prefix, module), Stage(name, name, nn.ReLU())]


def _unfold_all(block: nn.Module, ends: Sequence[str]) -> None:
    """Replace each convolution with batch norm and ReLU in ``block``; ``ends`` lose the ReLU."""
    for path, module in list(block.named_modules()):
        if isinstance(module, InceptionConv | GoogLeNetConv):
            block.set_submodule(path, _unfold(module, relu=path not in ends))


def _unfold(module: nn.Module, *, relu: bool) -> nn.Sequential:
    """Turn a convolution with batch norm into one with a bias, which it is once it is trained."""
    conv = module.get_submodule("conv")
    assert isinstance(conv, nn.Conv2d)
    conv.bias = nn.Parameter(torch.empty(conv.out_channels))
    parts = [("conv", conv), *([("relu", nn.ReLU())] if relu else [])]
    return nn.Sequential(OrderedDict(parts))


def _cut(network: str, stages: list[Stage], layers: Sequence[str]) -> list[Stage]:
    """Keep the stages up to the deepest of ``layers``."""
    names = [IMAGE, *(stage.name for stage in stages)]
    for layer in layers:
        if layer not in names:
            raise ValueError(
                f"{network} has no layer called {layer!r}; choose from {', '.join(names)}"
            )
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(
            f"expected one or more different layers, got {', '.join(layers) or 'none'}"
        )
    return stages[: max(names.index(layer) for layer in layers)]


def _pool_first(stages: list[Stage], layers: Sequence[str]) -> list[Stage]:
    """Let a ReLU that nobody asks for follow the pooling behind it: they commute."""
    stages = list(stages)
    for k, (first, second) in enumerate(pairwise(stages)):
        pooled = isinstance(first.module, nn.ReLU) and isinstance(second.module, nn.MaxPool2d)
        if pooled and first.name not in layers:
            stages[k] = replace(first, module=second.module)
            stages[k + 1] = replace(second, module=first.module)
    return stages


def _convolutions(stages: Sequence[Stage]) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield every convolution with its key in torchvision's files."""
    for stage in stages:
        for path, module in stage.module.named_modules():
            if isinstance(module, nn.Conv2d):
                yield ".".join(filter(None, (stage.prefix, path))), module


def _load(
    network: str, stages: Sequence[Stage], weights: str | Path | None
) -> tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Fill the convolutions of ``stages``; return the file and the normalisation it is made for."""
    convolutions = dict(_convolutions(stages))
    if not convolutions:
        return "", _IMAGENET
    path = _find_or_fetch(network, weights)
    keys, read, metadata = _open(path)
    wanted = {
        name: _wanted(name, keys, biased=conv.bias is not None)
        for name, conv in convolutions.items()
    }
    missing = [key for needed in wanted.values() for key in needed if key not in keys]
    if missing:
        total = sum(map(len, wanted.values()))
        raise InputError(
            f"{path} does not hold torchvision's {network}: {len(missing)} of the {total} tensors "
            f"that are used are missing, such as {', '.join(missing[:3])}; what it holds begins "
            f"with {', '.join(sorted(keys)[:3]) or 'nothing'}"
        )
    for name, conv in convolutions.items():
        tensors = {key: read(key).float() for key in wanted[name]}
        for key, tensor in tensors.items():
            shape = conv.weight.shape if key == f"{name}.weight" else conv.weight.shape[:1]
            if tensor.shape != shape:
                raise InputError(
                    f"{path} does not hold torchvision's {network}: {key} is "
                    f"{list(tensor.shape)}, expected {list(shape)}"
                )
        weight, bias = _fold(name, tensors)
        conv.weight = nn.Parameter(weight)
        conv.bias = None if bias is None else nn.Parameter(bias)
    return str(path), _normalisation(network, metadata)


def _find_or_fetch(network: str, weights: str | Path | None) -> Path:
    """Find the weights of ``network``, or download them when that is allowed."""
    try:
        return find_weights(network, weights)[0]
    except MissingError:
        if _offline():
            raise
    try:
        return fetch_weights(network)
    except MissingError as reason:
        raise MissingError(f"{_nowhere(network)}; {reason}") from reason


def _open(path: Path) -> tuple[set[str], Callable[[str], Tensor], dict[str, str]]:
    """Open a file of weights: its keys, what reads a tensor, and what the file says of itself."""
    try:
        if path.suffix == ".safetensors":
            file = safe_open(path, framework="pt")
            return set(file.keys()), file.get_tensor, file.metadata() or {}
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as reason:
        raise InputError(f"the weights file {path} cannot be read: {reason}") from reason
    if not (isinstance(tensors, dict) and all(isinstance(t, Tensor) for t in tensors.values())):
        raise InputError(f"the weights file {path} is not a dictionary of tensors")
    return set(tensors), tensors.__getitem__, {}


def _wanted(name: str, keys: set[str], *, biased: bool) -> list[str]:
    """List the tensors that make the convolution ``name``: with batch norm, or with it folded."""
    if not biased:
        return [f"{name}.weight"]
    plain = [f"{name}.weight", f"{name}.bias"]
    if not name.endswith(".conv"):  # of a network without batch norm
        return plain
    norm = name.removesuffix("conv") + "bn"
    parts = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    if plain[1] in keys and not keys.intersection(parts):
        return plain
    return [key for key in plain if key != plain[1] or key in keys] + parts


def _fold(name: str, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Turn what ``_wanted`` listed into weight and bias of the convolution ``name``."""
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    norm = name.removesuffix("conv") + "bn"
    if f"{norm}.weight" not in tensors:
        return weight, bias
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + _NORM_EPSILON).sqrt()
    shift = (
        tensors[f"{norm}.running_mean"] if bias is None else tensors[f"{norm}.running_mean"] - bias
    )
    return weight * scale[:, None, None, None], tensors[f"{norm}.bias"] - shift * scale


def _normalisation(
    network: str, metadata: dict[str, str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Say what mean and deviation of its input the weights in a file were made for.

    torchvision's Inception networks are Google's: their ``transform_input`` undoes ImageNet's
    normalisation and centres the picture. A file whose first convolution takes ImageNet's says so
    in its metadata, under ``input``.
    """
    google = network in ("inception_v3", "googlenet")
    return _CENTRED if google and "ImageNet" not in metadata.get("input", "") else _IMAGENET


def _nowhere(network: str) -> str:
    """Say where weights were looked for."""
    looked = "; ".join(f"{path} ({how})" if path else how for path, how in _places(network))
    return f"there are no weights of {network} here (looked at {looked})"
