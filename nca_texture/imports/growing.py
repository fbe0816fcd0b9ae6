"""Pictures of the Growing NCA demo, which Growing-NCA-WebUI writes as well: JSON with bytes.

Two layers; ``data_b64`` holds a byte for each weight, rows of inputs and one more for the bias. A
weight is (byte / 255 - 0.5) * weight_scale, a bias the same with bias_scale. Inputs of the first
layer are filter-major: every channel as it is, then their gradients by x and by y.
(distillpub/post--growing-ca public/ca.js.)
"""

import base64
import binascii
from typing import Any, ClassVar

import numpy as np

from nca_texture.errors import InputError
from nca_texture.imports.base import (
    MOST_CHANNELS,
    MOST_HIDDEN,
    Document,
    Format,
    Published,
    number,
    short,
    whole,
)
from nca_texture.kernels.rule import Limits
from nca_texture.recipe import AutomatonPlan

_FILTERS = 3  # identity, gradient by x, gradient by y
_STEPS = 96  # the article's models were trained to be a picture after 64 to 95
_SIZE = (72, 72)  # of the article's training: 40 pixels and 16 around them
_MOST_ACTIVATION = 10.0  # the demo's textures hold no more


class Growing(Format):
    """JSON of the Growing NCA demo."""

    name: ClassVar[str] = "growing"
    summary: ClassVar[str] = "JSON of the Growing NCA demo and of Growing-NCA-WebUI"

    def recognises(self, document: Document) -> bool:
        """Tell whether ``document`` is a list of layers with bytes."""
        data = document.data
        return isinstance(data, list) and any(
            isinstance(layer, dict) and "data_b64" in layer for layer in data
        )

    def read(self, document: Document) -> list[Published]:
        """Read the one model of the file, which is called as the file is."""
        file, layers = document.name, document.data
        if len(layers) != 2:
            raise InputError(f"{file} is damaged: it has {len(layers)} layers; expected two")
        (first, first_bias), (last, last_bias) = (
            _layer(layer, f"layer {i} of {file}") for i, layer in enumerate(layers)
        )
        hidden, channels = first.shape[1], last.shape[1]
        fits = first.shape[0] == _FILTERS * channels and last.shape[0] == hidden
        if not fits or not 4 <= channels <= MOST_CHANNELS:
            raise InputError(
                f"{file} is damaged: its layers are {list(first.shape)} and {list(last.shape)}; "
                "expected [3 * channels, hidden] and [hidden, channels] with 4 channels or more"
            )
        most = _MOST_ACTIVATION
        order = np.arange(_FILTERS * channels).reshape(_FILTERS, channels).T.ravel()
        return [
            Published(
                name=document.stem,
                format=self.name,
                plan=AutomatonPlan(
                    channels=channels,
                    hidden=hidden,
                    bank="growing-2020",
                    edge="none",
                    beyond="zero",
                    living=True,
                    limits=Limits(percept=most, hidden=most, update=most, state=most),
                    output_bias=True,
                    seed_kind="cell",
                    rgb_scale=1.0,
                    rgb_offset=0.0,
                ),
                weights={
                    "weight_in": np.ascontiguousarray(first[order].T),
                    "bias_in": first_bias,
                    "weight_out": np.ascontiguousarray(last.T),
                    "bias_out": last_bias,
                },
                steps=_STEPS,
                size=_SIZE,
            )
        ]


def _layer(layer: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Read weights [inputs, outputs] and biases [outputs] of a layer."""
    if not isinstance(layer, dict):
        raise InputError(f"{where} is {short(layer)}; expected a table")
    inputs = whole(layer, "in_ch", where, MOST_HIDDEN)
    outputs = whole(layer, "out_ch", where, MOST_HIDDEN)
    if layer.get("type", "uint8") != "uint8":
        raise InputError(f"{where} has type {short(layer['type'])}; expected uint8")
    data = layer.get("data_b64")
    if not isinstance(data, str):
        raise InputError(f"{where} has data_b64 {short(data)}; expected base64 text")
    try:
        found = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
    except (binascii.Error, ValueError) as reason:
        raise InputError(f"{where} has data that is no base64; get the file again") from reason
    if len(found) != (inputs + 1) * outputs:
        raise InputError(
            f"{where} has {len(found)} bytes; {inputs} inputs and a bias for {outputs} outputs "
            f"make {(inputs + 1) * outputs}"
        )
    values = found.astype(np.float32).reshape(inputs + 1, outputs) / 255 - np.float32(0.5)
    weight = values[:-1] * np.float32(number(layer, "weight_scale", where))
    return weight, values[-1] * np.float32(number(layer, "bias_scale", where))
