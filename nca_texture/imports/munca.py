"""Textures of muNCA: the numbers in its shaders.

A rule is one layer over state s, percepts p and their absolute values, written in blocks of four
channels: a ``mat4`` (or ``M``, or 16 numbers of an array) for four inputs and four outputs, input
by input, a ``vec4`` of biases for each block of outputs, and one scale for all. Per block of
outputs the matrices come for s, p, |s| and |p| where there is one block (68 parameters), and for
each block of s and p in pairs, plain and absolute, where there are more.
(google-research/self-organising-systems notebooks, muNCA; google/swissgl demo/NeuralCA.js.)
"""

import re
from typing import ClassVar

import numpy as np

from nca_texture.errors import InputError
from nca_texture.imports.base import Document, Format, Published
from nca_texture.recipe import AutomatonPlan

_STEPS = 2000
_MOST_LETTERS = 2**20
_NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,3})?"
_ROW = rf"\s*{_NUMBER}\s*(?:,\s*{_NUMBER}\s*)+"
_MATRIX = re.compile(rf"\b(?:mat4|M)\(({_ROW})\)")
_ARRAY = re.compile(rf"(\w+)\s*=\s*new\s+Float32Array\(\s*\[({_ROW},?\s*)\]\s*\)")
_BIAS = re.compile(rf"(?:\(\s*|dx\s*=\s*)vec4\(({_ROW})\)\s*(?:/\s*({_NUMBER}))?\s*(?:\+|;)")
_SCALE = re.compile(rf"({_NUMBER})\s*\*\s*\(\s*(?:b\b|vec4\()")
_SHARE = re.compile(rf"return\s+dx\s*/\s*({_NUMBER})")
_BANKS = {1: "munca-68", 2: "munca-264", 3: "munca-588"}  # by blocks of four channels
_SHOWN = re.compile(r"\*\s*2\.0*\s*-\s*0?\.5")


class MuNCA(Format):
    """Shader source of muNCA, with 68, 264 or 588 numbers."""

    name: ClassVar[str] = "munca"
    summary: ClassVar[str] = "GLSL or JavaScript of muNCA"

    def recognises(self, document: Document) -> bool:
        """Tell whether ``document`` is source with matrices."""
        text = document.text
        short = len(text) < _MOST_LETTERS
        return document.data is None and short and ("mat4" in text or "Float32Array" in text)

    def read(self, document: Document) -> list[Published]:
        """Read the one model of the file, which is called as the file is."""
        file, text = document.name, document.text
        matrices, biases = _numbers(text, file)
        blocks = len(biases)
        if blocks not in _BANKS or len(matrices) != 4 * blocks * blocks:
            raise InputError(
                f"{file} has {len(matrices)} matrices and {blocks} vectors of biases; expected 4 "
                "and 1 (68 numbers), 16 and 2 (264) or 36 and 3 (588)"
            )
        scale = _scale(text, file)
        channels = 4 * blocks
        weight = np.zeros((channels, 4 * channels), np.float32)
        for i, matrix in enumerate(matrices):
            band, rest = divmod(i, 4 * blocks)
            inputs, absolute = (rest % 2, rest // 2) if blocks == 1 else divmod(rest, 2)
            column = 4 * (absolute * 2 * blocks + inputs)
            weight[4 * band : 4 * band + 4, column : column + 4] = matrix.T
        return [
            Published(
                name=document.stem,
                format=self.name,
                plan=AutomatonPlan(
                    channels=channels,
                    hidden=0,
                    rule="abs",
                    bank=_BANKS[blocks],
                    fire_rate=1.0,
                    seed_kind="noise",
                    rgb_scale=2.0 if _SHOWN.search(text) else 1.0,
                    rgb_offset=0.5,
                ),
                weights={
                    "weight_in": weight * np.float32(scale),
                    "bias_in": np.concatenate(biases) * np.float32(scale),
                },
                steps=_STEPS,
            )
        ]


def _numbers(text: str, file: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Find matrices [4 inputs, 4 outputs] and biases [4], in the order of the text."""
    matrices = [_values(row, 16, "a matrix", file).reshape(4, 4) for row in _MATRIX.findall(text)]
    biases = [
        _values(row, 4, "a vector of biases", file) / float(share or 1)
        for row, share in _BIAS.findall(text)
    ]
    if matrices:
        return matrices, biases
    for name, row in _ARRAY.findall(text):
        values = _values(row.strip().rstrip(","), None, name, file)
        if name.lower() == "b":
            biases = [values]
        else:
            count = len(values) // 16 * 16
            matrices += list(values[:count].reshape(-1, 4, 4))
    return matrices, biases


def _values(row: str, count: int | None, what: str, file: str) -> np.ndarray:
    values = np.array([float(word) for word in row.split(",")], np.float32)
    if (count is not None and len(values) != count) or not (np.abs(values) < 1e6).all():
        raise InputError(
            f"{file} has {what} of {len(values)} numbers; expected {count} finite ones"
        )
    return values


def _scale(text: str, file: str) -> float:
    if found := _SHARE.search(text):
        return 1 / (float(found[1]) or 1.0)
    if found := _SCALE.search(text):
        return float(found[1])
    raise InputError(f"{file} does not say what its numbers are scaled by, such as 1e-3*(...)")
