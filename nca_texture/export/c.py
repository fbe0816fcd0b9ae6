"""A C header: the weights, and a step to read, to port and to run without anything else."""

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.shading import literal, seeds
from nca_texture.export.stepping import title
from nca_texture.noise import FIRE_EACH, SEED_STATE

_LINE = 12  # numbers

_EDGES = {
    "torus": "return (i % n + n) % n;",
    "zero": "return i < 0 || i >= n ? -1 : i;",
    "reflect": "i = i < 0 ? -i : i; return i < n ? i : 2 * n - 2 - i;",
    "replicate": "return i < 0 ? 0 : i >= n ? n - 1 : i;",
}

_HASH = """\
/* pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 2020. */
static void @_hash(uint32_t v[4]) {
  for (int i = 0; i < 4; ++i) v[i] = v[i] * 1664525u + 1013904223u;
  v[0] += v[1] * v[3]; v[1] += v[2] * v[0]; v[2] += v[0] * v[1]; v[3] += v[1] * v[2];
  for (int i = 0; i < 4; ++i) v[i] ^= v[i] >> 16;
  v[0] += v[1] * v[3]; v[1] += v[2] * v[0]; v[2] += v[0] * v[1]; v[3] += v[1] * v[2];
}

%s"""

_FIRES = """\
/* Whether a cell acts in a step, of which so many were taken before. */
static int @_fires(int y, int x, uint32_t step, uint32_t seed) {
  uint32_t v[4] = {(uint32_t)x, (uint32_t)y, step, seed};
  @_hash(v);
  return (v[0] >> 8) < @_FIRE_LIMIT;
}
"""

_CHANCES = """\
/* Clear the updates of a cell's numbers that do not act in a step. */
static void @_chances(float update[@_OWN], int y, int x, uint32_t step, uint32_t seed) {
  for (int c = 0; c < @_OWN; c += 4) {
    uint32_t own[4] = {(uint32_t)c / 4u, %du, 0u, seed};
    @_hash(own);
    uint32_t v[4] = {(uint32_t)x, (uint32_t)y, step, own[3]};
    @_hash(v);
    for (int k = 0; k < 4 && c + k < @_OWN; ++k)
      if ((v[k] >> 8) >= @_FIRE_LIMIT) update[c + k] = 0.0f;
  }
}
"""

_HELPERS = """\
static int @_row(int i, int n) { %(y)s }
static int @_column(int i, int n) { %(x)s }

static float @_at(const float *plane, int y, int x, int height, int width) {
  y = @_row(y, height);
  x = @_column(x, width);
  return y < 0 || x < 0 ? 0.0f : plane[y * width + x];
}

static float @_clamp(float v, float low, float high) {
  return v < low ? low : v > high ? high : v;
}
"""

_STEP = """\
/* One step. state and next: CHANNELS planes of height rows of width cells, row 0 on top; scratch:
   SCRATCH floats a cell. step: steps taken before. */
static void @_step(const float *state, float *next, float *scratch, int height, int width,
                   uint32_t step, uint32_t seed) {
  const int size = height * width;
  for (int y = 0; y < height; ++y) {
    const float (*bank)[@_FILTERS][9] = @_bank[y %% @_PARITIES];
    for (int x = 0; x < width; ++x) {
      const int here = y * width + x;
      float update[@_OWN] = {0};
      %(if)s{
        float seen[@_INPUTS];
%(inputs)s
%(layers)s
      }
%(chances)s
      for (int c = 0; c < @_CHANNELS; ++c) {
        float u = c < @_OWN ? update[c] : 0.0f;
%(update)s
        float s = state[c * size + here] + u;
%(state)s
        next[c * size + here] = s;
      }
    }
  }
%(mask)s
}
"""

_SEE = """\
{indent}for (int c = 0; c < @_CHANNELS; ++c) {{
{indent}  float found[@_FILTERS];
{indent}  for (int f = 0; f < @_FILTERS; ++f) {{
{indent}    float sum = 0.0f;
{indent}    for (int j = -1; j <= 1; ++j)
{indent}      for (int i = -1; i <= 1; ++i)
{indent}        sum += bank[c][f][3 * j + i + 4]
{indent}               * @_at(state + c * size, y + j, x + i, height, width);
{indent}    found[f] = sum;
{indent}  }}
{combined}{indent}  for (int f = 0; f < @_PERCEPTS; ++f)
{indent}    seen[{place}c * @_PERCEPTS + f] = {value};
{indent}}}"""

# What no turn changes, of the two gradients: how steep it is, or both along and across an angle.
_COMBINED = {
    "plain": "",
    "norm": """\
{indent}  found[1] = sqrtf(found[1] * found[1] + found[2] * found[2] + 1e-8f);
{indent}  for (int f = 2; f < @_PERCEPTS; ++f) found[f] = found[f + 1];
""",
    "steer": """\
{indent}  const float angle = state[(@_OWN - 1) * size + here];
{indent}  const float along = cosf(angle) * found[1] + sinf(angle) * found[2];
{indent}  found[2] = cosf(angle) * found[2] - sinf(angle) * found[1];
{indent}  found[1] = along;
""",
}

_MLP = """\
        for (int h = 0; h < @_HIDDEN; ++h) {
          float sum = @_bias_in[h];
          for (int i = 0; i < @_INPUTS; ++i) sum += @_weight_in[h][i] * seen[i];
          sum = %s;
          for (int c = 0; c < @_OWN; ++c) update[c] += @_weight_out[c][h] * sum;
        }%s"""

_ABS = """\
        for (int c = 0; c < @_CHANNELS; ++c) seen[c] = state[c * size + here];
        for (int i = 0; i < @_INPUTS / 2; ++i)
          seen[@_INPUTS / 2 + i] = seen[i] < 0.0f ? -seen[i] : seen[i];
        for (int c = 0; c < @_OWN; ++c) {
          update[c] = @_bias_in[c];
          for (int i = 0; i < @_INPUTS; ++i) update[c] += @_weight_in[c][i] * seen[i];
        }"""

_ALIVE = """\
  /* A cell lives where alpha is above 0.1 in it or next to it, before the step and after it. */
  static const int near[2][9][2] = {%s};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      float before = 0.0f, after = 0.0f;
      for (int k = 0; k < %d; ++k) {
        const int j = y + near[y %% @_PARITIES][k][0], i = x + near[y %% @_PARITIES][k][1];
        const float b = @_at(state + 3 * size, j, i, height, width);
        const float a = @_at(next + 3 * size, j, i, height, width);
        before = b > before ? b : before;
        after = a > after ? a : after;
      }
      scratch[y * width + x] = before > 0.1f && after > 0.1f ? 1.0f : 0.0f;
    }
  for (int c = 0; c < @_OWN; ++c)
    for (int i = 0; i < size; ++i) next[c * size + i] *= scratch[i];"""

_SEEDS = {
    "zero": "",
    "cell": """\
  const int row = (int)(%(y)s * (double)height), column = (int)(%(x)s * (double)width);
  const int y = row < height ? row : height - 1, x = column < width ? column : width - 1;
  for (int c = 0; c < @_CHANNELS; ++c) state[(c * height + y) * width + x] = @_seed[0][c];
""",
    "noise": """\
  for (int c = 0; c < @_OWN; ++c) {
    uint32_t own[4] = {(uint32_t)c / 4u, %(purpose)du, 0u, seed};
    @_hash(own);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        uint32_t v[4] = {(uint32_t)x, (uint32_t)y, 0u, own[3]};
        @_hash(v);
        state[(c * height + y) * width + x] +=
            ((float)(v[c %% 4] >> 8) / 16777216.0f - 0.5f) * %(amount)s;
      }
  }
""",
}

_SHOW = """\
/* The colours of a cell from its first channels, 0 to 1; %s. */
static void @_rgba(const float *state, int cell, int size, float rgba[4]) {
  for (int c = 0; c < 4; ++c)
    rgba[c] = c < %d ? @_clamp(state[c * size + cell] * %s + %s, 0.0f, 1.0f) : 1.0f;
}
"""

_NEAR_SQUARE = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
_NEAR_EVEN = [(-1, -1), (-1, 0), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0)]
_NEAR_ODD = [(-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, 0), (1, 1)]


class CExporter(Exporter):
    """One header in C99 with static data and functions; nothing is allocated."""

    suffix = ".h"
    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the header; names in it begin with that of the model."""
        (model,) = models
        return {"": _header(model).encode()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Name the calls."""
        (model,) = models
        name = identifier(model.name)
        return [
            f"call {name}_start, then {name}_step {model.steps} times with step = 0, 1, ... and "
            f"state and next in turn; {name}_rgba gives colours"
        ]


def identifier(name: str) -> str:
    """Turn a model's name into a name in C."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "model"
    return plain if not plain[0].isdigit() else f"nca_{plain}"


def _header(model: Trained) -> str:
    automaton = model.automaton
    name = identifier(model.name)
    filters = automaton.perception.filters()  # [R, C, F, 3, 3]
    parities, channels, count = filters.shape[:3]
    inputs = automaton.weight_in.shape[1]
    sizes = {
        "CHANNELS": str(channels),
        "OWN": str(automaton.own),
        "HIDDEN": str(automaton.hidden),
        "FILTERS": str(count),
        "PERCEPTS": str(automaton.perception.num_filters),
        "PARITIES": str(parities),
        "INPUTS": str(inputs),
        "SCRATCH": "1" if automaton.living else "0",
        "STEPS": str(model.steps),
        "FIRE_LIMIT": f"{round(automaton.fire_rate * 2**24)}u",
    }
    tables = [
        _table("bank", f"[{parities}][{channels}][{count}][9]", filters),
        _table("weight_in", f"[{len(automaton.weight_in)}][{inputs}]", automaton.weight_in),
        _table("bias_in", f"[{len(automaton.bias_in)}]", automaton.bias_in),
        # Where the seed stands, and elsewhere.
        _table("seed", f"[2][{channels}]", torch.from_numpy(seeds(automaton))),
    ]
    if automaton.weight_out is not None:
        shape = f"[{automaton.own}][{automaton.hidden}]"
        tables.append(_table("weight_out", shape, automaton.weight_out))
    if automaton.bias_out is not None:
        tables.append(_table("bias_out", f"[{automaton.own}]", automaton.bias_out))
    y, x = automaton.grid.edges
    maths = "#include <math.h>\n" if automaton.perception.bank.combine != "plain" else ""
    parts = [
        title(model),
        f"#ifndef NCA_{name.upper()}_H\n#define NCA_{name.upper()}_H\n",
        f"{maths}#include <stdint.h>\n",
        "".join(f"#define @_{key} {value}\n" for key, value in sizes.items()),
        *tables,
        _HASH % (_CHANCES % FIRE_EACH if _by_element(model) else _FIRES),
        _HELPERS % {"y": _EDGES[y], "x": _EDGES[x]},
        _start(model),
        _STEP % _parts_of_step(model),
        _show(model),
        "#endif",
    ]
    return "\n".join(parts).replace("@_", f"{name}_") + "\n"


def _parts_of_step(model: Trained) -> dict[str, str]:
    automaton, limits = model.automaton, model.automaton.limits
    percept = _limited("found[f]", limits.percept)
    place = "" if automaton.rule == "mlp" else "@_CHANNELS + "
    indent = " " * 8
    combined = _COMBINED[automaton.perception.bank.combine].format(indent=indent)
    see = _SEE.format(indent=indent, place=place, value=percept, combined=combined)
    if automaton.rule == "mlp":
        high = "sum" if limits.hidden is None else f"@_clamp(sum, 0.0f, {_float(limits.hidden)})"
        active = "sum < 0.0f ? 0.0f : sum" if limits.hidden is None else high
        bias = "\n        for (int c = 0; c < @_OWN; ++c) update[c] += @_bias_out[c];"
        layers = _MLP % (active, bias if automaton.bias_out is not None else "")
    else:
        layers = _ABS
    update, state = limits.update, limits.state
    each = _by_element(model)
    return {
        "if": "" if each else "if (@_fires(y, x, step, seed)) ",
        "chances": "      @_chances(update, y, x, step, seed);" if each else "",
        "inputs": see,
        "layers": layers,
        "update": "" if update is None else f"        u = {_limited('u', update)};",
        "state": "" if state is None else f"        s = {_limited('s', state)};",
        "mask": _alive(model) if automaton.living else "  (void)scratch;",
    }


def _by_element(model: Trained) -> bool:
    return model.automaton.fire_by == "element"


def _limited(name: str, limit: float | None) -> str:
    return name if limit is None else f"@_clamp({name}, {_float(-limit)}, {_float(limit)})"


def _alive(model: Trained) -> str:
    is_hex = model.automaton.grid.layout == "hex"
    rows = (_NEAR_EVEN, _NEAR_ODD) if is_hex else (_NEAR_SQUARE, _NEAR_SQUARE)
    near = ", ".join("{" + ", ".join(f"{{{j}, {i}}}" for j, i in row) + "}" for row in rows)
    return _ALIVE % (near, len(rows[0]))


def _start(model: Trained) -> str:
    automaton = model.automaton
    y, x = automaton.seed_place
    body = _SEEDS[automaton.seed_kind]
    if body:
        amount = _float(automaton.seed_amount)
        body = body % {"y": repr(y), "x": repr(x), "amount": amount, "purpose": SEED_STATE}
    return (
        "/* The state to start from. */\n"
        "static void @_start(float *state, int height, int width, uint32_t seed) {\n"
        "  for (int c = 0; c < @_CHANNELS; ++c)\n"
        "    for (int i = 0; i < height * width; ++i)\n"
        "      state[c * height * width + i] = @_seed[1][c];\n"
        f"  (void)seed;\n{body}}}\n"
    )


def _show(model: Trained) -> str:
    automaton = model.automaton
    scale, offset = _float(automaton.rgb_scale), _float(automaton.rgb_offset)
    if automaton.living:
        return _SHOW % ("premultiplied by the last, alpha", 4, scale, offset)
    return _SHOW % ("the last one is 1", 3, scale, offset)


def _table(name: str, shape: str, values: Tensor) -> str:
    """Write numbers as rows of a flat list, which C lays out as ``shape``."""
    numbers = [_float(value) for value in values.detach().cpu().float().flatten().tolist()]
    return f"static const float @_{name}{shape} = {_nested(shape, iter(numbers))};\n"


def _nested(shape: str, numbers: Iterable[str]) -> str:
    """Put braces around ``numbers`` as an array of ``shape``, such as [2][3], has them."""
    counts = [int(count) for count in re.findall(r"\d+", shape)]
    stream = iter(numbers)

    def level(depth: int) -> str:
        if depth == len(counts) - 1:
            row = [next(stream) for _ in range(counts[depth])]
            lines = [", ".join(row[i : i + _LINE]) for i in range(0, len(row), _LINE)]
            return "{" + ",\n  ".join(lines) + "}"
        return "{" + ",\n ".join(level(depth + 1) for _ in range(counts[depth])) + "}"

    return level(0)


def _float(value: float) -> str:
    return f"{literal(value)}f"
