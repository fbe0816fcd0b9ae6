"""Moving pictures: loops close, and other programs read from the files what was written."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning import scramble
from numpy.testing import assert_array_equal
from PIL import Image, ImageSequence, features

from nca_texture import motion
from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError, MissingError
from nca_texture.film import Film, Shooting, film
from nca_texture.grid import Grid
from nca_texture.motion import sheet, video
from nca_texture.motion.base import Clip
from nca_texture.motion.frames import check_place

WORDS = {"Software": "nca-texture", "Source": "zebra ü"}


def active(**settings: Any) -> CellularAutomaton:
    return scramble(CellularAutomaton(**{"channels": 6, "hidden": 16} | settings), 2, 0.15)


def clip(channels: int = 3, **settings: Any) -> Clip:
    """Make smooth frames that differ, so that lossy formats are near."""
    y, x = np.mgrid[:20, :32]
    frames = [
        np.stack([127 + 100 * np.sin((x + k) / 5 + c + y / 9) for c in range(channels)], -1)
        for k in range(0, 14, 2)
    ]
    given = np.round(frames).astype(np.uint8)
    if channels == 4:
        given[..., 3] = np.where(x < 16, 255, 0)
    return Clip(given, metadata=WORDS, **settings)


# Films


@pytest.mark.parametrize("layout", ["square", "hex"])
def test_a_loop_comes_back_to_the_bit(layout: Any) -> None:
    automaton = active(grid=Grid(layout))
    shooting = Shooting(pixels=(30, 24), frames=9, every=2, start=12, blend=4)
    found = film(automaton, shooting, seed=3)
    assert found.frames.shape == (9, 30, 24, 3)
    # the last frame is what came two steps before the first one
    plain = Shooting(pixels=(30, 24), frames=2, every=2, start=10, blend=0)
    last, first = film(automaton, plain, seed=3).frames
    assert_array_equal(found.frames[0], first)
    assert_array_equal(found.frames[-1], last)


def test_an_open_film_is_a_roll_out() -> None:
    automaton = active()
    found = film(automaton, Shooting(pixels=(16, 20), frames=3, every=5, start=7, blend=0), seed=1)
    for number, frame in enumerate(found.frames):
        state = automaton.grow(automaton.seed(1, (16, 20)), 7 + 5 * number, seed=1)
        expected = automaton.to_image(state)[0].permute(1, 2, 0) * 255
        assert_array_equal(frame, expected.round().byte().numpy())
    assert not found.loops


def test_the_jump_is_measured() -> None:
    steps = np.array([1.0, 1.0, 2.0, 1.0, 5.0])
    found = Film(np.zeros((5, 1, 1, 3), np.uint8), steps, True, 1.0)
    assert (found.jump, found.largest) == (5, 2)


def test_a_film_is_the_same_every_time() -> None:
    shooting = Shooting(pixels=(16, 16), frames=6, start=8, blend=3)
    one, two = (film(active(), shooting, seed="moss") for _ in range(2))
    assert_array_equal(one.frames, two.frames)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 0}, "frames is 0; give 1 or more"),
        ({"every": 0}, "every is 0"),
        ({"start": -1}, "start is -1"),
        ({"frames": 16}, "16 frames cannot close a loop of 16"),
        ({"start": 31}, "the loop closes onto the 32 steps"),
        ({"pixels": (0, 5)}, "give at least 1x1"),
    ],
)
def test_what_cannot_be_filmed_is_said(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Shooting(**{"pixels": (8, 8)} | settings)


# Files


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng", ".png", ".avif"])
def test_pillow_shows_every_frame(suffix: str, channels: int, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    given, path = clip(channels), tmp_path / f"a{suffix}"
    motion.check(path, given.size, channels)
    motion.write(path, given)
    with Image.open(path) as file:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(file):
            frames.append(np.asarray(frame.convert("RGBA" if channels == 4 else "RGB")))
            durations.append(file.info["duration"])
        assert file.info.get("loop", 0) == 0
    found, wanted = np.stack(frames).astype(int), given.frames.astype(int)
    shown = wanted[..., 3:] > 0 if channels == 4 else np.ones_like(wanted[..., :1], bool)
    loss = {".webp": 0, ".apng": 0, ".png": 0, ".gif": 24, ".avif": 24}[suffix]
    assert (abs(found - wanted)[..., :3] * shown).max() <= loss
    if channels == 4:
        assert abs(found - wanted)[..., 3].max() <= (8 if suffix == ".avif" else 0)
    assert sum(durations) == pytest.approx(7 * 1000 / 24, abs=6)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_clip_that_does_not_loop_plays_once(tmp_path: Path) -> None:
    for suffix, once in ((".gif", None), (".webp", 1), (".apng", 1)):
        motion.write(tmp_path / f"a{suffix}", clip(loops=False))
        assert Image.open(tmp_path / f"a{suffix}").info.get("loop") == once


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_videos_are_decoded(suffix: str, codec: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed here")
    given, path = clip(), tmp_path / f"a{suffix}"
    motion.check(path, given.size, 3)
    motion.write(path, given)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name.startswith(codec) or codec in stream.codec_context.name
        assert stream.average_rate == 24
        frames = [
            frame.to_ndarray(format="rgb24", src_colorspace="ITU709")
            if "src_colorspace" in av.VideoFrame.to_ndarray.__doc__ or ""
            else frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
            for frame in container.decode(stream)
        ]
    found = np.stack(frames).astype(int)
    assert found.shape == given.frames.shape
    assert abs(found - given.frames).mean() < 8


def test_what_a_video_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingError, match=r'pip install "nca-texture\[video\]"'):
        motion.check(tmp_path / "a.mp4", (8, 8), 3)
    monkeypatch.setattr(video, "_av", lambda: None)
    with pytest.raises(InputError, match="even width and height, not 9x8"):
        motion.check(tmp_path / "a.mp4", (8, 9), 3)
    with pytest.raises(InputError, match="no transparency"):
        motion.check(tmp_path / "a.webm", (8, 8), 4)


def test_a_folder_of_frames(tmp_path: Path) -> None:
    given = clip()
    motion.write(tmp_path / "walk", given)
    names = sorted(path.name for path in (tmp_path / "walk").iterdir())
    assert names == [f"walk_{number:04}.png" for number in range(1, 8)]
    for name, frame in zip(names, given.frames, strict=True):
        assert_array_equal(np.asarray(Image.open(tmp_path / "walk" / name)), frame)
    with pytest.raises(InputError, match="exists; pass --force"):
        motion.write(tmp_path / "walk", given)
    motion.write(tmp_path / "walk", Clip(given.frames[:2]), force=True)
    assert len(list((tmp_path / "walk").iterdir())) == 2
    (tmp_path / "walk" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt, which is no frame"):
        motion.write(tmp_path / "walk", given, force=True)
    with pytest.raises(InputError, match="is a file"):
        check_place(tmp_path / "walk" / "notes.txt", False)
    assert [path.name for path in tmp_path.iterdir()] == ["walk"]


# Sheets


@pytest.mark.parametrize("wraps", ["xy", "x", "y", ""])
@pytest.mark.parametrize("gutter", [0, 3])
def test_aseprites_rectangles_hold_the_frames_and_the_gutter_wraps(
    gutter: int, wraps: str, tmp_path: Path
) -> None:
    given = clip(wraps=wraps)
    sheet.write(tmp_path / "walk.png", given, (2, 4), gutter)
    pixels = np.asarray(Image.open(tmp_path / "walk.png"))
    about = json.loads((tmp_path / "walk.json").read_text())
    assert about["meta"]["image"] == "walk.png"
    assert about["meta"]["size"] == {"w": pixels.shape[1], "h": pixels.shape[0]}
    assert about["meta"]["frameTags"] == [
        {"name": "loop", "from": 0, "to": 6, "direction": "forward"}
    ]
    assert [frame["duration"] for frame in about["frames"]] == given.durations()
    for frame, expected in zip(about["frames"], given.frames, strict=True):
        x, y, w, h = (frame["frame"][key] for key in "xywh")
        assert_array_equal(pixels[y : y + h, x : x + w], expected)
        around = pixels[y - gutter : y + h + gutter, x - gutter : x + w + gutter]
        rows = np.arange(-gutter, h + gutter)
        columns = np.arange(-gutter, w + gutter)
        rows = rows % h if "y" in wraps else rows.clip(0, h - 1)
        columns = columns % w if "x" in wraps else columns.clip(0, w - 1)
        assert_array_equal(around, expected[rows][:, columns])
        assert frame["sourceSize"] == {"w": w, "h": h}


def aseprite_schema(about: dict[str, Any]) -> None:
    """Check names and types against what Aseprite's json-array export has."""
    number = (int,)
    rectangle = {"x": number, "y": number, "w": number, "h": number}
    size = {"w": number, "h": number}

    def check(value: Any, wanted: Any) -> None:
        if isinstance(wanted, dict):
            assert set(value) == set(wanted)
            for key, inner in wanted.items():
                check(value[key], inner)
        elif isinstance(wanted, list):
            for each in value:
                check(each, wanted[0])
        else:
            assert isinstance(value, wanted)

    frame = {"filename": str, "frame": rectangle, "rotated": bool, "trimmed": bool}
    frame |= {"spriteSourceSize": rectangle, "sourceSize": size, "duration": int}
    tag = {"name": str, "from": int, "to": int, "direction": str}
    meta = {"app": str, "version": str, "image": str, "format": str, "size": size, "scale": str}
    check(about, {"frames": [frame], "meta": meta | {"frameTags": [tag]}})


def test_the_json_is_aseprites_array() -> None:
    aseprite_schema(sheet.aseprite(clip(), (1, 7), 2, "walk.png"))


def test_unity_gets_an_array_of_the_true_size() -> None:
    yaml = sheet.unity(clip(), (1, 7), 0, "walk.png")
    lines = dict(line.strip().split(": ", 1) for line in yaml.splitlines() if ": " in line)
    assert lines["textureShape"] == "4"
    assert (lines["flipbookRows"], lines["flipbookColumns"]) == ("1", "7")
    assert lines["maxTextureSize"] == "256"
    assert lines["wrapU"] == lines["wrapV"] == "0"
    assert len(lines["guid"]) == 32
    assert "textureShape: 1" in sheet.unity(clip(), (1, 7), 2, "walk.png")
    assert "wrapV: 1" in sheet.unity(clip(wraps="x"), (1, 7), 0, "walk.png")


@pytest.mark.parametrize("frames", [1, 2, 7, 12, 48, 64])
def test_a_layout_fills_all_cells(frames: int) -> None:
    rows, columns = sheet.layout(frames)
    assert rows * columns == frames
    assert rows <= math.isqrt(frames) <= columns


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nca_texture.recipe import AutomatonPlan, Recipe
    from nca_texture.store import save

    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, active(), Recipe(automaton=AutomatonPlan(channels=6, hidden=16)))
    return path


def test_the_command_says_how_the_loop_closes(command: Any, model: Path, tmp_path: Path) -> None:
    args = ["animate", str(model), "--size", "24x16", "--frames", "8", "-o"]
    done = command([*args, "a.gif"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the step from the last frame to the first is" in done.stderr
    told = json.loads(command([*args, "s.png", "--sheet", "auto", "--json"], tmp_path).stdout)
    assert told["files"] == ["s.png", "s.json", "s.png.meta"]
    assert told["sheet"] == {"rows": 2, "columns": 4}
    assert told["jump"] > 0
    assert set(told["seams"]["axes"]) == {"x", "y"}
    assert Image.open(tmp_path / "s.png").size == (96, 32)
    assert command([*args, "frames", "-q"], tmp_path).returncode == 0
    assert len(list((tmp_path / "frames").iterdir())) == 8


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["-o", "a.tga"], 2, "a.tga does not say"),
        (["-o", "a.gif", "--frames", "0"], 2, "frames is 0"),
        (["-o", "a.gif", "--fps", "0"], 2, "fps is 0"),
        (["-o", "a.gif", "--gutter", "2"], 2, "--sheet auto"),
        (["-o", "a.gif", "--sheet", "auto"], 2, "ends in .png"),
        (["-o", "a.png", "--sheet", "2x2"], 2, "no room for 48 frames"),
        (["-o", "a.gif", "--blend", "48"], 2, "give more --frames"),
        (["-o", "old.gif"], 1, "old.gif exists"),
        (["-o", "old.png", "--sheet", "auto"], 1, "old.json exists"),
        (["-o", "a.gif", "--size", "99999"], 1, "give a smaller --size"),
        (["-o", "full"], 1, "notes.txt, which is no frame"),
    ],
)
def test_mistakes_are_one_sentence(
    args: list[str], code: int, words: str, command: Any, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    for name in ("old.gif", "old.json", "full/notes.txt"):
        (tmp_path / name).write_text("mine")
    done = command(["animate", str(model), "--size", "16", *args], tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == {"old.gif", "old.json", "full", "notes.txt"}


def test_a_growing_model_is_filmed_from_its_seed(command: Any, tmp_path: Path) -> None:
    from nca_texture.recipe import AutomatonPlan, Recipe
    from nca_texture.store import save

    plan = AutomatonPlan(channels=8, hidden=16, living=True, seed_kind="cell", rgb_offset=0.0)
    save(tmp_path / "m.safetensors", plan_automaton(plan), Recipe(automaton=plan))
    args = ["animate", "m.safetensors", "-o", "a.apng", "--size", "16", "--frames", "4", "--json"]
    done = command(args, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loops"] is False
    with Image.open(tmp_path / "a.apng") as file:
        assert getattr(file, "n_frames", 1) == 4
        first = np.asarray(file.convert("RGBA"))
    assert (first[..., 3] > 0).sum() == 1  # the seed


def plan_automaton(plan: Any) -> CellularAutomaton:
    return active(channels=plan.channels, hidden=plan.hidden, living=True, seed_kind="cell")
