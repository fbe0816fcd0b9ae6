"""Whatever comes in: one sentence, the right exit code, and nothing that existed is lost."""

import hashlib
import json
import signal
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import TINY, without_loss

from nca_texture.store import load_checkpoint, load_model

TRAIN = ["train", "-q", "--dry-run"]  # of what cannot begin anyway
LEARN = ["train", "zebra.png", "--exemplar-size", "16", *TINY]


@dataclass(frozen=True)
class Case:
    """A command that fails, its exit code, and what its sentence has to name."""

    args: list[str]
    code: int
    words: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    most_bytes: int | None = None  # of a file; stands for a disk that is full


def train(*args: str) -> list[str]:
    return [*TRAIN, *args]


def tile(*args: str) -> list[str]:
    return ["tile", *args, "-o", "new.png", "-q"]


OFFLINE = {"NCA_TEXTURE_OFFLINE": "1", "HOME": "/nowhere", "TORCH_HOME": "/nowhere"}

CASES = {
    # pictures
    "not an image": Case(train("text.png"), 1, ("text.png", "not an image")),
    "truncated PNG": Case(train("cut.png"), 1, ("cut.png", "cut short")),
    "truncated JPEG": Case(train("cut.jpg"), 1, ("cut.jpg", "cut short")),
    "zero bytes": Case(train("empty.png"), 1, ("empty.png", "0 bytes")),
    "zero pixels": Case(train("nopixels.png"), 1, ("nopixels.png", "no pixels")),
    "too many pixels": Case(train("vast.png"), 1, ("60000x60000", "limit", "reduce")),
    "fully transparent": Case(train("clear.png"), 1, ("clear.png", "fully transparent")),
    "partly transparent": Case(
        train("half.png", "--preset", "draft"), 2, ("transparent", "--task texture", "grow")
    ),
    "a task and a preset of another": Case(
        train("half.png", "--task", "grow", "--preset", "draft"), 2, ("for --task texture", "grow")
    ),
    "no such task": Case(train("half.png", "--task", "shrink"), 2, ("auto, texture, grow",)),
    "a texture's regime": Case(train("zebra.png", "--regime", "growing"), 2, ("--regime",)),
    "no such regime": Case(train("half.png", "--regime", "still"), 2, ("persistent",)),
    "a seed outside": Case(train("half.png", "--seed-at", "2,0.5"), 2, ("from 0 to 1",)),
    "a texture's seed": Case(train("zebra.png", "--seed-at", "0.5,0.5"), 2, ("--task grow",)),
    "too small": Case(train("small.png"), 1, ("7x7", "at least 8")),
    "folder without images": Case(train("empty-folder"), 1, ("empty-folder", "no images")),
    "missing file": Case(train("zebrra.png"), 1, ("zebrra.png", "did you mean 'zebra.png'")),
    "web address": Case(train("https://a.b/c.png"), 2, ("web address", "download")),
    "unknown sample": Case(train("sample:zebrra"), 2, ("did you mean 'zebra'",)),
    "no image": Case(train(), 2, ("which image",)),
    "not a picture to check": Case(["check", "text.png"], 1, ("not an image",)),
    "a truncated picture to check": Case(["check", "zebra.png", "cut.png", "-q"], 1, ("cut.png",)),
    "a class of many pictures": Case(
        train("zebra.png", "pictures"), 2, ("pictures", "one picture")
    ),
    "one bad image of many": Case(
        [*LEARN[:2], "cut.png", "old.png", "--separate", "-o", "new", "-q"], 1, ("cut.png",)
    ),
    "no images to separate": Case(train("--separate"), 2, ("which images",)),
    "many far too wide": Case(
        [*train("zebra.png", "old.png", "--separate"), "--set", "training.width=1000000000"],
        1,
        ("for each of 2 models", "memory"),
    ),
    "many in a run": Case(
        [*LEARN, "--separate", "-o", "run", "-q"], 1, ("run is the directory of a run",)
    ),
    "crop outside": Case(train("zebra.png", "--crop", "99x99"), 2, ("99x99", "24x20")),
    "crop of words": Case(train("zebra.png", "--crop", "middle"), 2, ("WIDTHxHEIGHT+X+Y",)),
    # settings
    "unknown preset": Case(train("zebra.png", "--preset", "drft"), 2, ("did you mean 'draft'",)),
    "unknown loss": Case(train("zebra.png", "--loss", "patsh"), 2, ("did you mean 'patch'",)),
    "unknown outside loss": Case(train("zebra.png", "--loss", "no.where:Loss"), 2, ("no.where",)),
    "unknown network": Case(train("zebra.png", "--features", "vgg17"), 2, ("vgg17", "vgg16")),
    "unknown setting": Case(
        train("zebra.png", "--set", "training.pool=3"), 2, ("training.pool", "'pool_size'")
    ),
    "unknown loss option": Case(
        train("zebra.png", "--set", "sliced.sample=3"), 2, ("did you mean 'samples'",)
    ),
    "a loss option of another type": Case(
        train("zebra.png", "--set", "sliced.layer_weights=3"),
        2,
        ("sliced.layer_weights is 3", "expected a list"),
    ),
    "setting of the wrong type": Case(
        train("zebra.png", "--set", "training.width=wide"), 2, ("training.width", "whole number")
    ),
    "unknown key in TOML": Case(
        train("zebra.png", "--config", "unknown.toml"), 2, ("unknown.toml", "did you mean 'hidden'")
    ),
    "unknown preset in TOML": Case(
        train("zebra.png", "--config", "preset.toml"), 2, ("did you mean 'best'",)
    ),
    "unknown loss in TOML": Case(
        train("zebra.png", "--config", "loss.toml"), 2, ("did you mean 'gram'",)
    ),
    "not TOML": Case(train("zebra.png", "--config", "text.png"), 2, ("text.png", "not TOML")),
    "missing TOML": Case(train("zebra.png", "--config", "no.toml"), 1, ("no.toml",)),
    "wrong time": Case(train("zebra.png", "--time", "soon"), 2, ("'soon'", "10m")),
    "time and iterations": Case(
        train("zebra.png", "--time", "9s", "--iterations", "3"), 2, ("not both",)
    ),
    "no iterations": Case(train("zebra.png", "--iterations", "0"), 2, ("at least 1",)),
    "training far too wide": Case(
        train("zebra.png", "--set", "training.width=1000000000"), 1, ("memory", "training.width")
    ),
    "unknown edge": Case(train("zebra.png", "--edge", "z"), 2, ("automaton.edge", "xy")),
    "unknown task": Case(train("zebra.png", "--task", "texure"), 2, ("texure", "texture")),
    "unknown kernel": Case(train("zebra.png", "--kernel", "quick"), 2, ("'quick'", "reference")),
    "unknown device": Case(train("zebra.png", "--device", "gpu"), 2, ("'gpu'", "cuda")),
    "missing CUDA": Case(train("zebra.png", "--device", "cuda:99"), 3, ("cuda:99", "--device cpu")),
    "missing weights": Case(
        train("zebra.png", "--loss", "sliced", "--features", "vgg16"), 3, ("vgg16",), OFFLINE
    ),
    "missing weights file": Case(
        train("zebra.png", "--features", "vgg16", "--weights", "no.safetensors"),
        1,
        ("no.safetensors",),
        OFFLINE,
    ),
    "fetching offline": Case(["weights", "fetch", "vgg16"], 3, ("NCA_TEXTURE_OFFLINE",), OFFLINE),
    "unknown option": Case(["train", "--presset", "best"], 2, ("--presset", "--help")),
    "unknown command": Case(["trane"], 2, ("trane", "--help")),
    "missing argument": Case(["tile"], 2, ("MODEL", "--help")),
    "iterations of words": Case(["train", "--iterations", "many"], 2, ("--iterations", "--help")),
    # tiles
    "size 0": Case(tile("run", "--size", "0"), 2, ("'0'", "1x1")),
    "size 10^9": Case(tile("run", "--size", "1000000000"), 1, ("new.png", "disk", "--size")),
    "negative size": Case(tile("run", "--size=-4x4"), 2, ("-4x4",)),
    "size of words": Case(tile("run", "--size", "large"), 2, ("'large'", "WIDTHxHEIGHT")),
    "depth 12": Case(tile("run", "--depth", "12"), 2, ("12", "half or float")),
    "depth of another format": Case(tile("run", "--depth", "half"), 2, ("half", "PNG", "8 or 16")),
    "linear in 8 bits": Case(tile("run", "--space", "linear"), 2, ("linear", "--depth 16")),
    "unknown space": Case(tile("run", "--space", "hsv"), 2, ("hsv", "srgb or linear")),
    "memory of words": Case(tile("run", "--memory", "much"), 2, ("'much'", "1GB")),
    "memory of nothing": Case(tile("run", "--memory", "0"), 2, ("'0'", "1GB")),
    "too little memory": Case(
        tile("run", "--size", "4096", "--steps", "9999", "--memory", "1MB"), 1, ("MB", "--memory")
    ),
    "too large for WebP": Case(
        ["tile", "run", "-o", "new.webp", "--size", "20000x8"], 1, ("16383", "20000x8", ".png")
    ),
    "negative steps": Case(tile("run", "--steps=-1"), 2, ("-1", "0 or more")),
    "wrong proof": Case(tile("run", "--proof", "3by3"), 2, ("3by3",)),
    "not a picture's name": Case(["tile", "run", "-o", "new.tga"], 2, ("new.tga", ".png", ".exr")),
    "overwrite a proof": Case(
        ["tile", "run", "-o", "ze.png", "--proof", "2x2"], 1, ("ze_proof.png exists", "--force")
    ),
    "an unfinished picture of something else": Case(
        ["tile", "run", "-o", "load.png", "--size", "16"], 1, ("load.png.part", "--force")
    ),
    "overwrite": Case(["tile", "run", "-o", "zebra.png"], 1, ("zebra.png exists", "--force")),
    "overwrite a sample": Case(
        ["samples", "bricks", "-o", "zebra.png"], 1, ("zebra.png exists", "--force")
    ),
    "overwrite a run": Case([*LEARN, "-o", "run", "-q"], 1, ("not empty", "--resume", "--force")),
    "a run in place of a file": Case([*LEARN, "-o", "zebra.png", "-q"], 1, ("is a file",)),
    # files of ours
    "missing model": Case(tile("nothing.safetensors"), 1, ("nothing.safetensors",)),
    "folder without a model": Case(tile("empty-folder"), 1, ("no model.safetensors",)),
    "foreign model": Case(tile("zebra.png"), 1, ("zebra.png", "not a model")),
    "foreign safetensors": Case(tile("foreign.safetensors"), 1, ("foreign.safetensors", "another")),
    "newer model": Case(tile("newer.safetensors"), 1, ("nca-texture/9", "upgrade")),
    "truncated model": Case(tile("cut.safetensors"), 1, ("cut.safetensors", "cut off")),
    "model cut in its header": Case(tile("stump.safetensors"), 1, ("stump.safetensors", "cut off")),
    "damaged model": Case(tile("damaged.safetensors"), 1, ("damaged.safetensors", "damaged")),
    "empty model": Case(["info", "empty.safetensors"], 1, ("empty.safetensors",)),
    "a checkpoint for a model": Case(
        tile("run/checkpoint.safetensors"), 1, ("checkpoint", "expected a model")
    ),
    "start from a foreign file": Case(
        train("zebra.png", "--from", "foreign.safetensors"), 1, ("foreign.safetensors",)
    ),
    "resume nothing": Case(["train", "--resume", "nothing"], 1, ("nothing",)),
    "resume without checkpoint": Case(["train", "--resume", "empty-folder"], 1, ("checkpoint",)),
    "resume what is complete": Case(["train", "--resume", "run"], 2, ("complete", "--from")),
    "resume otherwise": Case(["train", "--resume", "run", "--seed", "1"], 2, ("--seed", "--from")),
    **{
        f"resume from a {kind} checkpoint": Case(["train", "--resume", f"{kind}-run"], 1, (word,))
        for kind, word in {
            "truncated": "cut off",
            "newer": "upgrade",
            "damaged": "damaged",
            "swapped": "is a model file",
        }.items()
    },
    # places
    "tile below a file": Case(["tile", "run", "-o", "zebra.png/new.png"], 1, ("is a file",)),
    "train below a file": Case([*LEARN, "-o", "zebra.png/run"], 1, ("is a file",)),
    "tile in /proc": Case(["tile", "run", "-o", "/proc/new.png"], 1, ("cannot write /proc",)),
    "train in /proc": Case([*LEARN, "-o", "/proc/run"], 1, ("cannot write /proc/run",)),
    "sample in /proc": Case(["samples", "bricks", "-o", "/proc/new.png"], 1, ("/proc/new.png",)),
    "disk full under a tile": Case(
        ["tile", "run", "-o", "old.png", "--size", "64", "--force", "-q"],
        1,
        ("cannot write old.png", "too large"),
        most_bytes=300,
    ),
    "disk full under a run": Case(
        [*LEARN, "-o", "old-run", "--force", "-q", "--iterations", "4"],
        1,
        ("cannot write old-run", "too large"),
        most_bytes=2000,
    ),
}

ACCEPTED = {
    "cmyk.jpg": "CMYK",
    "palette.png": "palette.png 12x",
    "deep.png": "16 bits",
    "turned.jpg": "turned upright",
    "grey.png": "grey.png 12x",
    "moving.gif": "animated (2 frames)",
    "pictures": "(2 pictures)",
    "half.png": "laid over white",
}


def sentence_of(done: Any) -> str:
    """Return the one sentence that a failure said, or fail."""
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert len(done.stderr) < 400
    return done.stderr


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """Write a PNG file that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def draw_pictures(place: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    picture = Image.fromarray(pixels)
    upright = picture.crop((0, 0, 12, 16))
    for name in ("zebra.png", "old.png"):
        picture.save(place / name)
    (place / "text.png").write_text("Hello, I am not a picture at all.\n")
    (place / "empty.png").touch()
    whole = (place / "zebra.png").read_bytes()
    (place / "cut.png").write_bytes(whole[: len(whole) // 2])
    picture.resize((240, 200)).save(place / "cut.jpg")
    whole = (place / "cut.jpg").read_bytes()
    (place / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (place / "nopixels.png").write_bytes(png_of_size(0, 0))
    (place / "vast.png").write_bytes(png_of_size(60000, 60000))
    clear = np.zeros((16, 16, 4), np.uint8)
    Image.fromarray(clear).save(place / "clear.png")
    clear[4:12, 4:12] = 255
    Image.fromarray(clear).save(place / "half.png")
    picture.crop((0, 0, 7, 7)).save(place / "small.png")
    (place / "ze_proof.png").write_bytes(whole)
    (place / "load.png.part").write_bytes(b"half a download")
    (place / "empty-folder").mkdir()
    (place / "empty-folder" / "notes.txt").write_text("no pictures\n")

    upright.convert("CMYK").save(place / "cmyk.jpg")
    upright.quantize(8).save(place / "palette.png")
    Image.fromarray(pixels[:16, :12, 0].astype(np.uint16) * 257).save(place / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(place / "turned.jpg", exif=exif)
    upright.convert("L").save(place / "grey.png")
    upright.save(place / "moving.gif", save_all=True, append_images=[upright.rotate(180)])
    (place / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        upright.save(place / "pictures" / name)

    (place / "unknown.toml").write_text("[automaton]\nhiden = 8\n")
    (place / "preset.toml").write_text('preset = "bestt"\n')
    (place / "loss.toml").write_text('[[losses]]\nname = "gramm"\n')


def spoil_files(place: Path) -> None:
    """Make every kind of damage from a good run."""
    model = place / "run" / "model.safetensors"
    checkpoint = place / "run" / "checkpoint.safetensors"
    tensors, whole = load_file(model), model.read_bytes()
    save_file(tensors, place / "foreign.safetensors", {"format": "pt"})
    save_file(tensors, place / "newer.safetensors", {"format": "nca-texture/9"})
    (place / "empty.safetensors").touch()
    (place / "cut.safetensors").write_bytes(whole[:-40])
    (place / "stump.safetensors").write_bytes(whole[:100])
    (place / "damaged.safetensors").write_bytes(
        whole.replace(b'\\"hidden\\": 8', b'\\"hidden\\": 7')
    )
    saved = checkpoint.read_bytes()
    spoiled = {
        "truncated": saved[:-100],
        "newer": saved.replace(b"nca-texture-checkpoint/1", b"nca-texture-checkpoint/7"),
        "damaged": saved.replace(b'\\"numbers\\"', b'\\"nummers\\"'),
        "swapped": whole,
    }
    for kind, data in spoiled.items():
        (place / f"{kind}-run").mkdir()
        (place / f"{kind}-run" / "checkpoint.safetensors").write_bytes(data)
    (place / "old-run").mkdir()
    for path in (model, checkpoint):
        (place / "old-run" / path.name).write_bytes(path.read_bytes())


def fingerprints(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def place(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of good and bad files, with one real run."""
    place = tmp_path_factory.mktemp("bad-input")
    draw_pictures(place)
    done = command([*LEARN, "-o", "run", "--iterations", "2"], place)
    assert done.returncode == 0, done.stderr
    spoil_files(place)
    return place


@pytest.fixture(scope="module")
def before(place: Path) -> dict[str, str]:
    return fingerprints(place)


@pytest.mark.parametrize("name", CASES)
def test_every_failure_is_one_sentence_and_an_exit_code(
    name: str, command: Any, place: Path, before: dict[str, str]
) -> None:
    case = CASES[name]
    done = command(case.args, place, case.env, case.most_bytes)
    assert done.returncode == case.code, done.stderr
    sentence = sentence_of(done)
    for word in case.words:
        assert word in sentence


@pytest.mark.parametrize("name", ACCEPTED)
def test_pictures_of_every_kind_are_read_with_a_note(
    name: str, command: Any, place: Path, before: dict[str, str]
) -> None:
    done = command(["train", name, "--dry-run", "--task", "texture", *TINY], place)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert ACCEPTED[name] in done.stderr


WHOLE = {
    "failed": "truncated PNG",
    "usage": "unknown option",
    "setting": "unknown setting",
    "missing": "missing weights",
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_new_interpreter_says_the_same(
    kind: str, whole_command: Any, place: Path, before: dict[str, str]
) -> None:
    case = CASES[WHOLE[kind]]
    done = whole_command.run(case.args, place, case.env)
    assert done.returncode == case.code, done.stderr
    sentence = sentence_of(done)
    for word in case.words:
        assert word in sentence


def test_nothing_that_existed_was_changed_and_nothing_was_left_behind(
    place: Path, before: dict[str, str]
) -> None:
    after = fingerprints(place)
    assert {name: after.get(name) for name in before} == before
    # a run that cannot save has begun its log in the directory it was told to replace
    assert {name for name in after.keys() - before.keys() if "old-run" not in name} == set()
    assert [path.name for path in place.rglob("*.part")] == ["load.png.part"]
    load_model(place / "old-run")
    assert load_checkpoint(place / "old-run" / "checkpoint.safetensors")[0].iteration == 2


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 24 kB; skips where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(command: Any, place: Path, mounted: Path) -> None:
    done = command([*LEARN, "-o", str(mounted / "run"), "-q", "--iterations", "2"], place)
    assert done.returncode == 1
    assert "the disk is full" in sentence_of(done)


@pytest.mark.parametrize("side", [76, 90, 512], ids=["file", "canvas", "at all"])
def test_a_disk_that_a_picture_fills(side: int, command: Any, place: Path, mounted: Path) -> None:
    # 76 x 76: room for the canvas, not for the file beside it; 90 x 90: not even for the canvas
    done = command(["tile", "run", "-o", str(mounted / "a.png"), "--size", str(side), "-q"], place)
    assert done.returncode == 1
    assert "disk" in sentence_of(done)
    assert list(mounted.iterdir()) == []


def test_a_disk_that_is_read_only(command: Any, place: Path, mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for args in (
        [*LEARN, "-o", str(mounted / "run")],
        ["tile", "run", "-o", str(mounted / "a.png")],
    ):
        done = command(args, place)
        assert done.returncode == 1
        assert "read-only" in sentence_of(done)


def test_two_runs_never_share_a_directory(command: Any, place: Path, tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    args = [*LEARN, "-o", str(directory), "-q", "--iterations", "1000000"]
    first = command.start(args, place)
    try:
        wait_for(directory / "log.jsonl")
        second = command([*args, "--force"], place)
        assert second.returncode == 1
        assert "in use by another run" in sentence_of(second)
    finally:
        first.signal(signal.SIGTERM)
        done = first.wait()
    assert done.returncode == 143, done.stderr
    assert load_checkpoint(directory / "checkpoint.safetensors")[0].iteration > 0


NAN_LOSS = """
from nca_texture.losses.base import Loss

class NanLoss(Loss):
    def __init__(self, target, *, good=0):
        super().__init__()
        self.good = good
        self.calls = 0

    def forward(self, grown, generator):
        self.calls += 1
        bad = float("nan") if self.calls > self.good else 1.0
        return (grown.image - 0.7).square().mean((1, 2, 3)) * bad
"""


def test_a_loss_that_is_not_a_number_goes_back_three_times_and_stops(
    command: Any, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "own_losses.py").write_text(NAN_LOSS)
    args = [*LEARN, "-o", str(tmp_path / "run"), "--loss", "own_losses:NanLoss"]
    args = without_loss(args)
    args += ["--set", "training.judge_every=0", "--set", "own_losses:NanLoss.good=13"]
    args += ["--iterations", "200", "--checkpoint-every", "0"]
    done = command(args, place, {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("the loss is not a number") == 4
    assert done.stderr.count("went back to iteration") == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "training.learning_rate" in last
    automaton, _, _ = load_model(tmp_path / "run")
    assert all(value.isfinite().all() for value in automaton.state_dict().values())
    snapshot, _, _ = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert all(value.isfinite().all() for value in snapshot.weights.values())
    assert snapshot.pool.isfinite().all()
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_one_of_many_that_cannot_be_trained_is_named_and_the_others_are_written(
    command: Any, place: Path, tmp_path: Path
) -> None:
    picky = NAN_LOSS.replace(
        "super().__init__()", "super().__init__(); self.dark = target.mean() < 0.4"
    )
    picky = picky.replace("self.calls > self.good", "self.dark and self.calls > self.good")
    (tmp_path / "picky_losses.py").write_text(picky)
    Image.fromarray(np.full((16, 16, 3), 40, np.uint8)).save(tmp_path / "dark.png")
    args = ["train", "zebra.png", str(tmp_path / "dark.png"), "old.png", "--separate", *TINY]
    args = without_loss(args)
    args += ["--loss", "picky_losses:NanLoss", "--set", "training.judge_every=0"]
    args += ["--iterations", "30", "-o", str(tmp_path / "many"), "--exemplar-size", "16"]
    done = command(args, place, {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("dark: the loss is not a number") == 5
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: 1 of 3 models could not be trained: dark: the loss is not")
    for name in ("zebra", "old"):
        load_model(tmp_path / "many" / name)
        checkpoint = tmp_path / "many" / name / "checkpoint.safetensors"
        assert load_checkpoint(checkpoint)[0].iteration == 30


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)
