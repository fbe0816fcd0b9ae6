"""The pretrained image networks that features are taken of: their layers, and what these are.

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

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn
from torchvision import models
from torchvision.models.googlenet import BasicConv2d as GoogLeNetConv
from torchvision.models.inception import BasicConv2d as InceptionConv
from torchvision.models.squeezenet import Fire

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


@dataclass(frozen=True)
class Stage:
    """One step of a network: what it is called here, and under which keys torchvision keeps it."""

    name: str
    prefix: str
    module: nn.Module


def layer_names(network: str) -> tuple[str, ...]:
    """List the layers of ``network`` from shallow to deep."""
    return (IMAGE, *(stage.name for stage in build_stages(network)))


def style_layers(network: str) -> tuple[str, ...]:
    """List the layers of ``network`` that style statistics are taken of when none are named."""
    check_network(network)
    return STYLE_LAYERS[network]


def before_relu(network: str, layer: str) -> str:
    """Name the layer that ``layer`` of ``network`` is the ReLU of; itself when it is no ReLU."""
    stages = up_to(network, build_stages(network), [layer])
    behind = len(stages) > 1 and isinstance(stages[-1].module, nn.ReLU)
    return stages[-2].name if behind else layer


def check_network(network: str) -> None:
    """Raise ``ValueError`` for a network that there is not."""
    if network not in NETWORKS:
        raise ValueError(f"no network is called {network!r}; there are {', '.join(NETWORKS)}")


def build_stages(network: str) -> list[Stage]:
    """Build all of ``network`` without a number in it, on the meta device."""
    check_network(network)
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


def up_to(network: str, stages: list[Stage], layers: Sequence[str]) -> list[Stage]:
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


def pool_first(stages: list[Stage], layers: Sequence[str]) -> list[Stage]:
    """Let a ReLU that nobody asks for follow the pooling behind it: they commute."""
    stages = list(stages)
    for k, (first, second) in enumerate(pairwise(stages)):
        pooled = isinstance(first.module, nn.ReLU) and isinstance(second.module, nn.MaxPool2d)
        if pooled and first.name not in layers:
            stages[k] = replace(second, name=second.name + _PRE_RELU)
            stages[k + 1] = replace(second, module=first.module)
    return stages


def convolutions(stages: Sequence[Stage]) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield every convolution with its key in torchvision's files."""
    for stage in stages:
        for path, module in stage.module.named_modules():
            if isinstance(module, nn.Conv2d):
                yield ".".join(filter(None, (stage.prefix, path))), module


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
