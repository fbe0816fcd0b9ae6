"""Coats, shells and leaves: the drawn samples that were once alive.

Each draws a canvas [n, n, 3]; values may leave [0, 1] a little and are clipped by the caller.
"""

import numpy as np

from nca_texture.targets.noise import (
    Cells,
    Field,
    Picture,
    blur,
    choose,
    colour,
    coordinates,
    hollow,
    labyrinth,
    light,
    mix,
    noise,
    ramp,
    scatter,
    smoothstep,
    window,
)


def zebra(n: int) -> Picture:
    """Forking black stripes on warm white fur."""
    stripe = labyrinth(n, seed=9, frequency=7.5, bias=0.42, angle=0.25, rounds=5)
    stripe = stripe + 0.07 * noise(n, 5, 20, 110, 0.6, (3, 1))
    black = smoothstep(-0.16, 0.16, stripe + 0.06)
    hair = noise(n, 6, 24, 256, 0.5, (4, 1.5))
    white = ramp(
        np.clip(0.62 + 0.16 * noise(n, 7, 1, 6) + 0.13 * hair, 0, 1), ["#cdb491", "#fdf6e8"]
    )
    dark = ramp(np.clip(0.4 + 0.22 * hair, 0, 1), ["#0d0a0a", "#3a302c"])
    diffuse, _ = light(0.010 * blur(stripe, 0.01) + 0.0006 * hair, 0.55)
    return mix(white, dark, black) * diffuse[..., None]


def leopard(n: int) -> Picture:
    """Broken dark rosettes on golden fur."""
    x, y = coordinates(n)
    bend = 0.009
    cells = Cells(scatter(11, 44), x + bend * noise(n, 12, 3, 16), y + bend * noise(n, 13, 3, 16))
    middle = cells.distance / (cells.distance + cells.edge + 1e-9)
    hair = noise(n, 14, 24, 256, 0.5, (1.5, 5))
    ring = smoothstep(0.20, 0.12, np.abs(middle - 0.53 + 0.035 * noise(n, 15, 6, 40)))
    gaps = smoothstep(-0.75, -0.35, noise(n, 16, 7, 22, 0.8))
    spots = smoothstep(1.35, 1.6, noise(n, 17, 12, 22, 0.6)) * smoothstep(0.80, 0.92, middle)
    ground = ramp(
        np.clip(0.5 + 0.2 * noise(n, 18, 1, 5) + 0.14 * hair, 0, 1),
        ["#b87a35", "#dca95f", "#f3d9a4"],
    )
    core = smoothstep(0.62, 0.40, middle)
    coat = mix(ground, colour("#a8652a") * (1 + 0.09 * hair[..., None]), 0.72 * core)
    dark = ramp(np.clip(0.35 + 0.2 * hair, 0, 1), ["#120b07", "#46291a"])
    coat = mix(coat, dark, np.clip(ring * gaps + spots, 0, 1))
    diffuse, _ = light(0.0007 * hair + 0.004 * noise(n, 19, 1, 8), 0.6)
    return coat * diffuse[..., None]


def giraffe(n: int) -> Picture:
    """Chestnut patches in a net of cream."""
    x, y = coordinates(n)
    cells = Cells(scatter(21, 38), x + 0.012 * noise(n, 22, 3, 30), y + 0.012 * noise(n, 23, 3, 30))
    hair = noise(n, 24, 24, 256, 0.5, (4, 1.5))
    ragged = cells.edge + 0.0016 * noise(n, 25, 20, 120, 0.6)
    patch = smoothstep(0.010, 0.017, ragged)
    tone = choose(26, 38, -0.16, 0.16)[cells.owner]
    depth = np.clip(0.92 - 9.5 * cells.edge + tone + 0.10 * hair + 0.06 * noise(n, 27, 4, 30), 0, 1)
    brown = ramp(depth, ["#43200f", "#7a3d17", "#b06a2b", "#c98d4a"])
    cream = ramp(
        np.clip(0.6 + 0.15 * hair + 0.12 * noise(n, 28, 2, 12), 0, 1), ["#d3b07a", "#fbeed2"]
    )
    diffuse, _ = light(0.006 * patch + 0.0006 * hair, 0.6)
    return mix(cream, brown, patch) * diffuse[..., None]


def scales(n: int) -> Picture:
    """Overlapping iridescent dragon scales."""
    columns, rows = 8, 12
    x, y = coordinates(n)
    radius = 0.62 / columns
    best = np.full((n, n), -1)
    local_x, local_y = np.zeros((n, n)), np.zeros((n, n))
    # the row above covers the row below: the highest scale that reaches a place is seen there
    for back in (0, 1, 2):
        row = np.floor(y * rows).astype(int) - back
        shift = 0.5 * (row % 2)
        column = np.floor(x * columns - shift).astype(int)
        dx = x - (column + shift + 0.5) / columns
        dy = (y - (row + 0.0) / rows) * 0.80
        reach = np.hypot(dx, np.maximum(dy - 0.030, 0)) < radius * (1 - 0.12 * np.abs(dx) / radius)
        best = np.where(reach, (row % rows) * columns + column % columns, best)
        local_x, local_y = np.where(reach, dx, local_x), np.where(reach, dy, local_y)
    u, v = local_x / radius, local_y / radius
    rim = np.hypot(u, np.maximum(v - 0.030 / radius, 0))
    tone = choose(121, columns * rows, -0.13, 0.13)[best]
    hue = np.clip(0.5 + 0.09 * noise(n, 122, 2, 6, 0.8) + tone - 0.25 * (v - 0.7) + 0.15 * u, 0, 1)
    body = ramp(hue, ["#06363f", "#0b6e6e", "#16a085", "#5fbf62", "#c8c94a"])
    ridge = 0.5 + 0.5 * np.cos(26 * u / (0.75 + 0.35 * v))
    body = body * (0.80 + 0.20 * ridge + 0.04 * noise(n, 123, 30, 200, 0.5))[..., None]
    height = 0.016 * v - 0.022 * u**2 - 0.012 * smoothstep(0.80, 1.0, rim)
    diffuse, shine = light(blur(height, 0.0015), 0.35, gloss=0.5, shininess=20)
    shade = np.clip(diffuse, 0, 1.35) * (0.30 + 0.70 * smoothstep(0.30, 0.95, v + 0.25 * u**2))
    edge = smoothstep(0.82, 0.92, rim) * smoothstep(1.0, 0.95, rim)
    lit = mix(body * shade[..., None], colour("#f2e79a"), 0.55 * edge)
    return lit + (np.minimum(shine, 0.5) * smoothstep(0.45, 0.9, v))[..., None] * colour("#d8fff0")


def coral(n: int) -> Picture:
    """Winding ridges of brain coral."""
    ridge = labyrinth(n, seed=161, frequency=9, rounds=14)
    grain = noise(n, 162, 30, 256, 0.5)
    polyps = noise(n, 163, 34, 60, 0.3)
    top = smoothstep(-1.0, 0.85, ridge)
    height = 0.026 * top + 0.0011 * polyps * (0.3 + top) + 0.0003 * grain
    value = np.clip(0.06 + top * 0.76 + 0.07 * polyps + 0.05 * noise(n, 164, 1, 6), 0, 1)
    flesh = ramp(value, ["#2c1040", "#7b1e5b", "#d6456a", "#ff8f6b", "#ffd9a6"])
    diffuse, shine = light(blur(height, 0.0022), 0.5, gloss=0.16, shininess=22)
    shade = np.minimum(diffuse * hollow(height, 0.02, 0.3), 1.12)
    return flesh * shade[..., None] + shine[..., None]


def leaves(n: int) -> Picture:
    """Fallen leaves, from green to red."""
    generator = np.random.default_rng(131)
    palettes = [
        ("#5c7a1f", "#a7b83a"),
        ("#b8860b", "#f2c230"),
        ("#c2560f", "#f39a2d"),
        ("#8f1d14", "#d8472b"),
        ("#6b3a16", "#a9692f"),
        ("#c43c12", "#f2761f"),
    ]
    picture = np.broadcast_to(colour("#21130b"), (n, n, 3)).copy()
    centres = np.concatenate([scatter(132 + i, 70, 2) for i in range(3)])
    for cx, cy in centres:
        size, turn = generator.uniform(0.062, 0.090), generator.uniform(0, 2 * np.pi)
        bend, slim = generator.uniform(-0.35, 0.35), generator.uniform(0.36, 0.50)
        dark, bright = palettes[generator.integers(len(palettes))]
        tone = generator.uniform(-0.2, 0.2)
        place, dx, dy = window(n, cx, cy, size * 1.25)
        shadow, *_ = leaf(dx - 0.010, dy - 0.012, size, turn, bend, slim)
        picture[place] *= 1 - 0.62 * smoothstep(-0.16, 0.10, shadow)[..., None]
        inside, along, across = leaf(dx, dy, size, turn, bend, slim)
        rib = np.exp(-((across / 0.030) ** 2))
        side = np.abs(np.sin(2 * np.pi * (2.1 * along - 1.5 * np.abs(across))))
        vein = np.exp(-((side / 0.16) ** 2)) * smoothstep(0.0, 0.06, inside)
        value = np.clip(
            0.50 + tone + 0.30 * np.sign(across) * np.cos(turn + 0.8) + 0.25 * along, 0, 1
        )
        blade = ramp(value, [dark, bright])
        blade = blade * (1 - 0.20 * vein + 0.10 * np.abs(across))[..., None]
        blade = mix(blade, np.minimum(colour(bright) * 1.25, 1), 0.75 * rib)
        blade = blade * (0.72 + 0.28 * smoothstep(0.0, 0.07, inside))[..., None]
        picture[place] = mix(picture[place], blade, smoothstep(-0.012, 0.012, inside))
    return picture * (1 + 0.04 * noise(n, 136, 30, 256, 0.4))[..., None]


def leaf(
    dx: Field, dy: Field, size: float, turn: float, bend: float, slim: float
) -> tuple[Field, Field, Field]:
    """Measure a bent, pointed leaf: (inside, along, across), in units of half its length."""
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / size
    across = (dy * np.cos(turn) - dx * np.sin(turn)) / size + bend * (along**2 - 0.4)
    t = np.clip((along + 1) / 2, 0, 1)
    outline = slim * np.sin(np.pi * t**0.85) ** 0.9 * (1.12 - 0.35 * t)
    return np.where(np.abs(along) < 1, outline - np.abs(across), -1.0), along, across
