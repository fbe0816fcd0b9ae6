"""A page that grows the texture: one file, no network, opened from the disk or a server."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nca_texture.export.base import Abilities, Exporter, Trained, quantised
from nca_texture.export.json import describe

PARTS = ("page_rule.js", "page_webgl.js", "page_webgpu.js", "page_app.js")
_MOST_MODELS = 32  # bits of the mask of those that live and die


class HtmlExporter(Exporter):
    """One HTML file with everything in it; several models can be painted into each other."""

    suffix = ".html"
    many = True
    abilities = Abilities(classes=True, elements=True, channels=128)

    def reasons(self, model: Trained) -> list[str]:
        """Name what the page's steps cannot do."""
        found = super().reasons(model)
        if model.automaton.perception.reach != 1:
            found.append("its filters reach farther than the next cell")
        return found

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Make the page."""
        return {"": page(models).encode()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say how it is opened."""
        return ["open it in a browser; #seed=moss&size=256x256 at the end of its address sets both"]


def page(models: Sequence[Trained]) -> str:
    """Write the page of ``models``; raises ``ValueError`` for more than it can hold."""
    if len(models) > _MOST_MODELS:
        raise ValueError(f"a page holds {_MOST_MODELS} models; {len(models)} were given")
    content = [about(model) for model in models]
    names = [model.name for model in models]
    title = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    parts = {
        "title": html.escape(title),
        "icon": content[0]["thumbnail"],
        "style": read_asset("page.css"),
        "script": "\n".join(map(read_asset, PARTS)),
        # No text inside may end the element that holds it.
        "models": json.dumps(content, ensure_ascii=False).replace("<", "\\u003c"),
    }
    return fill(read_asset("page.html"), parts)


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Put ``parts`` in the places of ``text`` that are called {{name}}, each once per place.

    What was put in is not looked at again.
    """
    pieces = re.split(r"\{\{(\w+)\}\}", text)
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    return "".join(pieces)


def about(model: Trained) -> dict[str, Any]:
    """Say all that the page needs to know of ``model``, with its numbers."""
    automaton = model.automaton
    bank = automaton.perception.bank
    shapes = {each: automaton.perception.with_layout(each) for each in ("square", "hex")}
    learned = bank.learned
    tensors = ("weight_in", "bias_in", "weight_out", "bias_out")
    numbers = {name: _tensor(getattr(automaton, name), model.weights) for name in tensors}
    numbers["kernels"] = _tensor(automaton.perception.kernels, model.weights) if learned else None
    picture, largest = _grown(model)
    return describe(model) | {
        "parameters": automaton.num_parameters,
        **{
            name: None if (value := getattr(automaton, name)) is None else value.tolist()
            for name in ("codes", "seeds")
        },
        "filters": list(bank.filters),
        "per_channel": bank.per_channel,
        "basis": None
        if learned
        else {name: each.basis.flatten(1).tolist() for name, each in shapes.items()},
        "size": list(model.size),
        "range": automaton.limits.state or round(1.25 * largest, 3),
        "thumbnail": picture,
        "tensors": numbers,
    }


def _tensor(value: Tensor | None, weights: str) -> dict[str, Any] | None:
    if value is None:
        return None
    scale = 1.0
    if weights == "int8":
        value, scale = quantised(value)
    elif weights == "float16":
        value = value.half()
    data = np.ascontiguousarray(value.detach().cpu().numpy())
    data = data.astype(data.dtype.newbyteorder("<"))
    return {
        "shape": list(value.shape),
        "type": weights,
        "scale": scale,
        "data": base64.b64encode(data.tobytes()).decode("ascii"),
    }


def _grown(model: Trained, side: int = 64) -> tuple[str, float]:
    """Grow ``model``: a small PNG as a data URL, and the largest number in the state."""
    automaton = model.automaton
    size = model.size if automaton.living else (side, side)
    with torch.no_grad():
        state = automaton.seed(1, size, seed=0)
        largest = max(state.abs().max().item(), 1.0)
        for start in range(0, max(model.steps, 32), 16):
            state = automaton.grow(state, 16, seed=0, start=start)
            largest = max(largest, state.abs().max().item())
        shown = automaton.to_image(state, size=(side, side))[0]
    if len(shown) == 4:
        shown = shown[:3] + (1 - shown[3:]) * 0.94
    pixels = (shown.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}", largest


def read_asset(name: str) -> str:
    """Read a file that lies beside this module."""
    return (resources.files("nca_texture.export") / name).read_text(encoding="utf-8").strip()
