"""models.json of Self-Organising Textures: our models in the pages of the article and of hexells.

The page's filters, colours and 8-bit ranges are fixed, so that a model is written in its terms:
gains of filters go into the first layer, the scale of colours into all weights, and the ranges are
what the model uses. See imports/distill.py for the format.
"""

import base64
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.perception import Perception

_PAGE = "distill-hex"  # the bank of the page's filters
_SCALE, _OFFSET = 0.5, 0.5  # of the page's colours
_ZERO = 127 / 255
_LOOK = (64, 256)  # cells of a side, and steps, in which a model's ranges are looked for
_ROOM = 1.1
_MOST = 1e5  # beyond that, nothing is left of a state in 8 bits


class DistillExporter(Exporter):
    """One JSON file with any number of models of one shape."""

    suffix = ".json"
    many = True
    abilities = Abilities(
        rules=("mlp",), edges=("torus",), living=False, learned=False, channels=256, numbers=2**22
    )

    def reasons(self, model: Trained) -> list[str]:
        """Say what the page cannot do."""
        automaton = model.automaton
        found = super().reasons(model)
        if automaton.rgb_offset != _OFFSET:
            found.append(f"its colours are offset by {automaton.rgb_offset:g}, not {_OFFSET}")
        if automaton.seed_kind != "zero":
            found.append(f"it starts from {automaton.seed_kind}, not from zeros")
        if not found and _gains(automaton) is None:
            found.append("its filters are not multiples of those of the page")
        return found

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the file; raises ``InputError`` when models differ in channels or hidden units."""
        shapes = {(model.automaton.channels, model.automaton.hidden) for model in models}
        if len(shapes) > 1:
            described = " and ".join(f"{c} channels, {h} hidden" for c, h in sorted(shapes))
            raise InputError(
                f"models of one file have one shape, and these have {described}; export them apart"
            )
        layers = [_layers(model.automaton) for model in models]
        ranges = [_ranges(model.automaton) for model in models]
        hidden = max(each[0] for each in ranges)
        span = 2 * max(each[1] for each in ranges)
        first, last = (np.stack([pair[i] for pair in layers]) for i in (0, 1))
        about = {
            "model_names": [model.name for model in models],
            "layers": [_sheet(first, [hidden, 0.0]), _sheet(last, [span, _ZERO])],
        }
        return {"": (json.dumps(about, ensure_ascii=False) + "\n").encode()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say what to do with the file, and what the page will not take from it."""
        said = [
            "put it in the place of the page's models.json; weights are rounded to 8 bits there"
        ]
        if any(model.automaton.grid.layout == "hex" for model in models):
            said.append("switch the page to hexagons for models of hexagonal cells")
        if any(model.automaton.fire_rate != 0.5 for model in models):
            said.append("the page lets half of the cells act in a step, whatever the models' rate")
        return said


def _gains(automaton: CellularAutomaton) -> list[tuple[int, float]] | None:
    """For each of our filters, which of the page's it is and how many times that; None: none."""
    layout = automaton.grid.layout
    page = Perception(_PAGE, layout, 1).filters()[0, 0]
    ours = automaton.perception.filters()[0, 0]
    found = []
    for kernel in ours:
        for i, other in enumerate(page):
            gain = ((kernel * other).sum() / other.square().sum()).item()
            if gain and torch.allclose(kernel, gain * other, atol=1e-6, rtol=1e-5):
                found.append((i, gain))
    whole = len(found) == len(ours) and not automaton.perception.bank.per_channel
    return found if whole else None


def _layers(automaton: CellularAutomaton) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights [inputs + 1, hidden] and [hidden + 1, channels] as the page multiplies."""
    assert automaton.weight_out is not None
    gains = _gains(automaton)
    assert gains is not None
    channels, hidden = automaton.channels, automaton.hidden
    times = automaton.rgb_scale / _SCALE  # the page's state is ours by so many
    given = automaton.weight_in.reshape(hidden, channels, len(gains))
    first = torch.zeros(4, channels, hidden)  # filter-major
    for f, (i, gain) in enumerate(gains):
        first[i] += given[:, :, f].T.cpu() * gain / times
    bias = torch.zeros(channels) if automaton.bias_out is None else automaton.bias_out.cpu() * times
    return (
        _with_bias(first.reshape(-1, hidden), automaton.bias_in.cpu()),
        _with_bias(automaton.weight_out.T.cpu() * times, bias),
    )


def _with_bias(weight: Tensor, bias: Tensor) -> NDArray[np.float32]:
    return torch.cat([weight, bias[None]]).detach().float().numpy()


def _ranges(automaton: CellularAutomaton) -> tuple[float, float]:
    """Return the most that hidden units, and states, updates and percepts, come to in the page."""
    limits, times = automaton.limits, abs(automaton.rgb_scale / _SCALE)
    kept = (limits.percept, limits.update, limits.state)
    if limits.hidden is not None and len(set(kept)) == 1 and kept[0] is not None:
        return limits.hidden, kept[0] * times
    gains = _gains(automaton)
    assert gains is not None
    assert automaton.weight_out is not None
    side, steps = _LOOK
    state = automaton.seed(1, (side, side))
    hidden, most = 0.0, 0.0
    scale = torch.tensor([1 / gain for _, gain in gains]).repeat(automaton.channels)
    with torch.no_grad():
        for start in range(0, steps, 8):
            state = automaton.grow(state, 8, start=start)
            seen = automaton.perceive(state)
            units = torch.einsum("hi,biyx->bhyx", automaton.weight_in, seen)
            units = units + automaton.bias_in[:, None, None]
            update = torch.einsum("ch,bhyx->bcyx", automaton.weight_out, units.relu())
            percepts = (seen * scale.to(seen)[:, None, None]).abs().max().item()
            values = [percepts, update.abs().max().item(), state.abs().max().item()]
            hidden, most = max(hidden, units.max().item()), max(most, *values)
    if not hidden + most < _MOST:
        raise InputError(f"its states grow beyond all bounds within {steps} steps; nothing to show")
    return max(hidden * _ROOM, 0.01), max(most * times * _ROOM, 0.01)


def _sheet(weights: NDArray[np.float32], zero: list[float]) -> dict[str, Any]:
    """Lay ``weights`` [models, rows, outputs] out as one picture."""
    models, rows, outputs = weights.shape
    quarter = -(-outputs // 4)
    columns = max(1, min(models, round(math.sqrt(models * rows / quarter))))
    lines = -(-models // columns)
    # The largest weight is byte 254 or 0: read and written again, a file stays as it is.
    scale = max(float(np.abs(weights).max()), 1e-6) * 255 / 127
    filled = np.zeros((lines * columns, rows, quarter * 4), np.float32)
    filled[:models, :, :outputs] = weights
    levels = np.clip(np.round(filled / scale * 255 + 127), 0, 255).astype(np.uint8)
    sheet = levels.reshape(lines, columns, rows, quarter, 4).transpose(0, 2, 1, 3, 4)
    file = io.BytesIO()
    pixels = np.ascontiguousarray(sheet.reshape(lines * rows, columns * quarter, 4))
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return {
        "scale": scale,
        "data": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii"),
        "shape": [rows, outputs],
        "quant_scale_zero": zero,
        "layout": [columns, lines],
    }
