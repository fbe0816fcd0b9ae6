"""Figures that the project draws itself, to be grown: flowers, creatures, a bone, a snowflake.

Each is drawn on a square of sides 2 around the origin, y downwards, four times finer than it is
shown, and then averaged; what is not covered is transparent.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nca_texture.names import check_name
from nca_texture.targets.noise import Field, Picture, colour, ramp, smoothstep

OVERSAMPLING = 4
LARGEST = 1024  # pixels per side

SHELL_MIDDLE = (-0.1, 0.1)  # x, y that the spiral of the nautilus winds around
SHELL_MOUTH = 2.4  # radians from the right, downwards, at which a full-grown one ends
SHELL_GROWTH = math.exp(0.1 * math.pi)  # of its size in a quarter of a turn


class Sheet:
    """A transparent square that shapes are laid on, one over the other."""

    def __init__(self, n: int) -> None:
        """Begin with nothing on ``n`` by ``n`` pixels."""
        axis = (np.arange(n) + 0.5) / n * 2 - 1
        self.x, self.y = np.meshgrid(axis, axis)
        self.soft = 2.0 / n  # how far an outline goes over
        self.picture = np.zeros((n, n, 4))  # premultiplied

    def lay(self, inside: Field, paint: Picture | NDArray[np.float64]) -> None:
        """Lay ``paint`` where the signed distance ``inside`` is above zero."""
        cover = smoothstep(-self.soft, self.soft, inside)[..., None]
        over = np.concatenate([paint * cover, cover], -1)
        self.picture = over + self.picture * (1 - cover)

    def cut(self, inside: Field) -> None:
        """Take away what lies where ``inside`` is above zero."""
        self.picture = self.picture * (1 - smoothstep(-self.soft, self.soft, inside)[..., None])

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Field:
        """How far inside an ellipse each place is, about; above zero inside."""
        u, v = self.turned(cx, cy, angle)
        return (1 - np.hypot(u / rx, v / ry)) * min(rx, ry)

    def turned(self, cx: float, cy: float, angle: float) -> tuple[Field, Field]:
        """Coordinates around a place, along and across a direction."""
        dx, dy, c, s = self.x - cx, self.y - cy, math.cos(angle), math.sin(angle)
        return dx * c + dy * s, -dx * s + dy * c

    def line(self, points: Sequence[tuple[float, float]], width: Sequence[float]) -> Field:
        """How far inside a stroke through ``points`` of half the ``width`` at each of them."""
        best = np.full(self.x.shape, -np.inf)
        ends = zip(points, points[1:], width, width[1:], strict=False)
        for (ax, ay), (bx, by), first, last in ends:
            dx, dy = bx - ax, by - ay
            t = ((self.x - ax) * dx + (self.y - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
            t = np.clip(t, 0, 1)
            reach = np.hypot(self.x - ax - t * dx, self.y - ay - t * dy)
            best = np.maximum(best, first + (last - first) * t - reach)
        return best


def _shade(height: Field, colours: Sequence[str]) -> Picture:
    return ramp(np.clip(height, 0, 1), colours)


def _stem(sheet: Sheet, top: tuple[float, float], leaves: Sequence[tuple[float, float]]) -> None:
    """Draw a stem from below to ``top`` and ``leaves``, each (height, angle)."""
    ys = np.linspace(0.95, top[1], 12)
    xs = top[0] * (1 - (ys - top[1]) / (0.95 - top[1])) + 0.05 * np.sin(4 * ys)
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    inside = sheet.line(points, [0.055] * len(points))
    sheet.lay(inside, _shade(inside / 0.06 + 0.3, ["#1d5a24", "#4ea43f"]))
    for height, angle in leaves:
        at = float(np.interp(height, ys[::-1], xs[::-1]))
        cx, cy = at + 0.28 * math.cos(angle), height + 0.28 * math.sin(angle)
        u, v = sheet.turned(cx, cy, angle)
        leaf = (1 - np.abs(v) / (0.13 * np.clip(1 - (u / 0.3) ** 2, 1e-3, 1))) * 0.1
        leaf = np.where(np.abs(u) < 0.3, leaf, -1.0)
        vein = smoothstep(0.03, 0.0, np.abs(v))
        sheet.lay(leaf, _shade(0.45 + 1.6 * v + 0.35 * vein, ["#1c6628", "#3f9a3b", "#8fce6a"]))


def rose(n: int) -> NDArray[np.float64]:
    """Red rose on a stem with two leaves."""
    sheet = Sheet(n)
    _stem(sheet, (0.0, -0.1), [(0.55, -0.6), (0.7, math.pi + 0.6)])
    dark, light = ["#5c0718", "#a3132c", "#df3349"], ["#7d0c20", "#c21f38", "#f0596a"]
    for ring, (count, far, size) in enumerate([(6, 0.36, 0.31), (5, 0.22, 0.26), (4, 0.10, 0.2)]):
        for k in range(count):
            angle = 2 * math.pi * (k + 0.5 * ring) / count + 0.4
            cx, cy = far * math.cos(angle), -0.38 + 0.9 * far * math.sin(angle)
            petal = sheet.ellipse(cx, cy, size, 0.92 * size)
            u, _ = sheet.turned(cx, cy, angle)
            edge = smoothstep(0.1, 0.0, petal)
            sheet.lay(petal, _shade(0.35 + u + 0.45 * edge, light if (k + ring) % 2 else dark))
    return sheet.picture


def crocus(n: int) -> NDArray[np.float64]:
    """Violet crocus, its cup half open, between thin leaves."""
    sheet = Sheet(n)
    for bend in (-0.5, 0.42, -0.22):
        points = [(bend * t**1.6, 0.92 - 1.0 * t) for t in np.linspace(0, 1, 10)]
        inside = sheet.line(points, np.linspace(0.05, 0.012, 10).tolist())
        sheet.lay(inside, _shade(inside / 0.05 + 0.2, ["#1f6b35", "#7cc36a"]))
    points = [(0.0, 0.92), (0.0, 0.1)]
    inside = sheet.line(points, [0.06, 0.075])
    sheet.lay(inside, _shade(inside / 0.07, ["#9a84c4", "#e6dcf4"]))
    petals = [(-0.30, -0.28), (0.30, 0.28), (-0.16, -0.13), (0.16, 0.13), (0.0, 0.0)]
    for k, (dx, lean) in enumerate(petals):
        angle = math.pi / 2 + lean
        u, v = sheet.turned(dx, -0.3, angle)
        petal = sheet.ellipse(dx, -0.3, 0.47, 0.17 + 0.03 * (k == 4), angle)
        streak = 0.14 * np.cos(v * 70) * smoothstep(-0.3, 0.3, u)
        sheet.lay(petal, _shade(0.55 - 0.7 * u + streak, ["#3c1777", "#7d46bd", "#c9a5ec"]))
    for dx in (-0.05, 0.05, 0.0):
        inside = sheet.line([(dx, -0.45), (1.6 * dx, -0.78)], [0.02, 0.035])
        sheet.lay(inside, colour("#f39a1d"))
    return sheet.picture


def marigold(n: int) -> NDArray[np.float64]:
    """Orange marigold, many petals in rings, on a stem."""
    sheet = Sheet(n)
    _stem(sheet, (0.0, -0.1), [(0.5, math.pi + 0.5), (0.62, -0.5)])
    rings = [(16, 0.42, 0.17), (14, 0.31, 0.15), (11, 0.2, 0.13), (7, 0.1, 0.1)]
    for ring, (count, far, size) in enumerate(rings):
        for k in range(count):
            angle = 2 * math.pi * (k + 0.5 * (ring % 2)) / count
            cx, cy = far * math.cos(angle), -0.35 + far * math.sin(angle)
            u, _ = sheet.turned(cx, cy, angle)
            petal = sheet.ellipse(cx, cy, 1.15 * size, 0.75 * size, angle)
            tone = 0.5 + 2.2 * u + 0.06 * ring
            sheet.lay(petal, _shade(tone, ["#b8420a", "#ee8412", "#ffcf3e"]))
    sheet.lay(sheet.ellipse(0, -0.35, 0.09, 0.09), colour("#7a3208"))
    return sheet.picture


def worm(n: int) -> NDArray[np.float64]:
    """Pink ringed worm with a face."""
    sheet = Sheet(n)
    xs = np.linspace(-0.72, 0.7, 40)
    ys = 0.24 * np.sin(xs * 4.4)
    points = list(zip(xs.tolist(), ys.tolist(), strict=True))
    width = (0.19 - 0.12 * np.linspace(1, 0, 40) ** 3).tolist()
    inside = sheet.line(points, width)
    rings = 0.16 * np.cos((sheet.x * 0.95 + sheet.y * 0.15) * 42)
    sheet.lay(inside, _shade(inside / 0.26 + 0.25 + rings, ["#a8475c", "#e88a94", "#fbd0cb"]))
    x, y = points[-1]
    for dx, dy in ((-0.02, -0.08), (0.1, -0.02)):
        sheet.lay(sheet.ellipse(x + dx, y + dy, 0.05, 0.06), colour("#ffffff"))
        sheet.lay(sheet.ellipse(x + dx + 0.012, y + dy, 0.026, 0.034), colour("#18131a"))
    return sheet.picture


def bone(n: int) -> NDArray[np.float64]:
    """Hollow bone: cells of its cavity have to die."""
    sheet = Sheet(n)
    angle = -0.6
    shaft = sheet.line(
        [(-0.55 * math.cos(angle), -0.55 * math.sin(angle)),
         (0.55 * math.cos(angle), 0.55 * math.sin(angle))], [0.21, 0.21]
    )  # fmt: skip
    inside = shaft
    for end in (-1, 1):
        for side in (-1, 1):
            x = end * 0.62 * math.cos(angle) - side * 0.2 * math.sin(angle)
            y = end * 0.62 * math.sin(angle) + side * 0.2 * math.cos(angle)
            inside = np.maximum(inside, sheet.ellipse(x, y, 0.25, 0.25))
    light = 0.6 - 0.5 * (sheet.x + 1.3 * sheet.y) * 0.5
    sheet.lay(inside, _shade(light, ["#b09a78", "#e8dcc0", "#fffaf0"]))
    sheet.cut(shaft - 0.1)
    return sheet.picture


def snowflake(n: int) -> NDArray[np.float64]:
    """Six-branched snowflake."""
    sheet = Sheet(n)
    inside = sheet.ellipse(0, 0, 0.14, 0.14)
    for k in range(6):
        a = math.pi / 6 + k * math.pi / 3
        arm = [(0.0, 0.0), (0.88 * math.cos(a), 0.88 * math.sin(a))]
        inside = np.maximum(inside, sheet.line(arm, [0.07, 0.05]))
        for at, reach in ((0.36, 0.26), (0.6, 0.2)):
            for turn in (-1, 1):
                b = a + turn * math.pi / 3
                start = (at * math.cos(a), at * math.sin(a))
                end = (start[0] + reach * math.cos(b), start[1] + reach * math.sin(b))
                inside = np.maximum(inside, sheet.line([start, end], [0.055, 0.04]))
    far = np.hypot(sheet.x, sheet.y)
    sheet.lay(inside, _shade(1 - far + 0.3 * inside / 0.07, ["#3a7fd0", "#8cc4f2", "#f2fbff"]))
    return sheet.picture


def nautilus(n: int) -> NDArray[np.float64]:
    """Striped shell whose coils grow by the same factor at every turn."""
    return nautilus_at(n, 1.0)


def nautilus_at(n: int, age: float, turn: float = 0.0) -> NDArray[np.float64]:
    """Draw the shell that has grown to ``age`` (1: full-grown), turned by so many radians.

    A shell that is younger by a quarter of a turn of its logarithmic spiral is the same shell,
    turned back by that and ``SHELL_GROWTH`` times smaller; but for its mouth it is a part of the
    older one.
    """
    sheet = Sheet(n)
    growth = math.log(SHELL_GROWTH) / (math.pi / 2)  # of the logarithm of the radius, for a radian
    at_x, at_y = SHELL_MIDDLE
    u, v = sheet.turned(at_x, at_y, turn)
    far, angle = np.hypot(u, v), np.arctan2(v, u)
    end = SHELL_MOUTH + math.log(max(age, 1e-3)) / growth
    for whorl in (3, 2, 1, 0):  # the youngest lies on top
        along = end - (end - angle) % (2 * math.pi) - 2 * math.pi * whorl
        radius = 0.62 * np.exp(growth * (along - SHELL_MOUTH))
        inside = (0.46 - np.abs(far / radius - 1)) * radius
        stripe = 0.5 + 0.5 * np.sin(along * 8)  # two in each quarter
        light = 0.25 + 0.75 * np.clip(inside / (0.46 * radius), 0, 1)
        base = _shade(light, ["#8f5a34", "#efd9b4", "#fff6e2"])
        dark = _shade(light, ["#5a1f0c", "#a8431c", "#c9662f"])
        sheet.lay(inside, base + (dark - base) * stripe[..., None])
    radius = 0.62 * math.exp(growth * (end - SHELL_MOUTH))
    x, y = radius * math.cos(end + turn) + at_x, radius * math.sin(end + turn) + at_y
    sheet.lay(sheet.ellipse(x, y, 0.46 * radius, 0.46 * radius), colour("#efd9b4"))
    sheet.lay(sheet.ellipse(x, y, 0.34 * radius, 0.34 * radius), colour("#5d3a28"))
    return sheet.picture


def gecko(n: int) -> NDArray[np.float64]:
    """Green gecko seen from above."""
    return gecko_with(n, (True,) * 4)


def gecko_with(n: int, limbs: Sequence[bool]) -> NDArray[np.float64]:
    """Draw the gecko with the ``limbs`` it has: left arm, right arm, left leg, right leg."""
    sheet = Sheet(n)
    green = ["#1f6d2c", "#4fae45", "#a9dd78"]
    places = [(-1, -0.3, -0.62), (1, -0.3, -0.62), (-1, 0.22, 0.5), (1, 0.22, 0.5)]
    for has, (side, y, foot) in zip(limbs, places, strict=True):
        if has:
            elbow, hand = (side * 0.42, (y + foot) / 2 + 0.05), (side * 0.6, foot)
            leg = sheet.line([(0.0, y), elbow, hand], [0.12, 0.085, 0.075])
            for spread in (-0.5, 0.1, 0.7):
                a = math.atan2(foot - elbow[1], side * 0.18) + spread
                toe = (hand[0] + 0.13 * math.cos(a), hand[1] + 0.13 * math.sin(a))
                leg = np.maximum(leg, sheet.line([hand, toe], [0.045, 0.05]))
            sheet.lay(leg, _shade(leg / 0.12 + 0.2, green))
    ys = np.linspace(-0.5, 0.95, 30)
    xs = 0.28 * np.clip(ys - 0.3, 0, 1) ** 1.2 * np.sin((ys - 0.3) * 6)
    width = np.interp(ys, [-0.5, -0.25, 0.1, 0.35, 0.95], [0.13, 0.2, 0.21, 0.12, 0.03])
    body = sheet.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), width.tolist())
    head = sheet.ellipse(0, -0.64, 0.21, 0.26)
    inside = np.maximum(body, head)
    spots = 0.3 * (np.cos(sheet.x * 24) * np.cos(sheet.y * 19) > 0.55)
    sheet.lay(inside, _shade(inside / 0.24 + 0.15 - spots, green))
    for side in (-1, 1):
        sheet.lay(sheet.ellipse(side * 0.15, -0.7, 0.065, 0.075), colour("#f5e663"))
        sheet.lay(sheet.ellipse(side * 0.16, -0.7, 0.026, 0.055), colour("#15120c"))
    return sheet.picture


FIGURES: dict[str, Callable[[int], NDArray[np.float64]]] = {
    draw.__name__: draw for draw in (bone, crocus, gecko, marigold, nautilus, rose, snowflake, worm)
}


_LIMBS = re.compile("gecko-([01]{4})")


def describe_figures() -> dict[str, str]:
    """Say in one line what each figure shows, in alphabetical order."""
    return {name: (draw.__doc__ or "").splitlines()[0] for name, draw in sorted(FIGURES.items())}


def draw_figure(name: str, size: int = 128) -> NDArray[np.float64]:
    """Draw one figure as [size, size, 4] in [0, 1] with straight alpha.

    Raises ``ValueError`` for a name or a size that is not there.
    """
    check_figure(name)
    if not 8 <= size <= LARGEST:
        raise ValueError(f"a figure is drawn with 8 to {LARGEST} pixels per side, not {size}")
    return _drawn(name, size).copy()


@functools.lru_cache(maxsize=32)
def _drawn(name: str, size: int) -> NDArray[np.float64]:
    if limbs := _LIMBS.fullmatch(name):
        return shown(lambda n: gecko_with(n, [digit == "1" for digit in limbs[1]]), size)
    return shown(FIGURES[name], size)


def check_figure(name: str) -> None:
    """Raise ``ValueError`` when no figure has that ``name``; gecko-1011 lacks an arm."""
    if not _LIMBS.fullmatch(name):
        check_name(name, FIGURES, "figure")


def shown(draw: Callable[[int], NDArray[np.float64]], size: int) -> NDArray[np.float64]:
    """Draw finely, average, and divide colours by alpha: [size, size, 4]."""
    fine = draw(OVERSAMPLING * size)
    small = fine.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 4).mean(axis=(1, 3))
    alpha = small[..., 3:]
    colours = np.divide(small[..., :3], alpha, out=np.zeros_like(small[..., :3]), where=alpha > 0)
    return np.clip(np.concatenate([colours, alpha], -1), 0, 1)
