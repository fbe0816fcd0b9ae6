"""Walls, cloth and wood: the drawn samples that somebody made.

Each draws a canvas [n, n, 3]; values may leave [0, 1] a little and are clipped by the caller.
"""

import numpy as np

from nca_texture.targets.noise import (
    Cells,
    Picture,
    blur,
    choose,
    colour,
    coordinates,
    hollow,
    light,
    mix,
    noise,
    ramp,
    smoothstep,
)


def bricks(n: int) -> Picture:
    """Weathered red bricks in sandy mortar."""
    rows, columns = 10, 5
    x, y = coordinates(n)
    x = x + 0.0022 * noise(n, 31, 4, 60, 1.0)
    y = y + 0.0022 * noise(n, 32, 4, 60, 1.0)
    row = np.floor(y * rows).astype(int)
    across = x * columns + 0.5 * (row % 2)
    which = (row % rows) * columns + np.floor(across).astype(int) % columns
    half_width, half_height, corner = 0.5 / columns, 0.5 / rows, 0.012
    dx = np.abs(across % 1 - 0.5) / columns - half_width + 0.007 + corner
    dy = np.abs(y * rows % 1 - 0.5) / rows - half_height + 0.007 + corner
    inside = (
        corner - np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) - np.minimum(np.maximum(dx, dy), 0)
    )
    grain = noise(n, 33, 16, 256, 0.7)
    inside = inside + 0.0012 * noise(n, 34, 16, 120, 0.7)
    face = smoothstep(0, 0.0035, inside)
    count = rows * columns
    tone = np.clip(choose(35, count)[which] + 0.13 * noise(n, 36, 4, 40) + 0.08 * grain, 0, 1)
    clay = ramp(tone, ["#6b2b22", "#93402d", "#b1553a", "#c06a48", "#cf8a66"])
    soot = smoothstep(0.4, 2.0, noise(n, 37, 2, 60, 1.1))
    clay = mix(clay, colour("#3b2320"), 0.45 * soot)
    mortar = ramp(np.clip(0.5 + 0.2 * noise(n, 38, 30, 256, 0.3), 0, 1), ["#8f8271", "#cfc3ad"])
    tilt = choose(39, count, -0.5, 0.5)[which] * (across % 1 - 0.5)
    height = face * (0.012 + 0.006 * tilt) + smoothstep(0, 0.012, inside) * 0.004
    height = height + 0.0011 * grain * (0.5 + face)
    diffuse, _ = light(blur(height, 0.0012), 0.4)
    shade = diffuse * hollow(height, 0.012, 0.55)
    return mix(mortar, clay, face) * shade[..., None]


def honeycomb(n: int) -> Picture:
    """Wax cells filled with glowing honey."""
    columns, rows = 7, 8
    places = [
        ((i + 0.5 * (j % 2) + 0.25) / columns, (j + 0.5) / rows)
        for j in range(rows)
        for i in range(columns)
    ]
    jitter = np.random.default_rng(91).normal(0, 0.0035, (len(places), 2))
    points = (np.asarray(places) + jitter) % 1
    x, y = coordinates(n)
    cells = Cells(points, x + 0.002 * noise(n, 92, 2, 12), y + 0.002 * noise(n, 93, 2, 12), 7)
    inside = cells.edge - 0.0095
    well = smoothstep(-0.002, 0.002, inside)
    fill = choose(94, len(points))[cells.owner]
    deep = np.clip(
        0.20 + 0.42 * fill + 7.5 * (cells.dx + cells.dy) * 0.55 + 0.05 * noise(n, 95, 3, 20), 0, 1
    )
    honey = ramp(deep, ["#5a1e02", "#a84a04", "#e08a0c", "#ffbf35", "#ffe58a"])
    wax = ramp(
        np.clip(0.5 + 0.14 * noise(n, 96, 6, 80, 0.8) - 22 * (cells.edge - 0.004), 0, 1),
        ["#a86a18", "#e0a63c", "#ffdf8e"],
    )
    surface = 0.010 * smoothstep(0.004, -0.006, inside) + 0.0004 * noise(n, 97, 10, 80)
    diffuse, shine = light(blur(surface, 0.0022), 0.45, gloss=0.20, shininess=30)
    shadow = 0.40 + 0.60 * smoothstep(
        -0.002, 0.022, inside + 0.45 * np.minimum(cells.dx + cells.dy, 0) * 0.35
    )
    lens = np.exp(-(((cells.dx + 0.020) / 0.012) ** 2 + ((cells.dy + 0.022) / 0.008) ** 2))
    body = mix(wax * diffuse[..., None], honey * shadow[..., None], well)
    return body + shine[..., None] + (0.75 * lens * well)[..., None] * colour("#fff3c8")


def knit(n: int) -> Picture:
    """Stocking stitch in heathered teal wool."""
    columns, rows = 8, 11
    x, y = coordinates(n)
    u = x * columns + 0.05 * noise(n, 51, 2, 14)
    v = y * rows + 0.07 * noise(n, 52, 2, 14)
    side = u % 1 - 0.5
    out = 2 * np.abs(side)  # 0 in the middle of a stitch, 1 between stitches
    along = v + 0.95 * out
    across = along % 1 - 0.5
    round_leg = np.sqrt(np.maximum(1 - (across / 0.5) ** 2, 0))
    end = np.sqrt(np.maximum(1 - np.abs(2 * out - 1) ** 3.0, 0))
    body = round_leg * end
    twist = np.sin(2 * np.pi * (2.6 * out + 1.3 * across))
    fuzz = noise(n, 53, 30, 160, 0.4)
    height = 0.026 * body + 0.0016 * twist * body + 0.0004 * fuzz
    heather = 0.50 + 0.10 * noise(n, 54, 3, 60, 0.9) + 0.07 * fuzz + 0.10 * twist
    wool = ramp(np.clip(heather, 0, 1), ["#0d4a55", "#1c7f8a", "#3fb0ad", "#a9e0d2"])
    fleck = smoothstep(1.9, 2.4, noise(n, 55, 20, 60, 0.3))
    wool = mix(wool, colour("#ffd9a0"), 0.6 * fleck)
    diffuse, _ = light(blur(height, 0.0026), 0.55)
    deep = 0.30 + 0.70 * smoothstep(0.0, 0.65, blur(body, 0.002))
    return wool * (np.minimum(diffuse, 1.35) * deep)[..., None]


def planks(n: int) -> Picture:
    """Oiled wooden boards with grain and dark joints."""
    rows = 6
    x, y = coordinates(n)
    row = np.floor(y * rows).astype(int)
    joint = choose(111, rows)[row]
    along = (x + joint) * 2
    board = (row % rows) * 2 + np.floor(along).astype(int) % 2
    count = rows * 2
    phase = choose(112, count, 0, 50)[board]
    drift = noise(n, 113, 2, 24, 1.4, (3.5, 1))
    knot = noise(n, 114, 4, 12, 0.8, (2.2, 1))
    rings = phase + 3.2 * y * rows / 2 + 0.7 * drift + 0.38 * knot
    ring = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    ring = ring**1.6
    fibre = noise(n, 115, 12, 256, 0.5, (14, 1))
    tone = choose(116, count, -0.16, 0.16)[board]
    value = np.clip(0.60 + tone - 0.36 * ring + 0.10 * fibre + 0.05 * drift, 0, 1)
    wood = ramp(value, ["#3d1f0e", "#70401d", "#a3672f", "#c98e4c", "#e8bf83"])
    pore = smoothstep(1.5, 2.3, noise(n, 117, 24, 256, 0.2, (10, 1)))
    wood = mix(wood, colour("#33190b"), 0.55 * pore)
    gap_y = (0.5 - np.abs(y * rows % 1 - 0.5)) / rows
    gap_x = (0.5 - np.abs(along % 1 - 0.5)) / 2
    inside = np.minimum(gap_x, gap_y)
    height = 0.006 * smoothstep(0.001, 0.008, inside) + 0.0005 * fibre - 0.0008 * ring
    diffuse, shine = light(blur(height, 0.001), 0.5, gloss=0.10, shininess=14)
    shade = diffuse * (0.18 + 0.82 * smoothstep(0.0005, 0.0045, inside))
    return wood * shade[..., None] + shine[..., None] * 0.6


def weave(n: int) -> Picture:
    """Wicker strips going over and under each other."""
    strips = 8
    x, y = coordinates(n)
    u = x * strips + 0.035 * noise(n, 41, 2, 16)
    v = y * strips + 0.035 * noise(n, 42, 2, 16)
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    profile_across = np.sqrt(np.maximum(1 - ((v % 1 - 0.5) / 0.47) ** 2, 0))
    profile_down = np.sqrt(np.maximum(1 - ((u % 1 - 0.5) / 0.47) ** 2, 0))
    lying = np.where(
        profile_across > 0, 0.5 * profile_across + np.cos(np.pi * (u - 0.5 + row)), -1.5
    )
    standing = np.where(
        profile_down > 0, 0.5 * profile_down - np.cos(np.pi * (v - 0.5 + column)), -1.5
    )
    over = lying > standing
    top = np.maximum(lying, standing)
    fibre = np.where(over, noise(n, 43, 16, 256, 0.6, (9, 1)), noise(n, 44, 16, 256, 0.6, (1, 9)))
    # three flat strands lie side by side in each strip
    strand = np.abs(np.sin(3 * np.pi * np.where(over, v, u)))
    height = 0.020 * top + 0.004 * np.sqrt(strand) + 0.0012 * fibre
    tone = np.where(over, choose(45, strips)[row % strips], choose(46, strips)[column % strips])
    value = np.clip(0.30 + 0.34 * tone + 0.13 * fibre + 0.2 * top * 0.5, 0, 1)
    straw = ramp(value, ["#6d4520", "#a87538", "#d3a45c", "#efd39a"])
    reed = ramp(value, ["#4a2c17", "#7d4f27", "#a8763f", "#cfa468"])
    wicker = mix(reed, straw, over.astype(float))
    diffuse, shine = light(blur(height, 0.0014), 0.35, gloss=0.16, shininess=18)
    deep = smoothstep(-1.3, 0.9, top) * 0.75 + 0.25
    gap = 0.45 + 0.55 * smoothstep(0.0, 0.55, strand)
    return wicker * (diffuse * deep * gap)[..., None] + shine[..., None]
