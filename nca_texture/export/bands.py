"""States in one picture: a band of rows for each four channels, for shaders that write one picture.

The last texel of the picture is kept for what a shader has to remember: cells across, cells down,
the number of steps taken, and whether a step is whole. Whoever includes it says how the picture is
read, ``nca_texel(ivec2)``, how large it is, ``nca_pixels()``, and how many cells there are,
``nca_size()``; ``rows_of`` says how many rows they take.

A living mask looks at the neighbours after the step, which takes a turn of its own. What it has to
know of the state before the step, whether a cell lived then, lies in one more band, in which a
texel is for four cells, one below the other. So either turn reads one picture.
"""

import re

from nca_texture.automaton import CellularAutomaton
from nca_texture.export.base import Trained
from nca_texture.export.stepping import GLSL, Dialect, groups_of, lives_source, step_source

_READ = """\
vec4 nca_read(int group, int x, int y) {
  return nca_texel(ivec2(x, group * nca_size().y + y));
}
"""

# ``cleared``: whether the cell is under a brush that erases.
_STEPPED = """\
bool nca_is_fresh(vec4 memory) {
  ivec2 size = nca_size();
  return memory.w != 1.0 || int(memory.x) != size.x || int(memory.y) != size.y;
}

vec4 nca_stepped(ivec2 place, uint seed, bool restart, bool cleared) {
  ivec2 size = nca_size();
  ivec2 last = nca_pixels() - ivec2(1, 1);
  vec4 memory = nca_texel(last);
  bool fresh = restart || nca_is_fresh(memory);
  if (place.x == last.x && place.y == last.y) {
    return vec4(vec2(size), fresh ? 0.0 : memory.z + 1.0, %(whole)s);
  }
  int group = place.y / size.y;
  int y = place.y - group * size.y;
  if (place.x >= size.x) {
    return vec4(0.0, 0.0, 0.0, 0.0);
  }
  if (group >= %(groups)d) {
    %(flags)s
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

_NO_FLAGS = "return vec4(0.0, 0.0, 0.0, 0.0);"
_FLAGS = "return nca_flags(place.x, 4 * (place.y - %d * size.y));"

_LIVED = """\
float nca_flag(int x, int y) {
  ivec2 size = nca_size();
  return y < size.y && nca_lives(x, y, size.x, size.y) ? 1.0 : 0.0;
}

vec4 nca_flags(int x, int y) {
  return vec4(nca_flag(x, y), nca_flag(x, y + 1), nca_flag(x, y + 2), nca_flag(x, y + 3));
}
"""

_MASKED = """\
vec4 nca_masked(ivec2 place) {
  ivec2 size = nca_size();
  ivec2 last = nca_pixels() - ivec2(1, 1);
  vec4 state = nca_texel(place);
  vec4 memory = nca_texel(last);
  if (place.x == last.x && place.y == last.y) {
    return vec4(memory.xyz, 1.0);
  }
  int group = place.y / size.y;
  int y = place.y - group * size.y;
  if (place.x >= size.x || group >= %(groups)d || memory.z < 0.5) {
    return state;
  }
  vec4 flags = nca_texel(ivec2(place.x, %(groups)d * size.y + y / 4));
  float lived = flags.x;
  if (y %% 4 == 1) { lived = flags.y; }
  if (y %% 4 == 2) { lived = flags.z; }
  if (y %% 4 == 3) { lived = flags.w; }
  if (lived > 0.5 && nca_lives(place.x, y, size.x, size.y)) {
    return state;
  }
  return nca_erased(group, state);
}
"""

_TURN = """\
vec4 nca_turn(ivec2 place, uint seed, bool restart, bool cleared) {
  if (nca_texel(nca_pixels() - ivec2(1, 1)).w == 2.0) {
    return nca_masked(place);
  }
  return nca_stepped(place, seed, restart, cleared);
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


def rows_of(automaton: CellularAutomaton, height: int) -> int:
    """Count the rows of a picture that has room for ``height`` rows of cells."""
    flags = -(-height // 4) if automaton.living else 0
    return groups_of(automaton) * height + flags + 1


def stepped_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_stepped``: what a texel becomes in a step; where cells live, it is not whole."""
    automaton = model.automaton
    groups, cleared = groups_of(automaton), "nca_erased(group, nca_texel(place))"
    if automaton.seed_kind == "noise":
        cleared = "nca_seed(group, place.x, y, size.x, size.y, seed + uint(memory.z))"
    stepped = _STEPPED % {
        "groups": groups,
        "cleared": cleared,
        "whole": "2.0" if automaton.living else "1.0",
        "flags": _FLAGS % groups if automaton.living else _NO_FLAGS,
    }
    step = step_source(model, dialect, band=True)
    return _joined([_READ], step, [_LIVED * automaton.living, stepped], dialect)


def masked_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_masked``: what a texel becomes after a step, where cells live."""
    masked = _MASKED % {"groups": groups_of(model.automaton)}
    return _joined([_READ], lives_source(model, dialect), [masked], dialect)


def both_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_stepped`` and, where cells live, ``nca_masked``, for one file with both."""
    masked = _MASKED % {"groups": groups_of(model.automaton)}
    return stepped_source(model, dialect) + in_dialect(masked, dialect) * model.automaton.living


def turn_source(model: Trained, dialect: Dialect = GLSL) -> str:
    """Write ``nca_turn``: what a texel becomes in a turn; where cells live, two are a step.

    The picture remembers which of the two it is: a turn to mask is not one to begin anew.
    """
    if not model.automaton.living:
        return stepped_source(model, dialect).replace("nca_stepped", "nca_turn")
    return f"{both_source(model, dialect)}\n{in_dialect(_TURN, dialect)}"


def in_dialect(text: str, dialect: Dialect) -> str:
    """Turn names of types in GLSL into those of ``dialect``."""
    if not dialect.is_hlsl:
        return text
    text = re.sub(r"\bvec([234])\b", r"float\1", text)
    return re.sub(r"\b([iu])vec([234])\b", lambda m: {"i": "int", "u": "uint"}[m[1]] + m[2], text)


def _joined(head: list[str], middle: str, tail: list[str], dialect: Dialect) -> str:
    parts = [*(in_dialect(each, dialect) for each in head), middle]
    return "\n".join([*parts, *(in_dialect(each, dialect) for each in tail if each)])


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
