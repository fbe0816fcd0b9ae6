"""A picture on the way: it is gone on with, never mixed up, and never under its final name."""

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning import scramble
from numpy.testing import assert_array_equal
from PIL import Image

from nca_texture.canvas import Canvas, columns_of, part_of
from nca_texture.errors import InputError
from nca_texture.kernels.rule import Limits
from nca_texture.recipe import AutomatonPlan, Recipe
from nca_texture.store import save

JOB = {"seed": 1}


def canvas(path: Path, **changes: Any) -> Canvas:
    settings: dict[str, Any] = {"columns": 5, "job": JOB} | changes
    return Canvas(path, (7, 9), 3, "uint16", settings.pop("job"), **settings)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, (7, 9, 3), np.uint16)


def test_what_is_put_in_is_read_again(tmp_path: Path) -> None:
    image = pixels()
    with canvas(tmp_path / "a.png") as found:
        for left, right in ((0, 5), (5, 9)):
            for top, bottom in ((0, 3), (3, 7)):
                found.put(top, left, image[top:bottom, left:right])
        assert found.share == 1
        assert_array_equal(found.read(0, 7), image)
        assert_array_equal(found.read(2, 5), image[2:5])
        found.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_canvas_is_gone_on_with(tmp_path: Path) -> None:
    image = pixels()
    with canvas(tmp_path / "a.png") as first:
        first.put(0, 0, image[:, :5])
        first.put(0, 5, image[:2, 5:])
        share = first.share
    assert columns_of(tmp_path / "a.png") == 5
    with canvas(tmp_path / "a.png", columns=9) as second:
        assert (second.block, second.row, second.columns) == (1, 2, 5)
        assert second.share == share == (7 * 5 + 2 * 4) / 63
        second.put(2, 5, image[2:, 5:])
        assert_array_equal(second.read(0, 7), image)


def test_a_canvas_of_another_job_is_left_alone_unless_forced(tmp_path: Path) -> None:
    with canvas(tmp_path / "a.png") as first:
        first.put(0, 0, pixels()[:, :5])
    before = part_of(tmp_path / "a.png").read_bytes()
    other = canvas(tmp_path / "a.png", job={"seed": 2})
    with pytest.raises(InputError, match="unfinished picture of another kind"), other:
        pass
    assert part_of(tmp_path / "a.png").read_bytes() == before
    with canvas(tmp_path / "a.png", job={"seed": 2}, force=True) as forced:
        assert forced.share == 0


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    part_of(tmp_path / "a.png").write_bytes(b"half a download")
    with (
        pytest.raises(InputError, match="unfinished picture of another kind"),
        canvas(tmp_path / "a.png"),
    ):
        pass
    assert part_of(tmp_path / "a.png").read_bytes() == b"half a download"
    assert columns_of(tmp_path / "a.png") is None


def test_two_processes_do_not_share_a_canvas(tmp_path: Path) -> None:
    with (
        canvas(tmp_path / "a.png"),
        pytest.raises(InputError, match="another process"),
        canvas(tmp_path / "a.png"),
    ):
        pass


def test_a_full_disk_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match="the disk is full"), canvas(tmp_path / "a.png"):
        pass
    assert list(tmp_path.iterdir()) == []


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model that does something."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    limits = Limits(state=1.0)  # long growth stays finite
    recipe = Recipe(automaton=AutomatonPlan(channels=6, hidden=16, limits=limits))
    automaton = recipe.build_automaton()
    scramble(automaton, 2, 0.15)
    save(path, automaton, recipe)
    return path


def tile(model: Path, *options: str) -> list[str]:
    size = ["--size", "700x1500", "--steps", "40", "--memory", "16MB"]
    return ["tile", str(model), "-o", "big.png", *size, *options]


@pytest.fixture(scope="module")
def uninterrupted(command: Any, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("uninterrupted")
    done = command(tile(model), place)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in place.iterdir()] == ["big.png"]
    return place / "big.png"


def wait_for_rows(path: Path) -> None:
    """Wait until some pixels are there: not all of the numbers are zero."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists():
            with path.open("rb") as file:
                file.seek(4096)
                if any(file.read(2000)):
                    return
        time.sleep(0.01)
    pytest.fail(f"{path} never came")


def test_a_picture_kept_whole_goes_on_from_its_state(
    command: Any, model: Path, tmp_path: Path
) -> None:
    args = ["tile", str(model), "--size", "96x64", "--steps", "8000", "-o"]
    going = command.start([*args, "long.png"], tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "long.png.part").exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.5)
    going.signal(signal.SIGINT)
    done = going.wait()
    assert done.returncode == 130, done.stderr
    assert "stopped and saved; go on with: nca-texture tile" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"long.png.part", "long.png.part.state"}
    about = json.loads((tmp_path / "long.png.part.state").read_bytes()[:4096])
    assert 0 < about["steps"] < 8000
    again = command([*args, "long.png"], tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"going on with long.png.part at step {about['steps']}" in again.stderr
    assert command([*args, "whole.png", "-q"], tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"long.png", "whole.png"}
    assert (tmp_path / "long.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_picture_with_its_states_on_disk_goes_on_from_them(
    number: int, command: Any, model: Path, tmp_path: Path
) -> None:
    args = ["tile", str(model), "--size", "128", "--steps", "300", "-o"]
    little = ["--memory", "2MB"]
    told = json.loads(command([*args, "a.png", *little, "--dry-run", "--json"], tmp_path).stdout)
    assert told["way"] == "disk"
    assert told["memory"] <= 2 << 20
    assert told["disk"] == 128 * 128 * 3 + 4096 + 2 * 4 * 6 * 128 * 128
    going = command.start([*args, "a.png", *little], tmp_path)
    states, steps = tmp_path / "a.png.part.state", 0
    until = time.monotonic() + 60
    while steps == 0 and time.monotonic() < until:
        time.sleep(0.01)
        if states.exists() and (said := states.read_bytes()[:4096].strip(b"\0 \n")):
            steps = json.loads(said)["steps"]
    going.signal(number)
    assert going.wait().returncode == (130 if number == signal.SIGINT else -9)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png.part", states.name}
    again = command([*args, "a.png", *little], tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on with a.png.part at step" in again.stderr
    assert command([*args, "b.png", "-q"], tmp_path).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
    assert_array_equal(
        np.asarray(Image.open(tmp_path / "a.png")), np.asarray(Image.open(tmp_path / "b.png"))
    )


def test_a_state_of_another_job_is_not_gone_on_with(tmp_path: Path) -> None:
    cells = np.random.default_rng(0).random((1, 4, 7, 9), np.float32)
    with canvas(tmp_path / "a.png") as found:
        assert found.load_state() is None
        found.save_state(8, cells)
        steps, read = found.load_state() or (0, None)
        assert steps == 8
        assert_array_equal(read, cells)
    with canvas(tmp_path / "a.png", job={"seed": 2}, force=True) as other:
        assert other.load_state() is None
        other.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_render_that_was_stopped_goes_on_to_the_same_bytes(
    number: int, command: Any, model: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    going = command.start(tile(model), tmp_path)
    wait_for_rows(tmp_path / "big.png.part")
    if number == signal.SIGKILL:
        time.sleep(0.3)
    going.signal(number)
    done = going.wait()
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert done.returncode == codes[signal.Signals(number)], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["big.png.part"]
    if number != signal.SIGKILL:
        assert "and saved; go on with: nca-texture tile" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    header = json.loads((tmp_path / "big.png.part").read_bytes()[:4096])
    again = command(tile(model), tmp_path)
    assert again.returncode == 0, again.stderr
    if header["row"] or header["block"]:
        assert "going on with big.png.part at" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["big.png"]
    assert (tmp_path / "big.png").read_bytes() == uninterrupted.read_bytes()


def test_a_stopped_render_is_not_gone_on_with_by_another_seed(
    command: Any, model: Path, tmp_path: Path
) -> None:
    going = command.start(tile(model), tmp_path)
    wait_for_rows(tmp_path / "big.png.part")
    going.signal(signal.SIGINT)
    going.wait()
    other = command(tile(model, "--seed", "5"), tmp_path)
    assert other.returncode == 1
    assert "unfinished picture of another kind" in other.stderr
    assert "--force" in other.stderr


def test_budgets_change_no_bit(
    command: Any, model: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    for name, memory in (("free", "2GB"), ("tight", "6MB")):
        args = tile(model, "-q")
        args[args.index("--memory") + 1] = memory
        args[args.index("big.png")] = f"{name}.png"
        done = command(args, tmp_path)
        assert done.returncode == 0, done.stderr
        assert_array_equal(
            np.asarray(Image.open(tmp_path / f"{name}.png")), np.asarray(Image.open(uninterrupted))
        )


def test_a_dry_run_says_time_memory_and_disk_and_writes_nothing(
    command: Any, model: Path, tmp_path: Path
) -> None:
    args = ["tile", str(model), "-o", "big.png", "--size", "65536", "--steps", "64", "--dry-run"]
    done = command([*args, "--memory", "1GB"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "65536x65536 pixels, 64 steps: about" in done.stderr
    assert "MB of memory" in done.stderr
    assert "12288 MB of disk" in done.stderr
    told = json.loads(command([*args, "--memory", "50MB", "--json"], tmp_path).stdout)
    assert told["memory"] <= 50 << 20
    assert told["way"] == "columns"
    assert told["seconds"] > 0
    assert list(tmp_path.iterdir()) == []
