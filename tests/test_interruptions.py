"""A run that is stopped, politely or not, goes on to what it would have become."""

import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from nca_texture.runs import CHECKPOINT, LOG, MODEL
from nca_texture.store import load_checkpoint, load_model

ITERATIONS = 400
SETTINGS = tiny.SETTINGS | {
    "training.width": 12,
    "training.height": 12,
    "training.steps": [2, 4],
    "training.pool_size": 4,
    "training.judge_every": 25,
    "training.judge_steps": 6,
}
TRAIN = [
    *("train", "sample:bubbles", "--exemplar-size", "12", "--iterations", str(ITERATIONS)),
    *tiny.arguments(SETTINGS),
]


def weights_of(run: Path) -> dict[str, Tensor]:
    return load_model(run / MODEL)[0].state_dict()


def assert_same_run(run: Path, other: Path) -> None:
    """Compare the model and all of the last state, to the bit."""
    here, there = weights_of(run), weights_of(other)
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert torch.equal(value, there[name]), name
    mine, theirs = (load_checkpoint(path / CHECKPOINT)[0] for path in (run, other))
    assert mine.iteration == theirs.iteration == ITERATIONS
    assert mine.best_iteration == theirs.best_iteration
    assert torch.equal(mine.pool, theirs.pool)
    for name, value in mine.weights.items():
        assert torch.equal(value, theirs.weights[name]), name
    assert (run / MODEL).read_bytes() == (other / MODEL).read_bytes()


def logged(run: Path) -> list[int]:
    lines = (run / LOG).read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without a break."""
    place = tmp_path_factory.mktemp("uninterrupted")
    done = command([*TRAIN, "-o", "run", "-q"], place)
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_saves_says_how_to_go_on_and_nothing_is_different_then(
    number: int, code: int, command: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    going = command.start([*TRAIN, "-o", "run"], tmp_path)
    wait_for(tmp_path / "run" / LOG)
    going.signal(number)
    done = going.wait()
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    found = re.fullmatch(
        r"stopped at iteration (\d+) and saved; go on with: nca-texture (train --resume run)", last
    )
    assert found, done.stderr
    snapshot, _, _ = load_checkpoint(tmp_path / "run" / CHECKPOINT)
    assert snapshot.iteration == int(found[1])
    assert 0 < snapshot.iteration < ITERATIONS
    load_model(tmp_path / "run")

    again = command(found[2].split(), tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"going on with run at iteration {snapshot.iteration}" in again.stderr
    assert_same_run(tmp_path / "run", uninterrupted)
    assert logged(tmp_path / "run") == logged(uninterrupted)


def test_many_that_were_stopped_go_on_together(
    command: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    other = [*TRAIN, "--set", "automaton.hidden=4", "--checkpoint-every", "0", "-o", "runs/other"]
    going = command.start(other, tmp_path)
    wait_for(runs / "other" / CHECKPOINT)
    going.signal(signal.SIGINT)
    assert going.wait().returncode == 130

    going = command.start(["train", "sample:bricks", *TRAIN[1:], "--separate"], tmp_path)
    wait_for(runs / "bubbles" / LOG)
    going.signal(signal.SIGINT)
    done = going.wait()
    assert done.returncode == 130, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith("go on with: nca-texture train --resume runs")
    snapshots = [load_checkpoint(runs / name / CHECKPOINT)[0] for name in ("bubbles", "bricks")]
    assert 0 < snapshots[0].iteration == snapshots[1].iteration < ITERATIONS

    again = command(["train", "--resume", "runs"], tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"going on with 2 runs in runs at iteration {snapshots[0].iteration}" in again.stderr
    assert "left out: runs/other, where automaton.hidden is 4, not 8" in again.stderr
    assert_same_run(runs / "bubbles", uninterrupted)
    assert logged(runs / "bubbles") == logged(uninterrupted)
    assert load_checkpoint(runs / "bricks" / CHECKPOINT)[0].iteration == ITERATIONS

    left = command(["train", "--resume", "runs", "--print-config"], tmp_path)
    assert "hidden = 4" in left.stdout
    (runs / "other" / CHECKPOINT).unlink()
    done = command(["train", "--resume", "runs"], tmp_path)
    assert done.returncode == 2
    assert "left out: runs/other, which has not saved anything yet" in done.stderr
    assert "all 2 runs in runs are complete" in done.stderr


def test_a_second_signal_stops_at_once_and_loses_nothing(command: Any, tmp_path: Path) -> None:
    slow = ["--set", "training.judge_every=1", "--set", "training.judge_steps=200000"]
    going = command.start([*TRAIN, "--iterations", "2", "-o", "run", *slow], tmp_path)
    wait_for(tmp_path / "run" / "recipe.toml")
    time.sleep(0.5)  # in the first long roll-out by now, which takes a minute
    going.signal(signal.SIGINT)
    time.sleep(0.2)
    going.signal(signal.SIGINT)
    began = time.monotonic()
    done = going.wait()
    assert time.monotonic() - began < 10
    assert done.returncode == 130
    assert "stopping after this iteration" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in done.stderr


def test_twenty_kills_lose_nothing_but_what_came_after_the_newest_checkpoint(
    command: Any, uninterrupted: Path, tmp_path: Path
) -> None:
    chance = random.Random(0)
    run, saved = tmp_path / "run", 0
    options = ["-q", "--checkpoint-every", "0"]
    begin = [*TRAIN, "-o", "run", *options]
    go_on = ["train", "--resume", "run", *options]
    going = command.start(begin, tmp_path)
    for _ in range(20):
        time.sleep(chance.uniform(0.02, 0.9))
        going.signal(signal.SIGKILL)  # of one that is through already it finds the remains
        going.wait()
        assert len(list(run.glob(".*.part"))) <= 1
        if not (run / CHECKPOINT).exists():
            assert not (run / MODEL).exists()
            shutil.rmtree(run, ignore_errors=True)
            going = command.start(begin, tmp_path)
            continue
        snapshot, recipe, _ = load_checkpoint(run / CHECKPOINT)
        assert recipe.training.iterations == ITERATIONS
        assert snapshot.iteration >= saved
        saved = snapshot.iteration
        if (run / MODEL).exists():
            load_model(run)
        if saved == ITERATIONS:  # again, until there were twenty
            shutil.rmtree(run)
            saved = 0
            going = command.start(begin, tmp_path)
        else:
            going = command.start(go_on, tmp_path)
    done = going.wait()
    assert done.returncode == 0, done.stderr
    assert not list(run.glob(".*.part"))
    assert_same_run(run, uninterrupted)
    assert logged(run) == logged(uninterrupted)


def test_files_aside_of_writers_at_work_are_spared(tmp_path: Path) -> None:
    from nca_texture.files import atomic_write, remove_stale_parts

    (tmp_path / ".0123456789abcdef.part").write_bytes(b"left by a kill")
    (tmp_path / ".mine.part").write_bytes(b"somebody else's")
    with atomic_write(tmp_path / "new.txt") as file:
        file.write(b"new")
        remove_stale_parts(tmp_path)
    assert (tmp_path / "new.txt").read_bytes() == b"new"
    assert {path.name for path in tmp_path.iterdir()} == {"new.txt", ".mine.part"}
