"""States in one picture: a band of rows for each four channels, for shaders that write one picture.

The last texel of the picture is kept for what a shader has to remember: cells across, cells down,
and the number of steps taken. Whoever includes it says how the picture is read,
``nca_texel(ivec2)``, how large it is, ``nca_pixels()``, and how many cells there are,
``nca_size()``.
"""

import re

from nca_texture.export.base import Trained
from nca_texture.export.stepping import GLSL, Dialect, groups_of, step_source

_READ = """\
vec4 nca_read(int group, int x, int y) {
  return nca_texel(ivec2(x, group * nca_size().y + y));
}
"""

_READ_AFTER = """\
vec4 nca_read_after(int group, int x, int y) {
  return nca_texel_after(ivec2(x, group * nca_size().y + y));
}
"""

# ``cleared``: whether the cell is under a brush that erases.
_BAND = """\
bool nca_is_fresh(vec4 memory) {
  ivec2 size = nca_size();
  return memory.w != 1.0 || int(memory.x) != size.x || int(memory.y) != size.y;
}

vec4 nca_band(ivec2 place, uint seed, bool restart, bool cleared) {
  ivec2 size = nca_size();
  ivec2 last = nca_pixels() - ivec2(1, 1);
  vec4 memory = nca_texel(last);
  bool fresh = restart || nca_is_fresh(memory);
  if (place.x == last.x && place.y == last.y) {
    return vec4(vec2(size), fresh ? 0.0 : memory.z + 1.0, 1.0);
  }
  int group = place.y / size.y;
  int y = place.y - group * size.y;
  if (place.x >= size.x || group >= %(groups)d) {
    return vec4(0.0, 0.0, 0.0, 0.0);
  }
  if (fresh) {
    return nca_seed(group, place.x, y, size.x, size.y, seed);
  }
  if (cleared) {
    return %(cleared)s;
  }
  return nca_step_band(group, place.x, y, size.x, size.y, uint(memory.z), seed);
}
"""

# Before: the picture of the last turn; after: what nca_band has made of it in this turn.
_MASK = """\
vec4 nca_masked(ivec2 place) {
  ivec2 size = nca_size();
  ivec2 last = nca_pixels() - ivec2(1, 1);
  vec4 after = nca_texel_after(place);
  bool memory = place.x == last.x && place.y == last.y;
  if (memory || nca_texel_after(last).z < 0.5) {
    return after;
  }
  int y = place.y - place.y / size.y * size.y;
  if (place.x >= size.x || place.y / size.y >= %(groups)d) {
    return after;
  }
  return nca_alive(place.x, y, size.x, size.y) ? after : vec4(0.0, 0.0, 0.0, 0.0);
}
"""

# Where pixel ``place`` (from the upper left, in cells) lies: the cell, not wrapped yet.
_CELL_SQUARE = """\
ivec2 nca_cell(vec2 place) {
  return ivec2(floor(place));
}
"""

_CELL_HEX = """\
ivec2 nca_cell(vec2 place) {
  float near = 1e9;
  ivec2 found = ivec2(0, 0);
  int row = int(floor(place.y / 0.8660254));
  for (int j = -1; j <= 1; ++j) {
    float shift = ((row + j) & 1) == 0 ? 0.25 : 0.75;
    float column = floor(place.x - shift + 0.5);
    vec2 away = place - vec2(column + shift, (float(row + j) + 0.5) * 0.8660254);
    if (dot(away, away) < near) {
      near = dot(away, away);
      found = ivec2(int(column), row + j);
    }
  }
  return found;
}
"""


def band_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_band``: what a texel becomes in a turn."""
    # ``nca_alive`` asks for the state after the step; nothing calls it in this turn.
    same = "vec4 nca_read_after(int group, int x, int y) { return nca_read(group, x, y); }\n"
    head = _READ + same * model.automaton.living
    return _joined(head, _band(model), model, dialect)


def mask_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_masked``: what a texel becomes in the second turn of models with living cells."""
    mask = _MASK % {"groups": groups_of(model.automaton)}
    return _joined(f"{_READ}\n{_READ_AFTER}", mask, model, dialect)


def both_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_band`` and, where cells live, ``nca_masked``, for one file with both turns."""
    if not model.automaton.living:
        return band_source(model, dialect)
    mask = _MASK % {"groups": groups_of(model.automaton)}
    return _joined(f"{_READ}\n{_READ_AFTER}", f"{_band(model)}\n{mask}", model, dialect)


def in_dialect(text: str, dialect: Dialect) -> str:
    """Turn names of types in GLSL into those of ``dialect``."""
    if not dialect.is_hlsl:
        return text
    text = re.sub(r"\bvec([234])\b", r"float\1", text)
    return re.sub(r"\b([iu])vec([234])\b", lambda m: {"i": "int", "u": "uint"}[m[1]] + m[2], text)


def _joined(head: str, tail: str, model: Trained, dialect: Dialect) -> str:
    head, tail = in_dialect(head, dialect), in_dialect(tail, dialect)
    return f"{head}\n{step_source(model, dialect, band=True)}\n{tail}"


def _band(model: Trained) -> str:
    automaton = model.automaton
    cleared = "vec4(0.0, 0.0, 0.0, 0.0)"
    if automaton.seed_kind == "noise":
        cleared = "nca_seed(group, place.x, y, size.x, size.y, seed + uint(memory.z))"
    return _BAND % {"groups": groups_of(automaton), "cleared": cleared}


def cell_source(model: Trained) -> str:
    """Write ``nca_cell``: which cell lies at a place of the picture."""
    return _CELL_HEX if model.automaton.grid.layout == "hex" else _CELL_SQUARE


def wrap_source(model: Trained) -> str:
    """Write ``nca_wrapped``: a cell moved inside on axes that wrap; -1 where there is nothing."""
    y, x = (edge == "torus" for edge in model.automaton.grid.edges)
    lines = ["ivec2 nca_wrapped(ivec2 cell, ivec2 size) {"]
    for name, wraps in (("x", x), ("y", y)):
        if wraps:
            turns = f"int(floor(float(cell.{name}) / float(size.{name})))"
            lines.append(f"  cell.{name} -= {turns} * size.{name};")
        else:
            inside = f"cell.{name} >= 0 && cell.{name} < size.{name}"
            lines.append(f"  if (!({inside})) {{ return ivec2(-1, -1); }}")
    return "\n".join([*lines, "  return cell;", "}\n"])
