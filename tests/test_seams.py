import json
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from nca_texture import seams
from nca_texture.seams import SeamReport, check_rows, check_seams

Image = NDArray[np.floating]


def noise(size: tuple[int, int], slope: float, seed: int = 0, channels: int = 3) -> Image:
    """Periodic noise [H, W, C] of amplitude spectrum 1 / frequency ** slope."""
    height, width = size
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.normal(size=(channels, height, width)))
    field = np.fft.irfft2(white / frequency**slope, s=(height, width))
    field /= field.std(axis=(1, 2), keepdims=True)
    return (0.5 + 0.15 * field).clip(0, 1).transpose(1, 2, 0).astype(np.float32)


def bricks(size: tuple[int, int], brick: tuple[int, int], mortar: int = 2, seed: int = 0) -> Image:
    """Rows of bricks of many colours, every other row half a brick further; they tile."""
    height, width = size
    tall, wide = brick
    y, x = np.mgrid[:height, :width]
    x = x + (y // tall % 2) * (wide // 2)
    tint = np.random.default_rng(seed).normal(0, 0.1, (height // tall + 1, width // wide + 1, 1))
    image = np.array([0.6, 0.3, 0.25]) + tint[y // tall, x % width // wide]
    joint = (x % wide < mortar) | (y % tall < mortar)
    grain = 0.2 * (noise(size, 0.7, seed) - 0.5)
    return (np.where(joint[..., None], 0.75, image) + grain).clip(0, 1).astype(np.float32)


def stripes(size: tuple[int, int], period: int) -> Image:
    height, width = size
    return np.tile((np.arange(width) // (period // 2) % 2)[None, :, None], (height, 1, 3)) * 0.7


def dots(size: tuple[int, int], period: int) -> Image:
    y, x = np.mgrid[: size[0], : size[1]] % period + 0.5 - period / 2
    return np.tile((0.3 * period - np.hypot(y, x) + 0.5).clip(0, 1)[..., None], 3)


def weave(size: tuple[int, int], period: int) -> Image:
    y, x = np.mgrid[: size[0], : size[1]]
    over = (x // period + y // period) % 2 == 0
    shade = np.sin(np.pi * (np.where(over, x, y) % period + 0.5) / period)
    return (shade * np.where(over, 0.8, 0.5))[..., None]


def mosaic(size: tuple[int, int], pieces: int, seed: int = 0) -> Image:
    """Flat pieces around random points of a torus."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    points = rng.uniform(size=(pieces, 2)) * size
    dy = abs(y[..., None] - points[:, 0])
    dx = abs(x[..., None] - points[:, 1])
    apart = np.minimum(dy, size[0] - dy) ** 2 + np.minimum(dx, size[1] - dx) ** 2
    return rng.uniform(size=(pieces, 3))[apart.argmin(axis=-1)]


def photograph(name: str, size: int = 256) -> Image:
    return (getattr(data, name)()[:size, :size, None] / 255).astype(np.float32)


def mirrored(image: Image) -> Image:
    image = np.concatenate([image, image[:, ::-1]], axis=1)
    return np.concatenate([image, image[::-1]], axis=0)


def pixel_art(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(4, 3))[rng.integers(0, 4, (16, 16))]


def verdict(report: SeamReport) -> tuple[bool, ...]:
    return tuple(axis.tiles for axis in report.axes)


TILES = {
    "white noise": noise((128, 128), 0.0),
    "fine noise": noise((256, 200), 0.5),
    "cloudy noise": noise((128, 256), 1.0),
    "smooth noise": noise((200, 200), 1.5, channels=1),
    "very smooth noise": noise((256, 256), 2.0),
    "small noise": noise((32, 32), 1.0),
    "bricks": bricks((256, 256), (32, 64)),
    "small bricks": bricks((128, 128), (16, 32), mortar=1),
    "large bricks": bricks((512, 512), (64, 128), mortar=4),
    "stripes": stripes((64, 256), 8),
    "one wave": np.tile(0.5 + 0.5 * np.sin(np.arange(64) * np.pi / 32), (64, 1))[..., None],
    "dots": dots((128, 192), 16),
    "weave": weave((128, 128), 8),
    "mosaic": mosaic((128, 160), 40),
    "checker of two": np.kron([[0.1, 0.9], [0.9, 0.1]], np.ones((32, 32)))[..., None],
    "flat": np.full((64, 64, 3), 0.3),
    "flat but for rounding": np.random.default_rng(0).integers(100, 102, (64, 64, 3)) / 255,
    "a dot": np.pad(np.ones((4, 4, 1)), ((20, 40), (30, 30), (0, 0))),
    "pixel art": pixel_art(1),
    "mirrored brick": mirrored(photograph("brick", 128)),
    "mirrored grass": mirrored(photograph("grass", 128)),
    "mirrored gravel": mirrored(photograph("gravel", 200)),
    "mirrored dots": mirrored(dots((110, 110), 20) + 0.1 * noise((110, 110), 1.0)),
}


@pytest.mark.parametrize("name", TILES)
def test_what_tiles_passes_wherever_its_edge_is(name: str) -> None:
    image = TILES[name]
    height, width = image.shape[:2]
    for shift in ((0, 0), (height // 3, width // 5), (height // 2 + 1, width - 7)):
        report = check_seams(np.roll(image, shift, axis=(0, 1)))
        assert report.passed, [axis.reason for axis in report.axes]


@pytest.mark.parametrize("slope", [1.0, 1.5, 2.0])
def test_a_crop_of_noise_does_not_tile(slope: float) -> None:
    crop = noise((512, 512), slope)[100:356, 60:316]
    assert verdict(check_seams(crop)) == (False, False)


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_a_photograph_does_not_tile(name: str) -> None:
    whole = photograph(name, 512)
    assert not check_seams(whole).passed
    for y, x in np.random.default_rng(0).integers(0, 312, (10, 2)):
        assert not check_seams(whole[y : y + 200, x : x + 200]).passed


@pytest.mark.parametrize(
    "image",
    [
        stripes((64, 252), 8),  # no step at the edge is wrong, only one stripe is twice as wide
        stripes((64, 100), 16),
        dots((128, 136), 16),
        dots((128, 140), 16),
        weave((128, 136), 8),
        bricks((256, 320), (32, 64))[:, :275],
        bricks((256, 320), (32, 64), mortar=4)[:, :300],
    ],
)
def test_a_pattern_cut_out_of_phase_does_not_tile(image: Image) -> None:
    assert verdict(check_seams(image)) == (False, True)


@pytest.mark.parametrize("slope", [1.0, 1.5, 2.0])
def test_a_faint_line_at_the_edge_is_found(slope: float) -> None:
    image = noise((256, 256), slope, channels=1)
    image[:, -1] += 0.05
    assert verdict(check_seams(image)) == (False, True)


def lines(size: tuple[int, int], seed: int) -> Image:
    """Draw a net of dark lines, few of them, on a flat ground; it tiles."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    points = rng.uniform(size=(12, 2)) * size
    dy, dx = abs(y[..., None] - points[:, 0]), abs(x[..., None] - points[:, 1])
    apart = np.hypot(np.minimum(dy, height - dy), np.minimum(dx, width - dx))
    first, second = np.partition(apart, 1, axis=-1)[..., :2].transpose(2, 0, 1)
    return ((second - first) / 3).clip(0, 1)[..., None].astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_outlines_that_end_at_the_edge_are_found(seed: int) -> None:
    # Most of the edge is flat on both sides, and steps inside are as large: only what the sides
    # show does not go together.
    net = lines((160, 160), seed)
    assert check_seams(net).passed
    cut = check_seams(net[:110, :110])
    assert not cut.passed
    fits = [m for axis in cut.axes for m in axis.measures if m.kind == "fits"]
    assert any(not measure.passed for measure in fits)


def test_a_large_picture_is_judged_like_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds = noise((200, 300), 1.5)
    monkeypatch.setattr(seams, "WHOLE", 1)
    for image, tiles in ((clouds, (True, True)), (clouds[:, :200], (False, True))):
        read = []

        def rows(first: int, last: int, image: Image = image, read: list[int] = read) -> Image:
            read.append(last - first)
            return image[first:last]

        report = check_rows(image.shape[:2], rows)
        assert verdict(report) == tiles
        assert max(read) <= seams.LINES
        assert report.size == image.shape[:2]


def test_a_faint_drift_is_found() -> None:
    image = noise((256, 256), 0.5) + np.linspace(0, 0.1, 256)[:, None, None]
    assert verdict(check_seams(image)) == (True, False)


def test_the_axes_are_independent() -> None:
    image = noise((128, 256), 1.0)[:, :128]
    assert verdict(check_seams(image)) == (False, True)
    assert verdict(check_seams(image.swapaxes(0, 1))) == (True, False)
    assert check_seams(image, axes="y").passed
    assert not check_seams(image, axes="x").passed
    assert [axis.axis for axis in check_seams(image, axes="x").axes] == ["x"]


def test_the_verdict_says_why() -> None:
    report = check_seams(noise((512, 512), 1.5)[:128, :128])
    seam = report.axis("x")
    step = next(measure for measure in seam.measures if measure.name == "step")
    assert not step.passed
    assert step.rank == 1
    assert step.ratio is not None
    assert step.ratio > 2
    assert step.edge > step.limit > step.largest > step.median
    worst = max(seam.measures, key=lambda measure: measure.excess)
    assert seam.reason.startswith("x: the ")
    assert "times the median inside (limit" in seam.reason
    assert worst.excess > 1


def test_alpha_is_looked_at_and_hidden_colours_are_not() -> None:
    colours = noise((128, 128), 1.0)
    alpha = noise((256, 256), 1.0, seed=1, channels=1)[:128, :128]
    assert check_seams(colours).passed
    assert not check_seams(np.concatenate([colours, alpha], axis=2)).passed
    hidden = noise((256, 256), 1.0)[:128, :128]
    clear = np.zeros((128, 128, 1), np.float32)
    assert not check_seams(hidden).passed
    assert check_seams(np.concatenate([hidden, clear], axis=2)).passed


def test_a_report_is_repeatable_and_becomes_json() -> None:
    for image in (TILES["bricks"], TILES["flat"], photograph("grass")):
        report = check_seams(image)
        assert report == check_seams(image.copy())
        told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert told["passed"] == report.passed
        assert told["width"] == image.shape[1]
        assert told["axes"]["x"]["tiles"] == report.axis("x").tiles


def test_precision_does_not_change_the_verdict() -> None:
    for image in (TILES["cloudy noise"], photograph("gravel")):
        coarse = np.rint(image * 255) / 255
        fine = np.rint(image.astype(np.float64) * 65535) / 65535
        assert verdict(check_seams(coarse)) == verdict(check_seams(fine))


@pytest.mark.parametrize("short", [1, 2, 7])
def test_too_few_pixels_cannot_be_judged(short: int) -> None:
    image = noise((64, 64), 1.0)[:, :short]
    report = check_seams(image)
    assert not report.axis("x").judged
    assert not report.passed
    assert report.axis("x").reason == f"x: {short} pixels are too few to judge; 8 are needed"
    assert report.axis("y").judged
    assert check_seams(image, axes="y").passed


@pytest.mark.parametrize("size", [(8, 8), (8, 9), (1, 24), (21, 20), (13, 300), (37, 41)])
def test_every_size_that_can_be_judged_is(size: tuple[int, int]) -> None:
    for image in (noise(size, 1.0), np.zeros((*size, 3))):
        for axis in check_seams(image).axes:
            assert axis.judged == (size["yx".index(axis.axis)] >= 8)


def test_what_is_no_picture_is_refused() -> None:
    good = np.zeros((16, 16, 3))
    cases: list[tuple[Any, str, str]] = [
        (np.zeros((16, 16)), "xy", r"expected a picture .* got \[16, 16\]"),
        (np.zeros((16, 16, 5)), "xy", "expected a picture"),
        (np.zeros((0, 16, 3)), "xy", "expected a picture"),
        (np.zeros((16, 16, 3), np.uint8), "xy", "got uint8"),
        (np.full((16, 16, 3), np.nan), "xy", "NaN"),
        (good, "xz", "axes are 'xz'"),
        (good, "", "axes are ''"),
        (good, "xx", "axes are 'xx'"),
    ]
    for image, axes, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            check_seams(image, axes=axes)


def test_a_large_picture_is_judged_in_time() -> None:
    image = np.tile(noise((1024, 1024), 1.0, channels=1), (2, 2, 1))
    began = time.perf_counter()
    assert check_seams(image).passed
    assert time.perf_counter() - began < 10
    wide = np.tile(noise((64, 1024), 1.0), (1, 5, 1))
    assert check_seams(wide).passed
    assert verdict(check_seams(wide[:, :5000])) == (False, True)
