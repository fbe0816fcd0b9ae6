"""A step as shader source in GLSL, HLSL and WGSL: straight lines with the weights as constants.

Whoever includes it says how a state is read, four channels at a time: ``nca_read(group, x, y)``.
Row 0 is the upper one. A living mask needs the neighbours after the step: there ``nca_step`` gives
states that are not masked yet, and ``nca_alive`` and ``nca_read_after`` are for a second pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nca_texture.automaton import CellularAutomaton
from nca_texture.export.base import Trained
from nca_texture.export.shading import (
    PCG4D_GLSL,
    PCG4D_HLSL,
    PCG4D_WGSL,
    kernels,
    literal,
    pack,
    vector,
)
from nca_texture.noise import SEED_STATE

_LIVING = (3, 0.1)  # alpha above 0.1 in a cell or next to it, as in the automaton

# Neighbours of a cell that count for the living mask, as (dy, dx), by row parity.
_SQUARE = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
_HEX = (
    ((-1, -1), (-1, 0), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0)),
    ((-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, 0), (1, 1)),
)


@dataclass(frozen=True)
class Dialect:
    """How a language spells what a step is made of."""

    name: str
    vec4: str
    matrix: str
    chance: str  # the hash
    is_wgsl: bool = False
    is_hlsl: bool = False
    by_columns: bool = False  # a matrix is made from four vectors, not from 16 numbers

    def function(self, result: str, name: str, parameters: Sequence[tuple[str, str]]) -> str:
        """Begin a function; types are int, uint, float, bool or vec4."""
        if self.is_wgsl:
            given = ", ".join(f"{each}: {self.type(kind)}" for kind, each in parameters)
            return f"fn {name}({given}) -> {self.type(result)} {{"
        given = ", ".join(f"{self.type(kind)} {each}" for kind, each in parameters)
        return f"{self.type(result)} {name}({given}) {{"

    def type(self, kind: str) -> str:
        """Name a type."""
        if self.is_wgsl:
            return {"int": "i32", "uint": "u32", "float": "f32", "vec4": "vec4f"}.get(kind, kind)
        return {"vec4": self.vec4}.get(kind, kind)

    def declare(self, kind: str, name: str, value: str) -> str:
        """Declare a variable that may change."""
        if self.is_wgsl:
            return f"var {name} = {value};"
        return f"{self.type(kind)} {name} = {value};"

    def product(self, columns: NDArray[np.float32], by: str) -> str:
        """Multiply a matrix, given by its columns [4, 4], by the vector called ``by``."""
        numbers = ",".join(map(literal, columns.ravel().tolist()))
        if self.by_columns:
            numbers = ",".join(map(self.vector, columns))
        if self.is_hlsl:  # constructors take rows there
            return f"mul({by}, {self.matrix}({numbers}))"
        return f"{self.matrix}({numbers}) * {by}"

    def vector(self, values: Iterable[float]) -> str:
        """Write a vector."""
        return vector(values, self.vec4)

    def same(self, value: float) -> str:
        """Write a vector of four equal numbers."""
        return self.vector([value] * 4)

    def hashed(self, x: str, y: str, z: str, w: str) -> str:
        """Hash four numbers."""
        words = ", ".join(
            each if each.endswith("u") and each[:-1].isdigit() else f"{self.type('uint')}({each})"
            for each in (x, y, z, w)
        )
        kind = {"WGSL": "vec4u", "HLSL": "uint4"}.get(self.name, "uvec4")
        return f"pcg4d({kind}({words}))"


GLSL = Dialect("GLSL", "vec4", "mat4", PCG4D_GLSL)
HLSL = Dialect("HLSL", "float4", "float4x4", PCG4D_HLSL, is_hlsl=True)
GODOT = Dialect("GLSL", "vec4", "mat4", PCG4D_GLSL, by_columns=True)
WGSL = Dialect("WGSL", "vec4f", "mat4x4f", PCG4D_WGSL, is_wgsl=True)


def step_source(model: Trained, dialect: Dialect, *, band: bool = False) -> str:
    """Write chance, edges, seed, step and, where there is one, the living mask.

    The step is ``nca_step``: in GLSL and HLSL it has one out parameter ``next``, an array with a
    vector for each group of channels; in WGSL it returns that array. With ``band`` it is
    ``nca_step_band`` instead, whose first parameter is the group that it returns.
    """
    automaton = model.automaton
    parts = [
        dialect.chance,
        *(_edge(dialect, axis, automaton.grid.edges[i]) for i, axis in enumerate("yx")),
        _seed(automaton, dialect),
        _neighbour(dialect, "nca_at", "nca_read"),
        _step(automaton, dialect, band),
    ]
    if automaton.living:
        parts += [_neighbour(dialect, "nca_at_after", "nca_read_after"), _alive(automaton, dialect)]
    return "\n".join(parts)


def title(model: Trained, comment: str = "//") -> str:
    """Say in comments what the file is."""
    automaton = model.automaton
    rate = f"fire rate {automaton.fire_rate:g}"
    lines = [
        f"{model.name}: a neural cellular automaton" + (f" of {model.source}" * bool(model.source)),
        f"{automaton.num_parameters} numbers ({model.weights}), {automaton.channels} channels, "
        f"{automaton.grid.layout} cells, {rate}; grow {model.steps} steps",
        "made by nca-texture" + (f" from a model of sha256 {model.sha256}" * bool(model.sha256)),
    ]
    plain = (" ".join("".join(c if c.isprintable() else " " for c in line).split())
             for line in lines)  # fmt: skip
    return "".join(f"{comment} {line}\n" for line in plain)


def groups_of(automaton: CellularAutomaton) -> int:
    """Count the vectors of four that hold a cell's channels."""
    return -(-automaton.channels // 4)


def _edge(dialect: Dialect, axis: str, kind: str) -> str:
    """Move an index that lies at most one cell outside of an axis inside; -1: nothing is there."""
    start = dialect.function("int", f"nca_{axis}", [("int", "i"), ("int", "n")])
    low, high = {
        "torus": ("i + n", "i - n"),
        "zero": ("-1", "-1"),
        "reflect": ("-i", "2 * n - 2 - i"),
        "replicate": ("0", "n - 1"),
    }[kind]
    return (
        f"{start}\n  if (i < 0) {{ return {low}; }}\n  if (i >= n) {{ return {high}; }}\n"
        "  return i;\n}\n"
    )


_CELL = (("int", "x"), ("int", "y"), ("int", "width"), ("int", "height"))


def _neighbour(dialect: Dialect, name: str, read: str) -> str:
    start = dialect.function("vec4", name, [("int", "group"), *_CELL])
    let = "let " if dialect.is_wgsl else "int "
    return (
        f"{start}\n  {let}column = nca_x(x, width);\n  {let}row = nca_y(y, height);\n"
        f"  if (column < 0 || row < 0) {{ return {dialect.same(0)}; }}\n"
        f"  return {read}(group, column, row);\n}}\n"
    )


def _seed(automaton: CellularAutomaton, dialect: Dialect) -> str:
    """Write ``nca_seed``: the state that a cell starts from."""
    start = dialect.function("vec4", "nca_seed", [("int", "group"), *_CELL, ("uint", "seed")])
    lines = [start]
    if automaton.seed_kind == "noise":
        f32 = dialect.type("float")
        let = "let " if dialect.is_wgsl else "uint "
        own = dialect.hashed("group", f"{SEED_STATE}u", "0u", "seed")
        lines.append(f"  {let}own = {own}.w;")
        kind = {"WGSL": "let ", "HLSL": "uint4 "}.get(dialect.name, "uvec4 ")
        lines.append(f"  {kind}bits = {dialect.hashed('x', 'y', '0u', 'own')};")
        parts = [f"{f32}(bits.{each} >> 8u) / 16777216.0 - 0.5" for each in "xyzw"]
        amount = literal(automaton.seed_amount)
        lines.append(f"  return {dialect.vec4}({', '.join(parts)}) * {amount};")
    elif automaton.seed_kind == "cell":
        down, across = (literal(each) for each in automaton.seed_place)
        f32, i32 = dialect.type("float"), dialect.type("int")
        row = f"min({i32}({down} * {f32}(height)), height - 1)"
        column = f"min({i32}({across} * {f32}(width)), width - 1)"
        lines.append(f"  if (x != {column} || y != {row}) {{ return {dialect.same(0)}; }}")
        lines.append(f"  if (group == 0) {{ return {dialect.vector([0, 0, 0, 1])}; }}")
        lines.append(f"  return {dialect.same(1)};")
    else:
        lines.append(f"  return {dialect.same(0)};")
    return "\n".join([*lines, "}\n"])


def _step(automaton: CellularAutomaton, dialect: Dialect, band: bool) -> str:
    groups = groups_of(automaton)
    parameters = [*_CELL, ("uint", "step"), ("uint", "seed")]
    if band:
        lines = [dialect.function("vec4", "nca_step_band", [("int", "group"), *parameters])]
    elif dialect.is_wgsl:
        given = ", ".join(f"{name}: {dialect.type(kind)}" for kind, name in parameters)
        lines = [f"fn nca_step({given}) -> array<vec4f, {groups}> {{"]
        lines.append(f"  var next: array<vec4f, {groups}>;")
    else:
        given = ", ".join(f"{dialect.type(kind)} {name}" for kind, name in parameters)
        lines = [f"void nca_step({given}, out {dialect.vec4} next[{groups}]) {{"]
    for g in range(groups):
        lines.append(f"  {dialect.declare('vec4', f's{g}', f'nca_read({g}, x, y)')}")
    if automaton.fire_rate < 1:
        limit = round(automaton.fire_rate * 2**24)
        fires = f"({dialect.hashed('x', 'y', 'step', 'seed')}.x >> 8u) < {limit}u"
        lines.append(f"  if ({fires}) {{")
    else:
        lines.append("  {")
    inner = _percepts(automaton, dialect) + _layers(automaton, dialect)
    for g in range(groups):
        limited = _clamped(dialect, f"u{g}", automaton.limits.update)
        inner.append(f"s{g} = s{g} + {limited};")
    lines += [f"    {line}" for line in inner]
    lines.append("  }")
    for g in range(groups):
        value = _clamped(dialect, f"s{g}", automaton.limits.state)
        last = f"return {value};" if g == groups - 1 else f"if (group == {g}) {{ return {value}; }}"
        lines.append(f"  {last}" if band else f"  next[{g}] = {value};")
    lines.append("  return next;" if dialect.is_wgsl and not band else "")
    return "\n".join([*filter(None, lines), "}\n"])


def _percepts(automaton: CellularAutomaton, dialect: Dialect) -> list[str]:
    """Write p0, p1, ...: filter by filter, of every group of channels."""
    found, groups = kernels(automaton), groups_of(automaton)  # [R, groups, F, 3, 3, 4]
    filters = found.shape[2]
    count = groups * filters
    lines = [dialect.declare("vec4", f"p{i}", dialect.same(0)) for i in range(count)]
    lines.append(dialect.declare("vec4", "v", dialect.same(0)))
    branches = [_taps(kernel, dialect) for kernel in found]
    if len(branches) == 1:
        lines += branches[0]
    else:
        even, odd = ([f"  {line}" for line in branch] for branch in branches)
        lines += ["if ((y & 1) == 0) {", *even, "} else {", *odd, "}"]
    limit = automaton.limits.percept
    if limit is not None:
        lines += [f"p{i} = {_clamped(dialect, f'p{i}', limit)};" for i in range(count)]
    return lines


def _taps(kernel: NDArray[np.float32], dialect: Dialect) -> list[str]:
    """Add up the neighbours of a cell by ``kernel`` [groups, F, 3, 3, 4]."""
    groups, filters = kernel.shape[:2]
    lines = []
    for g in range(groups):
        for dy, dx in _SQUARE:
            taps = kernel[g, :, dy + 1, dx + 1]
            if not taps.any():
                continue
            here = (dy, dx) == (0, 0)
            if not here:
                place = f"x{dx:+d}, y{dy:+d}".replace("+0", "")
                lines.append(f"v = nca_at({g}, {place}, width, height);")
            value = f"s{g}" if here else "v"
            for f in range(filters):
                if not taps[f].any():
                    continue
                same = bool((taps[f] == taps[f][0]).all())
                factor = literal(float(taps[f][0])) if same else dialect.vector(taps[f])
                lines.append(f"p{f * groups + g} += {factor} * {value};")
    return lines


def _layers(automaton: CellularAutomaton, dialect: Dialect) -> list[str]:
    """Write u0, u1, ...: the update of every group, from the stream of weights of ``pack``."""
    found, groups = pack(automaton), groups_of(automaton)
    stream = iter(found.vectors)

    def columns() -> NDArray[np.float32]:
        return np.stack([next(stream) for _ in range(4)])

    if automaton.rule == "abs":
        seen = [f"s{g}" for g in range(groups)]
        seen += [f"p{i}" for i in range(groups * found.filters)]
        seen += [f"abs({name})" for name in seen]
        lines = []
        for g in range(groups):
            lines.append(dialect.declare("vec4", f"u{g}", dialect.vector(next(stream))))
            lines += [f"u{g} += {dialect.product(columns(), name)};" for name in seen]
        return lines
    lines = [dialect.declare("vec4", f"u{g}", dialect.same(0)) for g in range(groups)]
    lines.append(dialect.declare("vec4", "h", dialect.same(0)))
    most = automaton.limits.hidden
    for _ in range(found.hidden):
        lines.append(f"h = {dialect.vector(next(stream))};")
        lines += [f"h += {dialect.product(columns(), f'p{i}')};" for i in range(found.inputs)]
        active = f"max(h, {dialect.same(0)})"
        if most is not None:
            active = f"clamp(h, {dialect.same(0)}, {dialect.same(most)})"
        lines.append(f"h = {active};")
        lines += [f"u{g} += {dialect.product(columns(), 'h')};" for g in range(groups)]
    if found.output_bias:
        lines += [f"u{g} += {dialect.vector(next(stream))};" for g in range(groups)]
    return lines


def _clamped(dialect: Dialect, name: str, limit: float | None) -> str:
    if limit is None:
        return name
    return f"clamp({name}, {dialect.same(-limit)}, {dialect.same(limit)})"


def _alive(automaton: CellularAutomaton, dialect: Dialect) -> str:
    """Write ``nca_alive``: whether a cell lives on after a step, before and after which it did."""
    start = dialect.function("bool", "nca_alive", _CELL)
    channel, threshold = _LIVING
    part = "xyzw"[channel]
    lines = [
        start,
        f"  {dialect.declare('float', 'before', '0.0')}",
        f"  {dialect.declare('float', 'after', '0.0')}",
    ]

    def most(places: Iterable[tuple[int, int]], indent: str) -> list[str]:
        found = []
        for dy, dx in places:
            place = f"x{dx:+d}, y{dy:+d}".replace("+0", "")
            for name, read in (("before", "nca_at"), ("after", "nca_at_after")):
                value = f"{read}(0, {place}, width, height).{part}"
                found.append(f"{indent}{name} = max({name}, {value});")
        return found

    if automaton.grid.layout == "hex":
        lines += ["  if ((y & 1) == 0) {", *most(_HEX[0], "    "), "  } else {"]
        lines += [*most(_HEX[1], "    "), "  }"]
    else:
        lines += most(_SQUARE, "  ")
    lines += [f"  return before > {literal(threshold)} && after > {literal(threshold)};", "}\n"]
    return "\n".join(lines)


def colours_source(model: Trained, dialect: Dialect) -> str:
    """Write ``nca_rgba``: the colours of a cell's first group, premultiplied where they are."""
    automaton = model.automaton
    start = dialect.function("vec4", "nca_rgba", [("vec4", "state")])
    scale, offset = literal(automaton.rgb_scale), dialect.same(automaton.rgb_offset)
    zero, one = dialect.same(0), dialect.same(1)
    let = "let shown = " if dialect.is_wgsl else f"{dialect.vec4} shown = "
    value = f"clamp(state * {scale} + {offset}, {zero}, {one})"
    last = "shown.w" if automaton.living else "1.0"
    return (
        f"{start}\n  {let}{value};\n"
        f"  return {dialect.vec4}(shown.x, shown.y, shown.z, {last});\n}}\n"
    )
