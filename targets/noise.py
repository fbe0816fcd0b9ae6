"""Drawing on a torus: noise, cells, relief and colour without a seam.

Everything works on a unit square whose opposite edges are glued. Lengths are fractions of its side,
frequencies are cycles per side, and ``n`` is the number of samples per side, so that a drawing is
the same at every resolution. All randomness comes from explicit seeds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Field = NDArray[np.float64]  # [H, W]
Picture = NDArray[np.float64]  # [H, W, 3]
Window = tuple[NDArray[np.intp], ...]  # open index of a block: rows [h, 1] and columns [1, w]

SPECTRUM = 512  # grid of the random spectrum; noise of any n is cut from it


def coordinates(n: int) -> tuple[Field, Field]:
    """Give the centres of the samples, as (x, y), both [n, n] in (0, 1)."""
    line = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(line, line)
    return x, y


def frequencies(n: int) -> tuple[Field, Field]:
    """Give the frequency of each Fourier coefficient, as (across, down), both [n, n]."""
    line = np.fft.fftfreq(n, 1 / n)
    across, down = np.meshgrid(line.astype(np.float64), line.astype(np.float64))
    return across, down


def resample(field: Field, n: int) -> Field:
    """Show a periodic field [M, M] on n x n samples, exactly, by its Fourier series."""
    size = field.shape[0]
    keep = min(size, n)
    spectrum = np.fft.fftshift(np.fft.fft2(field))
    low = size // 2 - keep // 2
    core = spectrum[low : low + keep, low : low + keep]
    wide = np.zeros((n, n), complex)
    start = n // 2 - keep // 2
    wide[start : start + keep, start : start + keep] = core
    across, down = frequencies(n)
    # sample centres lie at (i + 0.5) / n, so a change of n moves them
    shift = np.exp(1j * np.pi * (across + down) * (1 / n - 1 / size))
    return np.fft.ifft2(np.fft.ifftshift(wide) * shift).real * (n / size) ** 2


def standard(field: Field) -> Field:
    """Shift and scale to mean 0 and standard deviation 1."""
    return (field - field.mean()) / field.std()


def noise(
    n: int,
    seed: int,
    lowest: float = 1,
    highest: float = 128,
    falloff: float = 1.6,
    stretch: tuple[float, float] = (1, 1),
) -> Field:
    """Draw fractal noise [n, n], mean 0 and deviation 1.

    Amplitudes fall like ``frequency ** -falloff`` between ``lowest`` and ``highest``; ``stretch``
    (x, y) makes features longer along an axis.
    """
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal((SPECTRUM, SPECTRUM)))
    across, down = frequencies(SPECTRUM)
    radius = np.hypot(across * stretch[0], down * stretch[1])
    gain = np.where((radius >= lowest) & (radius <= highest), np.maximum(radius, 1) ** -falloff, 0)
    gain[0, 0] = 0
    return standard(resample(np.fft.ifft2(white * gain).real, n))


def blur(field: Field, radius: float) -> Field:
    """Smooth with a Gaussian of standard deviation ``radius`` (a fraction of the side)."""
    across, down = frequencies(field.shape[0])
    gain = np.exp(-2 * (np.pi * radius) ** 2 * (across**2 + down**2))
    return np.fft.ifft2(np.fft.fft2(field) * gain).real


def labyrinth(
    n: int, seed: int, frequency: float, bias: float = 0.0, angle: float = 0.0, rounds: int = 40
) -> Field:
    """Grow Turing stripes [n, n] in about -1 to 1 by filtering and saturating noise in turn.

    ``bias`` > 0 prefers stripes whose normal has ``angle`` (radians); 0 gives a labyrinth. More
    ``rounds`` mend more forks.
    """
    grid = 256
    across, down = frequencies(grid)
    radius = np.hypot(across, down)
    gain = np.exp(-(((radius - frequency) / (0.28 * frequency)) ** 2))
    turned = np.cos(2 * (np.arctan2(down, across) - angle))
    gain *= np.exp(bias * (turned - 1))
    field = np.random.default_rng(seed).standard_normal((grid, grid))
    for _ in range(rounds):
        field = np.fft.ifft2(np.fft.fft2(field) * gain).real
        field = np.tanh(2.2 * field / field.std())
    field = np.fft.ifft2(np.fft.fft2(field) * np.exp(-((radius / (3.2 * frequency)) ** 2))).real
    return resample(field, n)


def scatter(seed: int, count: int, relax: int = 4) -> Field:
    """Scatter points (x, y) [count, 2] evenly: at random, then pushed apart ``relax`` times."""
    points = np.random.default_rng(seed).random((count, 2))
    x, y = coordinates(160)
    samples = np.stack([x.ravel(), y.ravel()], 1)
    for _ in range(relax):
        owner = KDTree(points, boxsize=1).query(samples)[1]
        away = wrapped(samples - points[owner])
        total = np.stack([np.bincount(owner, away[:, axis], count) for axis in (0, 1)], 1)
        points = (points + total / np.maximum(np.bincount(owner, minlength=count), 1)[:, None]) % 1
    return points


def wrapped(difference: Field) -> Field:
    """Take the short way round: each component in [-0.5, 0.5)."""
    return (difference + 0.5) % 1 - 0.5


class Cells:
    """The Voronoi cells of points on the torus, seen from places (x, y).

    Attributes, all [H, W] like the places: ``owner`` the nearest point, ``distance`` to it,
    ``edge`` the distance to the nearest border of the cell, ``dx`` and ``dy`` from point to place.
    """

    def __init__(self, points: Field, x: Field, y: Field, neighbours: int = 5) -> None:
        """Look from places ``x``, ``y`` [H, W] at ``points`` [K, 2]."""
        places = np.stack([x.ravel(), y.ravel()], 1) % 1
        found = KDTree(points, boxsize=1).query(places, k=neighbours)
        distance, near = np.asarray(found[0]), np.asarray(found[1])
        away = wrapped(places[:, None] - points[near])
        between = away[:, :1] - away[:, 1:]  # from the owner to each other point
        length = np.hypot(between[..., 0], between[..., 1])
        middle = (away[:, :1] + away[:, 1:]) / 2
        edge = -(middle * between).sum(-1) / np.maximum(length, 1e-9)
        shape = x.shape
        self.owner = near[:, 0].reshape(shape)
        self.distance = distance[:, 0].reshape(shape)
        self.edge = edge.min(1).reshape(shape)
        self.dx = away[:, 0, 0].reshape(shape)
        self.dy = away[:, 0, 1].reshape(shape)


def smoothstep(low: float, high: float, value: Field) -> Field:
    """Rise smoothly from 0 at ``low`` to 1 at ``high`` (or fall, when ``high`` < ``low``)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def slope(height: Field) -> tuple[Field, Field]:
    """Differentiate a periodic ``height`` (in sides) along x and y."""
    n = height.shape[0]
    along_x = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) * (n / 2)
    along_y = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) * (n / 2)
    return along_x, along_y


def light(
    height: Field,
    ambient: float = 0.35,
    gloss: float = 0.0,
    shininess: float = 24.0,
    towards: tuple[float, float, float] = (-0.5, -0.62, 0.6),
) -> tuple[Field, Field]:
    """Light a relief (height in sides) from the upper left; returns (diffuse, highlight).

    A flat place has diffuse 1; the highlight is to be added.
    """
    along_x, along_y = slope(height)
    length = np.sqrt(along_x**2 + along_y**2 + 1)
    lx, ly, lz = np.asarray(towards) / np.linalg.norm(towards)
    cosine = (-along_x * lx - along_y * ly + lz) / length
    diffuse = ambient + (1 - ambient) * np.maximum(cosine, 0) / lz
    half = np.asarray([lx, ly, lz + 1]) / np.linalg.norm([lx, ly, lz + 1])
    mirror = (-along_x * half[0] - along_y * half[1] + half[2]) / length
    return diffuse, gloss * np.maximum(mirror, 0) ** shininess


def hollow(height: Field, radius: float, strength: float) -> Field:
    """Darken what lies lower than its surroundings: a factor around 1."""
    return np.clip(1 + strength * (height - blur(height, radius)) / radius, 0.25, 1.2)


def colour(hexadecimal: str) -> NDArray[np.float64]:
    """Read "#rrggbb" as [3] in [0, 1]."""
    digits = hexadecimal.removeprefix("#")
    return np.asarray([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])


def ramp(value: Field, colours: Sequence[str]) -> Picture:
    """Map ``value`` in [0, 1] to evenly spaced ``colours``."""
    stops = np.linspace(0, 1, len(colours))
    table = np.stack([colour(c) for c in colours])
    return np.stack([np.interp(value, stops, table[:, i]) for i in range(3)], -1)


def mix(under: Picture, over: Picture | NDArray[np.float64], cover: Field) -> Picture:
    """Lay ``over`` on ``under`` where ``cover`` [H, W] is 1."""
    return under + (over - under) * cover[..., None]


def choose(seed: int, count: int, low: float = 0.0, high: float = 1.0) -> Field:
    """Draw one number for each of ``count`` things."""
    return np.random.default_rng(seed).uniform(low, high, count)


def window(n: int, cx: float, cy: float, radius: float) -> tuple[Window, Field, Field]:
    """Cut the square around a centre out of the torus: (index, dx, dy), offsets [h, w] in sides."""
    low_x, high_x = int((cx - radius) * n) - 1, int((cx + radius) * n) + 2
    low_y, high_y = int((cy - radius) * n) - 1, int((cy + radius) * n) + 2
    columns, rows = np.arange(low_x, high_x), np.arange(low_y, high_y)
    dx, dy = np.meshgrid((columns + 0.5) / n - cx, (rows + 0.5) / n - cy)
    return np.ix_(rows % n, columns % n), dx, dy


def packed(seed: int, sizes: tuple[float, ...], spacing: float = 1.03) -> tuple[Field, Field]:
    """Throw discs that do not touch, larger ones first: centres [K, 2] and radii [K]."""
    generator = np.random.default_rng(seed)
    centres, radii = np.zeros((0, 2)), np.zeros(0)
    for size in sizes:
        for place in generator.random((500, 2)):
            away = (centres - place + 0.5) % 1 - 0.5
            room = (np.hypot(away[:, 0], away[:, 1]) - radii * spacing).min(initial=size * 1.2)
            if room > size * 0.86 * spacing:
                centres = np.concatenate([centres, place[None]])
                radii = np.append(radii, min(room / spacing, size))
    return centres, radii
