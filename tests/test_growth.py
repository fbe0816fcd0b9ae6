"""Pictures that grow from a cell: the mask of life, the regimes of training, classes, gardens."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from learning import creature, growing_plan
from PIL import Image, ImageSequence
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, Plant
from nca_texture.curriculum import Curriculum
from nca_texture.grid import Grid
from nca_texture.losses.base import Grown
from nca_texture.losses.classes import ByClass
from nca_texture.losses.moving import Moving
from nca_texture.losses.pixel import PixelLoss, premultiply
from nca_texture.losses.rotation import RotationLoss
from nca_texture.presets import PRESETS
from nca_texture.recipe import fitted, goals_of, with_settings
from nca_texture.render import composited, settle
from nca_texture.store import load_checkpoint, load_model
from nca_texture.surgery import Theatre
from nca_texture.targets import read_classes, read_target, with_room
from nca_texture.training import train

TINY = tiny.without_loss(["--exemplar-size", "12", "--iterations", "6", *tiny.TINY])
BATCH = ["--set", "training.batch_size=2", "--set", "automaton.channels=8"]


def disc(colour: tuple[int, int, int], size: int = 24, radius: float = 0.4) -> Image.Image:
    """Draw a disc on nothing."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[np.hypot(y, x) < radius * size] = (*colour, 255)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with two transparent pictures and an opaque one."""
    place = tmp_path_factory.mktemp("growth")
    disc((200, 40, 30)).save(place / "red.png")
    disc((20, 60, 220), radius=0.3).save(place / "blue.png")
    Image.new("RGB", (24, 20), (90, 120, 60)).save(place / "flat.png")
    return place


@pytest.fixture(scope="module")
def run(command: Any, place: Path) -> Path:
    """Grow one picture for a moment."""
    at_once = ["--set", "training.warmup=0"]  # else it has hardly changed when it is done
    done = command(
        ["train", "red.png", "-o", "run", *BATCH, *TINY, *at_once, "--padding", "3"], place
    )
    assert done.returncode == 0, done.stderr
    assert "it grows" in done.stderr
    return place / "run"


@pytest.fixture(scope="module")
def many(command: Any, place: Path) -> Path:
    """Grow two pictures from one rule for a moment."""
    done = command(["train", "red.png", "blue.png", "-o", "many", *BATCH, *TINY], place)
    assert done.returncode == 0, done.stderr
    return place / "many"


# Targets


def test_a_picture_that_grows_has_room_around_and_an_alpha(place: Path) -> None:
    exemplar = with_room(read_target(str(place / "flat.png"), exemplar_size=12), 4)
    assert exemplar.image.shape == (1, 4, 10 + 8, 12 + 8)
    assert exemplar.image[0, 3, 4:-4, 4:-4].min() == 1
    assert exemplar.image[0, 3].sum() == 120
    assert "24x20 -> 12x10" in exemplar.describe()
    assert "4 cells of room" in exemplar.describe()


def test_classes_stand_in_the_middle_of_the_largest(tmp_path: Path) -> None:
    disc((255, 0, 0), 24).save(tmp_path / "a.png")
    disc((0, 0, 255), 16).save(tmp_path / "b.png")
    exemplar = read_classes([str(tmp_path / "a.png"), str(tmp_path / "b.png")], exemplar_size=40)
    assert exemplar.classes == ("a", "b")
    assert exemplar.image.shape == (2, 4, 24, 24)
    small = exemplar.image[1, 3]
    assert small[4:20, 4:20].sum() == small.sum() > 0
    twice = read_classes([str(tmp_path / "a.png")] * 2)
    assert twice.classes == ("a", "a-2")


def test_opaque_classes_are_cut_to_what_they_have_in_common(place: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 30), (10, 20, 30)).save(tmp_path / "tall.png")
    exemplar = read_classes([str(place / "flat.png"), str(tmp_path / "tall.png")])
    assert exemplar.image.shape == (2, 3, 20, 16)


# Training


def test_a_rule_that_let_everything_die_goes_back() -> None:
    automaton = creature()
    loss = PixelLoss(torch.ones(1, 4, 12, 14) * 0.5)
    events, poisoned = [], False
    settings = growing_plan(iterations=90, learning_rate=1e-4, steps=(24, 24), reseed="worst")
    for report in train(automaton, loss, settings):
        events += report.events
        if report.iteration == 60 and not poisoned:
            poisoned = True
            with torch.no_grad():  # alpha falls at once, everywhere
                automaton.weight_out[3] = -50.0  # pyright: ignore
                automaton.bias_in.add_(1.0)
    assert any("let everything die" in event for event in events), events


# Classes


@pytest.mark.parametrize("condition", ["one-hot", "genome", "embedding", "trainable-seed"])
def test_what_a_class_is_told_stays_as_it_is(condition: Any) -> None:
    automaton = creature(condition=condition, classes=3)
    state = automaton.seed(3, (12, 14), classes=torch.arange(3))
    grown = automaton.grow(state, 3, seed=1)
    assert not torch.equal(grown[:, : automaton.own], state[:, : automaton.own])
    assert torch.equal(grown[:, automaton.own :], state[:, automaton.own :])
    assert (
        automaton.held
        == {"one-hot": 3, "genome": 2, "embedding": 4, "trainable-seed": 0}[condition]
    )
    images = automaton.to_image(grown)
    apart = [(images[i] - images[j]).abs().max().item() for i, j in ((0, 1), (1, 2), (0, 2))]
    assert min(apart) > 0, "different classes become different"
    parameters = dict(automaton.named_parameters())
    learned = {"embedding": "codes", "trainable-seed": "seeds"}.get(condition)
    if learned is not None:
        grown.square().sum().backward()
        gradient = parameters[learned].grad
        assert gradient is not None
        assert (gradient.abs().sum(1) > 0).all()


def test_a_class_of_a_garden_is_that_of_the_nearest_plant() -> None:
    automaton = creature(condition="one-hot", classes=2)
    garden = [Plant((0.5, 0.25), (1.0, 0.0)), Plant((0.5, 0.75), (0.25, 0.75))]
    state = automaton.planted(garden).seed(1, (10, 20))
    assert state[0, 3].nonzero().tolist() == [[5, 5], [5, 15]]
    assert state[0, 8, :, 0].tolist() == [1.0] * 10
    assert state[0, 8:, 0, -1].tolist() == [0.25, 0.75]
    block = automaton.planted(garden).seed(1, (4, 6), origin=(3, 8), extent=(10, 20))
    assert torch.equal(block, state[..., 3:7, 8:14])
    with pytest.raises(ValueError, match="weights for 1"):
        automaton.planted([Plant((0.5, 0.5), (1.0,))])


def test_a_class_can_be_told_anew_without_touching_the_rest() -> None:
    automaton = creature(condition="one-hot", classes=2)
    state = automaton.grow(automaton.seed(1, (12, 14)), 6)
    other = automaton.tell(state, torch.tensor([[0.5, 0.5]]))
    assert torch.equal(other[:, :8], state[:, :8])
    assert (other[:, 8:] == 0.5).all()


def test_each_class_is_scored_by_its_own_loss() -> None:
    goals = torch.rand(3, 4, 6, 5)
    images = torch.rand(5, 4, 6, 5)
    labels = torch.tensor([2, 0, 2, 1, 0])
    loss = ByClass([PixelLoss(goal[None]) for goal in goals])
    source = torch.Generator()
    found = loss(Grown(images, images, labels), source)
    want = [PixelLoss(goals[k][None])(Grown(x[None], x[None]), source) for x, k in
            zip(images, labels.tolist(), strict=True)]  # fmt: skip
    torch.testing.assert_close(found, torch.cat(want))
    with pytest.raises(ValueError, match="no labels"):
        loss(Grown(images, images), source)


# Pictures that move


def test_a_figure_that_moves_is_at_its_goal_at_any_age() -> None:
    target = with_room(read_target("figure:worm", exemplar_size=20), 2).image
    goal, motion, source = premultiply(target), (0.5, -0.25), torch.Generator()
    moving = Moving(PixelLoss(target), motion)
    ages = torch.tensor([0, 6, 400])  # (3, -1) and (200, -100) cells, on 24 x 24
    images = torch.cat([goal.roll(shift, (2, 3)) for shift in ((0, 0), (3, -1), (200, -100))])
    grown = Grown(images, images, ages=ages)
    assert moving(grown, source).tolist() == [0.0, 0.0, 0.0]
    still = PixelLoss(target)(grown, source)
    assert still[0] == 0
    assert still[1:].min() > 0.001
    late = replace(grown, ages=ages + 4)
    assert moving(late, source).min() > 0.001
    with pytest.raises(ValueError, match="give their ages"):
        moving(replace(grown, ages=None), source)
    leaf = images.clone().requires_grad_()
    moving(Grown(leaf, leaf, ages=ages + 2), source).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad.abs().amax((1, 2, 3)) > 0).all()


def test_a_moving_picture_is_asked_for_in_the_recipe() -> None:
    recipe = PRESETS["worm-moving-small"].recipe
    exemplar = with_room(read_target("figure:worm", exemplar_size=16), 2)
    loss = next(iter(recipe.build_loss(exemplar).losses))
    assert isinstance(loss, Moving)
    assert loss.motion == (0.0, 0.25)
    still = PRESETS["worm-fixed-small"].recipe
    assert not isinstance(next(iter(still.build_loss(exemplar).losses)), Moving)
    for setting in ("automaton.edge=y", "automaton.layout=hex"):
        with pytest.raises(ValueError, match=r"target\.motion is .* set automaton\.edge"):
            with_settings(recipe, [setting]).build_loss(exemplar)


# The command


def test_a_grown_picture_is_saved_with_straight_alpha(command: Any, place: Path, run: Path) -> None:
    automaton, recipe, _ = load_model(run)
    assert recipe.task == "grow"
    assert recipe.training.size == (18, 18)
    assert automaton.living
    done = command(["tile", "run", "-o", "red-again.png", "--steps", "4", "--json"], place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["width"] == 18
    picture = np.asarray(Image.open(place / "red-again.png"))
    assert picture.shape == (18, 18, 4)
    state = automaton.grow(automaton.seed(1, (18, 18)), 4)
    image = automaton.to_image(state)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(picture[..., 3], np.rint(image[..., 3] * 255))
    seen = image[..., 3] > 0.1
    straight = (image[seen, :3] / image[seen, 3:]).clip(0, 1)
    np.testing.assert_allclose(picture[seen, :3] / 255, straight, atol=1 / 255)


def test_a_background_takes_the_place_of_transparency(command: Any, place: Path, run: Path) -> None:
    args = ["tile", "run", "-o", "on-blue.png", "--size", "20x16", "--background", "#0000ff"]
    done = command([*args, "--steps", "4"], place)
    assert done.returncode == 0, done.stderr
    picture = Image.open(place / "on-blue.png")
    assert picture.mode == "RGB"
    assert picture.size == (20, 16)
    assert picture.getpixel((0, 0)) == (0, 0, 255)


def test_a_growing_film(command: Any, place: Path, run: Path) -> None:
    args = ["animate", "run", "-o", "red.gif", "--frames", "3", "--fps", "20", "--zoom", "2"]
    done = command([*args, "--background", "white"], place)
    assert done.returncode == 0, done.stderr
    film = Image.open(place / "red.gif")
    assert film.size == (36, 36)
    # Pillow makes one frame of two that are alike, as those of so young a rule may be.
    assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(film)) == 150


def test_a_growth_goes_on_to_the_same_bits(command: Any, place: Path) -> None:
    args = ["train", "red.png", "blue.png", *BATCH, *TINY, "--condition", "embedding"]
    args += ["--set", "training.damage=1"]
    whole = command([*args, "-o", "whole", "--iterations", "8"], place)
    assert whole.returncode == 0, whole.stderr
    snapshot, recipe, exemplar = load_checkpoint(place / "whole" / "checkpoint.safetensors")
    assert exemplar.classes == ("red", "blue")
    assert recipe.target.classes == ("red", "blue")
    assert snapshot.pool_classes is not None
    automaton = recipe.build_automaton()
    loss = recipe.build_loss(exemplar)
    half_way = None
    for report in train(automaton, loss, recipe.training):
        if report.iteration == 4:
            half_way = report.snapshot()
    again = recipe.build_automaton()
    end = [each.snapshot() for each in train(again, loss, recipe.training, resume=half_way)][-1]
    for name, value in snapshot.weights.items():
        assert torch.equal(value, end.weights[name]), name
    assert torch.equal(snapshot.pool, end.pool)


def test_one_rule_of_two_pictures_makes_either_a_mixture_and_a_garden(
    command: Any, place: Path, many: Path
) -> None:
    calls = {
        "red": ["--class", "red"],
        "blue": ["--class", "blue"],
        "mixed": ["--mix", "red=0.5,blue=0.5"],
        "garden": ["--plant", "0.25,0.5,red", "--plant", "0.75,0.5,blue", "--size", "40x20"],
    }
    for name, args in calls.items():
        done = command(["tile", "many", "-o", f"{name}-of-many.png", "--steps", "3", *args], place)
        assert done.returncode == 0, done.stderr
    garden = np.asarray(Image.open(place / "garden-of-many.png"))
    assert garden.shape == (20, 40, 4)
    assert garden[10, 10, 3] > 0
    assert garden[10, 30, 3] > 0
    words = json.loads(command(["info", "garden-of-many.png", "--json"], place).stdout)
    assert "--plant 0.25,0.5,red=1 --plant 0.75,0.5,blue=1" in words["nca-texture"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--class", "rose"], "did you mean 'red'"),
        (["--class", "red", "--mix", "red=1"], "not both"),
        (["--mix", "red=much"], "no share"),
        (["--plant", "2,2"], "from 0 to 1"),
        (["--background", "colour"], "no colour"),
        (["--steps", "many"], "or auto"),
    ],
)
def test_what_a_model_of_many_cannot_do_is_one_sentence(
    command: Any, place: Path, many: Path, args: list[str], words: str
) -> None:
    done = command(["tile", "many", "-o", "no.png", "-q", *args], place)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_textures_of_one_model(command: Any, place: Path) -> None:
    args = ["train", "sample:zebra", "sample:weave", "-o", "two", "--loss", "patch", *TINY]
    settings = {"patch.levels": 1, "patch.samples": 16, "training.batch_size": 2}
    args += ["--iterations", "2", *tiny.arguments(settings)]
    done = command(args, place)
    assert done.returncode == 0, done.stderr
    automaton, recipe, _ = load_model(place / "two")
    assert recipe.task == "texture"
    assert automaton.condition == "one-hot"
    assert automaton.held == 2
    done = command(["tile", "two", "-o", "w.png", "--size", "24", "--class", "weave"], place)
    assert done.returncode == 0, done.stderr


# What is said of growth


def test_a_rule_that_does_nothing_is_still_at_once() -> None:
    automaton = creature()
    assert automaton.weight_out is not None
    with torch.no_grad():
        automaton.weight_out.zero_()
    assert settle(automaton, (16, 16)) == (0, True)


def test_a_rule_that_never_rests_is_told_from_one_that_does() -> None:
    automaton = CellularAutomaton(channels=4, hidden=8, seed_kind="noise", rgb_offset=0.0)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        assert automaton.weight_out is not None
        automaton.weight_out.copy_(torch.randn(4, 8, generator=source) * 0.5)
    assert settle(automaton, (16, 16), most=64) == (64, False)


def test_what_is_transparent_shows_the_background() -> None:
    picture = np.zeros((2, 2, 4), np.float32)
    picture[0, 0] = (1, 0, 0, 0.5)
    shown = composited(picture, (0, 1, 0))
    np.testing.assert_allclose(shown[0, 0], (0.5, 0.5, 0))
    np.testing.assert_allclose(shown[1, 1], (0, 1, 0))


EXPERIMENTAL = [
    name for name, each in PRESETS.items() if each.recipe.task == "grow" or each.look_for
]


@pytest.mark.parametrize("name", EXPERIMENTAL)
def test_every_experiment_runs_for_a_few_iterations(name: str) -> None:
    recipe = PRESETS[name].recipe
    settings = ["training.iterations=2", "training.batch_size=4", "training.pool_size=4"]
    settings += ["training.steps=[2,3]", "training.judge_every=2", "training.judge_steps=4"]
    settings += ["training.damage=1"] if recipe.training.damage else []
    settings += ["training.switch=1"] if recipe.training.switch else []
    settings += ["training.width=16", "training.height=16", "target.exemplar_size=16"]
    settings += ["target.padding=2"] if recipe.task == "grow" else ["sliced.samples=16"]
    settings += [] if recipe.task == "grow" else ["patch.levels=1", "patch.samples=16"]
    settings.sort(key=lambda each: "damage" not in each and "switch" not in each)
    recipe = with_settings(recipe, settings)
    target = recipe.target
    if target.sources:
        exemplar = read_classes(target.sources, crop=target.crop, exemplar_size=16)
    else:
        source = target.source or "figure:bone"
        exemplar = read_target(source, crop=target.crop, exemplar_size=16)
    if recipe.task == "grow":
        exemplar = with_room(exemplar, target.padding)
    recipe = fitted(recipe, exemplar)
    loss, goals = recipe.build_loss(exemplar), goals_of(recipe, exemplar)
    automaton = recipe.build_automaton()
    theatre = Theatre(automaton, recipe.event) if recipe.event else None
    reports = list(train(automaton, loss, recipe.training, goals=goals, theatre=theatre))
    assert len(reports) == 2
    assert all(np.isfinite(report.loss) for report in reports)


@pytest.mark.parametrize("bank", ["isotropic", "steerable"])
def test_what_does_not_know_where_up_is_grows_turned(bank: str) -> None:
    automaton = creature(bank=bank, fire_rate=1.0, grid=Grid("square", "torus"))
    state = torch.rand(1, 8, 9, 9, generator=torch.Generator().manual_seed(2))
    turned = state.rot90(1, (2, 3))
    if bank == "steerable":  # the direction that a cell holds turns with it
        turned = torch.cat([turned[:, :-1], turned[:, -1:] - np.pi / 2], 1)
    after, other = (automaton.perceive(each) for each in (state, turned))
    torch.testing.assert_close(other, _held_apart(after.rot90(1, (2, 3)), bank), atol=1e-5, rtol=0)


def _held_apart(percepts: Tensor, bank: str) -> Tensor:
    """Expect of a turned state what was seen, but for the direction itself, which was turned."""
    if bank == "steerable":
        percepts = percepts.clone()
        percepts[:, -4] -= np.pi / 2  # the last channel as it is; its differences stay
    return percepts


def test_a_loss_that_no_rotation_changes() -> None:
    source = torch.Generator()
    target = read_target("figure:gecko", exemplar_size=40).image
    loss = RotationLoss(target)
    right = premultiply(target)
    noise = torch.rand(right.shape, generator=source)
    states = {"itself": right, "turned": right.rot90(1, (2, 3)), "mirrored": right.flip(3)}
    values = {name: loss(Grown(x, x), source).item() for name, x in states.items()}
    other = loss(Grown(noise, noise), source).item()
    assert abs(values["itself"]) < 1e-5
    assert values["turned"] < 1e-3 < 0.05 < other
    assert values["mirrored"] < 1e-3
    both = torch.cat([right, right.rot90(-1, (2, 3))])  # clockwise by a quarter
    torch.testing.assert_close(loss.turns(both), torch.tensor([0.0, 90.0]), atol=3, rtol=0)
    strict = RotationLoss(target, mirror=False)
    assert strict(Grown(right.flip(3), right), source).item() > 0.001
    grown = noise.clone().requires_grad_()
    loss(Grown(grown, grown), source).sum().backward()
    assert grown.grad is not None
    assert grown.grad.abs().max() > 0


# Lessons


def test_lessons_become_harder_in_turn_and_easier_where_it_fails() -> None:
    lesson = Curriculum(threshold=0.1, rate=0.1, ease=2.0)
    levels: list[float] = []
    for turn in range(4):
        levels = lesson.moved(levels, 0.05, turn)
    assert levels == [0.4] * 4
    assert lesson.moved(levels, 0.15, 0) == levels, "neither passed nor failed"
    assert lesson.moved(levels, 0.3, 1) == pytest.approx([0.4, 0.3, 0.4, 0.4])
    for turn in range(400):
        levels = lesson.moved(levels, 0.0, turn)
    assert levels == [1.0] * 4


def test_a_curriculum_leads_from_the_picture_to_the_seed() -> None:
    lesson, automaton = Curriculum(threshold=0.1, bite=0.2), creature()
    goals = premultiply(with_room(read_target("figure:worm", exemplar_size=20), 2).image)
    seeds = automaton.seed(1, (24, 24))
    source = torch.Generator().manual_seed(1)
    easiest = lesson.begin(goals, seeds, (0.5, 0.5), [], source)
    hardest = lesson.begin(goals, seeds, (0.5, 0.5), [1.0] * 4, source)
    away = seeds[0].abs().amax(0) == 0
    torch.testing.assert_close(easiest[:, :4, away], goals[:, :, away])
    assert torch.equal(hardest[:, :, away], torch.zeros_like(hardest[:, :, away]))
    assert (hardest[:, 3:, ~away] == 1).all()
    assert lesson.steps_at([0.0] * 4, (48, 64)) == (12, 24)
    assert lesson.steps_at([1.0] * 4, (48, 64)) == (48, 64)
    assert lesson.bites(3, (24, 24), [0.0] * 4, source).sum() == 0
    assert lesson.bites(3, (24, 24), [1.0] * 4, source).any()


def test_a_curriculum_goes_on_where_it_was() -> None:
    goals = premultiply(with_room(read_target("figure:worm", exemplar_size=10), 1).image)
    settings = growing_plan(width=12, height=12, iterations=40)
    settings = replace(settings, curriculum=Curriculum(threshold=10.0, rate=0.05, steps=(1, 2)))
    loss, half_way, end, levels = PixelLoss(goals), None, None, []
    for report in train(creature(), loss, settings, goals=goals):
        end = report.snapshot()
        if report.iteration == 20:
            half_way = end
        levels.append(report.levels)
    assert end is not None
    assert levels[-1] == pytest.approx([0.2] * 4), "each was hardened once, at every tenth"
    again = list(train(creature(), loss, settings, goals=goals, resume=half_way))
    assert again[-1].levels == levels[-1]
    assert torch.equal(again[-1].snapshot().pool, end.pool)
    with pytest.raises(ValueError, match="curriculum starts from pictures"):
        next(iter(train(creature(), loss, settings)))
