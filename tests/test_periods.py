"""After how many cells a texture repeats, and the grids that its periods fit into."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nca_texture.grid import HEX_ROW, Layout
from nca_texture.periods import periods, structure, whole_sides
from nca_texture.presets import PRESETS
from nca_texture.recipe import Recipe, Wraps, fitted
from nca_texture.targets import Exemplar
from nca_texture.train_plan import larger_size


def squares(height: float, width: float, size: tuple[int, int] = (128, 128)) -> Tensor:
    """Draw a chequerboard [1, 3, H, W] that repeats after ``height`` and ``width`` cells."""
    y = (places(size[0]) / height * 2).floor()[:, None]
    x = (places(size[1]) / width * 2).floor()
    return seen((y + x) % 2)


def places(cells: int) -> Tensor:
    """Where a cell is drawn: at eight places along each axis."""
    return (torch.arange(8 * cells) + 0.5) / 8


def seen(drawn: Tensor) -> Tensor:
    """Average what is drawn within cells, as a camera does; [1, 3, H, W]."""
    return F.avg_pool2d(drawn.expand(1, 3, -1, -1), 8)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def stretched(sides: tuple[int, int], period: tuple[float | None, float | None]) -> float:
    """By which share of itself the worse period is longer or shorter."""
    counts = [side / each for side, each in zip(sides, period, strict=True) if each]
    return max(abs(count / max(1, round(count)) - 1) for count in counts)


def test_structure_is_how_far_a_pattern_is_from_its_next() -> None:
    for period in (12, 24, 40):
        light = squares(period, 24, (96, 96)) + torch.arange(96) / 50  # which changes nothing
        assert structure(light) == pytest.approx((period, 24), abs=1)
    assert max(structure(noise(1, 3, 96, 96))) <= 4


@pytest.mark.parametrize("period", [16, 20, 24])
def test_structure_is_found_below_stripes_that_are_stronger(period: int) -> None:
    stripes = 1.5 * (torch.arange(128) % 22 < 11).float()
    fading = squares(period, 22) * torch.linspace(1, 0.4, 128)[:, None]
    rough = squares(period, 22) + 0.6 * noise(1, 3, 128, 128)
    for picture in (fading, rough):
        assert structure(picture + stripes) == pytest.approx((period, 22), abs=1)


@pytest.mark.parametrize(("height", "width"), [(21.3, 42.7), (17.4, 26.3), (60, 38), (8.5, 10.5)])
def test_a_period_is_found_along_each_axis_to_a_fraction_of_a_cell(
    height: float, width: float
) -> None:
    light = squares(height, width) + torch.arange(128)[:, None] / 50
    assert periods(light) == pytest.approx((height, width), rel=0.012)


@pytest.mark.parametrize("pitch", [8.5, 9.78, 10.5, 10.75, 14.3, 21.5])
def test_what_alternates_repeats_after_two(pitch: float) -> None:
    """As threads do, which pass over and under each other."""
    place = places(128) / pitch
    thread, over = (place % 1 < 0.3).float(), (place % 2 < 1).float() * 2 - 1
    alike = torch.maximum(thread[:, None], thread)
    woven = alike + 0.3 * thread[:, None] * thread * over[:, None] * over
    assert periods(seen(alike)) == pytest.approx((pitch, pitch), rel=0.012)
    assert periods(seen(woven)) == pytest.approx((2 * pitch, 2 * pitch), rel=0.012)


@pytest.mark.parametrize("picture", [noise(1, 3, 96, 96), torch.full((1, 3, 40, 50), 0.5)])
def test_what_does_not_repeat_has_no_period(picture: Tensor) -> None:
    assert periods(picture) == (None, None)


def test_stripes_repeat_along_one_axis_only() -> None:
    stripes = (torch.arange(96) % 16 < 8).float().expand(1, 3, 80, 96)
    y, x = periods(stripes)
    assert x == pytest.approx(16, abs=0.3)
    assert y is None


@pytest.mark.parametrize("asked", [(64, 64), (96, 96), (128, 128), (80, 160)])
@pytest.mark.parametrize("period", [(43.0, 43.0), (60.0, 38.0), (27.3, None), (16.4, 22.9)])
def test_sides_hold_whole_periods_on_about_as_many_cells(
    asked: tuple[int, int], period: tuple[float, float | None]
) -> None:
    sides = whole_sides(asked, [period])
    assert stretched(sides, period) <= min(stretched(asked, period), 0.06)
    assert sides[0] * sides[1] == pytest.approx(asked[0] * asked[1], rel=0.25)
    assert whole_sides(sides, [period]) == sides, "what fits stays"


def test_sides_stay_where_nothing_repeats_or_little_is_gained() -> None:
    assert whole_sides((96, 96), [(None, None)]) == (96, 96)
    assert whole_sides((96, 96), []) == (96, 96)
    assert whole_sides((96, 96), [(24.0, 5.0)]) == (96, 96)
    assert whole_sides((96, 96), [(23.9, 48.2)]) == (96, 96)


@pytest.mark.parametrize("period", [(20.75, 22.0), (21.75, 22.0), (21.5, 19.56), (43.0, 43.0)])
def test_larger_grids_hold_whole_periods_too(period: tuple[float, float]) -> None:
    alone = whole_sides((96, 96), [period])
    both = whole_sides((96, 96), [period], larger_size, share=0.25)
    assert stretched(both, period) < 0.03
    assert stretched(larger_size(both), period) <= min(stretched(larger_size(alone), period), 0.05)
    assert whole_sides((96, 96), [period], larger_size, share=0) == alone


def test_several_pictures_share_a_grid_that_fits_all() -> None:
    sides = whole_sides((96, 96), [(43.0, None), (28.7, None)])
    assert sides[0] % 86 < 3, "two of one, three of the other"


def repeating(layout: Layout = "square", edge: Wraps = "xy") -> Recipe:
    draft = PRESETS["draft"].recipe
    automaton = replace(draft.automaton, layout=layout, edge=edge)
    training = replace(draft.training, width=96, height=96, whole_periods=True)
    return replace(draft, automaton=automaton, training=training)


def exemplar(image: Tensor) -> Exemplar:
    return Exemplar(image, "squares", "", "", tuple(image.shape[-2:]), 1.0)


def test_a_recipe_takes_its_grid_from_what_repeats_in_its_picture() -> None:
    image = exemplar(squares(60, 38))
    assert fitted(repeating(), image).training.size == (120, 76)
    both = repeating()
    both = replace(both, training=replace(both.training, large_every=4, pool_size=16))
    bumps = exemplar(squares(20.75, 22))
    assert fitted(repeating(), bumps).training.size != fitted(both, bumps).training.size
    assert stretched(fitted(both, bumps).training.large_size, (20.75, 22)) < 0.05
    off = repeating()
    off = replace(off, training=replace(off.training, whole_periods=False))
    assert fitted(off, image).training.size == (96, 96)
    assert fitted(repeating(), exemplar(noise(1, 3, 128, 128))).training.size == (96, 96)


def test_only_axes_that_wrap_need_whole_periods() -> None:
    image = exemplar(squares(60, 38))
    assert fitted(repeating(edge="none"), image).training.size == (96, 96)
    size = fitted(repeating(edge="x"), image).training.size
    assert stretched(size, (None, 38)) < 0.02
    assert stretched(size, (60, None)) > 0.1


def test_rows_of_hexagons_are_nearer_to_each_other_than_pixels() -> None:
    image = exemplar(squares(60 * HEX_ROW, 38))
    assert fitted(repeating("hex"), image).training.size == (120, 76)
