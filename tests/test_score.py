"""``nca-texture score`` as a user runs it: tables, JSON, where the target is found, bad input."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

if TYPE_CHECKING:
    from conftest import Command

QUICK = ["--features", "compact", "--size", "32", "--samples", "1", "--steps", "2,4"]


@pytest.fixture(scope="module")
def place(command: "Command", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on a picture, by a path relative to the folder, and on a sample."""
    folder = tmp_path_factory.mktemp("score")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "stones.png")
    short = [*TINY, "--iterations", "2", "--exemplar-size", "40", "-q"]
    for source, run in (("stones.png", "stones"), ("sample:zebra", "zebra")):
        done = command(["train", source, "-o", run, *short], folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_a_model_is_scored_in_a_table(command: "Command", place: Path) -> None:
    done = command(["score", "zebra", *QUICK, "--samples", "2"], place)
    assert done.returncode == 0, done.stderr
    for word in ("style compact *", "patches *", "spectrum", "colour", "seam", "4 steps"):
        assert word in done.stdout
    for word in ("drift", "recovery", "diversity", "copied", "kernel", "parameters", "to change"):
        assert word in done.stdout
    assert "sample:zebra" in done.stdout
    assert "growing 2 samples of 32x32" in done.stderr


def test_a_model_is_scored_as_json(command: "Command", place: Path) -> None:
    done = command(["score", "zebra/model.safetensors", "--json", "-q", *QUICK], place)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert [look["steps"] for look in result["looks"]] == [2, 4]
    assert result["trained"] == ["style compact", "patches"]
    assert result["bytes"] == (place / "zebra" / "model.safetensors").stat().st_size
    assert result["trained_steps"] == 3
    assert result["cost"]["milliseconds"] > 0
    assert {"name", "saw", "change"} == set(result["faults"][0])


def test_a_score_can_be_repeated(command: "Command", place: Path) -> None:
    args = ["score", "zebra", "--json", "-q", "--seed", "moss", *QUICK]
    first, second = (json.loads(command(args, place).stdout) for _ in range(2))
    for result in (first, second):
        del result["cost"]
    assert first == second


def test_a_picture_is_scored_against_any_other(command: "Command", place: Path) -> None:
    args = ["score", "stones.png", "--target", "sample:lava", "--exemplar-size", "64"]
    done = command([*args, "--features", "compact"], place)
    assert done.returncode == 0, done.stderr
    assert "style compact" in done.stdout
    assert "sample:lava" in done.stdout


def test_the_target_is_found_where_the_run_says_or_in_its_checkpoint(
    command: "Command", place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "stones", tmp_path / "moved")
    assert "stones.png" in command(["score", "moved", *QUICK], tmp_path).stdout
    (tmp_path / "moved" / "checkpoint.safetensors").unlink()
    lost = command(["score", "moved", *QUICK], tmp_path)
    assert lost.returncode == 1
    assert "stones.png" in lost.stderr
    assert "give it with --target" in lost.stderr
    given = ["score", "moved", "--target", str(place / "stones.png"), *QUICK]
    assert command(given, tmp_path).returncode == 0
    shutil.copy(place / "stones.png", tmp_path)
    assert command(["score", "moved", *QUICK], tmp_path).returncode == 0


def test_another_picture_is_not_the_target(command: "Command", place: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "stones.png")
    other = command(
        ["score", str(place / "stones"), "--target", str(tmp_path / "stones.png"), *QUICK], tmp_path
    )
    assert other.returncode == 1
    assert "is not the stones.png that" in other.stderr


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["stones.png"], 2, "which target? give one"),
        (["zebra", "--steps", "0,5"], 2, "'0,5' are no steps"),
        (["zebra", "--samples", "0"], 2, "samples is 0; give 1 to 64"),
        (["zebra", "--size", "9999"], 2, "at most 1024x1024 cells"),
        (["zebra", "--crop", "square"], 2, "--crop and --exemplar-size are for pictures"),
        (["zebra", "--features", "vgg99"], 2, "no network is called 'vgg99'"),
        (["nothing.safetensors"], 1, "there is no file nothing.safetensors"),
        (["nothing.png", "--target", "sample:zebra"], 1, "nothing.png"),
        (["stones.png", "--target", "sample:stripes"], 2, "no sample is called 'stripes'"),
    ],
)
def test_bad_input_is_one_sentence(
    command: "Command", place: Path, args: list[str], code: int, sentence: str
) -> None:
    done = command(["score", *args], place)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
