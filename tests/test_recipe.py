"""Recipes: text in, checked values, the same text out; and the published numbers."""

import dataclasses
import math
import re
from typing import Any

import pytest
import torch

from nca_texture.grid import Grid
from nca_texture.kernels.rule import Limits
from nca_texture.loss_plans import auto_losses, loss_plan, through
from nca_texture.losses import pick_loss_class
from nca_texture.losses.base import Grown
from nca_texture.presets import PRESETS
from nca_texture.recipe import (
    AutomatonPlan,
    LossPlan,
    Recipe,
    TargetPlan,
    differences,
    from_dict,
    from_toml,
    to_dict,
    to_toml,
    with_settings,
)
from nca_texture.targets import Exemplar, draw_sample, with_room
from nca_texture.train_plan import TrainPlan

DRAFT = PRESETS["draft"].recipe
NEED_NO_NETWORK = ("patch", "overflow", "pixel")


def loss_named(recipe: Recipe, name: str) -> LossPlan:
    return next(plan for plan in recipe.losses if plan.name == name)


# Text


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_its_text(name: str) -> None:
    recipe = PRESETS[name].recipe
    assert recipe.preset == name
    text = to_toml(recipe)
    assert from_toml(text) == recipe
    assert to_toml(from_toml(text)) == text
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    # Over another recipe, too: everything that has a value is in the text.
    assert from_toml(text, replaced_limits(recipe)) == recipe


def replaced_limits(recipe: Recipe) -> Recipe:
    """Make a recipe that differs nearly everywhere but in what None stands for."""
    shape = AutomatonPlan(channels=5, rule="abs", limits=recipe.automaton.limits, edge="x")
    return Recipe(preset="other", task="grow", automaton=shape, training=TrainPlan(seed=9))


STRINGS = [
    "",
    "plain",
    'quote " and backslash \\',
    "two\nlines\r\nand\ttab",
    "null \x00 bell \x07 escape \x1b delete \x7f",
    "next line \x85 separator \u2028 mark \ufeff",
    "Köln 斑馬 🦓",
    "[table] = # no comment",
    "'''\"\"\"",
]


@pytest.mark.parametrize("text", STRINGS)
def test_odd_strings_come_back(text: str) -> None:
    recipe = Recipe(
        target=TargetPlan(source=text, crop=text),
        losses=(
            LossPlan(name=text, options={"text": text, "texts": [text, text]}),
            LossPlan(name="other", options={text or "empty": 1, "": 2, "a.b c": {"d e": text}}),
        ),
    )
    assert from_toml(to_toml(recipe)) == recipe


@pytest.mark.parametrize("number", [0.1, 1e-30, 1e22, -0.0, 5e-324, math.inf, 1 / 3])
def test_numbers_come_back_to_the_bit(number: float) -> None:
    recipe = Recipe(losses=(LossPlan(name="a", weight=number, options={"x": number}),))
    again = from_toml(to_toml(recipe))
    assert repr(again.losses[0].weight) == repr(number)
    assert again == recipe


def test_a_source_whose_bytes_are_no_text_can_still_be_written() -> None:
    text = to_toml(Recipe(target=TargetPlan(source="caf\udce9.png")))
    assert from_toml(text.encode().decode()).target.source == "caf?.png"


def test_an_option_that_is_none_is_left_out() -> None:
    recipe = Recipe(losses=(LossPlan(name="a", options={"limit": None, "size": 3}),))
    assert from_toml(to_toml(recipe)).losses[0].options == {"size": 3}


def test_text_lays_over_a_base() -> None:
    text = "[training]\nsteps = [3, 5]\n[automaton.limits]\nstate = 2\n"
    recipe = from_toml(text, PRESETS["distill-2021-inception"].recipe)
    assert recipe.training.steps == (3, 5)
    assert recipe.training.pool_size == 1024
    assert recipe.automaton.limits == Limits(2.0, 2.0, 2.0, 2.0)
    assert isinstance(recipe.automaton.limits.state, float)


# Mistakes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trianing = 3", "there is no setting 'trianing'; did you mean 'training'?"),
        ("[automaton]\nhiden = 3", "'automaton.hiden'; did you mean 'hidden'?"),
        ("[training]\nlearningrate = 1", "'training.learningrate'; did you mean 'learning_rate'?"),
        ("[automaton.limits]\nstates = 1.0", "'automaton.limits.states'; did you mean 'state'?"),
        (
            "[target]\nzzz = 1",
            "'target.zzz'; there are source, sources, classes, crop, exemplar_size",
        ),
        ("[[losses]]\nname = 'patch'\nwheight = 2", "'losses[0].wheight'; did you mean 'weight'?"),
        ("[training]\niterations = 3.5", "training.iterations is 3.5; expected a whole number"),
        ("[training]\niterations = true", "training.iterations is True; expected a whole number"),
        ("[training]\nlearning_rate = '1'", "training.learning_rate is '1'; expected a number"),
        ("[training]\nlearning_rate = true", "training.learning_rate is True; expected a number"),
        ("[automaton]\nliving = 1", "automaton.living is 1; expected true or false"),
        ("[automaton]\nbank = 3", "automaton.bank is 3; expected text"),
        ("[target]\ncrop = 3", "target.crop is 3; expected text"),
        ("[training]\nsteps = 5", "training.steps is 5; expected a list"),
        ("[training]\nsteps = [5]", "training.steps has 1 values; expected 2"),
        ("[training]\nsteps = [5, 'six']", "training.steps[1] is 'six'; expected a whole number"),
        ("[training]\nmilestones = [1, 2.5]", "training.milestones[1] is 2.5"),
        ("training = 3", "training is 3; expected a table of settings"),
        ("losses = [3]", "losses[0] is 3; expected a table of settings"),
        ("[[losses]]\nweight = 1.0", "losses[0] is not complete"),
        ("[[losses]]\nname = 'a'\noptions = 3", "losses[0].options is 3; expected a table"),
        ("[automaton]\nlayout = 'hexx'", "automaton.layout is 'hexx'; did you mean 'hex'? choose"),
        ("[automaton]\nedge = 'q'", "automaton.edge is 'q'; choose from xy, x, y, none"),
        ("[automaton]\nbeyond = 'torus'", "choose from zero, reflect, replicate"),
        ("[automaton]\nrule = ['mlp']", "automaton.rule is ['mlp']; did you mean 'mlp'? choose"),
        ("[target]\nexemplar_size = 4", "target.exemplar_size is 4; give at least 8"),
        ("[training]\nbatch_size = 9\npool_size = 3", "a batch is drawn from the pool"),
        ("training", "this is not TOML"),
    ],
)
def test_a_mistake_says_what_where_and_what_else(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        from_toml(text)
    assert "\n" not in str(error.value)


def test_a_recipe_without_losses_says_so() -> None:
    with pytest.raises(ValueError, match="no loss; add one, such as patch"):
        Recipe().build_loss(exemplar())


# Settings from the command line


def test_settings_reach_every_part() -> None:
    recipe = with_settings(
        DRAFT,
        [
            "training.iterations=7",
            " training.steps = [2, 9]",
            "automaton.limits.state=1.5",
            "automaton.layout=hex",
            "target.source=a=b.png",
            "sliced.projections=4",
            "sliced.reduce=mean",
            "overflow.weight=3",
            "preset=mine",
        ],
    )
    assert recipe.training.iterations == 7
    assert recipe.training.steps == (2, 9)
    assert recipe.automaton.limits.state == 1.5
    assert recipe.automaton.layout == "hex"
    assert recipe.target.source == "a=b.png"
    assert recipe.preset == "mine"
    changed = {"projections": 4, "reduce": "mean"}
    assert loss_named(recipe, "sliced").options == loss_named(DRAFT, "sliced").options | changed
    assert loss_named(recipe, "overflow").weight == 3.0
    assert loss_named(recipe, "overflow").options == loss_named(DRAFT, "overflow").options
    # What was not named stays.
    assert recipe.training.pool_size == DRAFT.training.pool_size
    assert recipe.automaton.hidden == DRAFT.automaton.hidden


def test_settings_of_a_loss_from_outside_are_reached_by_its_name() -> None:
    recipe = Recipe(losses=(LossPlan(name="my.parts:Mine"), LossPlan(name="patch")))
    found = with_settings(recipe, ["my.parts:Mine.goal=3", "my.parts:Mine.weight=2"])
    assert found.losses[0] == LossPlan(name="my.parts:Mine", weight=2.0, options={"goal": 3})


def test_a_setting_replaces_all_losses_or_the_fields_of_one() -> None:
    found = with_settings(DRAFT, ['losses=[{name="gram", options={features="vgg19"}}]'])
    assert found.losses == (LossPlan(name="gram", options={"features": "vgg19"}),)
    found = with_settings(DRAFT, ["sliced.options={levels = 2}", "sliced.name=my.own:Loss"])
    assert found.losses[0] == dataclasses.replace(
        DRAFT.losses[0], name="my.own:Loss", options={"levels": 2}
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.iterations", "expected section.key=value, got 'training.iterations'"),
        ("=3", "expected section.key=value, got '=3'"),
        ("training.iteration=3", "did you mean 'iterations'?"),
        ("training.iterations=many", "training.iterations is 'many'; expected a whole number"),
        ("gram.weight=3", "there is no setting 'gram'"),
        ("training=3", "training is 3; expected a table of settings"),
        ("sliced.weight=heavy", "weight is 'heavy'; expected a number"),
    ],
)
def test_a_setting_with_a_mistake_says_which(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        with_settings(DRAFT, [setting])


def test_differences_are_all_there_is_and_both_values() -> None:
    assert differences(DRAFT, DRAFT) == []
    other = with_settings(
        DRAFT, ["training.seed=4", "sliced.projections=3", "overflow.weight=2.5", "target.crop=8x8"]
    )
    assert differences(other, DRAFT) == [
        "losses.overflow.weight is 2.5, not 10.0",
        "losses.sliced.options.projections is 3, not unset",
        'target.crop is "8x8", not "square"',
        "training.seed is 4, not 0",
    ]


# The published recipes


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("distill-2021", 5856),
        ("distill-2021-gram", 5856),
        ("noise-nca", 5856),
        ("munca-68", 68),
        ("munca-150", 150),
        ("munca-264", 264),
        ("munca-588", 588),
    ],
)
def test_published_rules_have_their_published_number_of_parameters(name: str, count: int) -> None:
    assert PRESETS[name].recipe.build_automaton().num_parameters == count


COMMON = {"batch_size": 4, "width": 128, "height": 128, "gradients": "equalise"}

# Steps are inclusive here: a published U[32, 96) is (32, 95).
PUBLISHED: dict[str, dict[str, Any]] = {
    "distill-2021": {
        "iterations": 5000,
        "pool_size": 256,
        "reseed_every": 8,
        "steps": (32, 95),
        "learning_rate": 1e-3,
        "milestones": (1000, 2000),
        "decay": 0.3,
    },
    "distill-2021-gram": {
        "iterations": 5000,
        "pool_size": 256,
        "reseed_every": 8,
        "steps": (32, 95),
        "learning_rate": 1e-3,
        "milestones": (2000,),
        "decay": 0.3,
    },
    "distill-2021-inception": {
        "iterations": 2000,
        "pool_size": 1024,
        "reseed_every": 2,
        "steps": (32, 63),
        "learning_rate": 2e-3,
        "milestones": (1000,),
        "decay": 0.1,
    },
    **{
        f"munca-{count}": {
            "iterations": 10000,
            "pool_size": 256,
            "reseed_every": 8,
            "steps": (32, 127),
            "learning_rate": 1e-3,
            "milestones": (1000, 4000),
            "decay": 0.3,
            "unit_state_gradients": True,
            "judge_steps": 3000,
        }
        for count in (68, 150, 264, 588)
    },
    "noise-nca": {
        "iterations": 4000,
        "pool_size": 256,
        "reseed_every": 8,
        "steps": (32, 127),
        "learning_rate": 1e-3,
        "milestones": (1000, 2000),
        "decay": 0.5,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_plans_have_their_published_numbers(name: str) -> None:
    plan = PRESETS[name].recipe.training
    numbers = PUBLISHED[name] | COMMON | {"schedule": "steps", "warmup": 0}
    assert {key: getattr(plan, key) for key in numbers} == numbers


@pytest.mark.parametrize(("name", "damage"), [("growing-2020", 0), ("regenerating-2020", 3)])
def test_growth_has_the_numbers_of_its_notebook(name: str, damage: int) -> None:
    recipe = PRESETS[name].recipe
    numbers = {"iterations": 8000, "batch_size": 8, "pool_size": 1024, "steps": (64, 95)}
    numbers |= {"learning_rate": 2e-3, "milestones": (2000,), "decay": 0.1, "damage": damage}
    assert {key: getattr(recipe.training, key) for key in numbers} == numbers
    assert (recipe.training.reseed, recipe.training.gradients) == ("worst", "equalise")
    assert recipe.build_automaton().num_parameters == 8336
    assert (recipe.target.exemplar_size, recipe.target.padding) == (40, 16)


def test_every_published_preset_is_looked_at() -> None:
    published = {name for name, preset in PRESETS.items() if preset.published}
    assert published == {*PUBLISHED, "growing-2020", "regenerating-2020"}
    assert all(PRESETS[name].departures for name in PUBLISHED)
    assert all(preset.summary for preset in PRESETS.values())


def test_published_rules_are_those_of_the_notebooks() -> None:
    for name in ("distill-2021", "distill-2021-gram"):
        shape = PRESETS[name].recipe.automaton
        assert shape == AutomatonPlan(channels=12, hidden=96, bank="distill-2021", fire_rate=0.5)
        assert (shape.rgb_scale, shape.rgb_offset, shape.output_bias) == (1.0, 0.5, False)
    quantised = PRESETS["distill-2021-inception"].recipe.automaton
    assert (quantised.bank, quantised.rgb_scale) == ("distill-tf", 0.5)
    assert quantised.limits == Limits(2.0, 2.0, 2.0, 2.0)
    noise = PRESETS["noise-nca"].recipe.automaton
    assert (noise.fire_rate, noise.seed_kind, noise.seed_amount) == (1.0, "noise", 0.1)
    assert noise.init == "xavier"
    for count, channels in ((68, 4), (150, 6), (264, 8), (588, 12)):
        mu = PRESETS[f"munca-{count}"].recipe.automaton
        assert (mu.rule, mu.channels, mu.bank) == ("abs", channels, f"munca-{count}")
        assert (mu.fire_rate, mu.seed_kind, mu.seed_amount) == (1.0, "noise", 1.0)
    assert all(PRESETS[name].recipe.automaton.edge == "xy" for name in PUBLISHED)


def test_published_losses_are_those_of_the_notebooks() -> None:
    sliced = loss_named(PRESETS["distill-2021"].recipe, "sliced")
    assert sliced.options == {
        "features": "vgg16",
        "projections": 32,
        "image": True,
        "reduce": "sum",
    }
    assert loss_named(PRESETS["distill-2021-gram"].recipe, "gram").options["features"] == "vgg16"
    patch = loss_named(PRESETS["munca-68"].recipe, "patch")
    assert patch.options == {
        "method": "sinkhorn",
        "size": 5,
        "levels": 5,
        "samples": 1024,
        "exemplar_samples": 2048,
        "unsharp": 2.0,
    }
    assert loss_named(PRESETS["noise-nca"].recipe, "emd").options["samples"] == 1024
    for name, power in (("distill-2021", 1), ("munca-588", 2), ("noise-nca", 1)):
        options = loss_named(PRESETS[name].recipe, "overflow").options
        assert (options["limit"], options["power"], options["reduce"]) == (1.0, power, "sum")


# Building


def exemplar(size: int = 32) -> Exemplar:
    image = torch.from_numpy(draw_sample("weave", size)).permute(2, 0, 1)[None].float()
    return Exemplar(image, "weave", "sample:weave", "0" * 64, (size, size), 1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_an_automaton_that_grows(name: str) -> None:
    recipe = PRESETS[name].recipe
    automaton = recipe.build_automaton()
    state = automaton.grow(automaton.seed(1, (8, 8)), 2)
    assert state.isfinite().all()
    assert automaton.channels == recipe.automaton.channels + automaton.held
    again = recipe.build_automaton().state_dict()
    assert all(torch.equal(value, again[key]) for key, value in automaton.state_dict().items())
    other = with_settings(recipe, ["training.seed=1"]).build_automaton()
    assert not torch.equal(other.weight_in, automaton.weight_in)


@pytest.mark.parametrize("name", PRESETS)
def test_every_loss_of_a_preset_has_these_options(name: str) -> None:
    for plan in PRESETS[name].recipe.losses:
        parameters = pick_loss_class(plan.name).__init__.__annotations__
        assert set(plan.options) <= set(parameters), plan.name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, preset in PRESETS.items()
        if all(plan.name in NEED_NO_NETWORK for plan in preset.recipe.losses)
    ],
)
def test_presets_that_need_no_network_build_their_loss(name: str) -> None:
    recipe = PRESETS[name].recipe
    given = exemplar()
    loss = recipe.build_loss(with_room(given, 0) if recipe.task == "grow" else given)
    assert loss.names == tuple(plan.name for plan in recipe.losses)
    assert loss.weights == tuple(plan.weight for plan in recipe.losses)
    automaton = recipe.build_automaton()
    state = automaton.seed(2, (32, 32))
    grown = Grown(automaton.to_image(state), state, ages=torch.tensor([0, 9]))
    value = loss(grown, torch.Generator().manual_seed(0))
    assert value.shape == (2,)
    assert (value > 0).all()


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        ("xy", ("torus", "torus")),
        ("x", ("zero", "torus")),
        ("y", ("torus", "zero")),
        ("none", ("zero", "zero")),
    ],
)
def test_the_axes_that_wrap_make_the_grid(edge: Any, expected: Any) -> None:
    assert AutomatonPlan(edge=edge, beyond="zero").grid() == Grid("square", expected)
    wraps = AutomatonPlan(edge=edge).grid().wraps
    assert wraps == ("" if edge == "none" else edge)


def test_weights_go_to_the_losses_that_have_a_network_only() -> None:
    recipe = Recipe(losses=(LossPlan(name="overflow"), LossPlan(name="patch")))
    assert recipe.build_loss(exemplar(), weights="missing.safetensors").names == (
        "overflow",
        "patch",
    )


def test_the_loss_that_is_at_hand_is_chosen_and_said() -> None:
    plans, why = auto_losses()
    assert plans == DRAFT.losses[:-1]
    assert "ships with the package" in why
    plans, why = auto_losses("vgg19")
    assert [plan.name for plan in plans] == ["sliced", "patch"]
    assert plans[0].options["features"] == "vgg19"
    assert "vgg19" in why


@pytest.mark.parametrize("name", ["sliced", "gram", "emd"])
def test_style_is_seen_through_our_network_or_the_one_that_is_named(name: str) -> None:
    assert loss_plan(name).options["features"] == "compact"
    named = loss_plan(name, "vgg19")
    assert named.options == loss_plan(name).options | {"features": "vgg19"}
    assert named.weight == loss_plan(name).weight


def test_what_is_said_of_the_layers_of_one_network_is_not_said_of_another() -> None:
    ours = PRESETS["balanced"].recipe.losses[0]
    assert through(ours, "compact") == ours
    assert through(ours, "vgg19") == loss_plan("sliced", "vgg19")


def test_recipes_are_frozen() -> None:
    for value in (DRAFT, DRAFT.training, DRAFT.automaton, DRAFT.target, DRAFT.losses[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "x"  # pyright: ignore[reportAttributeAccessIssue]
