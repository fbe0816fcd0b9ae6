"""Whether a picture tiles: the place where its edges meet is like any other place inside it.

Every measure is one number for each gap between two neighbouring columns (or rows), taken in the
same way across the edge and inside. In a picture that tiles, the edge is a gap like the others, so
its number may be as large as the largest inside and a little larger, but not much: `Measure.limit`.
Comparing with the largest instead of the mean leaves bricks, planks and pixel art alone, whose few
hard columns stand far out; means of square roots instead of squares see an edge that is a little
wrong everywhere next to columns that are very wrong in a few places. What is hard to see in any
such number, because the inside has gaps that differ as much, shows in how well the two sides of a
gap go together: see ``_fit``.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Axis = Literal["x", "y"]
Kind = Literal["values", "gradients", "levels", "patches", "fits"]
Floats = NDArray[np.floating]

SMALLEST = 8  # pixels along an axis below which there is nothing to compare with
NARROWEST_STRIP = 8  # pixels
FEWEST_LEVELS = 24  # gaps that levels need: averages of a whole column leave a few numbers only
FLOOR = 1 / 255  # a difference of one 8-bit level is never a seam
# How far beyond the median an edge may lie, in units of the distance from the median to the largest
# inside. Few gaps know little of what the largest could be, so that FEW / gaps is added.
SLACK = {"values": 1.3, "gradients": 1.5, "levels": 2.0, "patches": 2.2, "fits": 1.2}
FEW = 16.0
FIT_DEVIATIONS = 4.0  # standard deviations of the inside that fits are allowed at least
MOST_ROWS = 1024  # of these many rows, evenly spread, steps are measured
WHOLE = 2**24  # pixels of a picture that is looked at as a whole
FEWEST_LINES = 64  # of a larger one, in bands of so many neighbours:
LINES = 16
MOST_PATCH_ROWS = 256
MOST_PATCH_COLUMNS = 4096  # of wider pictures, only the columns next to the edge are compared
SIDE, TALL = 2, 8  # pixels: width of a side of a gap, and height of it, whose fit is measured
MOST_FIT_GAPS, MOST_FIT_ROWS, MOST_SIDES = 40, 64, 2048  # that are looked at for it
SIDE_COMPONENTS = 12  # numbers that a side is reduced to
WORST_FIT = 2.0  # of a row: one corner that is nowhere else weighs no more than other rows

SAYING = {
    "step": "the step across the edge",
    "bend": "the change of slope at the edge",
    "jump": "the step that the slopes beside the edge do not explain",
    "level": "the step of brightness or colour averaged along the edge",
    "level bend": "the change of slope, averaged along the edge,",
    "level jump": "the step, averaged along the edge, that the slopes do not explain",
    "fit": "the misfit of the two sides of the edge",
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number across the edge, and what the same number is inside the picture."""

    kind: Kind
    name: str  # what is measured, such as "step", or "strips of 16" (pixels wide)
    edge: float  # across the edge, in units of the picture: 1 is from black to white; fits: a log
    median: float  # of the gaps inside
    largest: float  # of the gaps inside
    limit: float  # what the edge may be
    rank: float  # share of the gaps inside that are smaller than the edge, 0 to 1
    ratio: float | None  # edge / median; None when the median is zero
    z: float | None  # (edge - median) / robust standard deviation; None when that is zero
    gaps: int  # inside that were measured

    @property
    def passed(self) -> bool:
        """Whether the edge is like the inside."""
        return self.edge <= self.limit

    @property
    def excess(self) -> float:
        """How far the edge lies between the median (0) and the limit (1), or beyond."""
        return (self.edge - self.median) / (self.limit - self.median)


@dataclass(frozen=True, kw_only=True)
class AxisSeam:
    """Whether a picture tiles along one axis: ``x`` to its left and right, ``y`` up and down."""

    axis: Axis
    tiles: bool
    judged: bool  # False when the picture is too small to tell; then ``tiles`` is False, too
    reason: str  # a sentence
    measures: tuple[Measure, ...]


@dataclass(frozen=True, kw_only=True)
class SeamReport:
    """Whether a picture tiles along the axes that were asked for."""

    size: tuple[int, int]  # (height, width) in pixels
    axes: tuple[AxisSeam, ...]

    @property
    def passed(self) -> bool:
        """Whether the picture tiles along every axis that was asked for."""
        return all(axis.tiles for axis in self.axes)

    def axis(self, name: Axis) -> AxisSeam:
        """Return what was found along one axis; ``KeyError`` when it was not asked for."""
        return {axis.axis: axis for axis in self.axes}[name]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON; the size becomes ``height`` and ``width``."""
        height, width = self.size
        axes = {axis.axis: asdict(axis) for axis in self.axes}
        for axis in self.axes:
            for measure, values in zip(axis.measures, axes[axis.axis]["measures"], strict=True):
                values["passed"] = measure.passed
        return {"height": height, "width": width, "passed": self.passed, "axes": axes}


def check_seams(image: NDArray[Any], axes: str = "xy") -> SeamReport:
    """Judge whether ``image`` [H, W, C] (floats in [0, 1], straight alpha) tiles along ``axes``.

    ``axes`` is ``xy``, ``x`` or ``y``; C is 1 or 3, or 2 or 4 with alpha last, which counts as one
    more channel and multiplies the colours. Deterministic. Raises ``ValueError`` for other shapes,
    integers and NaN.

    Five kinds of measure: *values* (the step from one column to the next), *gradients* (how the
    slope changes, and the part of the step that the slopes beside it do not explain), *levels*
    (both, of column averages: faint lines and drifts), *patches* (how different the strip around
    a gap is from the strip most like it elsewhere: the phase of a regular pattern) and *fits* (how
    ill the two sides of a gap go together: outlines that end).

    How often it is wrong is measured by ``scripts/calibrate_check.py``, with what came out in
    docs/seams.md. It misses what is subtle: half a brick among bricks of many colours, fewer than
    three periods of a pattern, a faint line in noise that is as strong.
    A single feature within two pixels of the edge and nowhere else is taken for a seam.
    """
    image = _checked(image)
    if not axes or set(axes) - set(get_args(Axis)) or len(set(axes)) != len(axes):
        raise ValueError(f"axes are {axes!r}; choose from xy, x, y")
    seams = []
    for axis in get_args(Axis):
        if axis in axes:
            seams.append(_check_axis(image if axis == "x" else image.swapaxes(0, 1), axis))
    return SeamReport(size=(image.shape[0], image.shape[1]), axes=tuple(seams))


def check_rows(
    size: tuple[int, int], read: Callable[[int, int], NDArray[Any]], axes: str = "xy"
) -> SeamReport:
    """Judge a picture that may be larger than memory, as ``check_seams`` does.

    ``read`` gives its rows [first, last) as floats [h, W, C]. Of a large picture, bands of lines
    across each edge are looked at, spread evenly over it.
    """
    height, width = size
    if height * width <= WHOLE:
        return check_seams(read(0, height), axes)
    seams: list[AxisSeam] = []
    for axis in get_args(Axis):
        if axis not in axes:
            continue
        along, across = (width, height) if axis == "x" else (height, width)
        bands = max(FEWEST_LINES, WHOLE // 4 // along) // LINES
        tops = np.linspace(0, across - LINES, min(bands, across // LINES)).astype(np.intp)
        if axis == "x":
            picked = np.concatenate([read(top, top + LINES) for top in tops.tolist()])
        else:
            lines = (tops[:, None] + np.arange(LINES)).ravel()
            step = max(1, WHOLE // 8 // width)
            picked = np.concatenate(
                [read(top, min(top + step, height))[:, lines] for top in range(0, height, step)]
            ).swapaxes(0, 1)
        seams.append(_check_axis(_checked(picked), axis, LINES))
    return SeamReport(size=size, axes=tuple(seams))


def _checked(image: NDArray[Any]) -> NDArray[Any]:
    """Return ``image`` with its colours multiplied by its alpha, or raise ``ValueError``."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or 0 in image.shape:
        raise ValueError(f"expected a picture [H, W, 1 to 4], got {list(image.shape)}")
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"expected floats in [0, 1], got {image.dtype}; divide by its maximum")
    if not np.isfinite(image).all():
        raise ValueError("the picture holds NaN or infinity; expected numbers in [0, 1]")
    if image.shape[2] in (2, 4):
        image = np.concatenate([image[..., :-1] * image[..., -1:], image[..., -1:]], axis=2)
    return image


def _check_axis(image: NDArray[Any], axis: Axis, band: int | None = None) -> AxisSeam:
    """Judge the left and right edges of ``image`` [H, W, C]; see ``_fit`` for ``band``."""
    width = image.shape[1]
    if width < SMALLEST:
        reason = f"{axis}: {width} pixels are too few to judge; {SMALLEST} are needed"
        return AxisSeam(axis=axis, tiles=False, judged=False, reason=reason, measures=())
    measures = (*_steps(image), *_patches(image), *_fit(image, band))
    worst = max(measures, key=lambda measure: measure.excess)
    return AxisSeam(
        axis=axis,
        tiles=all(measure.passed for measure in measures),
        judged=True,
        reason=f"{axis}: {_sentence(worst)}",
        measures=measures,
    )


def _sentence(measure: Measure) -> str:
    what = f"the difference of {measure.name} pixels across the edge from those inside"
    saying = SAYING.get(measure.name, what)
    if measure.ratio is None or measure.median < FLOOR:
        return f"{saying} is {measure.edge:.3f} (limit {measure.limit:.3f})"
    limit = measure.limit / measure.median
    return f"{saying} is {measure.ratio:.1f} times the median inside (limit {limit:.1f})"


def _steps(image: NDArray[Any]) -> Iterator[Measure]:
    """Measure values, gradients and levels of ``image`` [H, W, C] from column to column."""
    rows = _spread(image, MOST_ROWS)
    yield from _differences(rows, ("values", "gradients", "gradients"), ("step", "bend", "jump"))
    if image.shape[1] >= FEWEST_LEVELS:
        average = image.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        names = ("level", "level bend", "level jump")
        yield from _differences(average, ("levels", "levels", "levels"), names)


def _differences(
    rows: Floats, kinds: tuple[Any, Any, Any], names: tuple[str, str, str]
) -> Iterator[Measure]:
    """Measure ``rows`` [H, W, C] at every gap; gap 0 is the edge, gap g is left of column g."""
    step = rows - np.roll(rows, 1, axis=1)
    turn = np.roll(step, -1, axis=1) - step  # the second difference, centred on a column
    beside = (np.roll(step, 1, axis=1) + np.roll(step, -1, axis=1)) / 2
    turns = _mean(turn)
    bend = np.sqrt((turns**2 + np.roll(turns, 1) ** 2) / 2)
    # A line on the last column is a step on both its sides: the gaps next to the edge do not count.
    guard = 2 if rows.shape[1] > 20 else 1
    for kind, name, gaps in zip(
        kinds, names, (_mean(step), bend, _mean(step - beside)), strict=True
    ):
        yield _measure(kind, name, gaps[0], gaps[1 + guard : len(gaps) - guard], FLOOR)


def _mean(difference: Floats) -> Floats:
    """Average ``difference`` [H, W, C] to [W]: RMS of channels, mean of square roots of rows."""
    size = np.sqrt(np.einsum("hwc,hwc->hw", difference, difference) / difference.shape[2])
    return np.square(np.sqrt(size).mean(axis=0))


def _patches(image: NDArray[Any]) -> Iterator[Measure]:
    """Measure how far the strip around the edge of ``image`` [H, W, C] is from any strip inside."""
    rows, joint = _beside_the_edge(_spread(image, MOST_PATCH_ROWS))
    apart = _columns_apart(rows)
    if joint == 0 and _was_mirrored(apart):
        return  # the edge is an axis of symmetry; nothing inside is like it, and it does not show
    yield from _strips(apart, joint, "strips", _contrast(rows))
    outlines = _outlines(rows)
    yield from _strips(_columns_apart(outlines), joint, "outlines", _contrast(outlines))


def _fit(image: NDArray[Any], band: int | None = None) -> Iterator[Measure]:
    """Measure how ill the two sides of the edge of ``image`` [H, W, C] fit each other.

    At every row of a gap there is a piece of texture to the left and one to the right. Each has its
    like elsewhere in the picture; inside a texture, both together nearly have as well, and where it
    is cut they have not. So the distance from a pair of sides to the nearest other pair is compared
    with the distances from each of them to its own nearest (logarithms, averaged over the rows).
    Rows are neighbours in groups of ``band`` only; all are when it is None.
    """
    height, width, channels = image.shape
    together = height if band is None else band
    if together < TALL or width < FEWEST_LEVELS:
        return
    tops = np.arange(height)
    tops = tops[(tops % together <= together - TALL) & (tops <= height - TALL)]
    inside = np.arange(SIDE, width - SIDE + 1)
    gaps = np.concatenate([[0], _some(inside, MOST_FIT_GAPS)])
    rows = _some(tops, MOST_FIT_ROWS)
    chance = np.random.default_rng(0)
    known = (chance.choice(inside, MOST_SIDES), chance.choice(tops, MOST_SIDES))
    asked = (np.repeat(gaps, len(rows)), np.tile(rows, len(gaps)))
    apart = abs(asked[0][:, None] - known[0])
    # Not at other rows of the same gap either: the edge is not among those that are known.
    overlaps = np.minimum(apart, width - apart) < 2 * SIDE
    both = np.zeros(overlaps.shape, np.float32)
    alone = np.zeros(len(asked[0]), np.float32)
    noise = np.float32(SIDE * TALL * channels * (2 * FLOOR) ** 2)  # what rounding makes of distance
    for left in (-SIDE, 0):
        distances = _apart(_sides(image, asked, left), _sides(image, known, left))
        distances[overlaps] = np.inf
        both += distances
        alone += np.log(distances.min(axis=1) + noise)
    nearest = both.min(axis=1)
    misfit = np.minimum((np.log(nearest / 2 + noise) - alone / 2) / 2, WORST_FIT)
    misfit = np.where(np.isfinite(nearest), misfit, 0).reshape(len(gaps), len(rows)).mean(axis=1)
    found = _measure("fits", "fit", misfit[0], misfit[1:], floor=0.05)
    least = found.median + FIT_DEVIATIONS * float(misfit[1:].std())
    yield replace(found, limit=max(found.limit, least))


def _some(numbers: NDArray[np.integer], most: int) -> NDArray[np.integer]:
    """Choose at most ``most`` of ``numbers``, evenly spread."""
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, most).round().astype(int))]


def _sides(
    image: NDArray[Any], places: tuple[NDArray[np.integer], NDArray[np.integer]], left: int
) -> Floats:
    """Cut out of ``image`` what begins ``left`` columns from gaps, at top rows; [N, D]."""
    columns = (places[0][:, None] + np.arange(left, left + SIDE)) % image.shape[1]
    rows = places[1][:, None] + np.arange(TALL)
    return image[rows[:, :, None], columns[:, None]].reshape(len(rows), -1).astype(np.float32)


def _apart(some: Floats, others: Floats) -> Floats:
    """Find the squared distances of ``some`` [N, D] and ``others`` [M, D]: [N, M].

    In the directions in which the others differ most only: distances in few mean more.
    """
    centre = others.mean(axis=0)
    some, others = some - centre, others - centre
    _, directions = np.linalg.eigh(others.T @ others)
    some, others = (each @ directions[:, -SIDE_COMPONENTS:] for each in (some, others))
    squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.maximum(squares - 2 * some @ others.T, 0)


def _outlines(image: Floats) -> Floats:
    """Measure how steep ``image`` [H, W, C] is at every gap; [H, W, 1]. Blind to which colours."""
    step = image - np.roll(image, 1, axis=1)
    return np.sqrt(np.square(step).mean(axis=2, keepdims=True))


def _columns_apart(image: Floats) -> Floats:
    """Find the mean squared differences of the columns of ``image`` [H, W, C]; [W, W]."""
    # Centred, so that the products below do not cancel.
    columns = (image - image.mean(axis=(0, 1))).transpose(1, 0, 2).reshape(image.shape[1], -1)
    squares = np.square(columns).sum(axis=1)
    apart = squares[:, None] + squares - 2 * (columns @ columns.T)
    return np.maximum(apart, 0) / columns.shape[1]


def _contrast(image: Floats) -> float:
    """RMS difference of two pixels drawn from ``image`` [H, W, C], channel by channel."""
    return float(np.sqrt(2 * image.var(axis=(0, 1)).mean()))


def _was_mirrored(apart: Floats) -> bool:
    """Tell a mirrored picture from a regular pattern, which is symmetric in many places.

    ``apart`` [W, W] are the distances of its columns. Symmetry is judged by an eighth of the width
    on both sides of an axis; axes lie on columns or between them.
    """
    width = len(apart)
    if np.sqrt(np.diagonal(apart[:, ::-1]).mean()) > FLOOR:
        return False
    reach = width // 8
    sums = np.arange(2 * reach + 2, 2 * (width - reach) - 2)  # of two columns' numbers, mirrored
    sums = sums[abs(sums - (width - 1)) > 4]
    out = np.arange(1, reach + 1)
    asymmetry = apart[(sums[:, None] + 1) // 2 - 1 - out, sums[:, None] // 2 + 1 + out].mean(axis=1)
    return bool(asymmetry.size and np.sqrt(asymmetry.min()) > 2 * FLOOR)


def _strips(apart: Floats, joint: int, name: str, contrast: float) -> Iterator[Measure]:
    """Compare the strip around the edge with the strips inside, and those with each other.

    Strips are 8, 16, 32, ... pixels wide, up to half of the picture. Their distances are sums along
    the diagonals of ``apart`` [W, W], the distances of columns, doubled from width to width.
    """
    columns = len(apart)
    strips, wide = apart, 1  # strips[i, j]: between the strips that begin at columns i and j
    while 4 * wide + 4 <= columns:
        half = wide
        strips = strips[:-half, :-half] + strips[half:, half:]
        wide = 2 * wide
        if wide < NARROWEST_STRIP:
            continue
        starts = len(strips)
        whole = np.ones(starts, bool)  # strips that do not lie across the joint
        whole[max(joint - wide + 1, 0) : joint] = False
        nearest = _nearest(strips, half, whole)
        inside = nearest[whole & np.isfinite(nearest)]
        if len(inside) < 5:
            return
        around = np.arange(-half, half) % columns  # the columns of the strip around the edge
        edge = np.sum([apart[column, k : k + starts] for k, column in enumerate(around)], axis=0)
        yield _measure(
            "patches",
            f"{name} of {wide}",
            np.sqrt(edge[whole].min() / wide),
            np.sqrt(inside / wide),
            floor=max(0.1 * contrast, FLOOR),
            still=0,
        )


def _nearest(strips: Floats, half: int, whole: NDArray[np.bool_]) -> Floats:
    """Find the smallest of each row of ``strips`` [N, N] at least ``half`` off the diagonal."""
    nearest = np.full(len(strips), np.inf, np.float32)
    blocked = np.where(whole, np.float32(0), np.float32(np.inf))
    for first in range(0, len(strips), 256):  # in bands, so that no second matrix is needed
        band = strips[first : first + 256] + blocked
        off = np.arange(len(strips)) - np.arange(first, first + len(band))[:, None]
        band[abs(off) < half] = np.inf
        nearest[first : first + len(band)] = band.min(axis=1)
    return nearest


def _beside_the_edge(image: Floats) -> tuple[Floats, int]:
    """Keep the outer columns of a wide ``image``; also returns where left and right ones join."""
    if image.shape[1] <= MOST_PATCH_COLUMNS:
        return image, 0
    half = MOST_PATCH_COLUMNS // 2
    return np.concatenate([image[:, :half], image[:, -half:]], axis=1), half


def _spread(image: NDArray[Any], most: int) -> Floats:
    """Choose at most ``most`` rows of ``image`` [H, W, C], evenly spread."""
    height = len(image)
    rows = np.linspace(0, height - 1, most).round().astype(int) if height > most else slice(None)
    return np.ascontiguousarray(image[rows], np.float32)


def _measure(
    kind: Kind,
    name: str,
    edge: Any,
    inside: Floats,
    floor: float,
    still: float = FLOOR,
) -> Measure:
    """Compare ``edge`` with the gaps ``inside`` [N]; ``floor`` is the least spread they have.

    ``still`` is allowed on top, so that one level of 8 bits passes in a flat picture.
    """
    edge, median, largest = float(edge), float(np.median(inside)), float(inside.max())
    spread = max(largest - median, 0.05 * median, floor)
    deviation = 1.4826 * float(np.median(abs(inside - median)))  # that of a normal distribution
    return Measure(
        kind=kind,
        name=name,
        edge=edge,
        median=median,
        largest=largest,
        limit=median + (SLACK[kind] + FEW / len(inside)) * spread + still,
        rank=float((inside < edge).mean()),
        ratio=edge / median if median > 0 else None,
        z=(edge - median) / deviation if deviation > 0 else None,
        gaps=len(inside),
    )
