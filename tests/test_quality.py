"""Measures order pictures as an eye does, and each fault is found where it is and nowhere else."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.kernels.smooth import blur
from nca_texture.quality import variety
from nca_texture.quality.diagnosis import FAULTS, Case, Plan, diagnose
from nca_texture.quality.measures import Yardstick, seam
from nca_texture.quality.rollout import Mark, cost, recovery, roll_out
from nca_texture.quality.scorecard import (
    own_distances,
    score_picture,
    score_texture,
    scorer_of,
    trained_measures,
)
from nca_texture.recipe import LossPlan, Recipe, with_settings
from nca_texture.targets import read_target

STYLE = "style compact"


@cache
def sample(name: str, side: int = 96) -> Tensor:
    """Return a drawn sample [1, 3, side, side]."""
    return read_target(f"sample:{name}", exemplar_size=side).image


@cache
def yardstick(name: str) -> Yardstick:
    return Yardstick(sample(name), ["compact"])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def scrambled(picture: Tensor) -> Tensor:
    """Keep the spectrum of ``picture`` and draw its phases at random."""
    mean = picture.mean((2, 3), keepdim=True)
    phases = torch.fft.fft2(noise(*picture.shape[-2:])).angle()
    turned = torch.fft.fft2(picture - mean) * torch.exp(1j * phases)
    return (torch.fft.ifft2(turned).real + mean).clamp(0, 1)


@pytest.mark.parametrize("name", ["bricks", "zebra"])
def test_measures_order_pictures_as_an_eye_does(name: str) -> None:
    measure, target = yardstick(name), sample(name)
    own = own_distances(measure)
    worse = {
        "blurred": measure(blur(blur(target, wrap=True), wrap=True)).distances,
        "of the same spectrum": measure(scrambled(target)).distances,
        "another texture": measure(sample("leaves")).distances,
        "noise": measure(noise(1, 3, 96, 96)).distances,
    }
    for what, found in worse.items():
        assert 2 * own[STYLE] < found[STYLE], what
    for what in ("another texture", "noise"):
        assert 2 * own["patches"] < worse[what]["patches"], what
        assert worse["of the same spectrum"][STYLE] < worse[what][STYLE], what
    assert own["patches"] < worse["blurred"]["patches"]
    assert own["colour"] < 8 < worse["another texture"]["colour"]
    assert worse["of the same spectrum"]["spectrum"] < worse["blurred"]["spectrum"]


def test_a_picture_is_at_zero_from_itself() -> None:
    found = yardstick("zebra")(sample("zebra")).distances
    assert max(found.values()) < 1e-3


def test_distances_do_not_depend_on_the_size_of_a_picture() -> None:
    measure, torus = yardstick("zebra"), sample("bricks")
    once = measure(torus, "xy").distances
    assert measure(torus.repeat(1, 1, 2, 2), "xy").distances == pytest.approx(once, rel=0.02)


def test_distances_are_blind_to_where_things_are_on_a_torus() -> None:
    measure, torus = yardstick("zebra"), sample("bricks")
    first = measure(torus, "xy").distances
    second = measure(torus.roll((16, 40), (2, 3)), "xy").distances
    assert second == pytest.approx(first, rel=0.03)


def test_a_shift_of_colours_is_told_in_units_of_cielab() -> None:
    from kornia.color import lab_to_rgb, rgb_to_lab

    lab = rgb_to_lab(sample("marble") * 0.5 + 0.25)
    target = lab_to_rgb(lab)
    moved = lab_to_rgb(lab + torch.tensor([3.0, 4.0, 0.0])[:, None, None])
    assert Yardstick(target, [])(moved).distances["colour"] == pytest.approx(5, rel=0.1)


def test_several_pictures_of_a_texture_are_one_target() -> None:
    pictures = torch.cat([sample("zebra"), sample("zebra").roll((30, 50), (2, 3))])
    found = Yardstick(pictures, ["compact"])(sample("zebra"), "xy").distances
    assert found[STYLE] < 0.1
    assert found["patches"] < 0.1


def test_a_cut_picture_has_a_seam_and_a_torus_has_none() -> None:
    torus = sample("bubbles")
    tiles, cut = seam(torus, "xy"), seam(torus[..., :70, :61], "xy")
    assert tiles is not None
    assert cut is not None
    assert tiles <= 1 < cut


def test_a_quilt_of_crops_is_a_copy_and_noise_is_none() -> None:
    target, source = sample("leaves", 128)[0], torch.Generator().manual_seed(0)
    quilt = torch.zeros(3, 120, 120)
    for top in range(0, 120, 40):
        for left in range(0, 120, 40):
            y, x = torch.randint(0, 88, (2,), generator=source).tolist()
            piece = target[:, y : y + 40, x : x + 40]
            quilt[:, top : top + 40, left : left + 40] = piece
    assert 40 <= variety.largest_copy(quilt, target) <= 48
    assert variety.largest_copy(noise(3, 96, 96), target) == 0
    assert variety.largest_copy(target, target) == 128


def test_a_regular_target_repeats_itself() -> None:
    tile = noise(3, 24, 24)
    assert variety.largest_repeat(tile.repeat(1, 4, 4)) >= 72
    assert variety.largest_repeat(noise(3, 96, 96)) == 0


def test_diversity_sees_through_a_shift() -> None:
    first, second = noise(3, 64, 64), noise(3, 64, 64, seed=1)
    assert variety.diversity(first, first.roll((9, 30), (1, 2)), wrap=True) < 0.01
    assert variety.diversity(first, second) > 0.8
    assert variety.own_diversity(first.repeat(1, 2, 2)) < 0.01
    assert variety.own_diversity(first) > 0.8


def test_recovery_is_the_share_of_the_harm_that_healed() -> None:
    assert recovery(0.1, 0.5, 0.1) == 1
    assert recovery(0.1, 0.5, 0.5) == 0
    assert recovery(0.1, 0.5, 0.3) == pytest.approx(0.5)
    assert recovery(0.5, 0.4, 0.3) is None


def still(seed_amount: float = 1.0, **settings: object) -> CellularAutomaton:
    """Make a rule that does nothing to its seed."""
    return CellularAutomaton(4, 8, seed_kind="noise", seed_amount=seed_amount, **settings)


def pushed(by: float) -> CellularAutomaton:
    """Make a rule that adds ``by`` to every cell that fires."""
    automaton = CellularAutomaton(4, 8)
    with torch.no_grad():
        automaton.weight_in.zero_()
        automaton.bias_in.fill_(1.0)
        assert automaton.weight_out is not None
        automaton.weight_out.fill_(by / 8)
    return automaton.requires_grad_(False)


def test_a_roll_out_looks_at_the_marks_and_erases_half() -> None:
    automaton = pushed(0.01)
    shares: list[float] = []
    found = roll_out(
        automaton, (4, 8, 20), size=(16, 24), samples=3, seed=5, progress=shares.append
    )
    state = automaton.grow(automaton.seed(3, (16, 24), seed=5), 8, seed=5)
    assert [mark.steps for mark in found.marks] == [4, 8, 20]
    assert torch.equal(found.marks[1].pictures, automaton.to_image(state))
    assert bool((found.erased[..., :12] == 0.5).all())
    assert torch.equal(found.erased[..., 12:], automaton.to_image(state)[..., 12:])
    assert bool((found.healed[..., :12] > 0.5).all())
    assert found.motion == pytest.approx(16 * 0.005, rel=0.2)
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_what_a_step_takes_is_measured() -> None:
    found = cost(still())
    assert found.milliseconds > 0
    assert found.memory > 2 * 4 * 4 * 1024 * 1024
    assert found.kernel in ("cpu", "reference")


def test_measures_that_were_the_loss_are_marked() -> None:
    recipe = Recipe(losses=(LossPlan(name="patch"), LossPlan(name="gram", options={})))
    names = ["style compact", "style vgg16", "patches", "spectrum"]
    assert trained_measures(recipe, names) == ["style vgg16", "patches"]


def test_only_textures_are_scored() -> None:
    assert scorer_of(Recipe()) is score_texture
    with pytest.raises(ValueError, match="cannot score; it scores texture"):
        scorer_of(Recipe(task="grow"))


# Faults: a picture or a model that shows each, and sound ones that show none.

SOUND = ("bricks", "bubbles", "coral", "knit", "marble", "zebra")


def case(name: str, picture: Tensor, **settings: object) -> Case:
    measure = yardstick(name)
    return Case(
        measure, (Mark(0, picture, 1.0),), distances=[measure(picture).distances], **settings
    )


@pytest.mark.parametrize("name", SOUND)
def test_a_part_of_the_target_has_no_fault(name: str) -> None:
    assert diagnose(case(name, sample(name)[..., 20:90, 10:90])) == []


def chequered(picture: Tensor) -> Tensor:
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(48, 48)
    return (picture * 0.9 + 0.05 + 0.04 * signs).clamp(0, 1)


SPOILT: dict[str, Callable[[Tensor], Tensor]] = {
    "dead": lambda picture: picture * 0 + picture.mean((2, 3), keepdim=True),
    "exploded": lambda picture: (picture > 0.5).float(),
    "chequerboard": chequered,
    "colour drift": lambda picture: picture.flip(1) * torch.tensor([1.0, 0.6, 0.8])[:, None, None],
}


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("name", ["bricks", "marble"])
def test_a_spoilt_picture_shows_its_fault(fault: str, name: str) -> None:
    found = diagnose(case(name, SPOILT[fault](sample(name))))
    assert fault in [each.name for each in found]
    assert {"exploded", "dead"} & {each.name for each in found} <= {fault}


def test_white_instead_of_nearly_white_is_no_explosion() -> None:
    target = torch.full((1, 3, 96, 96), 0.97)
    target[..., 20:40, 30:60] = 0.4
    picture = torch.where(target > 0.9, 1.0, target)
    assert FAULTS["exploded"](Case(Yardstick(target, []), (Mark(0, picture, 1.0),))) is None


def test_a_target_of_changing_colours_allows_for_them() -> None:
    # What has learned light from one side cannot be as far off as a part of it is.
    shade = torch.linspace(0, 1, 96)
    target = sample("bricks") * shade
    measure = Yardstick(target, [])
    picture = target[..., 40:]
    found, own = measure(picture).distances, own_distances(measure)
    looks = (Mark(0, picture, 1.0),)
    assert FAULTS["colour drift"](Case(measure, looks, distances=[found])) is not None
    assert FAULTS["colour drift"](Case(measure, looks, distances=[found], part=own)) is None


def slanted(side: int) -> Tensor:
    """Draw shaded stripes that fall from left to right."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    wave = ((y * 2 - x * 3) % 24) / 24
    return torch.stack([wave, wave**2, 0.3 + 0 * wave])[None]


def test_a_mirrored_picture_of_a_directed_texture_is_flipped() -> None:
    target = slanted(96)
    measure = Yardstick(target, ["compact"])
    for turned, sound in ((target.flip(3), False), (target.flip(2), False), (target, True)):
        found = FAULTS["flipped"](Case(measure, (Mark(0, turned, 1.0),)))
        assert (found is None) is sound


def grown_case(automaton: CellularAutomaton, name: str = "bricks") -> Case:
    measure = yardstick(name)
    found = roll_out(automaton, (8, 24, 80), size=(48, 48), samples=1)
    distances = [measure(mark.pictures, "xy").distances for mark in found.marks]
    plan = Plan((64, 64), (32, 64), automaton.fire_rate, 96)
    return Case(measure, found.marks, "xy", found.motion, plan, distances)


def test_a_rule_that_runs_away_has_exploded() -> None:
    (fault,) = (each for each in diagnose(grown_case(pushed(0.5))) if each.name == "exploded")
    assert "the state reaches" in fault.saw
    assert "overflow.weight" in fault.change


def test_a_rule_whose_state_is_no_number_has_exploded() -> None:
    case = grown_case(pushed(math.inf))
    assert diagnose(case)[0].name == "exploded"


def test_an_untrained_rule_is_dead() -> None:
    case = grown_case(CellularAutomaton(4, 8))
    names = [each.name for each in diagnose(case)]
    assert names[0] == "dead"
    assert "frozen" not in names  # which goes without saying


def test_a_rule_that_does_nothing_is_frozen() -> None:
    found = {each.name: each for each in diagnose(grown_case(still(0.5)))}
    assert "frozen" in found
    assert "fire_rate" in found["frozen"].change


def test_a_rule_that_leaves_its_colours_drifts() -> None:
    measure, target = yardstick("bricks"), sample("bricks")
    pictures = [target, target, target * 0.5]
    marks = tuple(
        Mark(steps, each, 1.0) for steps, each in zip((8, 24, 800), pictures, strict=True)
    )
    distances = [measure(each).distances for each in pictures]
    names = [each.name for each in diagnose(Case(measure, marks, distances=distances))]
    assert "colour drift" in names
    assert "drift" in names
    steady = Case(measure, marks[:2], distances=distances[:2])
    assert diagnose(steady) == []


@pytest.mark.parametrize(
    ("healed", "words"),
    [(0.9, None), (None, None), (0.2, "20% is healed"), (-7.2, "farther off than the wound was")],
)
def test_a_wound_that_stays_or_spreads_is_said(healed: float | None, words: str | None) -> None:
    measure, target = yardstick("bricks"), sample("bricks")
    case = Case(measure, (Mark(192, target, 1.0),), recovery={STYLE: 1.0, "patches": healed})
    faults = {each.name: each for each in diagnose(case)}
    assert ("unhealed" in faults) == (words is not None)
    if words is not None:
        assert words in faults["unhealed"].saw
        settings = [word for word in faults["unhealed"].change.split() if "=" in word]
        assert with_settings(Recipe(), settings).training.damages(16)


@pytest.mark.parametrize(
    ("every", "settings"),
    [
        (24, ["training.damage_every=12"]),
        (1, ['training.damage_shapes=["circle","half","rectangle"]']),
    ],
)
def test_who_trained_with_wounds_is_told_more_than_to_do_so(
    every: int, settings: list[str]
) -> None:
    measure, target = yardstick("bricks"), sample("bricks")
    plan = Plan((64, 64), (32, 64), 0.5, 128, wounds_every=every)
    healed = {STYLE: 0.2}
    case = Case(measure, (Mark(192, target, 1.0),), plan=plan, recovery=healed)
    change = {each.name: each.change for each in diagnose(case)}["unhealed"]
    assert [word for word in change.split() if "=" in word] == settings


def test_a_grid_smaller_than_the_structure_is_too_small() -> None:
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    target = (((y // 20) + (x // 20)) % 2).float().expand(1, 3, -1, -1)
    measure = Yardstick(target, [])

    def look(side: int, steps: int) -> str:
        plan = Plan((side, side), (steps // 2, steps), 0.5, 128)
        fault = FAULTS["receptive field"](Case(measure, (Mark(0, target, 1.0),), plan=plan))
        return "" if fault is None else fault.saw + fault.change

    assert "the training grid has 48" in look(48, 128)
    assert "training.width=64" in look(48, 128)
    assert "hear from others 16 cells away" in look(96, 32)
    assert look(96, 96) == ""


def test_a_grid_has_to_be_long_where_the_structure_is() -> None:
    tall = (torch.arange(128) % 60 < 30).float()[:, None]
    fine = (torch.arange(128) % 20 < 10).float()
    target = (tall + fine).remainder(2).expand(1, 3, -1, -1)
    measure = Yardstick(target, [])

    def look(height: int, width: int) -> str:
        plan = Plan((height, width), (64, 128), 0.5, 128)
        fault = FAULTS["receptive field"](Case(measure, (Mark(0, target, 1.0),), plan=plan))
        return "" if fault is None else fault.saw + fault.change

    assert look(120, 48) == ""
    assert "60 cells long, the training grid has 80" in look(80, 120)
    assert "training.width=120 training.height=96" in look(80, 120)


def test_pictures_of_any_size_are_scored() -> None:
    result = score_picture(sample("zebra")[..., :60, :90], sample("zebra"), networks=["compact"])
    plain = result.to_dict()
    assert (plain["width"], plain["height"]) == (90, 60)
    assert set(plain["looks"][0]) == {STYLE, "patches", "spectrum", "colour", "seam"}
    assert plain["cost"] is None
    assert plain["copy"] >= 48


def test_a_model_is_scored_at_multiples_of_its_steps() -> None:
    recipe = with_settings(Recipe(losses=(LossPlan(name="patch"),)), ["training.steps=[1, 2]"])
    result = score_texture(
        pushed(0.001), recipe, sample("zebra"), networks=["compact"], size=(48, 48)
    )
    assert result.steps == [2, 6, 20, 200]
    assert result.trained == ["patches"]
    assert len(result.distances) == 4
    assert set(result.drift) == set(result.recovery) == {STYLE, "patches"}
    assert result.parameters == pushed(0).num_parameters
    assert result.faults[0].name == "dead"
