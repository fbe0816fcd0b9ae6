"""Stone, water and fire: the drawn samples of plain matter.

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
    frequencies,
    light,
    mix,
    noise,
    packed,
    ramp,
    resample,
    scatter,
    smoothstep,
    window,
)


def bubbles(n: int) -> Picture:
    """Glossy soap bubbles, large and small, on deep blue."""
    picture = ramp(
        np.clip(0.5 + 0.25 * noise(n, 61, 1, 6), 0, 1), ["#04132e", "#0a2a52", "#124173"]
    )
    centres, radii = packed(62, (0.080, 0.062, 0.046, 0.033, 0.023, 0.015, 0.010))
    hues = choose(63, len(radii))
    for (cx, cy), radius, hue in zip(centres, radii, hues, strict=True):
        place, dx, dy = window(n, cx, cy, radius * 1.06)
        u, v = dx / radius, dy / radius
        q = np.hypot(u, v)
        swirl = 0.5 + 0.5 * np.sin(
            2 * np.pi * (hue + 0.55 * q**3 + 0.20 * np.arctan2(v, u) / np.pi)
        )
        film = ramp(swirl, ["#5ad1ff", "#7b8cff", "#e58cff", "#ffd0a8", "#8affd2"])
        glass = picture[place] * 0.75 + 0.25 * (0.25 + 0.75 * q**2)[..., None] * film
        rim = np.exp(-(((q - 0.93) / 0.06) ** 2))
        glow = np.clip(0.5 + 0.5 * (u + v) * 0.9, 0, 1) * smoothstep(0.35, 0.95, q)
        glass = glass + film * (0.75 * rim + 0.42 * glow)[..., None]
        shine = np.exp(-(((u + 0.42) / 0.20) ** 2 + ((v + 0.46) / 0.14) ** 2))
        spark = np.exp(-((u - 0.45) ** 2 + (v - 0.5) ** 2) / 0.011)
        glass = glass + (0.95 * shine + 0.5 * spark)[..., None]
        cover = smoothstep(1.0 + 0.8 / (n * radius), 1.0 - 0.8 / (n * radius), q)
        picture[place] = mix(picture[place], np.clip(glass, 0, 1), cover)
    return picture


def caustics(n: int) -> Picture:
    """Sunlight dancing on the floor of a shallow sea."""
    rays = 3 * n
    water_grid = 256
    water = noise(water_grid, 141, 3, 9, 1.4)
    across, down = frequencies(water_grid)
    spectrum = np.fft.fft2(water)
    bend = 0.00135
    slope_x = resample(np.fft.ifft2(2j * np.pi * across * spectrum).real, rays)
    slope_y = resample(np.fft.ifft2(2j * np.pi * down * spectrum).real, rays)
    x, y = coordinates(rays)
    column = np.floor((x + bend * slope_x) * n).astype(int) % n
    row = np.floor((y + bend * slope_y) * n).astype(int) % n
    arrived = np.bincount((row * n + column).ravel(), minlength=n * n).reshape(n, n)
    bright = blur(arrived / (rays / n) ** 2, 0.0016)
    glow = blur(bright, 0.012)
    value = np.clip(0.23 * np.maximum(bright, 0) ** 0.75 + 0.10 * glow, 0, 1)
    sea = ramp(value, ["#03304f", "#067a96", "#1fb6bd", "#8df0dc", "#fbfff0"])
    return sea * (1 + 0.05 * noise(n, 142, 2, 8))[..., None]


def cobbles(n: int) -> Picture:
    """Mossy sand with rounded river stones."""
    x, y = coordinates(n)
    count = 62
    cells = Cells(
        scatter(71, count, 9), x + 0.006 * noise(n, 72, 3, 20), y + 0.006 * noise(n, 73, 3, 20)
    )
    grain = noise(n, 74, 16, 256, 0.8)
    inside = cells.edge - 0.006 + 0.0012 * noise(n, 75, 10, 60, 0.8)
    dome = np.sqrt(np.clip(1 - (1 - np.clip(inside / 0.040, 0, 1)) ** 2, 0, 1))
    stone = smoothstep(0, 0.004, inside)
    kind = np.random.default_rng(76).integers(0, 4, count)[cells.owner]
    value = np.clip(
        choose(77, count, 0.25, 0.75)[cells.owner] + 0.14 * noise(n, 78, 4, 60, 1.0) + 0.07 * grain,
        0,
        1,
    )
    families = [
        ["#3c444d", "#6f7b86", "#a9b3ba"],
        ["#4b4038", "#8b7a69", "#c8b9a3"],
        ["#4a4a4c", "#838487", "#c6c6c4"],
        ["#5a3f35", "#97705c", "#cfae95"],
    ]
    rock = np.choose(kind[..., None], [ramp(value, family) for family in families])
    vein = smoothstep(0.10, 0.03, np.abs(noise(n, 79, 3, 16, 1.0))) * (kind % 2 == 0)
    rock = mix(rock, colour("#d9d6cc"), 0.35 * vein)
    sand = ramp(np.clip(0.45 + 0.2 * noise(n, 80, 30, 256, 0.4), 0, 1), ["#2b271d", "#7a6d4c"])
    moss = smoothstep(-0.3, 0.9, noise(n, 81, 2, 30, 1.0))
    sand = mix(sand, ramp(np.clip(0.5 + 0.25 * grain, 0, 1), ["#2c461b", "#83a03c"]), 0.8 * moss)
    height = 0.030 * dome + 0.0009 * grain
    diffuse, shine = light(blur(height, 0.0015), 0.30, gloss=0.22, shininess=26)
    shade = diffuse * (0.55 + 0.45 * smoothstep(-0.003, 0.014, inside))
    return mix(sand, rock, stone) * shade[..., None] + (shine * stone)[..., None]


def lava(n: int) -> Picture:
    """Cooling crust over glowing melt."""
    x, y = coordinates(n)
    x = x + 0.010 * noise(n, 171, 3, 30, 1.5)
    y = y + 0.010 * noise(n, 172, 3, 30, 1.5)
    plates = Cells(scatter(173, 40), x, y)
    cracks = Cells(scatter(174, 190, 1), x, y)
    wide = plates.edge + 0.0007 * noise(n, 175, 20, 120, 0.6)
    opening = 0.0035 + 0.0035 * np.tanh(noise(n, 176, 2, 8, 1.0))
    heat = 0.98 * np.exp(-np.maximum(wide - opening, 0) / 0.0065) - 0.12 * smoothstep(
        0, -0.004, wide - opening
    ) * (1 + noise(n, 180, 10, 60, 0.8))
    heat = np.maximum(heat, 0.50 * np.exp(-cracks.edge / 0.0022) * np.exp(-plates.edge / 0.022))
    grain = noise(n, 177, 10, 256, 0.9)
    height = (
        0.014 * smoothstep(0.004, 0.03, wide)
        + 0.005 * smoothstep(0, 0.01, cracks.edge)
        + 0.0012 * grain
    )
    diffuse, shine = light(blur(height, 0.0014), 0.25, gloss=0.08, shininess=10)
    crust = ramp(
        np.clip(0.45 + 0.16 * grain + 0.1 * noise(n, 178, 2, 10), 0, 1),
        ["#0c0a0c", "#2c2528", "#5a4c48"],
    )
    crust = crust * diffuse[..., None] + shine[..., None]
    glow = ramp(
        np.clip(heat + 0.05 * noise(n, 179, 6, 40), 0, 1),
        ["#000000", "#4a0602", "#b01f03", "#f2560a", "#ff9a1f", "#ffd75a"],
    )
    return (
        mix(crust, glow, smoothstep(0.25, 0.8, heat))
        + glow * (0.30 * smoothstep(0.6, 0.0, heat) * smoothstep(0.0, 0.1, heat))[..., None]
    )


def marble(n: int) -> Picture:
    """White marble with veins of slate and gold."""
    x, y = coordinates(n)
    warp_x = noise(n, 101, 1, 40, 1.9)
    warp_y = noise(n, 102, 1, 40, 1.9)
    wander = np.sin(2 * np.pi * (2 * x + 4 * y + 0.42 * warp_x))
    second = np.sin(2 * np.pi * (4 * x - 3 * y + 0.50 * warp_y + 0.15 * warp_x))
    thick = 0.5 + 0.5 * np.tanh(1.4 * noise(n, 103, 3, 12, 0.8))
    cloud = 0.45 * noise(n, 104, 2, 120, 1.4) + 0.55 * wander
    stone = ramp(
        np.clip(0.52 + 0.20 * cloud, 0, 1), ["#5f6f7c", "#a9b4bb", "#e2e3e1", "#fbf8f1", "#fffdf8"]
    )
    grey = np.exp(-np.abs(wander + 0.1) / (0.07 + 0.24 * thick))
    stone = mix(stone, colour("#2f3d49"), 0.85 * grey * (0.3 + 0.7 * thick))
    fine = np.exp(-np.abs(second) / 0.09) * (0.35 + 0.65 * (1 - thick))
    stone = mix(stone, colour("#566571"), 0.65 * fine)
    gold = np.exp(-np.abs(wander - 0.34) / 0.07) * smoothstep(0.25, 0.7, thick)
    stone = mix(stone, colour("#c48a2c"), 0.9 * gold)
    return stone * (1 + 0.012 * noise(n, 105, 40, 256, 0.3))[..., None]


def terrazzo(n: int) -> Picture:
    """Polished stone chips in a cream ground."""
    generator = np.random.default_rng(151)
    picture = ramp(np.clip(0.6 + 0.12 * noise(n, 152, 20, 200, 0.5), 0, 1), ["#d9cdbb", "#f6efe3"])
    stones = [
        "#d96f52",
        "#2f5d62",
        "#e8b04b",
        "#34435e",
        "#b9c6c9",
        "#7d9d7c",
        "#8c4a3c",
        "#f0d3c4",
    ]
    grain = noise(n, 153, 8, 200, 0.7)
    centres, radii = packed(154, (0.062, 0.048, 0.036, 0.025, 0.016, 0.010), 1.06)
    for (cx, cy), radius in zip(centres, radii, strict=True):
        corners = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(5, 8)))
        corners = np.linspace(0, 2 * np.pi, len(corners), endpoint=False) * 0.55 + corners * 0.45
        reach = generator.uniform(0.62, 0.95, len(corners)) * radius
        place, dx, dy = window(n, cx, cy, radius)
        sides = [r - dx * np.cos(a) - dy * np.sin(a) for a, r in zip(corners, reach, strict=True)]
        inside = np.minimum(np.min(sides, axis=0), radius - np.hypot(dx, dy))
        base = colour(stones[generator.integers(len(stones))])
        base = base * generator.uniform(0.88, 1.10)
        chip = base * (1 + 0.07 * grain[place])[..., None]
        chip = chip * (1 - 0.14 * smoothstep(0.004, 0.0, inside))[..., None]
        picture[place] = mix(picture[place], chip, smoothstep(-0.5 / n, 1.2 / n, inside))
    return picture
