"""What a training learns and how: a recipe from preset, file and flags, and its picture."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nca_texture.cli import common
from nca_texture.errors import InputError

if TYPE_CHECKING:
    from nca_texture.recipe import Recipe
    from nca_texture.targets import Exemplar


def resolve(
    images: list[str],
    *,
    task: str,
    preset: str | None,
    regime: str | None,
    config: Path | None,
    parent: Path | None,
    flags: dict[str, Any],
    loss: str | None,
    features: str | None,
    weights: Path | None,
    settings: list[str],
    quiet: bool,
) -> "Recipe":
    """Make the recipe: preset, then parent, file, image, flags, loss and settings over it."""
    from nca_texture.recipe import with_settings

    recipe = _layers(images, task, preset, config, parent, flags.get("target.crop"), quiet)
    recipe = _with_regime(_with_flags(recipe, flags, quiet), regime)
    recipe = _with_loss(recipe, loss, features, weights, quiet)
    recipe = _with_border(with_settings(recipe, settings))
    _tell_departures(recipe, quiet)
    return recipe


def need_image(recipe: "Recipe") -> None:
    """Raise ``ValueError`` when a loss asks for a picture and there is none."""
    needs = any(plan.name != "activation" for plan in recipe.losses[:1])
    if not recipe.target.source and not recipe.target.sources and needs:
        raise ValueError("which image? give a picture: nca-texture train zebra.jpg")


def read_exemplar(recipe: "Recipe", task: str, quiet: bool) -> "Exemplar":
    """Read the picture to learn and say what became of it."""
    from nca_texture.targets import read_classes, read_target, with_room

    target = recipe.target
    if not target.source and not target.sources:
        return _nothing(recipe)
    how: dict[str, Any] = {"crop": target.crop, "exemplar_size": target.exemplar_size}
    if target.sources:
        exemplar = read_classes(target.sources, **how)
    else:
        exemplar = read_target(target.source, **how)
    if recipe.task == "grow":
        if len(exemplar.image) > 1 and not exemplar.classes:
            raise ValueError(
                f"{exemplar.label or exemplar.source} has {len(exemplar.image)} pictures; what "
                "grows becomes one: give the pictures one by one, each is then a class"
            )
        exemplar = with_room(exemplar, target.padding)
    common.talk(exemplar.describe(), quiet)
    for note in exemplar.notes:
        common.talk(f"  {note}", quiet)
    if exemplar.image.shape[1] == 4 and recipe.task == "texture":
        if task == "auto":
            raise ValueError(
                f"{exemplar.label or exemplar.source} has transparent parts and {recipe.preset!r} "
                "learns textures; give --preset grow to grow it, or --task texture to learn it "
                "over white"
            )
        colours, alpha = exemplar.image[:, :3], exemplar.image[:, 3:]
        exemplar = replace(exemplar, image=colours * alpha + 1 - alpha)
        common.talk("  transparent parts are laid over white", quiet)
    return exemplar


def read_fitted(
    recipe: "Recipe", task: str, seed_at: tuple[float, float] | None, quiet: bool
) -> "tuple[Recipe, Exemplar]":
    """Read the picture, and give the recipe what it decides.

    ``seed_at`` (x, y) are fractions of the picture without the room around it.
    """
    from nca_texture.recipe import fitted

    exemplar = read_exemplar(recipe, task, quiet)
    asked, recipe = recipe.training.size, fitted(recipe, exemplar)
    if recipe.task == "texture" and recipe.training.size != asked:
        height, width = recipe.training.size
        common.talk(
            f"  what repeats comes out even on {width}x{height} cells, and not on "
            f"{asked[1]}x{asked[0]}",
            quiet,
        )
    if seed_at is not None:
        if recipe.task != "grow":
            raise ValueError("a texture grows everywhere at once; --seed-at is for --task grow")
        x, y = (
            (exemplar.padding + at * (count - 2 * exemplar.padding)) / count
            for at, count in zip(seed_at, reversed(exemplar.image.shape[-2:]), strict=True)
        )
        recipe = replace(recipe, automaton=replace(recipe.automaton, seed_place=(y, x)))
    return recipe, exemplar


def _nothing(recipe: "Recipe") -> "Exemplar":
    """Stand in for a picture where the loss needs none."""
    import torch

    from nca_texture.targets import Exemplar

    height, width = recipe.training.size
    grey = torch.full((1, 3, height, width), 0.5)
    channel = recipe.losses[0].options.get("channel", 0)
    return Exemplar(grey, f"channel-{channel}", "", "", (height, width), 1.0, label="no picture")


def check_pool(recipe: "Recipe", models: int = 1) -> None:
    """Raise ``InputError`` when the states of a training are more than the memory can hold."""
    plan = recipe.training
    height, width = plan.sizes[0]
    cells = plan.pool_size * height * width
    if plan.window_every:
        cells += math.prod(plan.large_size)
    kept = 3  # times: as they are, as they were when last all was well, and in a file
    states = kept * cells * recipe.automaton.channels
    each = "" if models == 1 else f" for each of {models} models"
    common.check_memory(
        4 * states * models,
        f"a pool of {plan.pool_size} states of {width}x{height} cells{each}",
        "a smaller training.width, training.height or training.pool_size",
    )


def keep_within(recipe: "Recipe", budget: int, models: int = 1) -> "Recipe":
    """Keep only as many states for the gradient as fit into ``budget`` bytes.

    Those of every so many steps are kept, and on the way back those of one stretch between two of
    them as well. Raises ``InputError`` when not even the fewest fit.
    """
    plan = recipe.training
    lanes = -(-recipe.automaton.channels // 16) * 16  # as the kernels lay them out
    height, width = plan.sizes[0]
    state = 4 * lanes * width * height * plan.batch_size * models
    steps = plan.steps[1]
    needed = {every: state * (-(-steps // every) + every + 1) for every in range(1, steps + 1)}
    needed[1] = state * (steps + 1)
    fitting = [every for every, size in needed.items() if size <= budget]
    if not fitting:
        raise InputError(
            f"the states of {steps} steps need {min(needed.values()) / 2**20:.0f} MB at least; "
            "raise --memory, or use a smaller training.width, training.height, "
            "training.batch_size or training.steps"
        )
    return replace(recipe, training=replace(plan, keep_every=fitting[0]))


def rescaled(recipe: "Recipe", iterations: int) -> "Recipe":
    """Give the recipe another number of iterations; its schedule keeps its proportions."""
    plan = recipe.training
    milestones = tuple(at * iterations // plan.iterations for at in plan.milestones)
    return replace(recipe, training=replace(plan, iterations=iterations, milestones=milestones))


def _layers(
    images: list[str],
    task: str,
    preset: str | None,
    config: Path | None,
    parent: Path | None,
    crop: str | None,
    quiet: bool,
) -> "Recipe":
    """Lay preset, parent, file and images over each other."""
    from nca_texture.names import check_name
    from nca_texture.presets import PRESETS
    from nca_texture.recipe import from_toml
    from nca_texture.store import load_model

    text = ""
    if config is not None:
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as reason:
            why = getattr(reason, "strerror", None) or "it is not UTF-8 text"
            raise InputError(f"cannot read {config}: {why}") from reason
    if task not in ("auto", "texture", "grow"):
        raise ValueError(f"task is {task!r}; choose from auto, texture, grow")
    elder = None if parent is None else load_model(parent)[1]
    if preset is None:
        preset = _preset_of(text) or _usual_preset(images, task, elder, crop, quiet)
    check_name(preset, PRESETS, "preset")
    recipe = PRESETS[preset].recipe
    if elder is not None:
        recipe = replace(recipe, automaton=elder.automaton)
    if text:
        try:
            recipe = from_toml(text, recipe)
        except ValueError as reason:
            raise ValueError(f"{config}: {reason}") from reason
    if task not in ("auto", recipe.task):
        raise ValueError(
            f"the preset {recipe.preset!r} is for --task {recipe.task}, not {task}; "
            f"choose another with --preset, such as {'grow' if task == 'grow' else 'draft'}"
        )
    if len(images) == 1:
        recipe = replace(recipe, target=replace(recipe.target, source=images[0], sources=()))
    elif images:
        recipe = replace(recipe, target=replace(recipe.target, source="", sources=tuple(images)))
    return recipe


def _usual_preset(
    images: list[str], task: str, elder: "Recipe | None", crop: str | None, quiet: bool
) -> str:
    """Choose the preset when none was asked for: transparency means growth."""
    from nca_texture.targets import read_target

    usual = {"texture": "draft", "grow": "grow"}
    if task in usual:
        return usual[task]
    if elder is not None:
        return usual[elder.task]
    for image in images:
        if image.startswith(("sample:", "skimage:")):
            continue  # all of these are opaque
        try:
            exemplar = read_target(image, crop=crop)
        except (InputError, ValueError):
            continue  # what is wrong with it is said when it is read
        if exemplar.image.shape[1] == 4:
            name = exemplar.label or exemplar.source
            common.talk(
                f"{name} has transparent parts, so it grows; --task texture learns it over white",
                quiet,
            )
            return "grow"
    return "draft"


def _preset_of(text: str) -> str | None:
    """Find the preset that a configuration file builds on."""
    import tomllib

    try:
        found = tomllib.loads(text).get("preset")
    except tomllib.TOMLDecodeError:
        return None
    return found if isinstance(found, str) else None


def _with_flags(recipe: "Recipe", flags: dict[str, Any], quiet: bool) -> "Recipe":
    from nca_texture.recipe import Recipe
    from nca_texture.trees import from_dict

    for key, value in flags.items():
        if value is not None:
            section, name = key.split(".")
            recipe = from_dict(Recipe, {section: {name: value}}, recipe)
    if recipe.training.window_every and flags.get("automaton.edge") not in (None, "xy"):
        common.talk("windows of a larger grid need one that tiles; it learns without", quiet)
        recipe = replace(recipe, training=replace(recipe.training, window_every=0))
    return recipe


def _with_regime(recipe: "Recipe", regime: str | None) -> "Recipe":
    """Set what a regime of Growing NCA is: growing, persistent or regenerating."""
    if regime is None:
        return recipe
    plan = recipe.training
    damaged = plan.damage or max(1, round(plan.batch_size * 3 / 8))
    regimes = {
        "growing": {"persistent": False, "damage": 0, "judge_steps": 0},
        "persistent": {"persistent": True, "damage": 0},
        "regenerating": {"persistent": True, "damage": damaged},
    }
    if regime not in regimes:
        raise ValueError(f"no regime is called {regime!r}; choose from {', '.join(regimes)}")
    if recipe.task != "grow":
        raise ValueError("a texture has no regime of growth; leave out --regime, or --task grow")
    return replace(recipe, training=replace(plan, **regimes[regime]))


def _with_loss(
    recipe: "Recipe",
    loss: str | None,
    features: str | None,
    weights: Path | None,
    quiet: bool,
) -> "Recipe":
    """Replace the losses, but for overflow, by the one asked for or by what ``auto`` finds."""
    from nca_texture.loss_plans import OVERFLOW, auto_losses, loss_plan, through
    from nca_texture.losses import pick_loss_class

    if not recipe.losses:
        return recipe
    first, *others = recipe.losses
    bounds = [plan for plan in others if plan.name == OVERFLOW.name]
    if loss == "auto":
        (first, *found), why = auto_losses(None if weights is None else features)
        others = [*found, *bounds]
        common.talk(f"loss: {why}", quiet)
    elif loss is not None:
        others = bounds
        if loss != first.name:
            pick_loss_class(loss)
            first = loss_plan(loss)
    if features is not None:
        if "features" not in first.options and loss is None:
            first = loss_plan("sliced")
        own = first.options
        first = through(first, features)
        if left := sorted(own.keys() - first.options.keys()):
            common.talk(
                f"{features}: left out {' and '.join(left)} of {first.name}, which are those of "
                f"{own['features']}",
                quiet,
            )
    return replace(recipe, losses=(first, *others))


def _with_border(recipe: "Recipe") -> "Recipe":
    """Let losses that take what was grown for a torus see its border where the grid has one."""
    if recipe.automaton.grid().wraps == "xy":
        return recipe
    borders = {"patch": "inside", "sliced": "zeros"}
    usual = {"patch": "wrap"}
    return replace(
        recipe,
        losses=tuple(
            replace(plan, options=plan.options | {"border": borders[plan.name]})
            if plan.options.get("border", usual.get(plan.name)) == "wrap" and plan.name in borders
            else plan
            for plan in recipe.losses
        ),
    )


def _tell_departures(recipe: "Recipe", quiet: bool) -> None:
    """Print where a published recipe is not followed."""
    from nca_texture.presets import PRESETS
    from nca_texture.recipe import differences

    source = PRESETS.get(recipe.preset)
    if source is not None and source.look_for:
        common.talk(f"{recipe.preset}: look whether {source.look_for}", quiet)
    if source is None or not source.published:
        return
    plain = replace(source.recipe, target=recipe.target)
    plain = replace(plain, training=replace(plain.training, seed=recipe.training.seed))
    for departure in (*source.departures, *differences(recipe, plain)):
        common.talk(f"{recipe.preset} departs from its source: {departure}", quiet)
