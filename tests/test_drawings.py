"""What the project draws itself: samples, figures, and emoji by a font that is installed."""

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch

from nca_texture.errors import MissingError
from nca_texture.losses.pixel import premultiply
from nca_texture.surgery import resampled
from nca_texture.targets import (
    FIGURES,
    SAMPLES,
    describe_figures,
    describe_samples,
    draw_sample,
    read_target,
)
from nca_texture.targets.emoji import find_font
from nca_texture.targets.figures import SHELL_GROWTH, SHELL_MIDDLE, nautilus_at, shown


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_is_seamless_in_colour_and_always_the_same(name: str) -> None:
    drawn = draw_sample(name)
    assert drawn.shape == (256, 256, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std() > 0.1
    assert np.ptp(drawn, axis=2).mean() > 0.02
    for axis in (0, 1):
        steps = np.abs(drawn - np.roll(drawn, 1, axis)).mean(axis=(1 - axis, 2))
        # the wrap step is one of the steps, not one that stands out
        assert steps[0] <= 1.05 * steps[1:].max()
        assert steps[0] <= steps.mean() + 4 * steps.std()
    small = draw_sample(name, 64)
    np.testing.assert_array_equal(small, draw_sample(name, 64))
    # another size shows the same picture, coarser
    averaged = drawn.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), averaged.ravel())[0, 1] > 0.8


def test_samples_are_described_and_sizes_checked() -> None:
    lines = describe_samples()
    assert list(lines) == sorted(SAMPLES)
    assert len(lines) >= 10
    assert all(10 < len(line) < 70 and line.endswith(".") for line in lines.values())
    for size in (0, 10**9):
        with pytest.raises(ValueError, match="8 to"):
            draw_sample("zebra", size)


def test_a_sample_target_hashes_the_bytes_that_it_shows() -> None:
    exemplar = read_target("sample:zebra", exemplar_size=256)
    shown_bytes = (exemplar.image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert exemplar.sha256 == hashlib.sha256(shown_bytes.tobytes()).hexdigest()
    assert exemplar.image.shape == (1, 3, 256, 256)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_whole_and_have_room(name: str) -> None:
    exemplar = read_target(f"figure:{name}", exemplar_size=32)
    assert exemplar.image.shape == (1, 4, 32, 32)
    alpha = exemplar.image[0, 3]
    assert 0.08 < (alpha > 0.5).float().mean() < 0.7
    colours = exemplar.image[0, :3][:, alpha > 0.5]
    assert colours.std(1).max() > 0.04
    assert describe_figures()[name].endswith(".")


def test_a_shell_of_half_its_age_is_half_as_large() -> None:
    whole, young = (shown(lambda n, age=age: nautilus_at(n, age), 64)[..., 3] for age in (1.0, 0.5))
    assert young.sum() == pytest.approx(whole.sum() / 4, rel=0.15)


def test_a_shell_is_itself_turned_and_scaled_by_a_quarter() -> None:
    ages = (1.0, SHELL_GROWTH, SHELL_GROWTH**2)
    shells = [shown(lambda n, age=age: nautilus_at(n, age), 96) for age in ages]
    pictures = [premultiply(torch.from_numpy(each).permute(2, 0, 1)[None]) for each in shells]
    middle = [(1 + at) / 2 for at in SHELL_MIDDLE]
    for younger, older in itertools.pairwise(pictures):
        larger = resampled(younger, math.pi / 2, SHELL_GROWTH, middle)
        known = resampled(torch.ones_like(younger), math.pi / 2, SHELL_GROWTH, middle) > 0.99
        same = ((larger - older).square() * known).sum() / known.sum()
        other = ((younger - older).square() * known).sum() / known.sum()
        assert same < 0.003 < 0.03 < other


def test_emoji_without_a_font_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nca_texture.targets.emoji._PLACES", ())
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingError, match="fonts-noto-color-emoji"):
        read_target("emoji:\N{LIZARD}")
    with pytest.raises(ValueError, match="the character itself"):
        read_target("emoji:lizard")


def test_emoji_are_drawn_by_an_installed_font() -> None:
    try:
        find_font()
    except MissingError:
        pytest.skip("no colour font is installed")
    exemplar = read_target("emoji:\N{LIZARD}", exemplar_size=40)
    assert exemplar.image.shape == (1, 4, 40, 40)
    assert exemplar.image[0, :3].std() > 0.05
