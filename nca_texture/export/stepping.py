"""A step as shader source in GLSL, HLSL and WGSL: straight lines with the weights as constants.

Whoever includes it says how a state is read, four channels at a time: ``nca_read(group, x, y)``.
Row 0 is the upper one. A living mask needs the neighbours after the step: there ``nca_step`` gives
states that are not masked yet, and ``nca_alive`` and ``nca_read_after`` are for a second pass. What
that leaves of a cell that does not live is ``nca_erased``: nothing but the channels that are held.
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
    in_fours,
    kernels,
    literal,
    pack,
    seeds,
    vector,
)
from nca_texture.noise import FIRE_EACH, SEED_STATE

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
        return f"pcg4d({self.bits}({words}))"

    @property
    def bits(self) -> str:
        """Name a vector of four unsigned numbers."""
        return {"WGSL": "vec4u", "HLSL": "uint4"}.get(self.name, "uvec4")

    def let(self, kind: str, name: str, value: str) -> str:
        """Declare what does not change; ``kind`` may also be that of ``bits``."""
        if self.is_wgsl:
            return f"let {name} = {value};"
        return f"{self.type(kind)} {name} = {value};"

    def choose(self, condition: str, yes: str, no: str) -> str:
        """Take one of two numbers."""
        if self.is_wgsl:
            return f"select({no}, {yes}, {condition})"
        return f"{condition} ? {yes} : {no}"


GLSL = Dialect("GLSL", "vec4", "mat4", PCG4D_GLSL)
HLSL = Dialect("HLSL", "float4", "float4x4", PCG4D_HLSL, is_hlsl=True)
GODOT = Dialect("GLSL", "vec4", "mat4", PCG4D_GLSL, by_columns=True)
WGSL = Dialect("WGSL", "vec4f", "mat4x4f", PCG4D_WGSL, is_wgsl=True)


def step_source(model: Trained, dialect: Dialect, *, band: bool = False) -> str:
    """Write chance, edges, seed, step and, where there is one, the living mask.

    The step is ``nca_step``: in GLSL and HLSL it has one out parameter ``next``, an array with a
    vector for each group of channels; in WGSL it returns that array. With ``band`` it is
    ``nca_step_band`` instead, whose first parameter is the group that it returns; then there is no
    ``nca_alive``, but only ``nca_lives``, which looks at one state.
    """
    automaton = model.automaton
    mask = lives_source if band else mask_source
    parts = [mask(model, dialect), _seed(automaton, dialect), _step(automaton, dialect, band)]
    return "\n".join([dialect.chance, *parts])


def mask_source(model: Trained, dialect: Dialect) -> str:
    """Write what ``lives_source`` does and, where there is a living mask, ``nca_alive``."""
    automaton = model.automaton
    if not automaton.living:
        return lives_source(model, dialect)
    now = "nca_lives(x, y, width, height)"
    parts = [
        lives_source(model, dialect),
        _neighbour(dialect, "nca_at_after", "nca_read_after"),
        _lives(automaton, dialect, "nca_lives_after", "nca_at_after"),
        dialect.function("bool", "nca_alive", _CELL),
        f"  return {now} && {now.replace('(', '_after(', 1)};\n}}\n",
    ]
    return "\n".join(parts)


def lives_source(model: Trained, dialect: Dialect) -> str:
    """Write edges, neighbours, ``nca_erased`` and, where there is a living mask, ``nca_lives``."""
    automaton = model.automaton
    parts = [
        *(_edge(dialect, axis, automaton.grid.edges[i]) for i, axis in enumerate("yx")),
        _neighbour(dialect, "nca_at", "nca_read"),
        _erased(automaton, dialect),
    ]
    if automaton.living:
        parts.append(_lives(automaton, dialect, "nca_lives", "nca_at"))
    return "\n".join(parts)


def title(model: Trained, comment: str = "//") -> str:
    """Say in comments what the file is."""
    automaton = model.automaton
    rate = f"fire rate {automaton.fire_rate:g}"
    lines = [
        f"{model.name}: a neural cellular automaton" + (f" of {model.source}" * bool(model.source)),
        f"{automaton.num_parameters} numbers ({model.weights}), {automaton.channels} channels, "
        f"{automaton.grid.layout} cells, {rate}; grow {model.steps} steps",
        *([f"of {automaton.classes} classes this is {model.mixture}"] * (automaton.classes > 1)),
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
    lines = [dialect.function("vec4", "nca_seed", [("int", "group"), *_CELL, ("uint", "seed")])]
    here, elsewhere = map(in_fours, seeds(automaton))
    if automaton.seed_kind == "noise":
        own = dialect.hashed("group", f"{SEED_STATE}u", "0u", "seed")
        lines.append(f"  {dialect.let('uint', 'own', f'{own}.w')}")
        bits = dialect.hashed("x", "y", "0u", "own")
        lines.append(f"  {dialect.let(dialect.bits, 'bits', bits)}")
        f32 = dialect.type("float")
        parts = [f"{f32}(bits.{each} >> 8u) / 16777216.0 - 0.5" for each in "xyzw"]
        noise = f"{dialect.vec4}({', '.join(parts)}) * {literal(automaton.seed_amount)}"
        lines.append(f"  {dialect.let('vec4', 'drawn', noise)}")
        changed = _own(automaton)
        for g, (value, mask) in enumerate(zip(elsewhere, changed, strict=True)):
            if value.any() or not mask.all():
                found = f"drawn * {dialect.vector(mask)} + {dialect.vector(value)}"
                lines.append(f"  if (group == {g}) {{ return {found}; }}")
        lines.append("  return drawn;")
    elif automaton.seed_kind == "cell":
        down, across = (literal(each) for each in automaton.seed_place)
        f32, i32 = dialect.type("float"), dialect.type("int")
        row = f"min({i32}({down} * {f32}(height)), height - 1)"
        column = f"min({i32}({across} * {f32}(width)), width - 1)"
        lines.append(f"  if (x != {column} || y != {row}) {{")
        lines += [*_by_group(elsewhere, dialect, "    "), "  }"]
        lines += _by_group(here, dialect, "  ")
    else:
        lines += _by_group(elsewhere, dialect, "  ")
    return "\n".join([*lines, "}\n"])


def _by_group(values: NDArray[np.float32], dialect: Dialect, indent: str) -> list[str]:
    """Return the vector of a group of ``values`` [groups, 4]."""
    lines = [
        f"{indent}if (group == {g}) {{ return {dialect.vector(value)}; }}"
        for g, value in enumerate(values)
        if value.any()
    ]
    return [*lines, f"{indent}return {dialect.same(0)};"]


def _own(automaton: CellularAutomaton) -> NDArray[np.float32]:
    """Mark the channels that the rule changes with 1, those that are held with 0: [groups, 4]."""
    channels = np.arange(groups_of(automaton) * 4)
    held = (channels >= automaton.own) & (channels < automaton.channels)
    return np.where(held, 0, 1).astype(np.float32).reshape(-1, 4)


def _erased(automaton: CellularAutomaton, dialect: Dialect) -> str:
    """Write ``nca_erased``: what is left of a cell that does not live, or that a brush erases."""
    lines = [dialect.function("vec4", "nca_erased", [("int", "group"), ("vec4", "state")])]
    for g, mask in enumerate(1 - _own(automaton)):
        if mask.any():
            lines.append(f"  if (group == {g}) {{ return state * {dialect.vector(mask)}; }}")
    return "\n".join([*lines, f"  return {dialect.same(0)};", "}\n"])


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
    limit = round(automaton.fire_rate * 2**24)
    each = automaton.fire_by == "element" and automaton.fire_rate < 1
    if automaton.fire_rate < 1 and not each:
        fires = f"({dialect.hashed('x', 'y', 'step', 'seed')}.x >> 8u) < {limit}u"
        lines.append(f"  if ({fires}) {{")
    else:
        lines.append("  {")
    inner = _percepts(automaton, dialect) + _layers(automaton, dialect)
    for g in range(-(-automaton.own // 4)):
        limited = _clamped(dialect, f"u{g}", automaton.limits.update)
        if each:
            inner += _chances(dialect, g, limit)
            limited = f"{limited} * f{g}"
        inner.append(f"s{g} = s{g} + {limited};")
    lines += [f"    {line}" for line in inner]
    lines.append("  }")
    for g in range(groups):
        value = _clamped(dialect, f"s{g}", automaton.limits.state)
        last = f"return {value};" if g == groups - 1 else f"if (group == {g}) {{ return {value}; }}"
        lines.append(f"  {last}" if band else f"  next[{g}] = {value};")
    lines.append("  return next;" if dialect.is_wgsl and not band else "")
    return "\n".join([*filter(None, lines), "}\n"])


def _chances(dialect: Dialect, group: int, limit: int) -> list[str]:
    """Write f0, f1, ...: 1 where a number of the cell acts in this step, 0 where it does not."""
    own = dialect.hashed(f"{group}u", f"{FIRE_EACH}u", "0u", "seed")
    bits = dialect.hashed("x", "y", "step", f"own{group}")
    parts = [
        dialect.choose(f"(bits{group}.{part} >> 8u) < {limit}u", "1.0", "0.0") for part in "xyzw"
    ]
    return [
        dialect.let("uint", f"own{group}", f"{own}.w"),
        dialect.let(dialect.bits, f"bits{group}", bits),
        dialect.let("vec4", f"f{group}", f"{dialect.vec4}({', '.join(parts)})"),
    ]


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
    lines += _combined(automaton, dialect, filters)
    limit = automaton.limits.percept
    if limit is not None:
        count = groups * automaton.perception.num_filters
        lines += [f"p{i} = {_clamped(dialect, f'p{i}', limit)};" for i in range(count)]
    return lines


def _combined(automaton: CellularAutomaton, dialect: Dialect, filters: int) -> list[str]:
    """Make of the two gradients, filters 1 and 2, what no turn changes; see the reference."""
    groups, combine = groups_of(automaton), automaton.perception.bank.combine
    pairs = [(f"p{groups + g}", f"p{2 * groups + g}") for g in range(groups)]
    least = dialect.same(1e-8)
    lines = []
    if combine == "norm":
        lines = [f"{x} = sqrt({x} * {x} + {y} * {y} + {least});" for x, y in pairs]
        # One filter less: those behind move up.
        lines += [f"p{i - groups} = p{i};" for i in range(3 * groups, filters * groups)]
    if combine == "steer":
        angle = f"s{(automaton.own - 1) // 4}.{'xyzw'[(automaton.own - 1) % 4]}"
        lines.append(dialect.let("float", "c", f"cos({angle})"))
        lines.append(dialect.let("float", "d", f"sin({angle})"))
        for x, y in pairs:
            turned = f"v = {x} * c + {y} * d;", f"{y} = {y} * c - {x} * d;", f"{x} = v;"
            lines += turned
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

    def add(to: str, by: str) -> list[str]:
        columns = np.stack([next(stream) for _ in range(4)])
        return [f"{to} += {dialect.product(columns, by)};"] if columns.any() else []

    if automaton.rule == "abs":
        seen = [f"s{g}" for g in range(groups)]
        seen += [f"p{i}" for i in range(groups * found.filters)]
        seen += [f"abs({name})" for name in seen]
        lines = []
        for g in range(groups):
            lines.append(dialect.declare("vec4", f"u{g}", dialect.vector(next(stream))))
            lines += [line for name in seen for line in add(f"u{g}", name)]
        return lines
    lines = [dialect.declare("vec4", f"u{g}", dialect.same(0)) for g in range(groups)]
    lines.append(dialect.declare("vec4", "h", dialect.same(0)))
    most = automaton.limits.hidden
    for _ in range(found.hidden):
        lines.append(f"h = {dialect.vector(next(stream))};")
        lines += [line for i in range(found.inputs) for line in add("h", f"p{i}")]
        active = f"max(h, {dialect.same(0)})"
        if most is not None:
            active = f"clamp(h, {dialect.same(0)}, {dialect.same(most)})"
        lines.append(f"h = {active};")
        lines += [line for g in range(groups) for line in add(f"u{g}", "h")]
    if found.output_bias:
        lines += [f"u{g} += {dialect.vector(next(stream))};" for g in range(groups)]
    return lines


def _clamped(dialect: Dialect, name: str, limit: float | None) -> str:
    if limit is None:
        return name
    return f"clamp({name}, {dialect.same(-limit)}, {dialect.same(limit)})"


def _lives(automaton: CellularAutomaton, dialect: Dialect, name: str, read: str) -> str:
    """Write a function: whether a cell is alive or has a living neighbour, where ``read`` looks."""
    channel, threshold = _LIVING
    lines = [
        dialect.function("bool", name, _CELL),
        f"  {dialect.declare('float', 'most', '0.0')}",
    ]

    def most(places: Iterable[tuple[int, int]], indent: str) -> list[str]:
        found = []
        for dy, dx in places:
            place = f"x{dx:+d}, y{dy:+d}".replace("+0", "")
            value = f"{read}(0, {place}, width, height).{'xyzw'[channel]}"
            found.append(f"{indent}most = max(most, {value});")
        return found

    if automaton.grid.layout == "hex":
        lines += ["  if ((y & 1) == 0) {", *most(_HEX[0], "    "), "  } else {"]
        lines += [*most(_HEX[1], "    "), "  }"]
    else:
        lines += most(_SQUARE, "  ")
    return "\n".join([*lines, f"  return most > {literal(threshold)};", "}\n"])


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
