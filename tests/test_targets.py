"""Targets: every picture is read as what it shows, every problem is one sentence."""

import contextlib
import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from nca_texture.errors import InputError
from nca_texture.targets import (
    TARGETS,
    find_target,
    read_target,
)
from nca_texture.targets.decode import UPRIGHT

RED = (200, 40, 20)


@pytest.fixture(autouse=True)
def no_warning_escapes() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def picture(height: int = 24, width: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Draw smooth colours with some noise, [H, W, channels] uint8."""
    y, x = np.mgrid[:height, :width]
    generator = np.random.default_rng(seed)
    planes = [128 + 90 * np.sin(x / (3 + i) + y / (4 - i % 3) + i) for i in range(channels)]
    noise = generator.integers(-20, 20, (height, width, channels))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)


def save(path: Path, values: np.ndarray, **options: object) -> str:
    Image.fromarray(values).save(path, **options)
    return str(path)


def png(
    values: np.ndarray, *extra: tuple[bytes, bytes], size: tuple[int, int] | None = None
) -> bytes:
    """Write a PNG [H, W, C] by hand, in 8 or 16 bits; ``size`` (height, width) may lie."""
    height, width = size or values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, kind, 0, 0, 0)
    big = values.astype(values.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def shown(spec: str | Path, **options: object) -> np.ndarray:
    """Read a target as [H, W, C] float."""
    return read_target(str(spec), **options).image[0].permute(1, 2, 0).numpy()  # type: ignore[arg-type]


def complaint(spec: str | Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_target(str(spec), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    for word in ("Traceback", "Error", "PIL", "\n", str(Path(spec).parent) + os.sep):
        assert word not in message
    return message


def close(left: np.ndarray, right: np.ndarray, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)


# sizes and crops


def test_a_small_picture_is_used_pixel_by_pixel(tmp_path: Path) -> None:
    values = picture()
    exemplar = read_target(save(tmp_path / "small one.png", values))
    close(exemplar.image[0].permute(1, 2, 0).numpy(), values / np.float32(255))
    assert exemplar.image.dtype == torch.float32
    assert exemplar.pixels_per_cell == 1.0
    assert exemplar.source_size == (24, 32)
    assert exemplar.name == "small_one"
    assert exemplar.notes == ()
    assert exemplar.sha256 == hashlib.sha256((tmp_path / "small one.png").read_bytes()).hexdigest()
    assert exemplar.describe() == "small one.png 32x24: every pixel becomes one cell"


def test_the_longer_side_is_reduced_and_the_proportion_kept(tmp_path: Path) -> None:
    exemplar = read_target(save(tmp_path / "zebra.jpg", picture(96, 128)), exemplar_size=16)
    assert exemplar.image.shape == (1, 3, 12, 16)
    assert exemplar.pixels_per_cell == 8.0
    assert exemplar.describe() == "zebra.jpg 128x96 -> 16x12: 8.0 source pixels become one cell"


def test_reducing_keeps_a_plain_colour_and_the_mean(tmp_path: Path) -> None:
    plain = np.full((64, 64, 3), RED, np.uint8)
    close(shown(save(tmp_path / "plain.png", plain), exemplar_size=16) * 255, plain[:16, :16], 1e-3)
    values = picture(64, 64)
    small = shown(save(tmp_path / "any.png", values), exemplar_size=16)
    close(small.mean((0, 1)), values.mean((0, 1)) / 255, 5e-3)


def test_reducing_a_hard_edge_stays_within_bounds(tmp_path: Path) -> None:
    edge = np.zeros((90, 90, 3), np.uint8)
    edge[:, 40:] = 255
    small = shown(save(tmp_path / "edge.png", edge), exemplar_size=20)
    assert small.min() == 0
    assert small.max() == 1


def test_a_crop_is_cut_before_reducing(tmp_path: Path) -> None:
    values = picture(40, 60)
    path = save(tmp_path / "a.png", values)
    close(shown(path, crop="20x10+30+5") * 255, values[5:15, 30:50], 1e-4)
    close(shown(path, crop="20x10") * 255, values[15:25, 20:40], 1e-4)
    assert read_target(path, crop="40x20+0+0", exemplar_size=20).source_size == (20, 40)


def test_the_middle_square_can_be_asked_for_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.png", picture(24, 40))
    square = read_target(path, crop="square")
    assert torch.equal(square.image, read_target(path, crop="24x24+8+0").image)
    assert torch.equal(read_target(path, crop="all").image, read_target(path).image)


@pytest.mark.parametrize("crop", ["61x10", "20x10+41+0", "20x10+0+31", "0x10", "99999999x99999999"])
def test_a_crop_outside_the_picture_names_its_size(tmp_path: Path, crop: str) -> None:
    with pytest.raises(ValueError, match="60x40") as caught:
        read_target(save(tmp_path / "a.png", picture(40, 60)), crop=crop)
    assert crop in str(caught.value)


@pytest.mark.parametrize(
    "crop", ["", "20", "20x", "20x10+1", "-20x10", "20x10-1+2", "axb", "1e3x9"]
)
def test_a_crop_that_cannot_be_read_shows_how_to_write_one(tmp_path: Path, crop: str) -> None:
    with pytest.raises(ValueError, match=r"WIDTHxHEIGHT\+X\+Y"):
        read_target(save(tmp_path / "a.png", picture()), crop=crop)


def test_too_few_cells_says_what_is_needed(tmp_path: Path) -> None:
    assert "at least 8" in complaint(save(tmp_path / "tiny.png", picture(7, 30)))
    strip = save(tmp_path / "strip.png", picture(20, 640))
    assert "from 128 to 256" in complaint(strip)
    assert read_target(strip, exemplar_size=256).image.shape[2] == 8
    with pytest.raises(ValueError, match="at least 8"):
        read_target(strip, exemplar_size=0)
    assert shown(strip, exemplar_size=10**9).shape == (20, 640, 3)


# modes


def test_grey_and_one_bit_become_three_equal_channels(tmp_path: Path) -> None:
    grey = picture(channels=1)[..., 0]
    close(shown(save(tmp_path / "grey.png", grey)) * 255, grey[..., None].repeat(3, -1), 1e-4)
    bits = grey > 128
    Image.fromarray(bits).save(tmp_path / "bits.png")
    with Image.open(tmp_path / "bits.png") as stored:
        assert stored.mode == "1"
    close(shown(tmp_path / "bits.png"), bits[..., None].repeat(3, -1).astype(float))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(picture()).quantize(16)
    image.save(tmp_path / "p.png")
    close(shown(tmp_path / "p.png") * 255, np.asarray(image.convert("RGB")), 1e-4)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_entry_is_transparent(tmp_path: Path, suffix: str) -> None:
    image = Image.new("P", (16, 12), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (0, 0, 4, 12))
    image.save(tmp_path / f"p.{suffix}", transparency=0)
    seen = shown(tmp_path / f"p.{suffix}")
    assert seen.shape == (12, 16, 4)
    assert (seen[:, :4, 3] == 0).all()
    close(seen[:, 4:] * 255, np.broadcast_to((*RED, 255), (12, 12, 4)), 1e-4)


def test_grey_with_alpha_keeps_both(tmp_path: Path) -> None:
    values = picture(channels=2)
    image = Image.merge(
        "LA", [Image.fromarray(np.ascontiguousarray(values[..., i])) for i in (0, 1)]
    )
    image.save(tmp_path / "la.png")
    seen = shown(tmp_path / "la.png") * 255
    close(seen[..., 3], values[..., 1], 1e-4)
    visible = values[..., 1] > 0
    close(seen[visible][:, 2], values[visible][:, 0], 1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_is_read_in_full(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng(1).integers(4096, 65536, (12, 16, channels)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(png(values))
    exemplar = read_target(str(tmp_path / "deep.png"))
    assert any("16 bits" in note for note in exemplar.notes)
    seen = exemplar.image[0].permute(1, 2, 0).numpy() * 65535
    close(seen[..., :3], values[..., : 1 if channels < 3 else 3] * np.ones(3), 0.02)
    if channels in (2, 4):
        close(seen[..., 3], values[..., -1], 0.02)


def test_reducing_keeps_more_than_eight_bits(tmp_path: Path) -> None:
    ramp = np.linspace(30000, 30256, 64).astype(np.uint16)[None].repeat(64, 0)[..., None]
    (tmp_path / "ramp.png").write_bytes(png(ramp))
    assert len(np.unique(shown(tmp_path / "ramp.png", exemplar_size=32)[0, :, 0])) == 32


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_is_transparent(tmp_path: Path, channels: int) -> None:
    values = np.full((10, 12, channels), 515, np.uint16)
    values[:, 6:] = 40000
    key = (b"tRNS", struct.pack(">H", 515) * channels)
    (tmp_path / "key.png").write_bytes(png(values, key))
    seen = shown(tmp_path / "key.png")
    assert (seen[:, :6, 3] == 0).all()
    assert (seen[:, 6:, 3] == 1).all()


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_sixteen_bit_colour_tiff_is_read_in_full(tmp_path: Path, options: dict) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(2).integers(0, 65536, (12, 16, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb", **options)
    close(shown(tmp_path / "deep.tif") * 65535, values, 0.02)


def test_float_tiff_is_read_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(3).random((12, 16), np.float32)
    close(shown(save(tmp_path / "f.tif", values))[..., 1], values, 0)


def test_float_colour_tiff_is_read_as_it_is(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(3).random((12, 16, 3), np.float32)
    tifffile.imwrite(tmp_path / "f.tif", values, photometric="rgb")
    close(shown(tmp_path / "f.tif"), values, 0)
    assert "more than the limit" in complaint(tmp_path / "f.tif", max_pixels=100)


def test_float_values_beyond_one_are_cut_when_few_and_scaled_when_many(tmp_path: Path) -> None:
    values = np.random.default_rng(4).random((20, 20), np.float32)
    close(
        shown(save(tmp_path / "many.tif", values * 255))[..., 0],
        (values - values.min()) / np.ptp(values),
        1e-5,
    )
    few = values.copy()
    few[3, 3] = 7
    exemplar = read_target(save(tmp_path / "few.tif", few))
    close(exemplar.image[0, 0].numpy(), np.clip(few, 0, 1))
    assert "cut" in exemplar.notes[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    values = np.full((12, 12), 0.5, np.float32)
    values[2, 3] = bad
    assert "NaN" in complaint(save(tmp_path / "nan.tif", values))


def test_cmyk_shows_the_same_picture_in_tiff_and_in_adobe_and_plain_jpeg(tmp_path: Path) -> None:
    cmyk = Image.new("RGB", (32, 24), RED).convert("CMYK")
    cmyk.save(tmp_path / "a.tif")
    cmyk.save(tmp_path / "adobe.jpg", quality=100)
    adobe = (tmp_path / "adobe.jpg").read_bytes()
    assert b"Adobe" in adobe
    Image.eval(cmyk, lambda ink: 255 - ink).save(tmp_path / "inverted.jpg", quality=100)
    start = (inverted := (tmp_path / "inverted.jpg").read_bytes()).index(b"\xff\xee")
    (tmp_path / "plain.jpg").write_bytes(inverted[:start] + inverted[start + 16 :])
    for name in ("a.tif", "adobe.jpg", "plain.jpg"):
        exemplar = read_target(str(tmp_path / name))
        close(exemplar.image[0].mean((1, 2)).numpy() * 255, np.asarray(RED), 4)
        assert "CMYK" in exemplar.notes[0]


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (16, 16), RED)
    if mode == "LAB":
        there, here = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, there, here, outputMode="LAB")
        assert converted is not None
        image = converted
    else:
        image = image.convert(mode)
    image.save(tmp_path / "x.tif")
    close(shown(tmp_path / "x.tif").mean((0, 1)) * 255, np.asarray(RED), 4)


# alpha


def test_an_opaque_alpha_channel_is_left_out(tmp_path: Path) -> None:
    values = np.dstack([picture(), np.full((24, 32), 255, np.uint8)])
    exemplar = read_target(save(tmp_path / "a.png", values))
    assert exemplar.image.shape[1] == 3
    assert "alpha" in exemplar.notes[0]


def test_what_is_invisible_does_not_bleed_into_what_is_seen(tmp_path: Path) -> None:
    values = np.zeros((64, 64, 4), np.uint8)
    values[...] = (0, 255, 0, 0)
    values[:, 30:] = (*RED, 255)
    seen = shown(save(tmp_path / "a.png", values), exemplar_size=16)
    visible = seen[..., 3] > 0.02
    close(seen[visible][:, :3] * 255, np.broadcast_to(RED, (visible.sum(), 3)), 1.0)
    assert seen.min() >= 0
    assert seen.max() <= 1


def test_a_fully_transparent_picture_or_crop_is_refused(tmp_path: Path) -> None:
    values = np.zeros((40, 40, 4), np.uint8)
    values[:, 20:] = (*RED, 255)
    path = save(tmp_path / "a.png", values)
    assert "fully transparent in the crop" in complaint(path, crop="10x10+0+0")
    assert shown(path, crop="10x10+30+0").shape == (10, 10, 3)
    assert "fully transparent" in complaint(save(tmp_path / "b.png", values[:, :20]))


# headers and metadata


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_undone(tmp_path: Path, tag: int, suffix: str) -> None:
    upright = picture(24, 32)
    stored = next(
        turned
        for turned in (f(upright) for f in (lambda a: a, *UPRIGHT.values()))
        if np.array_equal(UPRIGHT.get(tag, lambda a: a)(turned), upright)
    )
    exif = Image.Exif()
    exif[0x0112] = tag
    path = save(tmp_path / f"r.{suffix}", np.ascontiguousarray(stored), exif=exif)
    exemplar = read_target(path)
    close(exemplar.image[0].permute(1, 2, 0).numpy() * 255, upright, 1e-4)
    assert any("EXIF" in note for note in exemplar.notes) == (tag > 1)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_used(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (16, 12), colour) for colour in (RED, (0, 0, 255)))
    path = tmp_path / f"moving.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second, first], **options)
    exemplar = read_target(str(path))
    close(exemplar.image[0].mean((1, 2)).numpy() * 255, np.asarray(RED), 1)
    assert exemplar.notes == (
        f"moving.{suffix} is animated (3 frames); only the first frame is used.",
    )


def test_of_many_pages_the_first_is_used(tmp_path: Path) -> None:
    page = Image.fromarray(picture())
    page.save(tmp_path / "p.tif", save_all=True, append_images=[page.rotate(180)])
    exemplar = read_target(str(tmp_path / "p.tif"))
    assert "2 pages" in exemplar.notes[0]
    close(exemplar.image[0].permute(1, 2, 0).numpy() * 255, picture(), 1e-4)


def test_a_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path: Path) -> None:
    values = picture()
    linear = swapped_profile()
    exemplar = read_target(save(tmp_path / "a.png", values, icc_profile=linear))
    seen = exemplar.image[0].permute(1, 2, 0).numpy() * 255
    # red and green primaries are exchanged, and nothing else
    close(seen, values[..., [1, 0, 2]], 3)
    assert "sRGB" in exemplar.notes[0]
    for broken in (b"nonsense", linear[:200]):
        exemplar = read_target(save(tmp_path / "b.png", values, icc_profile=broken))
        close(exemplar.image[0].permute(1, 2, 0).numpy() * 255, values, 1e-4)
        assert "ignored" in exemplar.notes[0]


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exemplar = read_target(save(tmp_path / "a.png", picture(), icc_profile=profile))
    close(exemplar.image[0].permute(1, 2, 0).numpy() * 255, picture(), 1e-4)
    assert exemplar.notes == ()


def swapped_profile() -> bytes:
    """Make a colour profile whose red is green and whose green is red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    places = {}
    for entry in range(132, 132 + 12 * count, 12):
        places[bytes(profile[entry : entry + 4])] = struct.unpack(
            ">I", profile[entry + 4 : entry + 8]
        )[0]
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    profile[red : red + 20], profile[green : green + 20] = (
        profile[green : green + 20],
        profile[red : red + 20],
    )
    # the description must not say sRGB any more
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


# problems


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    save(tmp_path / "zebra.jpg", picture())
    assert "did you mean 'zebra.jpg'" in complaint(tmp_path / "zebr.jpg")
    assert "no file" in complaint(tmp_path / "nowhere" / "a.png")


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am a text\n" * 20, b"\0" * 500, b"%PDF-1.4\n", b"<svg/>"]
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert "PNG, JPEG" in complaint(tmp_path / "x.png")


def test_postscript_is_never_run(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.eps")
    assert "not an image" in complaint(tmp_path / "a.eps")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    whole = BytesIO()
    names = {"jpg": "jpeg", "tif": "tiff"}
    Image.fromarray(picture(64, 64)).save(whole, names.get(suffix, suffix))
    data = whole.getvalue()
    (tmp_path / f"x.{suffix}").write_bytes(data[: max(8, int(len(data) * kept))])
    assert f"x.{suffix}" in complaint(tmp_path / f"x.{suffix}")


def test_any_damage_is_one_sentence_or_a_picture(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        whole = bytearray(Path(save(tmp_path / f"whole.{suffix}", picture())).read_bytes())
        for _ in range(30):
            hurt = bytearray(whole)
            for place in generator.integers(0, len(hurt), 6):
                hurt[place] = generator.integers(256)
            (tmp_path / f"hurt.{suffix}").write_bytes(hurt)
            with contextlib.suppress(InputError):
                image = read_target(str(tmp_path / f"hurt.{suffix}"), max_pixels=10**6).image
                assert image.isfinite().all()


@pytest.mark.parametrize("size", [(0, 8), (8, 0)])
def test_zero_pixels_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "zero.png").write_bytes(png(picture(), size=size))
    assert "zero.png" in complaint(tmp_path / "zero.png")


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(picture(), size=(60000, 60000)))
    limit = Image.MAX_IMAGE_PIXELS
    message = complaint(path)
    assert "60000x60000" in message
    assert "268435456" in message
    assert limit == Image.MAX_IMAGE_PIXELS
    # beyond the limit at which Pillow warns, and within ours: no warning, only a damaged file
    path.write_bytes(png(picture(), size=(10000, 10000)))
    assert "damaged" in complaint(path)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_unreadable_and_special_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(save(tmp_path / "secret.png", picture()))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read" in complaint(path)
    monkeypatch.undo()
    os.mkfifo(tmp_path / "pipe.png")
    assert "regular file" in complaint(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "loop.png" in complaint(tmp_path / "loop.png")
    assert "path" in complaint("a" * 5000 + ".png")
    assert "path" in complaint("a\0b.png")


# folders


def test_a_folder_is_several_pictures_of_one_texture(tmp_path: Path) -> None:
    folder = tmp_path / "moss"
    folder.mkdir()
    first, second = picture(24, 32, seed=1), picture(30, 20, seed=2)
    one, two = save(folder / "a.png", first), save(folder / "b.PNG", second)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"not a picture")
    (folder / "inner.png").mkdir()
    exemplar = read_target(str(folder))
    assert exemplar.image.shape == (2, 3, 24, 20)
    close(exemplar.image[0].permute(1, 2, 0).numpy() * 255, first[:, 6:26], 1e-4)
    close(exemplar.image[1].permute(1, 2, 0).numpy() * 255, second[3:27], 1e-4)
    assert exemplar.name == "moss"
    both = Path(one).read_bytes() + Path(two).read_bytes()
    assert exemplar.sha256 == hashlib.sha256(both).hexdigest()
    assert "2 pictures" in exemplar.describe()


def test_in_a_folder_a_missing_alpha_is_opaque(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    glass = np.dstack([picture(), np.full((24, 32), 100, np.uint8)])
    save(tmp_path / "b.png", glass)
    image = read_target(str(tmp_path)).image
    assert image.shape == (2, 4, 24, 32)
    assert (image[0, 3] == 1).all()


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    assert "no images" in complaint(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert "bad.png" in complaint(tmp_path)
    (tmp_path / "bad.png").unlink()
    save(tmp_path / "wide.png", picture(8, 100))
    save(tmp_path / "tall.png", picture(100, 8))
    assert read_target(str(tmp_path)).image.shape == (2, 3, 8, 8)


# specs


def test_every_prefix_reads_a_target() -> None:
    assert set(TARGETS) == {"sample", "skimage", "figure", "emoji"}
    brick = read_target("skimage:brick")
    assert brick.image.shape == (1, 3, 128, 128)
    assert (brick.name, brick.source) == ("brick", "skimage:brick")
    assert brick.describe() == "skimage:brick 512x512 -> 128x128: 4.0 source pixels become one cell"


def test_all_pictures_of_scikit_image_are_there_without_a_network() -> None:
    from nca_texture.targets.image import SKIMAGE

    for name in SKIMAGE:
        assert read_target(f"skimage:{name}", exemplar_size=32).image.max() > 0.3


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("sample:zebar", "did you mean 'zebra'"),
        ("sample:", "honeycomb"),
        ("skimage:bricks", "did you mean 'brick'"),
        ("sampel:zebra", "did you mean 'sample'"),
        ("zebra", "sample:zebra"),
        ("https://example.org/a.png", "download"),
        ("", "empty"),
    ],
)
def test_an_unknown_spec_names_the_nearest(spec: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        find_target(spec)


def test_a_file_with_a_colon_in_its_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "take:two.png", picture())
    assert read_target("take:two.png").name == "take_two"
    assert "no file" in complaint(r"C:\nowhere.png")
