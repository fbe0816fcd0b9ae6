"""Files of still pictures: another program reads from them what was written, and what it means."""

import io
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms, features

from nca_texture import stills
from nca_texture.errors import InputError
from nca_texture.images import half_rolled as rolled
from nca_texture.images import proof, read_png_metadata
from nca_texture.stills import base, dds, tiff
from nca_texture.stills.icc import profile

WORDS = {
    "Software": "nca-texture",
    "nca-texture": "tile --size 53x37 --seed 1",
    "Source": "zebra ü",
}
SIZE = (37, 53)


def image(channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Make a picture with all kinds of values, smooth in part."""
    found = np.random.default_rng(0).random((*size, channels), np.float32)
    found[::2] = np.linspace(0, 1, size[1], dtype=np.float32)[:, None]
    found[0, :3] = [[0], [1], [0.5]]
    return found


def picture(depth: Any = "8", channels: int = 3, space: Any = "srgb", **more: Any) -> base.Picture:
    given = base.convert(image(channels, **more), depth, space)
    return base.picture_of(given, space=space, metadata=WORDS)


def written(path: Path, given: base.Picture) -> Path:
    stills.write(path, given)
    with pytest.raises(InputError, match="exists; pass --force"):
        stills.write(path, given)
    stills.write(path, given, force=True)
    assert {found.name for found in path.parent.iterdir()} <= {path.name, f"{path.name}.json"}
    return path


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_png_is_read_by_libpng(depth: str, channels: int, tmp_path: Path) -> None:
    from torchvision.io import ImageReadMode, decode_image

    given = picture(depth, channels)
    path = written(tmp_path / "a.png", given)
    found = decode_image(str(path), ImageReadMode.UNCHANGED)
    assert found.dtype == (torch.uint8 if depth == "8" else torch.uint16)
    assert_array_equal(found.permute(1, 2, 0).numpy(), given.whole())
    assert read_png_metadata(path) == WORDS
    assert b"sRGB" in path.read_bytes()


def test_linear_png_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", picture("16", space="linear"))
    assert Image.open(path).info["gamma"] == 1
    assert b"sRGB" not in path.read_bytes()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("depth", ["8", "16", "half", "float"])
def test_tiff_is_read_by_tifffile(depth: str, channels: int, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    given = picture(depth, channels)
    with tifffile.TiffFile(written(tmp_path / "a.tif", given)) as file:
        page = file.pages[0]
        assert_array_equal(page.asarray(), given.whole())
        assert json.loads(page.description) == WORDS
        assert page.tags["InterColorProfile"].value == profile("srgb")
        assert page.photometric == 2
        assert page.extrasamples == ((2,) if channels == 4 else ())


def image_magick() -> list[str]:
    """Name ImageMagick's program; empty when it is not here."""
    for name in ("magick", "convert"):
        path = shutil.which(name)
        if (
            path
            and b"ImageMagick" in subprocess.run([path, "-version"], capture_output=True).stdout
        ):
            return [path]
    return []


@pytest.mark.parametrize("space", ["srgb", "linear"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_read_by_image_magick(
    suffix: str, channels: int, space: str, tmp_path: Path
) -> None:
    program = image_magick()
    if not program:
        pytest.skip("ImageMagick is not installed here")
    given = picture("16", channels, space)
    path = written(tmp_path / f"a{suffix}", given)
    raw = {1: "gray:-", 3: "rgb:-", 4: "rgba:-"}[channels]
    # Without its colour space nothing is converted.
    call = [
        *program,
        str(path),
        "-set",
        "colorspace",
        "sRGB",
        "-depth",
        "16",
        "-endian",
        "MSB",
        raw,
    ]
    done = subprocess.run(call, capture_output=True, check=True)
    assert_array_equal(
        np.frombuffer(done.stdout, ">u2").reshape(given.whole().shape), given.whole()
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_png_is_read_by_netpbm(depth: str, channels: int, tmp_path: Path) -> None:
    program = shutil.which("pngtopam")
    if program is None:
        pytest.skip("netpbm, which reads PNG with libpng, is not installed here")
    given = picture(depth, channels)
    path = written(tmp_path / "a.png", given)
    alpha = ["-alphapam"] if channels == 4 else []
    done = subprocess.run([program, *alpha, str(path)], capture_output=True, check=True)
    kind = ">u2" if depth == "16" else "u1"
    numbers = np.frombuffer(done.stdout, np.uint8)[-given.whole().nbytes :].view(kind)
    assert_array_equal(numbers.reshape(given.whole().shape), given.whole())


def test_tiff_is_read_by_libtiff(tmp_path: Path) -> None:
    given = picture("8", 3)
    assert_array_equal(np.asarray(Image.open(written(tmp_path / "a.tiff", given))), given.whole())


@pytest.mark.parametrize("depth", ["8", "16", "float"])
@pytest.mark.parametrize("size", [(300, 517), (64, 2100)])
def test_a_large_tiff_is_a_tiled_pyramid(
    size: Any, depth: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(tiff, "PYRAMID_FROM", 128)
    monkeypatch.setattr(tiff, "_BIG", 1)
    monkeypatch.setattr(base, "_BAND_BYTES", 50_000)
    given = picture(depth, 3, size=size)
    whole = given.whole()
    with tifffile.TiffFile(written(tmp_path / "a.tif", given)) as file:
        assert file.is_bigtiff
        levels = file.series[0].levels
        assert len(levels) >= 3
        for number, level in enumerate(levels):
            side = 1 << number
            height, width = size[0] >> number, size[1] >> number
            assert level.shape == (height, width, 3)
            assert level.keyframe.tile == (256, 256)
            squares = whole[: height * side, : width * side].reshape(height, side, width, side, 3)
            mean = squares.mean((1, 3), dtype=np.float64)
            assert_allclose(level.asarray(), mean, atol=0.51 if depth != "float" else 1e-6)
        assert_array_equal(levels[0].asarray(), whole)
    if depth == "8":
        assert_array_equal(np.asarray(Image.open(tmp_path / "a.tif")), whole)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("space", ["linear", "srgb"])
@pytest.mark.parametrize("depth", ["half", "float"])
def test_exr_is_read_by_openexr(depth: str, space: str, channels: int, tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed here")
    given = picture(depth, channels, space)
    path = written(tmp_path / "a.exr", given)
    with exr.File(str(path), separate_channels=True) as file:
        channel = file.channels()
        expected = given.whole().astype(np.float32)
        if channels == 4:  # OpenEXR has colours multiplied by alpha
            expected[..., :3] *= expected[..., 3:]
        for index, name in enumerate("RGBA"[:channels]):
            values = channel[name].pixels
            assert values.dtype == base.DTYPES[depth]
            assert_array_equal(values, expected[..., index].astype(values.dtype))
        header = file.header()
        assert header["nca-texture"] == WORDS["nca-texture"]
        assert header["chromaticities"][0] == pytest.approx(0.64)
        wanted = "lin_rec709_scene" if space == "linear" else "srgb_rec709_scene"
        assert header["colorInteropID"] == wanted


def test_exr_is_written_in_any_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path / "a.exr", picture("half", space="linear")).read_bytes()
    (tmp_path / "a.exr").unlink()
    monkeypatch.setattr(base, "_BAND_BYTES", 1)
    assert written(tmp_path / "a.exr", picture("half", space="linear")).read_bytes() == whole


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".webp", ".avif", ".jpg", ".dds"])
def test_other_formats_are_read_by_pillow(suffix: str, channels: int, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if suffix == ".jpg" and channels == 4:
        pytest.skip("JPEG has no transparency")
    smooth = np.indices((*SIZE, channels)).sum(0).astype(np.float32) / sum((*SIZE, channels))
    given = base.picture_of(base.convert(smooth, "8", "srgb"), metadata=WORDS)
    with Image.open(written(tmp_path / f"a{suffix}", given)) as found:
        values = np.asarray(found).astype(int)
        loss = {".webp": 0, ".dds": 0, ".jpg": 3, ".avif": 6}[suffix]
        assert abs(values - given.whole()).max() <= loss
        if suffix == ".dds":
            return
        assert found.info["icc_profile"] == profile("srgb")
        exif = found.getexif()
        assert json.loads(exif[0x010E]) == WORDS


def dds_levels(data: bytes, bytes_of: Callable[[int, int], int]) -> list[np.ndarray]:
    """Take a DDS file apart into files of one level each, and let Pillow read these."""
    height, width = struct.unpack("<2I", data[12:20])
    found, at = [], 128
    for level in range(struct.unpack("<I", data[28:32])[0]):
        size = tuple(max(1, side >> level) for side in (height, width))
        count = bytes_of(*size)
        header = data[:12] + struct.pack("<2I", *size) + data[20:128]
        with Image.open(io.BytesIO(header + data[at : at + count])) as image:
            found.append(np.asarray(image))
        at += count
    assert at == len(data)
    return found


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [SIZE, (64, 32), (1, 7), (5, 4)])
def test_dds_holds_the_pixels_and_all_smaller_copies(
    size: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    given = picture("8", channels, size=size)
    data = written(tmp_path / "a.dds", given).read_bytes()
    deep = 1 if channels == 1 else 4
    found = dds_levels(data, lambda height, width: height * width * deep)
    assert len(found) == max(size).bit_length()
    for level, expected in zip(found, dds.levels(given.whole(), True), strict=True):
        assert_array_equal(level.reshape(expected.shape), expected)
    assert_array_equal(found[0].reshape(given.whole().shape), given.whole())


@pytest.mark.parametrize("suffix", [".bc1.dds", ".bc3.dds"])
def test_blocks_of_a_dds_are_decoded(suffix: str, tmp_path: Path) -> None:
    channels = 3 if suffix == ".bc1.dds" else 4
    smooth = np.indices((64, 32, channels)).sum(0).astype(np.float32) / 98
    given = base.picture_of(base.convert(smooth, "8", "srgb"))
    path = written(tmp_path / f"a{suffix}", given)
    size = 8 if channels == 3 else 16
    found = dds_levels(path.read_bytes(), lambda h, w: -(-h // 4) * -(-w // 4) * size)
    assert len(found) == 7
    for level, expected in zip(found, dds.levels(given.whole(), True), strict=True):
        # Four colours on a line stand for the sixteen of a block.
        steepness = int(np.ptp(expected[:4, :4].astype(int), axis=(0, 1)).max())
        assert abs(level[..., :channels].astype(int) - expected).max() <= 8 + steepness / 4


def test_smaller_copies_are_means_of_light() -> None:
    black_and_white = np.indices((8, 8)).sum(0)[..., None] % 2 * np.full(3, 255)
    for level in list(dds.levels(black_and_white.astype(np.uint8), True))[1:]:
        assert (level == 188).all()  # half of the light, not half of the number
    for level in list(dds.levels(black_and_white.astype(np.uint8), False))[1:]:
        assert (level == 128).all()
    # What is clear has no colour, however red its pixels are.
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0] = [255, 0, 0, 0]
    clear[1] = [0, 255, 0, 255]
    assert_array_equal(list(dds.levels(clear, True))[1][0, 0], [0, 255, 0, 128])


@pytest.mark.parametrize("size", [(8, 16), (9, 15), (27, 12)])
def test_smaller_copies_of_a_torus_have_no_seam(size: tuple[int, int]) -> None:
    # Copies of a picture twice as large, which repeats it, repeat the copies of the picture.
    given = picture("8", 3, size=size).whole()
    twice = list(dds.levels(np.tile(given, (2, 2, 1)), True))
    for level, double in zip(dds.levels(given, True), twice, strict=False):
        if 2 * level.shape[0] != double.shape[0] or 2 * level.shape[1] != double.shape[1]:
            break  # 2 * 9 // 2 is 9, and 2 * (9 // 2) is 8
        assert abs(double.astype(int) - np.tile(level, (2, 2, 1))).max() <= 1
    moved = dds.levels(np.roll(given, (2 * size[0] // 3, size[1]), (0, 1)), True)
    assert_array_equal(list(moved)[-1], list(dds.levels(given, True))[-1])
    # A mean is a mean: nothing is left out, also where sides are odd.
    for level in dds.levels(given, False):
        assert_allclose(level.mean((0, 1)), given.mean((0, 1)), atol=1)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_pattern_of_gimp(channels: int, tmp_path: Path) -> None:
    given = picture("8", channels)
    data = written(tmp_path / "zebra ü.pat", given).read_bytes()
    size, version, width, height, deep, magic = struct.unpack(">5I4s", data[:24])
    assert (version, height, width, deep, magic) == (1, *SIZE, channels, b"GPAT")
    assert data[24:size] == "zebra ü".encode() + b"\0"
    assert_array_equal(np.frombuffer(data[size:], np.uint8).reshape(*SIZE, deep), given.whole())


@pytest.mark.parametrize("depth", ["8", "16", "half", "float"])
def test_numpy_reads_it_without_loading_it(depth: str, tmp_path: Path) -> None:
    given = picture(depth, space="linear" if depth != "8" else "srgb")
    path = written(tmp_path / "a.npy", given)
    assert_array_equal(np.load(path, mmap_mode="r"), given.whole())
    said = json.loads((tmp_path / "a.npy.json").read_text())
    assert said == {"space": given.space, "metadata": WORDS}


# Colours


def test_linear_light_is_that_of_the_standard() -> None:
    # IEC 61966-2-1: middle grey 0.5 is 0.21404 of the light
    values = np.array([[[0, 0.02, 0.5], [0.04045, 0.0404, 1]]], np.float32)
    found = base.to_linear(values)
    assert_allclose(found[0, 0], [0, 0.02 / 12.92, 0.2140411], rtol=1e-5)
    assert_allclose(base.to_srgb(found), values, atol=1e-6)


def test_alpha_is_light_already() -> None:
    given = image(4)
    assert_array_equal(base.convert(given, "float", "linear")[..., 3], given[..., 3])


@pytest.mark.parametrize("space", ["srgb", "linear"])
def test_a_colour_engine_understands_the_profiles(space: str) -> None:
    made = ImageCms.ImageCmsProfile(io.BytesIO(profile(space)))
    assert ImageCms.getProfileDescription(made).strip() in ("sRGB", "Linear sRGB")
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = ImageCms.profileToProfile(
        Image.fromarray(grey), made, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    values = grey / np.float32(255)
    expected = values if space == "srgb" else base.to_srgb(values)
    assert shown is not None
    assert abs(np.asarray(shown) - expected * 255).max() <= 1.01


# Views


def test_proofs_of_what_is_read_in_rows_are_those_of_the_whole() -> None:
    given = picture("16", size=(7, 5))
    for number in (1, 4, 100):
        for found, expected in (
            (base.repeated(given, (3, 2)), proof(given.whole(), (3, 2))),
            (base.half_rolled(given), rolled(given.whole())),
        ):
            assert found.size == expected.shape[:2]
            assert_array_equal(np.concatenate(list(found.bands(number))), expected)


def test_what_has_more_than_8_bits_is_shown_in_8() -> None:
    given = picture("half", space="linear")
    shown = base.as_shown(given)
    assert shown.depth == "8"
    error = abs(shown.whole().astype(int) - np.rint(image() * 255)).max()
    assert error <= 1


# Mistakes


@pytest.mark.parametrize(
    ("name", "channels", "depth", "space", "words"),
    [
        ("a.tga", 3, None, None, "ends in .png"),
        ("a", 3, None, None, "ends in .png"),
        ("a.png", 3, "float", None, "PNG files hold 8 or 16 bits"),
        ("a.exr", 3, "8", None, "OpenEXR files hold half or float bits"),
        ("a.webp", 3, None, "linear", "WebP files hold srgb colours"),
        ("a.png", 3, "8", "linear", "give --depth 16"),
        ("a.jpg", 4, None, None, "no transparency"),
        ("a.bc1.dds", 3, None, None, "blocks of 4x4 pixels, not of 53x37"),
        (".bc1.dds", 3, None, None, "ends in .png"),
    ],
)
def test_what_a_format_cannot_hold_is_said(
    name: str, channels: int, depth: Any, space: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        stills.choose(Path(name), SIZE, channels, depth, space)


@pytest.mark.parametrize("suffix", stills.FORMATS)
def test_every_format_has_a_default(suffix: str) -> None:
    found, depth, space = stills.choose(Path(f"a.b{suffix.upper()}"), (36, 52), 3)
    assert stills.split(f"a.b{suffix.upper()}") == ("a.b", suffix.upper())
    assert found is stills.FORMATS[suffix]
    assert (depth, space) == (found.depths[0], found.spaces[0])
