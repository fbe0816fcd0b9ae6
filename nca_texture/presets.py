"""Recipes by name: our own, and the published ones with their numbers."""

from dataclasses import dataclass, replace
from typing import Any

from nca_texture.experiments import EXPERIMENTS
from nca_texture.kernels.rule import Limits
from nca_texture.loss_plans import OVERFLOW, PATCH, SLICED
from nca_texture.recipe import AutomatonPlan, LossPlan, Recipe, TargetPlan
from nca_texture.train_plan import TrainPlan


@dataclass(frozen=True)
class Preset:
    """A recipe without its target, what it is for, and how it departs from its source."""

    recipe: Recipe
    summary: str
    departures: tuple[str, ...] = ()
    published: bool = False
    look_for: str = ""  # in what it makes


def _loss(name: str, weight: float = 1.0, **options: Any) -> LossPlan:
    return LossPlan(name=name, weight=weight, options=options)


_DRAFT = Recipe(
    preset="draft",
    target=TargetPlan(crop="square"),  # the middle of a photograph is its subject
    losses=(SLICED, PATCH, OVERFLOW),
    training=TrainPlan(
        iterations=800, width=64, height=64, steps=(32, 64), warmup=20, judge_every=250
    ),
)
# Once the shapes are there, colours and fine detail are what is wrong: with equal weights the
# deepest layers would outweigh them by far. With less than these, rules turn away from the target's
# shapes as they grow old. A draft has no time for all this (docs/quality.md).
_DETAILED = replace(
    SLICED,
    options=SLICED.options
    | {
        "layer_weights": [10.0, 30.0, 3.0, 4.0, 5.0],
        "projections": [32, 32, 32, 128, 128],  # few places, many features: more cost little
    },
)
# A patch of the fourth level spans 40 cells, one of the fifth 80: smaller ones do not see that all
# of a pattern is too large, nor that dark and light gather. With fewer of them much of the gradient
# is chance.
_LARGE_PATCHES = replace(
    PATCH, weight=2.5, options={"levels": 5, "samples": 768, "exemplar_samples": 768}
)
# Few states that grow old before they begin anew, some on larger grids, and windows of one that
# grows old beside them, keep a rule from drifting; without wounds some rules run away from the edge
# of one; one wide grid keeps from gathering what two narrow ones let gather into bands as wide as
# they are. With 64 hidden units it comes as near as with 96, and has the time for all this
# (docs/quality.md).
_BALANCED = replace(
    _DRAFT,
    preset="balanced",
    automaton=AutomatonPlan(hidden=64),
    losses=(_DETAILED, _LARGE_PATCHES, OVERFLOW),
    training=replace(
        _DRAFT.training,
        iterations=2500,
        batch_size=1,
        pool_size=16,
        width=96,
        height=96,
        whole_periods=True,
        large_every=4,
        reseed_every=32,
        window_every=16,
        damage=1,
        damage_every=24,
        damage_shapes=("circle", "half", "rectangle"),
        judge_every=300,
        judge_steps=4096,
    ),
)
_BEST = replace(
    _BALANCED,
    preset="best",
    automaton=_DRAFT.automaton,
    training=replace(
        _BALANCED.training,
        iterations=5000,
        width=128,
        height=128,
        batch_size=4,
        pool_size=256,
        reseed_every=32,
        damage_every=16,
    ),
)

# Published. The notebooks add up what ours average over a batch: hence the batch in the weights.
_ANY_DEPARTURE = (
    "which cells fire comes from an integer hash, not from the framework's random numbers",
)
_NOTEBOOK_PLAN = TrainPlan(
    iterations=5000,
    batch_size=4,
    pool_size=256,
    width=128,
    height=128,
    steps=(32, 95),
    reseed_every=8,
    learning_rate=1e-3,
    schedule="steps",
    milestones=(1000, 2000),
    decay=0.3,
    judge_every=0,
)
_DISTILL = Recipe(
    preset="distill-2021",
    losses=(
        _loss("sliced", features="vgg16", projections=32, image=True, reduce="sum"),
        _loss("overflow", 4.0, limit=1.0, power=1, reduce="sum"),
    ),
    training=_NOTEBOOK_PLAN,
)
_DISTILL_GRAM = replace(
    _DISTILL,
    preset="distill-2021-gram",
    losses=(
        _loss("gram", features="vgg16"),
        _loss("overflow", 4.0, limit=1.0, power=1, reduce="sum"),
    ),
    training=replace(_NOTEBOOK_PLAN, milestones=(2000,)),
)
_DISTILL_INCEPTION = Recipe(
    preset="distill-2021-inception",
    automaton=AutomatonPlan(
        bank="distill-tf",
        limits=Limits(percept=2.0, hidden=2.0, update=2.0, state=2.0),
        rgb_scale=0.5,
        output_bias=True,
    ),
    losses=(
        _loss("activation", features="inception_v3", layer="Mixed_6b", channel=0, range_weight=1e4),
    ),
    training=replace(
        _NOTEBOOK_PLAN,
        iterations=2000,
        pool_size=1024,
        steps=(32, 63),
        reseed_every=2,
        learning_rate=2e-3,
        milestones=(1000,),
        decay=0.1,
    ),
)


def _munca(parameters: int, channels: int) -> Recipe:
    return Recipe(
        preset=f"munca-{parameters}",
        automaton=AutomatonPlan(
            channels=channels,
            hidden=1,
            rule="abs",
            bank=f"munca-{parameters}",
            fire_rate=1.0,
            seed_kind="noise",
            seed_amount=1.0,
            init="small",
        ),
        losses=(
            _loss(
                "patch",
                4.0,
                method="sinkhorn",
                size=5,
                levels=5,
                samples=1024,
                exemplar_samples=2048,
                unsharp=2.0,
            ),
            _loss("overflow", 4.0, limit=1.0, power=2, reduce="sum"),
        ),
        training=TrainPlan(
            iterations=10000,
            batch_size=4,
            pool_size=256,
            width=128,
            height=128,
            steps=(32, 127),
            reseed_every=8,
            learning_rate=1e-3,
            schedule="steps",
            milestones=(1000, 4000),
            decay=0.3,
            unit_state_gradients=True,
            judge_every=1000,
            judge_steps=3000,
        ),
    )


_NOISE = Recipe(
    preset="noise-nca",
    automaton=AutomatonPlan(fire_rate=1.0, seed_kind="noise", seed_amount=0.1, init="xavier"),
    losses=(
        _loss("emd", features="vgg16", samples=1024),
        _loss("overflow", 40.0, limit=1.0, power=1, reduce="sum"),
    ),
    training=replace(
        _NOTEBOOK_PLAN, iterations=4000, steps=(32, 127), milestones=(1000, 2000), decay=0.5
    ),
)

_MUNCA_DEPARTURES = (
    *_ANY_DEPARTURE,
    "Sinkhorn transport is this project's own with its plan held fixed, not geomloss",
    "weights are kept by the worst loss of a 3000-step roll-out from its 1016th step on, where "
    "those of the first half of a training end",
)

PRESETS: dict[str, Preset] = {
    "draft": Preset(_DRAFT, "three minutes on two CPU cores, nothing to download"),
    "balanced": Preset(
        _BALANCED,
        "truer in colour and detail than draft, and learns to heal; four minutes on two recent CPU "
        "cores with AVX-512, ten to thirteen on two older ones without",
    ),
    "best": Preset(
        _BEST,
        "balanced on larger grids, with more hidden units and for longer; meant for a GPU or a "
        "night, and not measured yet",
    ),
    "grow": Preset(
        replace(EXPERIMENTS["regenerating-2020"].small, preset="grow"),
        "a picture with transparency that grows and heals, on two CPU cores",
    ),
    "distill-2021": Preset(
        _DISTILL,
        "Self-Organising Textures, PyTorch notebook of 2022: sliced transport on VGG16",
        _ANY_DEPARTURE,
        published=True,
    ),
    "distill-2021-gram": Preset(
        _DISTILL_GRAM,
        "Self-Organising Textures, PyTorch notebook of 2021-10: Gram matrices of VGG16",
        _ANY_DEPARTURE,
        published=True,
    ),
    "distill-2021-inception": Preset(
        _DISTILL_INCEPTION,
        "Self-Organising Textures, TensorFlow package: drive one channel of Inception",
        (
            *_ANY_DEPARTURE,
            "the network is torchvision's Inception v3 at Mixed_6b, not InceptionV1 at mixed4a",
            "weights are not quantised while training; the limits of the quantised model hold",
            "the first layer starts as torch's convolution does, not Glorot normal with zero bias",
        ),
        published=True,
    ),
    **{
        f"munca-{count}": Preset(
            _munca(count, channels),
            f"muNCA, {count} parameters: transport between patches, nothing to download",
            _MUNCA_DEPARTURES,
            published=True,
        )
        for count, channels in ((68, 4), (150, 6), (264, 8), (588, 12))
    },
    "noise-nca": Preset(
        _NOISE,
        "NoiseNCA: every cell fires, noise in the seed; scale and speed are free afterwards",
        (
            *_ANY_DEPARTURE,
            "seed noise is 0.1 for every texture; the source sets it for each texture",
        ),
        published=True,
    ),
    **{
        name: Preset(
            each.recipe,
            each.summary,
            _ANY_DEPARTURE if name in ("growing-2020", "regenerating-2020") else (),
            published=name in ("growing-2020", "regenerating-2020"),
            look_for=each.look_for,
        )
        for name, each in EXPERIMENTS.items()
    },
    **{
        f"{name}-small": Preset(each.small, f"{name} for two CPU cores", look_for=each.look_for)
        for name, each in EXPERIMENTS.items()
    },
}
