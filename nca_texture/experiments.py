"""The experiments of the field as recipes, each of its published size and of one for two cores.

Numbers are those of the sources (Growing NCA; Studying Growth; NCA can respond to signals; Growing
Isotropic NCA). Targets are the project's own figures: give a picture to use that one instead.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from nca_texture.curriculum import Curriculum
from nca_texture.loss_plans import OVERFLOW, PATCH, SLICED
from nca_texture.recipe import AutomatonPlan, LossPlan, Recipe, TargetPlan
from nca_texture.surgery import Event
from nca_texture.targets.figures import SHELL_GROWTH, SHELL_MIDDLE, SHELL_MOUTH
from nca_texture.train_plan import TrainPlan

FLOWERS = ("figure:rose", "figure:crocus", "figure:marigold")
GECKOS = tuple(f"figure:gecko-{number:04b}" for number in range(16))


@dataclass(frozen=True)
class Experiment:
    """A recipe with its target, at two sizes."""

    recipe: Recipe
    small: Recipe
    summary: str
    look_for: str  # what to look for in what it grows


PIXEL = LossPlan(name="pixel")
CREATURE = AutomatonPlan(
    channels=16,
    hidden=128,
    bank="growing-2020",
    edge="none",
    beyond="zero",
    living=True,
    output_bias=True,
    seed_kind="cell",
    rgb_offset=0.0,
)
GROWING = Recipe(
    preset="growing-2020",
    task="grow",
    target=TargetPlan(exemplar_size=40, padding=16),
    automaton=CREATURE,
    losses=(PIXEL,),
    training=TrainPlan(
        iterations=8000,
        batch_size=8,
        pool_size=1024,
        width=72,
        height=72,
        steps=(64, 95),
        reseed="worst",
        reseed_every=1,
        learning_rate=2e-3,
        schedule="steps",
        milestones=(2000,),
        decay=0.1,
        judge_every=0,
    ),
)
REGENERATING = replace(
    GROWING, preset="regenerating-2020", training=replace(GROWING.training, damage=3)
)


def small(recipe: Recipe, **training: Any) -> Recipe:
    """Make a recipe of growth small enough for two cores and ten minutes.

    It learns by SOAP, and to grow before it learns to stay: both together bring a picture in 1000
    iterations as near as Adam with a pool from the start in 4000 (docs/growth.md).
    """
    defaults: dict[str, Any] = {
        "iterations": 2000,
        "batch_size": 4,
        "pool_size": 256,
        "damage": min(1, recipe.training.damage),
        # Circles alone teach little of how to heal what is cut in half.
        "damage_shapes": ("circle", "half"),
        "steps": (64, 96),
        # A curriculum has its own beginning.
        "from_seeds": 0.0 if recipe.training.curriculum.threshold else 0.3,
        "optimiser": "soap",
        "warmup": 100,
        "schedule": "cosine",
        "milestones": (),
        "judge_every": 250,
        "judge_steps": 960,
    }
    return replace(
        recipe,
        preset=f"{recipe.preset}-small",
        target=replace(recipe.target, exemplar_size=40, padding=4),
        automaton=replace(recipe.automaton, hidden=min(80, recipe.automaton.hidden)),
        training=replace(recipe.training, **defaults | training),
    )


def _of(name: str, sources: tuple[str, ...], base: Recipe = GROWING, **parts: Any) -> Recipe:
    """Give ``base`` a name, its targets, and other ``parts`` of the automaton."""
    single = len(sources) == 1
    target = replace(
        base.target, source=sources[0] if single else "", sources=() if single else sources
    )
    return replace(base, preset=name, target=target, automaton=replace(base.automaton, **parts))


def _with(recipe: Recipe, **training: Any) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **training))


# Studying Growth: larger pictures, a mask for each element, weights that decay.
_FLOWER = _with(
    _of(
        "hd-flower", FLOWERS[:1],
        channels=32, fire_rate=0.8, fire_by="element", seed_place=(0.74, 0.5),
    ),
    iterations=12000,
    pool_size=1000,
    steps=(64, 107),
    weight_decay=3e-5,
    milestones=(3000, 6000, 9000),
    decay=0.2,
)  # fmt: skip
_FLOWER = replace(_FLOWER, target=replace(_FLOWER.target, exemplar_size=64, padding=10))
_FLOWER_SMALL = replace(
    small(_FLOWER, weight_decay=0.0),
    automaton=replace(_FLOWER.automaton, channels=16, hidden=80, fire_by="cell", fire_rate=0.5),
)

_FLOWERS = replace(
    _with(_of("multiclass-flowers", FLOWERS, condition="trainable-seed"), steps=(64, 107)),
)
_FLOWERS = replace(
    _FLOWERS,
    target=replace(_FLOWERS.target, exemplar_size=64, padding=10),
    automaton=replace(_FLOWERS.automaton, channels=32, seed_place=(0.7, 0.5)),
)
_FLOWERS_SMALL = replace(
    small(_FLOWERS, iterations=3000, batch_size=6),
    automaton=replace(_FLOWERS.automaton, channels=16, hidden=80),
)

_GECKOS = _with(
    _of("genome-geckos", GECKOS, REGENERATING, condition="genome"),
    iterations=12000,
    batch_size=12,
    steps=(64, 199),
    milestones=(2000, 4000, 6000, 10000),
    decay=0.4,
    switch=2,
)
_GECKOS = replace(_GECKOS, target=replace(_GECKOS.target, exemplar_size=30, padding=15))
_GECKOS_SMALL = small(_GECKOS, iterations=3000, batch_size=6, switch=1)
_GECKOS_SMALL = replace(
    _GECKOS_SMALL,
    target=replace(_GECKOS_SMALL.target, exemplar_size=30, padding=5),
    automaton=replace(_GECKOS_SMALL.automaton, channels=12),
)

_ISOTROPIC = _with(
    replace(
        _of("isotropic", ("figure:snowflake",), REGENERATING, bank="isotropic"),
        losses=(
            LossPlan(name="rotation"),
            LossPlan(name="overflow", weight=1.0, options={"limit": 2.0, "power": 2}),
        ),
    ),
    pool_size=256,
    steps=(64, 96),
)

_TEXTURES = Recipe(
    preset="two-textures",
    target=TargetPlan(sources=("sample:zebra", "sample:weave"), crop="square"),
    automaton=AutomatonPlan(condition="one-hot"),
    losses=(SLICED, PATCH, OVERFLOW),
    training=TrainPlan(
        iterations=5000, width=128, height=128, batch_size=4, pool_size=256, warmup=20, switch=1
    ),
)  # fmt: skip
_TEXTURES_SMALL = _with(
    replace(_TEXTURES, preset="two-textures-small"),
    iterations=900,
    width=64,
    height=64,
    batch_size=2,
    pool_size=64,
    steps=(32, 64),
    switch=0,
    judge_every=250,
)


def _plain(name: str, source: str, base: Recipe = GROWING, **parts: Any) -> Recipe:
    return _of(name, (source,), base, **parts)


# Every cell fires: a crawling rule keeps step with its target only where chance cannot delay it.
_CRAWLING = _plain("worm-moving", "figure:worm", edge="xy", fire_rate=1.0)
_CRAWLING = replace(_CRAWLING, target=replace(_CRAWLING.target, motion=(0.0, 0.25)))


# The three stages of the nautilus: around the middle of its spiral it is frozen, on the side away
# from its mouth mature (what is seen stays), and on the mouth's side it grows. Before every batch
# what has grown is turned back and made smaller by a quarter of a turn, so that its mouth has to
# be grown again: the rule goes on for ever, and what it started from fades away (the middle lies
# between cells: in one it would stay).
def _nautilus(recipe: Recipe) -> Recipe:
    """Let the last quarter of the shell be grown, around where the spiral lies in the grid."""
    cells, room = recipe.target.exemplar_size, recipe.target.padding
    side = cells + 2 * room
    x, y = ((room + (1 + at) / 2 * cells) / side for at in SHELL_MIDDLE)
    opposite = math.degrees(SHELL_MOUTH) - 45 - 180
    stages = (
        Event(at=0, do="resample", angle=-90.0, scale=1 / SHELL_GROWTH, around=(x, y)),
        Event(at=0, do="freeze", living=True, circle=(x, y, 0.12 * cells / side)),
        Event(at=0, do="freeze", living=True, what="visible", half=(x, y, opposite)),
    )
    automaton = replace(recipe.automaton, seed_place=(y, x))
    return replace(_with(recipe, judge_every=0), automaton=automaton, event=stages)


_SHELL = _plain("nautilus", "figure:nautilus")

# Growing Pokemon: our own rule and steps, its lessons.
_POKEMON = _with(
    _plain("pokemon-curriculum", "figure:worm"),
    steps=(48, 64),
    schedule="cosine",
    milestones=(),
    curriculum=Curriculum(threshold=0.01, moment="any"),
)


def _experiment(recipe: Recipe, summary: str, look_for: str, **training: Any) -> Experiment:
    return Experiment(recipe, small(recipe, **training), summary, look_for)


EXPERIMENTS: dict[str, Experiment] = {
    "growing-2020": _experiment(
        GROWING,
        "Growing NCA: grows from one cell and stays (its persistent regime)",
        "the picture at ten times the trained steps is still the one at the trained steps",
        iterations=3000,
    ),
    "regenerating-2020": _experiment(
        REGENERATING,
        "Growing NCA: grows from one cell, stays, and heals what is cut away",
        "half of it cut away comes back",
        iterations=3000,
    ),
    "hd-flower": Experiment(
        _FLOWER,
        _FLOWER_SMALL,
        "Studying Growth: a flower of 64 cells, 32 channels, a mask for each element",
        "stem first, then bloom: what is near the seed is there first",
    ),
    "multiclass-flowers": Experiment(
        _FLOWERS,
        _FLOWERS_SMALL,
        "Studying Growth: three flowers from one rule, each from a learned seed",
        "which flower it becomes is decided within the first steps",
    ),
    "newt-graft": _experiment(
        _plain("newt-graft", "figure:gecko", REGENERATING),
        "Studying Growth: a creature to graft on, with animate --timeline",
        "the grafted, frozen patch grows around it what belongs there",
    ),
    "bone": _experiment(
        _plain("bone", "figure:bone"),
        "Studying Growth: a hollow bone, whose seed lies in the cavity",
        "cells of the cavity live at first, and die",
    ),
    "worm-fixed": _experiment(
        _plain("worm-fixed", "figure:worm"),
        "Studying Growth: a worm in a frame that stands still",
        "it holds its shape",
    ),
    "worm-moving": _experiment(
        _CRAWLING,
        "Studying Growth: a worm in a frame that moves, a cell to the right in four steps",
        "it crawls around the torus and comes back as it was",
        from_seeds=0.0,  # with seeds alone it dies out: all of a batch are alike
    ),
    "snowflake": _experiment(
        _plain("snowflake", "figure:snowflake"),
        "a snowflake, six arms from one cell",
        "the arms grow alike although each is on its own",
    ),
    "nautilus": Experiment(
        _nautilus(_SHELL),
        _nautilus(small(_SHELL, iterations=2000, steps=(36, 48))),
        "Studying Growth: a logarithmic shell in three stages, frozen, mature and growing",
        "with docs/timelines/nautilus.toml it grows for ever, and all of it is drawn by the rule",
    ),
    "genome-geckos": Experiment(
        _GECKOS,
        _GECKOS_SMALL,
        "NCA can respond to signals: a gene for each limb of a gecko, sixteen geckos from one rule",
        "told another genome, a grown gecko loses or grows the limb",
    ),
    "pokemon-curriculum": _experiment(
        _POKEMON,
        "Growing Pokemon: from mending a picture to growing it, harder as it learns",
        "the levels in the log rise; a half that is cut away comes back",
    ),
    "isotropic": _experiment(
        _ISOTROPIC,
        "Growing Isotropic NCA: cells that do not know where up is, and only see how steep",
        "every growth has another orientation",
        iterations=3000,
    ),
    "two-textures": Experiment(
        _TEXTURES,
        _TEXTURES_SMALL,
        "two textures of one rule, told apart by a channel each",
        "--class makes either, --plant both on one grid",
    ),
}
