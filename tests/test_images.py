import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nca_texture import files, images
from nca_texture.errors import InputError
from nca_texture.files import atomic_write
from nca_texture.images import (
    PngWriter,
    half_rolled,
    proof,
    quantize,
    read_png_metadata,
    to_uint8,
    write_png,
)


def decode(path: Path) -> tuple[NDArray[Any], set[int]]:
    """Read a PNG file byte by byte as the specification says; also returns the filters met."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, header = 8, b"", b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(
            kind + body
        )
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", header)
    assert rest == [0, 0, 0]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    pixel, stride = channels * depth // 8, width * channels * depth // 8
    raw = zlib.decompress(packed)
    assert len(raw) == height * (stride + 1)
    above, rows, filters = bytearray(stride), [], set()
    for y in range(height):
        kind, *line = raw[y * (stride + 1) : (y + 1) * (stride + 1)]
        filters.add(kind)
        row = bytearray(stride)
        for x, byte in enumerate(line):
            a = row[x - pixel] if x >= pixel else 0
            b = above[x]
            c = above[x - pixel] if x >= pixel else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row[x] = (byte + (0, a, b, (a + b) // 2, paeth)[kind]) % 256
        rows.append(bytes(row))
        above = row
    numbers = np.frombuffer(b"".join(rows), f">u{depth // 8}")
    return numbers.reshape(height, width, channels), filters


def picture(height: int, width: int, channels: int) -> NDArray[np.float32]:
    """Noise, slopes and flat parts, so that every filter is the best one somewhere."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    slopes = np.sin(x / 7)[..., None] * np.cos(y / 5)[..., None] * 0.4 + 0.5
    image = np.repeat(slopes, channels, axis=2)
    third = height // 3
    image[:third] = rng.random((third, width, channels))
    image[third : third + 4] = 0.25
    image[-third:] += rng.normal(0, 0.01, (third, width, channels))
    return image.clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_number_of_a_png_file_is_the_rounded_number_given(
    tmp_path: Path, depth: Any, channels: int
) -> None:
    image = picture(36, 29, channels)
    write_png(tmp_path / "a.png", image, depth=depth)
    numbers, _ = decode(tmp_path / "a.png")
    peak = 2**depth - 1
    np.testing.assert_array_equal(numbers, np.rint(image.astype(np.float64) * peak))


def test_every_filter_is_used_and_undone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(np.cumsum(rng.integers(-1, 2, (40, 50, 3)), axis=0), axis=1) % 256
    flat = np.zeros((8, 50, 3))
    down = np.repeat(rng.integers(0, 256, (1, 50, 3)), 8, axis=0)
    across = np.repeat(rng.integers(0, 256, (8, 1, 3)), 50, axis=1)
    whole = np.concatenate([flat, down, across, walk])
    write_png(tmp_path / "a.png", whole / 255)
    numbers, filters = decode(tmp_path / "a.png")
    np.testing.assert_array_equal(numbers, whole)
    assert filters == {0, 1, 2, 3, 4}


def test_all_65536_levels_survive(tmp_path: Path) -> None:
    levels = np.arange(65536).reshape(64, 1024, 1)
    write_png(tmp_path / "a.png", (levels / 65535).astype(np.float32), depth=16)
    np.testing.assert_array_equal(decode(tmp_path / "a.png")[0], levels)
    with Image.open(tmp_path / "a.png") as opened:  # Pillow reads grey of 16 bits
        np.testing.assert_array_equal(np.asarray(opened)[..., None], levels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_the_same_picture(tmp_path: Path, channels: int, mode: str) -> None:
    image = picture(50, 31, channels)
    write_png(tmp_path / "a.png", image, metadata={"Title": "zebra"})
    with Image.open(tmp_path / "a.png") as opened:
        opened.verify()
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == mode
        assert opened.info["gamma"] == pytest.approx(1 / 2.2, abs=1e-4)
        numbers = np.asarray(opened).reshape(image.shape)
    np.testing.assert_array_equal(numbers, to_uint8(image))


def test_bands_of_any_height_give_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(60, 20, 3)
    write_png(tmp_path / "whole.png", image, depth=16)
    monkeypatch.setattr(images, "BAND_BYTES", 500)
    with PngWriter(tmp_path / "bands.png", (60, 20), channels=3, depth=16) as writer:
        for first, last in ((0, 1), (1, 8), (8, 8), (8, 60)):
            writer.write_rows(image[first:last])
    np.testing.assert_array_equal(
        decode(tmp_path / "bands.png")[0], decode(tmp_path / "whole.png")[0]
    )


def test_data_is_not_called_a_colour(tmp_path: Path) -> None:
    write_png(tmp_path / "height.png", picture(9, 9, 1), srgb=False)
    content = (tmp_path / "height.png").read_bytes()
    assert b"sRGB" not in content
    assert b"gAMA" not in content


def test_metadata_comes_back_and_other_programs_read_it(tmp_path: Path) -> None:
    texts = {
        "Title": "zebra",
        "Author": "Zoë\nand others",
        "recipe": '{"name": "シマウマ"}',
        "nothing": "",
        "sign": "a \x80 b",
        "long": "x" * 100_000,
    }
    write_png(tmp_path / "a.png", picture(8, 8, 3), metadata=texts)
    assert read_png_metadata(tmp_path / "a.png") == texts
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert opened.info["Author"] == texts["Author"]
        assert opened.info["recipe"] == texts["recipe"]


def test_metadata_of_other_programs_is_read(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("packed", "a" * 1000, zip=True)
    info.add_itxt("wide", "縞" * 100, lang="ja", tkey="題", zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert read_png_metadata(tmp_path / "a.png") == {"packed": "a" * 1000, "wide": "縞" * 100}


@pytest.mark.parametrize(
    "texts", [{"": "a"}, {"k" * 80: "a"}, {" k": "a"}, {"a  b": "a"}, {"縞": "a"}, {"k": "\0"}]
)
def test_metadata_that_a_png_file_cannot_hold_is_refused(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"the (keyword|text)"):
        write_png(tmp_path / "a.png", picture(8, 8, 3), metadata=texts)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_png_file_is_told_from_a_foreign_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match=r"cannot read .*a\.png"):
        read_png_metadata(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="is not a PNG file"):
        read_png_metadata(path)
    write_png(path, picture(8, 8, 3), metadata={"key": "value"}, force=True)
    whole = path.read_bytes()
    for end in (20, len(whole) // 2, len(whole) - 13):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="damaged"):
            read_png_metadata(path)
    path.write_bytes(whole.replace(b"value", b"VALUE"))
    with pytest.raises(InputError, match="checksum"):
        read_png_metadata(path)


def test_numbers_are_clipped_and_rounded() -> None:
    given = np.array([-1, 0, 0.4 / 255, 0.6 / 255, 1, 7, np.inf, -np.inf])
    assert to_uint8(given).tolist() == [0, 0, 0, 1, 255, 255, 255, 0]
    assert quantize(np.float32([0.5]), 16).tolist() == [32768]
    for wrong in (np.array([np.nan]), np.array([3], np.uint8)):
        with pytest.raises(ValueError, match="expected"):
            to_uint8(wrong)


@pytest.mark.parametrize("bad", ["nan", "narrow", "long", "short", "flat"])
def test_a_picture_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    rows = {
        "nan": np.full((8, 8, 3), np.nan),
        "narrow": np.zeros((8, 7, 3)),
        "long": np.zeros((9, 8, 3)),
        "short": np.zeros((7, 8, 3)),
        "flat": np.zeros((8, 8)),
    }[bad]
    with (
        pytest.raises(ValueError, match=r"NaN|expected|too many|came for"),
        PngWriter(path, (8, 8), channels=3, force=True) as writer,
    ):
        writer.write_rows(rows)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_impossible_pictures_are_refused(tmp_path: Path) -> None:
    for shape in ((8, 8), (8, 8, 5), (0, 8, 3), (8, 0, 3)):
        with pytest.raises(ValueError, match=r"expected|cannot be"):
            write_png(tmp_path / "a.png", np.zeros(shape))
    depth: Any = 12
    with pytest.raises(ValueError, match="depth is 12"):
        write_png(tmp_path / "a.png", np.zeros((8, 8, 3)), depth=depth)


def test_a_proof_repeats_and_half_a_roll_comes_back() -> None:
    image = picture(12, 10, 3)
    tiled = proof(image, (2, 3))
    assert tiled.shape == (24, 30, 3)
    np.testing.assert_array_equal(tiled, np.roll(tiled, (12, 20), (0, 1)))
    np.testing.assert_array_equal(half_rolled(half_rolled(image)), image)
    np.testing.assert_array_equal(half_rolled(image)[6, 5], image[0, 0])
    with pytest.raises(ValueError, match="at least 1"):
        proof(image, (0, 3))


def test_a_file_appears_complete_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_needs_force_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"a\.bin exists; pass --force"), atomic_write(path):
        pytest.fail("the block must not be entered")
    with atomic_write(path, force=True) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def overtaken() -> None:
        with atomic_write(path) as file:
            file.write(b"slow")
            path.write_bytes(b"fast")

    with pytest.raises(InputError, match="exists"):
        overtaken()
    assert path.read_bytes() == b"fast"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_broken_off_write_leaves_no_trace(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def broken_off() -> None:
        with atomic_write(path, force=True) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        broken_off()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    if place == "replace":
        monkeypatch.setattr(Path, "replace", full)

    def write() -> None:
        with atomic_write(path, force=True) as file:
            file.write(b"new")
            if place == "write":
                full()

    with pytest.raises(InputError, match=r"cannot write .*a\.bin: the disk is full; free"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
def test_a_file_that_outgrows_its_limit_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    program = """
import resource
import numpy as np
from nca_texture.images import write_png
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
write_png("a.png", np.random.default_rng(0).random((100, 100, 3)), force=True)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = ended.stderr.splitlines()[-1]
    assert last.endswith("cannot write a.png: the file is too large for this place; choose another")
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_a_device_is_not_replaced() -> None:
    with pytest.raises(InputError, match="is a device"), atomic_write("/dev/full", force=True):
        pytest.fail("the block must not be entered")


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.bin") as file:
        file.write((tmp_path / "missing").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_impossible_places_are_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cases = {
        tmp_path: "is a folder; give the name of a file",
        tmp_path / "file" / "a.bin": "a part of the path is a file",
        tmp_path / "file" / "deep" / "a.bin": "a part of the path is a file",
        tmp_path / ("n" * 300): "the name is too long",
    }
    for path, reason in cases.items():
        with pytest.raises(InputError, match=reason), atomic_write(path, force=True) as file:
            file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_permission_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.access(folder, os.W_OK) and hasattr(os, "geteuid") and os.geteuid() == 0:

        def refuse(*_: object) -> None:  # nothing is locked to the superuser
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(files.Path, "open", refuse)
    folder.chmod(0o500)
    with pytest.raises(InputError, match="permission is denied"), atomic_write(folder / "a.bin"):
        pytest.fail("the block must not be entered")
    folder.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")
    with atomic_write(tmp_path / "link.bin", force=True) as file:
        file.write(b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def write(byte: bytes) -> None:
        for _ in range(10):
            with atomic_write(path, force=True) as file:
                file.write(byte * 10_000)

    writers = [threading.Thread(target=write, args=(byte,)) for byte in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert list(tmp_path.iterdir()) == [path]
