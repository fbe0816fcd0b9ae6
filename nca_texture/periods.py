"""After how many cells a texture repeats, and which grids have room for whole periods of it."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

_REPEATS = 0.25  # correlation of a structure with the next one; less is chance
# What those after next differ by, at most, of what neighbours do, where a pattern alternates; and
# what neighbours differ by at least.
_ALTERNATES, _UNLIKE = 0.7, 0.02
_STEP = 4  # cells: networks can halve sides twice
_SMALLER, _LARGER = 0.75, 1.15  # of the cells that were asked for
_LONGER = 2.0  # times one way than the other
_WORTH = 0.03  # of a period: what is stretched less stays as it is
# What a grid of other proportions costs, in units of what stretching a period costs.
_OTHER_AREA, _OTHER_SHAPE = 0.01, 0.004


def structure(target: Tensor) -> tuple[int, int]:
    """Find after how many cells the structure of ``target`` [1, 3, H, W] repeats along (y, x).

    The shortest distance of a peak of the autocorrelation; the distance at which it fades where
    nothing repeats. What changes only from one end to the other, as light does, is taken away
    first.
    """
    found = _autocorrelation(target)
    most = min(target.shape[-2:]) // 2
    y, x = _uncovered(found[:most, 0].tolist()), _uncovered(found[0, :most].tolist())
    return _first_peak(y) or _fallen(y), _first_peak(x) or _fallen(x)


def periods(target: Tensor) -> tuple[float | None, float | None]:
    """Find after how many cells ``target`` [1, 3, H, W] repeats along (y, x), or None.

    Along an axis, not along the pattern: a torus closes along its axes. To a fraction of a cell, as
    far peaks of the autocorrelation tell it. What alternates, as threads of a weave do, repeats
    after two.
    """
    found, most = _autocorrelation(target), min(target.shape[-2:]) // 2
    soft = _autocorrelation(target, blur=1)
    along_y = _period(found[:, 0].tolist(), soft[:, 0].tolist(), most)
    return along_y, _period(found[0].tolist(), soft[0].tolist(), most)


def whole_sides(
    size: tuple[int, int],
    repeats: Sequence[tuple[float | None, float | None]],
    larger: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
    share: float = 0.0,
) -> tuple[int, int]:
    """Find sides (height, width) near ``size`` that all of ``repeats`` (y, x) fit into whole times.

    A pattern has to come out even on a torus, and a rule learns it stretched by what is missing.
    ``larger`` tells which grid goes with sides, for a ``share`` of the states: it should fit, too.
    ``size`` itself is returned where little is missing, or where nothing repeats.
    """

    def missing(sides: tuple[int, int]) -> float:
        return sum(
            _stretch(side, period) ** 2
            for each in repeats
            for side, period in zip(sides, each, strict=True)
            if period
        )

    def cost(sides: tuple[int, int]) -> float:
        ratios = [math.log(side / asked) for side, asked in zip(sides, size, strict=True)]
        other = _OTHER_AREA * sum(ratios) ** 2 + _OTHER_SHAPE * (ratios[0] - ratios[1]) ** 2
        of_larger = share * missing(larger(sides)) if larger else 0.0
        return round(other + missing(sides) + of_larger, 9)  # equal for what is only turned

    best = min(_sides_near(size), key=cost, default=size)
    return best if cost(size) - cost(best) > _WORTH**2 else size


def _stretch(side: int, period: float) -> float:
    """By which share of itself a period is stretched to fit into ``side``."""
    return side / (max(1, round(side / period)) * period) - 1


def _sides_near(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """List sides with about as many cells as ``size``, none much longer one way."""
    cells, aspect = size[0] * size[1], size[0] / size[1]
    for height in range(_STEP, 2 * size[0] + 1, _STEP):
        for width in range(_STEP, 2 * size[1] + 1, _STEP):
            fits = _SMALLER <= height * width / cells <= _LARGER
            if fits and 1 / _LONGER <= height / width / aspect <= _LONGER:
                yield height, width


def _autocorrelation(target: Tensor, blur: float = 0) -> Tensor:
    """Correlate ``target`` [1, 3, H, W] with itself, moved by (y, x); [H, W], 1 at (0, 0).

    ``blur`` is the standard deviation in cells of a Gaussian that it is softened with.
    """
    height, width = target.shape[-2:]
    y = torch.fft.fftfreq(2 * height, device=target.device)[:, None]
    x = torch.fft.rfftfreq(2 * width, device=target.device)
    softer = torch.exp(-((2 * math.pi * blur) ** 2) * (y * y + x * x))

    def products(picture: Tensor) -> Tensor:
        padded = F.pad(picture, [0, width, 0, height])
        power = torch.fft.rfft2(padded).abs().square().sum(1)[0] * softer
        return torch.fft.irfft2(power, s=padded.shape[-2:])

    pairs = products(torch.ones(1, 1, height, width, device=target.device))
    found = products(target - _trend(target)) / pairs.clamp(min=1)
    return (found / found[0, 0].clamp(min=1e-12))[:height, :width]


def _uncovered(course: list[float], most: int | None = None) -> list[float]:
    """Take away what is alike all over, within ``most``: it hides how far the rest falls."""
    lowest = min(course[:most])
    if not 0 < lowest <= 1 - _REPEATS:
        return course
    return [(each - lowest) / (1 - lowest) for each in course]


def _fallen(course: list[float]) -> int:
    """Find where an autocorrelation has fallen."""
    lowest = min(range(len(course)), key=course.__getitem__)
    return next((k for k, value in enumerate(course) if value < 0.1), lowest)


def _first_peak(course: list[float]) -> int | None:
    """Find the first high peak of an autocorrelation after it has fallen; None where none is."""
    fallen = _fallen(course)
    for k in range(fallen + 1, len(course) - 1):
        peak = course[k - 1] <= course[k] >= course[k + 1]
        if peak and course[k] > _REPEATS and course[k] >= 0.8 * max(course[fallen:]):
            return k
    return None


def _period(course: list[float], soft: list[float], most: int) -> float | None:
    """Find the first peak within ``most``, then multiples of it, each telling it more exactly.

    Twice that where the course of the ``soft`` picture tells that every other one is alike.
    """
    if min(course[:most]) > 1 - _REPEATS:  # all of it is alike along this axis
        return None
    course = _uncovered(course, most)
    first = _first_peak(course[:most])
    if first is None:
        return None
    period, far = float(first), 3 * len(course) // 4  # beyond, few pairs are left
    for times in range(2, int(far / period) + 1):
        around = range(round((times - 0.25) * period), round((times + 0.25) * period) + 1)
        place = max((k for k in around if k < far), key=course.__getitem__, default=None)
        if place is None or course[place] < _REPEATS:
            break
        period = place / times
    return 2 * period if _alternates(soft, period) else period


def _alternates(course: list[float], period: float) -> bool:
    """Tell whether every other structure is more alike than neighbours are, as in a weave.

    ``course`` is that of a soft picture: it is not sharper than a parabola at its peaks, which lie
    between cells.
    """
    differ = []
    for times in range(1, int((3 * len(course) // 4 - 2) / period) + 1):
        k = max(range(round(times * period) - 1, round(times * period) + 2), key=course.__getitem__)
        slope, bend = course[k + 1] - course[k - 1], course[k + 1] - 2 * course[k] + course[k - 1]
        differ.append(1 - course[k] + (slope * slope / (8 * bend) if bend < 0 else 0))
    odd, even = differ[::2], differ[1::2]
    alike = len(even) > 1 and fmean(even) < _ALTERNATES * fmean(odd)
    return alike and fmean(odd) > _UNLIKE


def _trend(target: Tensor) -> Tensor:
    """Fit a paraboloid to each colour of ``target`` [1, 3, H, W]."""
    height, width = target.shape[-2:]
    y = torch.linspace(-1, 1, height, device=target.device)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, device=target.device).expand(height, width)
    basis = torch.stack([torch.ones_like(x), x, y, x * y, x * x, y * y]).flatten(1)
    weights = target.flatten(2) @ torch.linalg.pinv(basis)
    return (weights @ basis).view_as(target)
