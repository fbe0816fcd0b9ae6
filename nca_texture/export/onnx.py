"""ONNX: one step, of any size, with the cells that act given from outside.

Runtimes have no random numbers in common, and none that depend on a cell's place: whoever steps
draws the mask, as ``nca_texture.noise.fires`` does, and the graph is a function. It is written
operator by operator; borders are slices that are put together, which every runtime knows.
"""

import importlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.errors import MissingError
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.json import describe
from nca_texture.export.shading import seeds

_OPSET, _IR = 18, 9  # of 2022: what runtimes of several years understand


class OnnxExporter(Exporter):
    """One file: of ``state`` [B, C, H, W] and ``fires`` [B, 1, H, W] the next state and colours.

    ``fires`` is [B, C, H, W] where chance decides for each number of a cell.
    """

    suffix = ".onnx"
    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the graph; raises ``MissingError`` where the extra is not installed."""
        try:
            onnx = importlib.import_module("onnx")
        except ImportError as reason:
            raise MissingError(
                'exporting to ONNX needs onnx; run: pip install "nca-texture[onnx]"'
            ) from reason
        (model,) = models
        return {"": _Graph(onnx, model).written()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say what goes in and out."""
        (model,) = models
        each, what = _fires(model), "a cell" if _fires(model) == 1 else "a number of a cell"
        return [
            f"give it state [B, {model.automaton.channels}, H, W] and fires [B, {each}, H, W], 1 "
            f"where {what} acts and 0 elsewhere; it returns next_state and its colours, rgba"
        ]


def _fires(model: Trained) -> int:
    """Count the decisions of chance for a cell."""
    return model.automaton.channels if model.automaton.fire_by == "element" else 1


class _Graph:
    """A graph that grows by one operator after the other."""

    def __init__(self, onnx: Any, model: Trained) -> None:
        self.onnx = onnx
        self.model = model
        self.automaton = model.automaton
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def written(self) -> bytes:
        """Build and check the graph; its bytes."""
        helper, real = self.onnx.helper, self.onnx.TensorProto.FLOAT
        self._step()
        channels = self.automaton.channels
        ends = {
            name: helper.make_tensor_value_info(name, real, ["B", count, "H", "W"])
            for name, count in {
                "state": channels, "fires": _fires(self.model), "next_state": channels, "rgba": 4
            }.items()
        }  # fmt: skip
        graph = helper.make_graph(
            self.nodes,
            "step",
            [ends["state"], ends["fires"]],
            [ends["next_state"], ends["rgba"]],
            self.constants,
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
            producer_name="nca-texture",
            doc_string="One step of a neural cellular automaton.",
        )
        here, elsewhere = seeds(self.automaton).tolist()
        start = {"mixture": self.model.mixture, "start": {"seed": here, "elsewhere": elsewhere}}
        about = json.dumps(describe(self.model) | start, ensure_ascii=False)
        helper.set_model_props(made, {"nca-texture": about})
        self.onnx.checker.check_model(made, full_check=True)
        return made.SerializeToString()

    def _step(self) -> None:
        automaton, limits = self.automaton, self.automaton.limits
        filters = automaton.perception.filters().flatten(1, 2)[:, :, None]  # [R, C * F, 1, 3, 3]
        padded = self._padded("state")
        banks = [
            self("Conv", padded, self._constant(bank), group=automaton.channels) for bank in filters
        ]
        seen = self._clamped(self._combined(self._by_row(banks)), limits.percept)
        if automaton.rule == "abs":
            both = self("Concat", "state", seen, axis=1)
            update = self._dense(self("Concat", both, self("Abs", both), axis=1), "in")
        else:
            hidden = self("Relu", self._dense(seen, "in"))
            if limits.hidden is not None:
                hidden = self("Min", hidden, self._constant(limits.hidden))
            update = self._dense(hidden, "out")
        update = self("Mul", self._clamped(update, limits.update), "fires")
        after = self("Add", "state", update)
        if automaton.living:
            alphas = padded, self._padded(after)
            before, behind = (self._alive(self._slice(alpha, 1, 3, 4)) for alpha in alphas)
            alive = self("Mul", before, behind)
            if automaton.held:
                own = torch.arange(automaton.channels)[None, :, None, None] < automaton.own
                alive = self("Max", alive, self._constant(1 - own.float()))
            after = self("Mul", after, alive)
        self("Identity", self._clamped(after, limits.state), result="next_state")
        shown = self._slice("next_state", 1, 0, 4 if automaton.living else 3)
        shown = self("Mul", shown, self._constant(automaton.rgb_scale))
        shown = self("Add", shown, self._constant(automaton.rgb_offset))
        shown = self("Clip", shown, self._constant(0.0), self._constant(1.0))
        if automaton.living:
            self("Identity", shown, result="rgba")
            return
        one = self._slice(shown, 1, 0, 1)
        one = self("Add", self("Sub", one, one), self._constant(1.0))
        self("Concat", shown, one, axis=1, result="rgba")

    def __call__(self, operator: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """Append an operator; the name of what comes out."""
        name = result or f"v{len(self.nodes)}"
        node = self.onnx.helper.make_node(operator, list(inputs), [name], **attributes)
        self.nodes.append(node)
        return name

    def _constant(self, value: Tensor | float | Sequence[int]) -> str:
        """Keep numbers: a tensor or a float as float32, a list of whole numbers as int64."""
        if isinstance(value, Tensor):
            array = value.detach().cpu().float().numpy()
        elif isinstance(value, float | int):
            array = np.array(value, np.float32)
        else:
            array = np.array(value, np.int64)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _slice(self, x: str, axis: int, first: int, end: int) -> str:
        parts = [self._constant([each]) for each in (first, end, axis)]
        return self("Slice", x, *parts)

    def _padded(self, x: str) -> str:
        """Surround cells with what lies beyond each axis."""
        most = 2**31 - 1
        for axis, edge in zip((2, 3), self.automaton.grid.edges, strict=True):
            first, last = self._slice(x, axis, 0, 1), self._slice(x, axis, -1, most)
            if edge == "torus":
                first, last = last, first
            elif edge == "zero":
                nothing = self._constant(0.0)
                first, last = self("Mul", first, nothing), self("Mul", last, nothing)
            elif edge == "reflect":
                first, last = self._slice(x, axis, 1, 2), self._slice(x, axis, -2, -1)
            x = self("Concat", first, x, last, axis=axis)
        return x

    def _dense(self, x: str, layer: str) -> str:
        automaton = self.automaton
        weight, bias = (getattr(automaton, f"{name}_{layer}") for name in ("weight", "bias"))
        if layer == "in":
            weight = weight[:, self._inputs()]
        if layer == "out" or automaton.rule == "abs":  # no update of what is held
            weight = F.pad(weight, (0, 0, 0, automaton.held))
            bias = None if bias is None else F.pad(bias, (0, automaton.held))
        weight = weight[:, :, None, None]
        inputs = [self._constant(weight)] + ([] if bias is None else [self._constant(bias)])
        return self("Conv", x, *inputs)

    def _combined(self, seen: str) -> str:
        """Make of the two gradients what no turn changes; then percepts are filter by filter."""
        automaton, combine = self.automaton, self.automaton.perception.bank.combine
        if combine == "plain":
            return seen
        count, most = len(automaton.perception.bank.filters), 2**31 - 1
        parts = [
            self("Slice", seen, *(self._constant([each]) for each in (f, most, 1, count)))
            for f in range(count)
        ]
        x, y = parts[1:3]
        if combine == "norm":
            squares = self("Add", self("Mul", x, x), self("Mul", y, y))
            turned = [self("Sqrt", self("Add", squares, self._constant(1e-8)))]
        else:
            angle = self._slice("state", 1, automaton.own - 1, automaton.own)
            c, s = self("Cos", angle), self("Sin", angle)
            along = self("Add", self("Mul", c, x), self("Mul", s, y))
            turned = [along, self("Sub", self("Mul", c, y), self("Mul", s, x))]
        return self("Concat", parts[0], *turned, *parts[3:], axis=1)

    def _inputs(self) -> list[int]:
        """Order the inputs of the first layer as they come, which ``_combined`` may change."""
        automaton = self.automaton
        channels, filters = automaton.channels, automaton.perception.num_filters
        seen = list(range(channels * filters))
        if automaton.perception.bank.combine != "plain":
            seen = [c * filters + f for f in range(filters) for c in range(channels)]
        if automaton.rule == "mlp":
            return seen
        half = [*range(channels), *(channels + i for i in seen)]
        return half + [len(half) + i for i in half]

    def _clamped(self, x: str, limit: float | None) -> str:
        if limit is None:
            return x
        return self("Clip", x, self._constant(-limit), self._constant(limit))

    def _by_row(self, found: list[str]) -> str:
        """Take even rows of the first and odd rows of the second, where there are two."""
        if len(found) == 1:
            return found[0]
        height = self("Shape", "state", start=2, end=3)
        height = self("Squeeze", height, self._constant([0]))
        zero, one, two = (self._whole(each) for each in (0, 1, 2))
        rows = self("Mod", self("Range", zero, height, one), two)
        rows = self("Unsqueeze", self("Equal", rows, zero), self._constant([1]))  # [H, 1]
        return self("Where", rows, *found)

    def _whole(self, value: int) -> str:
        name = f"c{len(self.constants)}"
        array = np.array(value, np.int64)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _alive(self, padded: str) -> str:
        """Find cells that live or have a living neighbour: 1 or 0, [B, 1, H, W]."""
        if self.automaton.grid.layout == "square":
            most = self("MaxPool", padded, kernel_shape=[3, 3], strides=[1, 1])
        else:
            places = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
            cross = [self._window(padded, y, x) for y, x in places]
            sides = [[self._window(padded, y, x) for y in (0, 2)] for x in (0, 2)]
            most = self._by_row([self("Max", *cross, *side) for side in sides])
        alive = self("Greater", most, self._constant(0.1))
        return self("Cast", alive, to=self.onnx.TensorProto.FLOAT)

    def _window(self, padded: str, y: int, x: int) -> str:
        """Cut the cells of a padded state that lie ``y - 1``, ``x - 1`` away."""
        ends = [y - 2 if y < 2 else 2**31 - 1, x - 2 if x < 2 else 2**31 - 1]
        return self(
            "Slice", padded, self._constant([y, x]), self._constant(ends), self._constant([2, 3])
        )
