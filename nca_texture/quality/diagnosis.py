"""Why a texture is bad: what was seen, and which setting to change.

Each fault is a function from a ``Case`` to a ``Fault`` or None, and a line of ``FAULTS``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.losses.networks import COMPACT
from nca_texture.periods import structure
from nca_texture.quality.measures import COLOUR, PATCHES, STYLE, Yardstick
from nca_texture.quality.rollout import Mark

_FLAT = 0.1  # of the target's contrast: less is nothing to see
_RAN_AWAY = 10.0  # a state beyond is far from all that was trained
_SATURATED = 0.25  # share of almost black and white numbers beyond the target's
_NEARLY = 1 / 16  # from black or white
_STILL = 0.1 / 255  # change of a pixel in 16 steps: an eighth-bit picture hardly changes
_CHEQUERED = 3e-4  # power of the finest pattern that is seen, and how much more than the target's:
_MORE_CHEQUERED = 4.0
_COLOUR_OFF, _COLOUR_MOVES = 10.0, 6.0  # CIELAB units
_DRIFTS, _DRIFTS_BY = 1.3, 0.1  # times, and in units of a distance
_HEALS = 0.5  # share of the harm
_MIRRORED, _MIRRORED_BY = 0.75, 0.1
_PERIODS = 1.5  # of the structure that have to fit into a training grid


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    name: str
    saw: str  # a sentence with numbers
    change: str  # what to do


@dataclass(frozen=True)
class Plan:
    """What matters of how a model was trained; None where a picture has no model."""

    grid: tuple[int, int]  # cells (height, width)
    steps: tuple[int, int]
    fire_rate: float
    longer_side: int  # cells of the exemplar
    wounds_every: int | None = None  # iterations; None where it was not damaged


@dataclass(frozen=True)
class Case:
    """What is looked at: pictures of one model on the way, or one picture."""

    yardstick: Yardstick
    marks: tuple[Mark, ...]
    wraps: str = ""
    motion: float | None = None  # of a pixel in 16 steps
    plan: Plan | None = None
    distances: list[dict[str, float]] = field(default_factory=list)  # of each mark
    part: dict[str, float] = field(default_factory=dict)  # of a part of the target to the whole
    recovery: dict[str, float | None] = field(default_factory=dict)  # after half was erased

    @property
    def target(self) -> Tensor:
        """The target [N, 3, H, W]."""
        return self.yardstick.target

    @property
    def settled(self) -> Mark:
        """The mark at which a texture should be there."""
        return self.marks[min(1, len(self.marks) - 1)]


def diagnose(case: Case) -> list[Fault]:
    """Look for every fault that is known; the worst come first, and hide what follows from them."""
    found: list[Fault] = []
    for name, look in FAULTS.items():
        if found and name in _FOLLOW and found[0].name in _HIDE:
            continue
        fault = look(case)
        if fault is not None:
            found.append(fault)
    return found


def _exploded(case: Case) -> Fault | None:
    change = "raise overflow.weight, lower training.learning_rate, or set automaton.limits.state=2"
    for mark in case.marks:
        if mark.extreme > _RAN_AWAY:
            saw = f"after {mark.steps} steps the state reaches {mark.extreme:.3g}"
            return Fault("exploded", saw, change)
    for mark in case.marks:
        more = _saturated(mark.pictures) - _saturated(case.target)
        if more > _SATURATED:
            saw = f"{_when(case, mark)}{more:.0%} more than of the target are black or white"
            return Fault("exploded", saw, change)
    return None


def _dead(case: Case) -> Fault | None:
    mark = case.settled
    ours, theirs = _contrast(mark.pictures), _contrast(case.target)
    if ours >= _FLAT * theirs:
        return None
    return Fault(
        "dead",
        f"{_when(case, mark)}the picture is flat: contrast {ours:.3f}, the target has {theirs:.3f}",
        "use another --seed, automaton.seed_kind=noise, a higher training.learning_rate, or train "
        "for longer",
    )


def _frozen(case: Case) -> Fault | None:
    if case.motion is None or case.motion >= _STILL:
        return None
    return Fault(
        "frozen",
        f"within 16 steps a pixel changes by {255 * case.motion:.2f} of 255 levels: nothing heals, "
        "and an animation stands still",
        "set automaton.fire_rate=0.5, a lower training.reseed_every, or start from another --seed",
    )


def _chequerboard(case: Case) -> Fault | None:
    mark = case.settled
    ours, theirs = _finest(mark.pictures), _finest(case.target)
    if ours <= _CHEQUERED or ours <= _MORE_CHEQUERED * theirs:
        return None
    return Fault(
        "chequerboard",
        f"{_when(case, mark)}neighbouring pixels alternate with a contrast of {ours**0.5:.3f}, "
        f"{min((ours / max(theirs, 1e-9)) ** 0.5, 999):.0f} times as much as in the target",
        "let the loss see single pixels (sliced.image=true, patch.unsharp=2), or lower "
        "training.learning_rate",
    )


def _colour_drift(case: Case) -> Fault | None:
    if not case.distances:
        return None
    settled = min(1, len(case.distances) - 1)
    off, last = case.distances[settled][COLOUR], case.distances[-1][COLOUR]
    # Where a target is not the same everywhere, so are its colours.
    allowed = _COLOUR_OFF + case.part.get(COLOUR, 0.0)
    if off <= allowed and last - off <= _COLOUR_MOVES:
        return None
    where = f"{_when(case, case.marks[settled])}colours are {off:.0f} units of CIELAB off"
    if len(case.marks) > 1:
        where += f", after {case.marks[-1].steps} steps {last:.0f}"
    return Fault(
        "colour drift",
        where,
        "give colours more weight (sliced.image=true), train for longer, or with more "
        "training.steps so that rules are held to what they do later",
    )


def _drift(case: Case) -> Fault | None:
    if len(case.distances) < 3:
        return None
    for name in (f"{STYLE} {COMPACT}", PATCHES):
        best = min(each.get(name, 0.0) for each in case.distances[:-1])
        last = case.distances[-1].get(name, 0.0)
        if last > _DRIFTS * best and last - best > _DRIFTS_BY:
            return Fault(
                "drift",
                f"after {case.marks[-1].steps} steps {name} is {last:.2f}; it has been {best:.2f}",
                "raise training.steps, training.judge_steps and training.reseed_every, so that "
                "older states are trained; set training.large_every=4 training.window_every=16, so "
                "that larger ones are; or grow with fewer --steps",
            )
    return None


def _unhealed(case: Case) -> Fault | None:
    for name in (f"{STYLE} {COMPACT}", PATCHES):
        share = case.recovery.get(name)
        if share is not None and share < _HEALS:
            worse = (
                "it is farther off than the wound was" if share < 0 else f"{share:.0%} is healed"
            )
            return Fault(
                "unhealed",
                f"half was erased, and as many steps later {worse}, by {name}",
                _more_wounds(None if case.plan is None else case.plan.wounds_every),
            )
    return None


def _more_wounds(every: int | None) -> str:
    shapes = 'training.damage_shapes=["circle","half","rectangle"]'
    if every is None:
        return f"train with wounds: set training.damage=1 training.damage_every=16 {shapes}"
    if every > 1:
        return f"train for longer, or wound more often: set training.damage_every={every // 2}"
    return f"train for longer, or with other wounds: set {shapes}"


def _small_field(case: Case) -> Fault | None:
    if case.plan is None:
        return None
    lengths, grid = structure(case.target[:1]), case.plan.grid
    length, room = max(zip(lengths, grid, strict=True), key=lambda axis: axis[0] / axis[1])
    reached, longest = case.plan.steps[1] * case.plan.fire_rate, max(lengths)
    if length * _PERIODS > room:
        saw = f"the target's structure is {length} cells long, the training grid has {room}"
        height, width = (
            max(cells, round(_PERIODS * each / 16 + 0.5) * 16)
            for each, cells in zip(lengths, grid, strict=True)
        )
        bigger = f"training.width={width} training.height={height}"
    elif longest / 2 > reached:
        saw = (
            f"the target's structure is {longest} cells long, and within "
            f"{case.plan.steps[1]} steps cells hear from others {reached:.0f} cells away"
        )
        bigger = (
            f"training.steps=[{case.plan.steps[0]}, {int(longest / 2 / case.plan.fire_rate) + 1}]"
        )
    else:
        return None
    share = min(room / _PERIODS / length, 2 * reached / longest)
    return Fault(
        "receptive field",
        f"{saw}: too small to learn how its parts lie together",
        f"use --exemplar-size {max(8, int(case.plan.longer_side * share))}, or set {bigger}",
    )


def _flipped(case: Case) -> Fault | None:
    if COMPACT not in case.yardstick.networks:
        return None
    picture, wraps = case.settled.pictures[:1], case.wraps
    as_it_is = case.yardstick.style(picture, wraps=wraps)
    best, name = min(
        (case.yardstick.style(turn(picture), wraps=wraps), name) for name, turn in TURNS.items()
    )
    if best >= _MIRRORED * as_it_is or as_it_is - best < _MIRRORED_BY:
        return None
    return Fault(
        "flipped",
        f"{name}, the picture is at {best:.2f} of the target by style; as it is, at {as_it_is:.2f}",
        "check the filters' signs and the direction of rows: a model from elsewhere may have "
        "another automaton.bank, and a picture may be stored bottom up",
    )


FAULTS: dict[str, Callable[[Case], Fault | None]] = {
    "exploded": _exploded,
    "dead": _dead,
    "frozen": _frozen,
    "chequerboard": _chequerboard,
    "flipped": _flipped,
    "colour drift": _colour_drift,
    "drift": _drift,
    "unhealed": _unhealed,
    "receptive field": _small_field,
}
_HIDE = ("exploded", "dead")  # of what is not there, no more need be said than
_FOLLOW = tuple(name for name in FAULTS if name not in ("exploded", "receptive field"))

TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "mirrored left to right": lambda picture: picture.flip(3),
    "turned upside down": lambda picture: picture.flip(2),
    "turned by half": lambda picture: picture.flip(2, 3),
    "turned by a quarter": lambda picture: picture.rot90(1, (2, 3)),
    "turned back by a quarter": lambda picture: picture.rot90(-1, (2, 3)),
}


def _contrast(pictures: Tensor) -> float:
    return pictures.flatten(2).std(2).mean().item()


def _saturated(pictures: Tensor) -> float:
    """Share of numbers that are almost as small or as large as they can be.

    Almost: a ground that is nearly white in a photograph may well become white.
    """
    return ((pictures - 0.5).abs() > 0.5 - _NEARLY).float().mean().item()


def _finest(pictures: Tensor) -> float:
    """Mean power of patterns that alternate from pixel to pixel, along x, along y or both.

    Only as far as they go on over 8 pixels: an edge has much of what is fine, but in one place.
    """
    rows = torch.tensor([1.0, -1.0], device=pictures.device).repeat(4)
    even = torch.ones(8, device=pictures.device)
    found = 0.0
    for kernel in (rows[:, None] * rows, rows[:, None] * even, even[:, None] * rows):
        weight = kernel[None, None].expand(pictures.shape[1], 1, 8, 8) / 64
        beats = F.conv2d(pictures, weight, groups=pictures.shape[1], stride=4)
        found = max(found, beats.square().flatten(1).median(1).values.mean().item())
    return found


def _when(case: Case, mark: Mark) -> str:
    return f"after {mark.steps} steps " if case.plan is not None or mark.steps else ""
