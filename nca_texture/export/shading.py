"""What shaders share: the rule as vectors of four, numbers as text, and chance in their languages.

States are packed four channels to a vector. A rule becomes one stream of vectors that a shader
reads from front to back, from constants, a buffer or a texture.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nca_texture.automaton import CellularAutomaton, Plant


@dataclass(frozen=True)
class Packed:
    """A rule in vectors of four; ``groups`` of channels, ``inputs`` and ``hidden`` likewise.

    ``vectors`` [N, 4] hold, for an ``mlp``, for each group h of hidden units: the bias; for each
    group i of inputs the four columns of a matrix that adds ``matrix * input[i]``; for each group g
    of channels the four columns of a matrix that adds ``matrix * hidden`` to ``update[g]``. After
    all of them, when ``output_bias``, the bias of each group of channels. Inputs are percepts,
    filter by filter: input[f * groups + g] are filter f of the channels of group g.

    For ``abs``, for each group of channels: the bias, then for each group of inputs four columns.
    Inputs are the state, the percepts, and the absolute values of both, in this order.
    """

    kind: str
    channels: int
    groups: int
    filters: int  # for each channel
    inputs: int
    hidden: int  # groups; 0 for abs
    output_bias: bool
    vectors: NDArray[np.float32]


def pack(automaton: CellularAutomaton) -> Packed:
    """Lay the weights of ``automaton`` out for a shader; what is padded, or held, is zero."""
    channels, filters = automaton.channels, automaton.perception.num_filters
    groups = -(-channels // 4)
    weight, bias = _array(automaton.weight_in), _array(automaton.bias_in)
    parts = [channels] if automaton.rule == "mlp" else [channels] * 2
    weight = _regroup(weight, automaton.rule, channels, filters)
    inputs = weight.shape[1] // 4
    rows = -(-len(weight) // 4) if automaton.rule == "mlp" else groups
    first = _pad(weight, rows * 4, inputs * 4).reshape(rows, 4, inputs, 4).transpose(0, 2, 3, 1)
    biases = _pad(bias[:, None], rows * 4, 1).reshape(rows, 1, 4)
    blocks = [biases, first.reshape(rows, inputs * 4, 4)]
    last: list[NDArray[np.float32]] = []
    if automaton.weight_out is not None:
        out = _pad(_array(automaton.weight_out), groups * 4, rows * 4)
        out = out.reshape(groups, 4, rows, 4).transpose(2, 0, 3, 1)
        blocks.append(out.reshape(rows, groups * 4, 4))
    if automaton.bias_out is not None:
        last.append(_pad(_array(automaton.bias_out)[:, None], groups * 4, 1).reshape(groups, 4))
    stream = np.concatenate(blocks, axis=1).reshape(-1, 4)
    return Packed(
        kind=automaton.rule,
        channels=channels,
        groups=groups,
        filters=filters,
        inputs=inputs,
        hidden=rows if len(parts) == 1 else 0,
        output_bias=automaton.bias_out is not None,
        vectors=np.ascontiguousarray(np.concatenate([stream, *last]), np.float32),
    )


def kernels(automaton: CellularAutomaton, angle: float = 0.0) -> NDArray[np.float32]:
    """Return the filters [R, groups, F, 3, 3, 4] by row parity; R is 2 on hexagons: even, odd."""
    found = _array(automaton.perception.filters(angle))  # [R, C, F, K, K]
    parities, channels, filters, size, _ = found.shape
    groups = -(-channels // 4)
    wide = np.zeros((parities, groups * 4, filters, size, size), np.float32)
    wide[:, :channels] = found
    wide = wide.reshape(parities, groups, 4, filters, size, size)
    return np.ascontiguousarray(wide.transpose(0, 1, 3, 4, 5, 2))


def seeds(automaton: CellularAutomaton) -> NDArray[np.float32]:
    """Return what cells start from [2, C]: where the seed stands, and elsewhere.

    A seed of noise comes on top of it in the automaton's own channels.
    """
    twin = automaton.planted([Plant((0.0, 0.0), automaton.garden[0].mixture)])
    if twin.seed_kind == "noise":
        twin.seed_kind = "zero"
    state = _array(twin.seed(1, (4, 4)))[0]
    return np.stack([state[:, 0, 0], state[:, 2, 2]])


def in_fours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay numbers of channels [C] out in vectors of four [groups, 4]; what is padded is zero."""
    groups = -(-len(values) // 4)
    return _pad(values[:, None], groups * 4, 1).reshape(groups, 4)


def literal(value: float) -> str:
    """Write a float32 as the shortest text that every shader language reads back as itself."""
    text = np.format_float_positional(np.float32(value), unique=True, trim="0")
    short = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return text if len(text) <= len(short) else short


def vector(values: Iterable[float], kind: str = "vec4") -> str:
    """Write a vector as ``kind`` calls it: vec4, vec4f, float4."""
    return f"{kind}({','.join(map(literal, values))})"


def _regroup(
    weight: NDArray[np.float32], kind: str, channels: int, filters: int
) -> NDArray[np.float32]:
    """Reorder columns from channel by channel to filter by filter, channels padded to fours."""
    groups = -(-channels // 4)
    seen = channels * filters
    if kind == "mlp":
        starts = [(0, filters)]
    else:
        starts = [(0, 1), (channels, filters), (channels + seen, 1), (2 * channels + seen, filters)]
    parts = []
    for start, count in starts:
        block = weight[:, start : start + channels * count].reshape(-1, channels, count)
        wide = np.zeros((len(weight), count, groups * 4), np.float32)
        wide[:, :, :channels] = block.transpose(0, 2, 1)
        parts.append(wide.reshape(len(weight), -1))
    return np.concatenate(parts, axis=1)


def _pad(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    wide = np.zeros((rows, columns), np.float32)
    wide[: values.shape[0], : values.shape[1]] = values
    return wide


def _array(tensor: object) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().float().numpy())  # type: ignore[attr-defined]


PCG4D_GLSL = """\
uvec4 pcg4d(uvec4 v) {
  v = v * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> 16u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}
"""

PCG4D_WGSL = """\
fn pcg4d(seed: vec4u) -> vec4u {
  var v = seed * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}
"""

PCG4D_HLSL = """\
uint4 pcg4d(uint4 v) {
  v = v * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> 16u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}
"""

# What lies beyond an axis of ``size`` cells, as a line that moves ``i`` inside; zero is -1.
EDGES_GLSL = {
    "torus": "i = (i % size + size) % size;",
    "zero": "i = i < 0 || i >= size ? -1 : i;",
    "reflect": "{ int n = max(2 * (size - 1), 1); i = (i % n + n) % n; i = min(i, (n - i) % n); }",
    "replicate": "i = clamp(i, 0, size - 1);",
}
