"""All that is measured of a model, or of a picture of any origin, as one result.

What is scored depends on what a model is for: ``SCORERS`` has a function for each task.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.quality import variety
from nca_texture.quality.diagnosis import Case, Fault, Plan, diagnose
from nca_texture.quality.measures import PATCHES, SEAM, STYLE, Yardstick, middle, seam
from nca_texture.quality.rollout import MULTIPLES, Cost, Mark, Rollout, cost, recovery, roll_out
from nca_texture.recipe import Recipe

_BY_FEATURES = {"sliced": "vgg16", "gram": "vgg16", "emd": "vgg16"}  # losses, their usual network
_PART = 3 / 4  # of the target's side: what is measured against the whole to say what is alike


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was measured; distances by the names that ``measures`` gives them."""

    size: tuple[int, int]  # (height, width) of the pictures
    samples: int
    steps: list[int]  # at which they were looked at; empty for a picture
    distances: list[dict[str, float]]  # at each of these
    part: dict[str, float]  # of a part of the target to the whole
    trained: list[str]  # measures that are close to a loss it was trained by
    faults: list[Fault]
    copy: int  # side of the largest square taken over from the target, in pixels
    target_repeat: int  # side of the largest square that the target repeats
    diversity: float | None = None  # of two seeds
    target_diversity: float | None = None
    drift: dict[str, float] = field(default_factory=dict)  # change from the second look to the last
    recovery: dict[str, float | None] = field(default_factory=dict)  # after half was erased
    motion: float | None = None  # of a pixel within 16 steps
    cost: Cost | None = None
    parameters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON; the size becomes ``width`` and ``height``."""
        plain = asdict(self)
        height, width = plain.pop("size")
        steps, distances = plain.pop("steps"), plain.pop("distances")
        looks = [
            ({"steps": at} if at is not None else {}) | _rounded(each)
            for at, each in zip(steps or [None], distances, strict=True)
        ]
        plain["part"] = _rounded(plain["part"])
        return {"width": width, "height": height, "looks": looks} | plain


def score_texture(
    automaton: CellularAutomaton,
    recipe: Recipe,
    target: Tensor,
    *,
    networks: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    size: tuple[int, int] = (128, 128),
    samples: int = 2,
    seed: int | str = 0,
    kernel: str = "auto",
    rollout: Rollout | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Score:
    """Score a model that learned the texture ``target`` [N, 3, H, W].

    ``steps`` are those it is looked at, 1, 3, 10 and 100 times the most it was trained with when
    None; the others are those of ``Yardstick`` and ``roll_out``. A ``rollout`` that is there
    already is not done again.
    """
    yardstick = Yardstick(target, networks, automaton.weight_in.device)
    if steps is None:
        steps = [times * recipe.training.steps[1] for times in MULTIPLES]
    if rollout is None:
        rollout = roll_out(
            automaton,
            steps,
            size=size,
            samples=samples,
            seed=seed,
            kernel=kernel,
            progress=progress,
        )
    wraps = automaton.grid.wraps
    looks = [yardstick(mark.pictures, wraps).values for mark in rollout.marks]
    settled = looks[min(1, len(looks) - 1)]
    erased, healed = (yardstick(each, wraps).values for each in (rollout.erased, rollout.healed))
    chief = [name for name in settled if name == PATCHES or name.startswith(STYLE)]
    recovered = {name: recovery(settled[name], erased[name], healed[name]) for name in chief}
    pictures = rollout.marks[min(1, len(looks) - 1)].pictures
    plan = recipe.training
    case = Case(
        yardstick,
        rollout.marks,
        wraps,
        rollout.motion,
        Plan(
            plan.size,
            plan.steps,
            automaton.fire_rate,
            max(target.shape[-2:]),
            plan.damage_every if plan.damage else None,
        ),
        looks,
        own_distances(yardstick),
        recovered,
    )
    return Score(
        size=(pictures.shape[-2], pictures.shape[-1]),
        samples=len(pictures),
        steps=[mark.steps for mark in rollout.marks],
        distances=looks,
        trained=trained_measures(recipe, list(settled)),
        drift={name: round(looks[-1][name] / max(settled[name], 1e-9) - 1, 4) for name in chief},
        recovery=recovered,
        motion=rollout.motion,
        cost=cost(automaton, kernel),
        parameters=automaton.num_parameters,
        diversity=variety.diversity(*pictures[:2].cpu(), wrap=wraps == "xy")
        if len(pictures) > 1
        else None,
        faults=diagnose(case),
        part=case.part,
        **_of_target(yardstick, pictures[0]),
    )


def score_picture(
    picture: Tensor, target: Tensor, *, networks: Sequence[str] | None = None, wraps: str = ""
) -> Score:
    """Score ``picture`` [1, 3, h, w] of any origin against ``target`` [N, 3, H, W].

    ``wraps`` names the axes that it is said to tile along; its seams are measured along both in any
    case.
    """
    yardstick = Yardstick(target, networks)
    found = yardstick(picture, wraps).distances
    across = seam(picture, "xy")
    if across is not None:
        found = found | {SEAM: across}
    own = own_distances(yardstick)
    case = Case(yardstick, (Mark(0, picture, 1.0),), wraps, distances=[found], part=own)
    return Score(
        size=(picture.shape[-2], picture.shape[-1]),
        samples=1,
        steps=[],
        distances=[found],
        trained=[],
        faults=diagnose(case),
        part=own,
        **_of_target(yardstick, middle(picture)[0]),
    )


SCORERS: dict[str, Callable[..., Score]] = {"texture": score_texture}


def scorer_of(recipe: Recipe) -> Callable[..., Score]:
    """Choose what scores models of the task of ``recipe``; ``InputError`` when nothing does."""
    if recipe.task not in SCORERS:
        raise InputError(
            f"this model is for {recipe.task!r}, which this version cannot score; "
            f"it scores {', '.join(SCORERS)}"
        )
    return SCORERS[recipe.task]


def trained_measures(recipe: Recipe, measures: Sequence[str]) -> list[str]:
    """Name those of ``measures`` that are close to a loss of ``recipe``."""
    close = {PATCHES for plan in recipe.losses if plan.name == "patch"}
    close |= {
        f"{STYLE} {plan.options.get('features', _BY_FEATURES[plan.name])}"
        for plan in recipe.losses
        if plan.name in _BY_FEATURES
    }
    return [name for name in measures if name in close]


def own_distances(yardstick: Yardstick) -> dict[str, float]:
    """Measure parts of a target, in opposite corners, against the whole: no rule can be closer."""
    height, width = yardstick.target.shape[-2:]
    h, w = (max(int(_PART * side), min(side, 32)) for side in (height, width))
    pictures = yardstick.target[:1]
    corners = torch.cat([pictures[..., :h, :w], pictures[..., height - h :, width - w :]])
    return yardstick(corners).distances


def _of_target(yardstick: Yardstick, picture: Tensor) -> dict[str, Any]:
    target = yardstick.target[0].cpu()
    return {
        "copy": variety.largest_copy(picture.cpu(), target),
        "target_repeat": variety.largest_repeat(target),
        "target_diversity": variety.own_diversity(target),
    }


def _rounded(distances: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in distances.items()}
