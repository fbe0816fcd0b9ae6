"""Textures of Self-Organising Textures and hexells: models.json with weights in a PNG.

A layer's weights are bytes in the channels of one picture that shows all models side by side:
``layout`` columns and rows of them, each ``shape`` rows (inputs, then the bias) by a quarter as
many pixels as there are outputs. A weight is (byte - 127) / 255 * scale. Inputs of the first layer
are filter-major: every channel as it is, then their gradients by x, by y, and their Laplacians.
(distillpub/post--selforg-textures public/ca.js; znah/hexells ca.js.)
"""

import base64
import binascii
import io
import struct
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from nca_texture.errors import InputError
from nca_texture.imports.base import (
    MOST_HIDDEN,
    MOST_MODELS,
    Document,
    Format,
    Published,
    number,
    short,
)
from nca_texture.kernels.rule import Limits
from nca_texture.recipe import AutomatonPlan

FILTERS = 4  # identity, gradient by x, gradient by y, Laplacian
_STEPS = 500  # the pages run for ever; what they show is there by then
_MOST_PIXELS = 2**23  # of a layer's picture; the largest published one has 2**18


class Distill(Format):
    """``models.json`` of the Distill article and of hexells."""

    name: ClassVar[str] = "distill"
    summary: ClassVar[str] = "models.json of Self-Organising Textures and hexells"

    def recognises(self, document: Document) -> bool:
        """Tell whether ``document`` has layers and names of models."""
        data = document.data
        return isinstance(data, dict) and ("model_names" in data or "layers" in data)

    def read(self, document: Document) -> list[Published]:
        """Read all models."""
        file, data = document.name, document.data
        names, layers = data.get("model_names"), data.get("layers")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{file} is damaged: model_names is {short(names)}; expected names")
        if not isinstance(layers, list) or len(layers) != 2:
            raise InputError(f"{file} is damaged: layers is {short(layers)}; expected two layers")
        (first, (reach, floor)), (last, (span, _)) = (
            _layer(layer, len(names), f"layer {i} of {file}") for i, layer in enumerate(layers)
        )
        hidden, channels = first.shape[2], last.shape[2]
        if first.shape[1] != FILTERS * channels + 1 or last.shape[1] != hidden + 1 or channels < 3:
            raise InputError(
                f"{file} is damaged: its layers are {list(first.shape[1:])} and "
                f"{list(last.shape[1:])}; expected [4 * channels + 1, hidden] and "
                "[hidden + 1, channels]"
            )
        if floor != 0:
            raise InputError(f"{file} has hidden values below zero, which no ReLU gives")
        half = span / 2
        plan = AutomatonPlan(
            channels=channels,
            hidden=hidden,
            bank="distill-hex",
            limits=Limits(percept=half, hidden=reach, update=half, state=half),
            output_bias=True,
            rgb_scale=0.5,
            rgb_offset=0.5,
        )
        # From filter-major to the filters of a channel side by side.
        order = np.arange(FILTERS * channels).reshape(FILTERS, channels).T.ravel()
        return [
            Published(
                name=name,
                format=self.name,
                plan=plan,
                weights={
                    "weight_in": np.ascontiguousarray(first[i, order].T),
                    "bias_in": first[i, -1],
                    "weight_out": np.ascontiguousarray(last[i, :-1].T),
                    "bias_out": last[i, -1],
                },
                steps=_STEPS,
            )
            for i, name in enumerate(names)
        ]


def _layer(layer: Any, models: int, where: str) -> tuple[np.ndarray, tuple[float, float]]:
    """Read weights [models, rows, outputs] of a layer, and (scale, zero) of what it puts out."""
    if not isinstance(layer, dict):
        raise InputError(f"{where} is {short(layer)}; expected a table")
    scale = number(layer, "scale", where)
    rows, outputs = _pair(layer, "shape", where, (MOST_HIDDEN + 1, MOST_HIDDEN))
    columns, lines = _pair(layer, "layout", where, (MOST_MODELS, MOST_MODELS))
    if columns * lines < models:
        raise InputError(
            f"{where} has room for {columns} x {lines} models, fewer than the {models} of the file"
        )
    quarter = -(-outputs // 4)
    size = (columns * quarter, lines * rows)
    picture = _picture(layer.get("data"), size, where)
    stacked = picture.reshape(lines, rows, columns, quarter, 4).transpose(0, 2, 1, 3, 4)
    weights = stacked.reshape(columns * lines, rows, quarter * 4)[:models, :, :outputs]
    found = layer.get("quant_scale_zero")
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(isinstance(each, int | float) and 0 <= each < 1e6 for each in found)
        or found[0] <= 0
    ):
        raise InputError(
            f"{where} has quant_scale_zero {short(found)}; expected two numbers, scale and zero"
        )
    return (weights.astype(np.float32) - 127) / 255 * np.float32(scale), (found[0], found[1])


def _pair(layer: dict[str, Any], key: str, where: str, most: tuple[int, int]) -> tuple[int, int]:
    found = layer.get(key)
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(isinstance(n, int) and 1 <= n <= end for n, end in zip(found, most, strict=True))
    ):
        raise InputError(f"{where} has {key} {short(found)}; expected two whole numbers")
    return found[0], found[1]


def _picture(data: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Decode a data URL that holds a PNG of ``size`` (width, height): uint8 [H, W, 4].

    The size is compared with what the header says before anything is unpacked.
    """
    if size[0] * size[1] > _MOST_PIXELS:
        raise InputError(f"{where} asks for a picture of {size[0]}x{size[1]} pixels; too large")
    if not isinstance(data, str) or not data[:22].lower().startswith("data:image/png;base64,"):
        raise InputError(f"{where} has data {short(data)}; expected a PNG as a data URL")
    try:
        png = base64.b64decode(data[22:], validate=True)
    except (binascii.Error, ValueError) as reason:
        raise InputError(f"{where} has data that is no base64; get the file again") from reason
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR" or len(png) < 33:
        raise InputError(f"{where} has data that is no PNG; get the file again")
    found = struct.unpack(">II", png[16:24])
    if found != size:
        raise InputError(
            f"{where} has a picture of {found[0]}x{found[1]} pixels; "
            f"its shape and layout make {size[0]}x{size[1]}"
        )
    if png[24:26] != b"\x08\x06":
        raise InputError(f"{where} has a picture that is not 8-bit RGBA; weights lie in all four")
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as reason:
        raise InputError(f"{where} has a damaged PNG; get the file again") from reason
