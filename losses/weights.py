"""Where the numbers of feature networks are, how they get there, and how they are read."""

import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision import models

from nca_texture.errors import InputError, MissingError
from nca_texture.losses import compact
from nca_texture.losses.networks import COMPACT, NETWORKS, Stage, check_network, convolutions

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_NORM_EPSILON = 0.001  # of the batch norm in torchvision's Inception networks


@dataclass(frozen=True)
class WeightsStatus:
    """Where the weights of one network are, for a listing."""

    network: str
    path: Path | None  # None when they are not on this machine
    place: str  # how they were found, or "not here"
    url: str  # where torchvision has them; empty for the one that ships with the package
    megabytes: float  # of that file


def find_weights(network: str, weights: str | Path | None = None) -> tuple[Path, str]:
    """Say which file the weights of ``network`` would be loaded from, and how it was found.

    Looks at the file ``weights`` and nowhere else when it is given; those of ``compact`` are part
    of the package; then in the folder NCA_TEXTURE_WEIGHTS for ``<network>.safetensors``, then in
    torchvision's cache. Opens nothing, downloads nothing. Raises ``InputError`` when ``weights`` is
    no file, ``MissingError`` when none are found.
    """
    check_network(network)
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


def load_weights(
    network: str, stages: Sequence[Stage], weights: str | Path | None
) -> tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Fill the convolutions of ``stages``; return the file and the normalisation it is made for.

    Looks for ``weights`` as ``find_weights`` does, and downloads them where that is allowed. The
    normalisation is mean and deviation of the three colours. Raises ``MissingError`` when there are
    none, ``InputError`` when the file cannot be read or lacks a tensor.
    """
    layers = dict(convolutions(stages))
    if not layers:
        return "", _IMAGENET
    path = _find_or_fetch(network, weights)
    keys, read, metadata = _open(path)
    wanted = {
        name: _wanted(name, keys, biased=conv.bias is not None) for name, conv in layers.items()
    }
    missing = [key for needed in wanted.values() for key in needed if key not in keys]
    if missing:
        total = sum(map(len, wanted.values()))
        raise InputError(
            f"{path} does not hold torchvision's {network}: {len(missing)} of the {total} tensors "
            f"that are used are missing, such as {', '.join(missing[:3])}; what it holds begins "
            f"with {', '.join(sorted(keys)[:3]) or 'nothing'}"
        )
    for name, conv in layers.items():
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
    check_network(network)
    return models.get_model_weights(network)["IMAGENET1K_V1"]


def _url(network: str) -> str:
    return "" if network == COMPACT else _published(network).url


def _megabytes(network: str) -> float:
    if network == COMPACT:
        return compact.WEIGHTS.stat().st_size / 1e6
    return float(_published(network).meta["_file_size"])


def _cache_path(network: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _url(network).rpartition("/")[2]


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
