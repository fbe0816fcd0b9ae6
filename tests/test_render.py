"""Rendering: in strips or whole, the picture is the same; and it is of the size asked for."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning import scramble
from numpy.testing import assert_array_equal

from nca_texture import render as rendering
from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.grid import Grid
from nca_texture.planning import Plan, plan, seconds
from nca_texture.render import render, straight_alpha
from nca_texture.states import States

EDGES = ["torus", "zero", "reflect", "replicate"]


def active(**settings: Any) -> CellularAutomaton:
    """Make an automaton that does something without running away."""
    return scramble(
        CellularAutomaton(**{"channels": 6, "hidden": 16, "bank": "distill-tf"} | settings), 2, 0.15
    )


def whole(automaton: CellularAutomaton, job: Plan, seed: int) -> np.ndarray:
    """Grow all cells at once, the plain way."""
    with torch.inference_mode():
        state = automaton.seed(1, job.cells, seed=seed)
        state = automaton.grow(state, job.steps, seed=seed)
        image = automaton.to_image(state, size=job.pixels)[0].permute(1, 2, 0).numpy()
    return straight_alpha(image)


KINDS: dict[str, dict[str, Any]] = {
    "square": {},
    "hex": {"layout": "hex"},
    "living": {"living": True, "seed_kind": "cell", "channels": 8},
    "hex living": {"layout": "hex", "living": True, "seed_kind": "noise", "seed_amount": 2.0},
}


# Rows of a band, steps of a pass, pixels of a block of columns
WAYS = {
    "rows": ("rows", 5, 3, 23),
    "rows one by one": ("rows", 1, 1, 23),
    "rows at once": ("rows", 300, 7, 23),
    "columns": ("columns", 8, 2, 6),
    "narrow columns": ("columns", 16, 4, 1),
    "whole": ("whole", 5, 3, 23),
    "disk": ("disk", 5, 3, 23),
}


def way(job: Plan, name: str) -> Plan:
    """Make ``job`` in another way."""
    kind, rows, pass_steps, columns = WAYS[name]
    return replace(job, way=kind, rows=rows, pass_steps=pass_steps, columns=columns)


def made(automaton: CellularAutomaton, job: Plan, seed: int, place: Path) -> np.ndarray:
    """Make the picture of ``job``, with states in the folder ``place`` when they are on disk."""
    if job.way != "disk":
        return render(automaton, job, seed=seed)
    picture = np.full((*job.pixels, 4 if automaton.living else 3), -1, np.float32)
    with States(place / "states", (automaton.channels, *job.cells), {"seed": seed}) as states:
        for block in rendering.paint(automaton, job, seed=seed, states=states):
            picture[block.top : block.top + len(block.pixels)] = block.pixels
        assert states.path.stat().st_size == states.bytes
    return picture


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("edge", [*EDGES, ("torus", "zero"), ("reflect", "torus")])
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_gives_the_whole_to_the_bit(
    kind: str, edge: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = dict(KINDS[kind])
    automaton = active(grid=Grid(settings.pop("layout", "square"), edge), **settings)
    job = plan(automaton, (51, 23), 7)
    expected = whole(automaton, job, seed=4)
    assert expected.std() > 0.01

    calls = []
    grow = CellularAutomaton.grow

    def spy(automaton: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(state.shape[2:])
        return grow(automaton, state, *args, **kwargs)

    monkeypatch.setattr(CellularAutomaton, "grow", spy)
    assert_array_equal(made(automaton, way(job, name), 4, tmp_path), expected)
    if name == "rows one by one":
        assert max(rows for rows, _ in calls) == 1 + 2 * automaton.reach
    if name in ("rows", "whole", "disk"):
        assert len(calls) >= 3 * -(-7 // 3)
        assert max(rows for rows, _ in calls) <= 5 + 6 * automaton.reach
    if name == "columns" and not automaton.living and edge in ("zero", "reflect", "replicate"):
        assert max(columns for _, columns in calls) < 23


@pytest.mark.parametrize("kernel", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["rows", "columns", "whole"])
def test_it_is_the_whole_of_the_same_kernel(kernel: str, name: str) -> None:
    automaton = active(channels=12, hidden=24, bank="distill-2021")
    if kernel == "cpu" and automaton.kernel_for(automaton.seed()) != "cpu":
        pytest.skip("the cpu kernel was not compiled here")
    job = plan(automaton, (37, 31), 9)
    with torch.inference_mode():
        state = automaton.grow(automaton.seed(1, job.cells), 9, seed=2, kernel=kernel)
        expected = automaton.to_image(state)[0].permute(1, 2, 0).numpy()
    found = render(automaton, replace(way(job, name), columns=31), seed=2, kernel=kernel)
    assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 70), (70, 2), (3, 3), (16, 16)])
@pytest.mark.parametrize("edge", ["torus", "zero", "replicate"])
@pytest.mark.parametrize("name", ["rows", "columns", "whole", "disk"])
def test_a_world_smaller_than_its_halo(name: str, edge: Any, size: Any, tmp_path: Path) -> None:
    automaton = active(grid=Grid("square", edge))
    job = plan(automaton, size, 13)
    expected = whole(automaton, job, seed=1)
    columns = size[1] if name == "disk" else min(2, size[1])
    found = made(automaton, replace(way(job, name), columns=columns), 1, tmp_path)
    assert_array_equal(found, expected)


def test_states_on_disk_go_on_from_any_strip_and_with_any_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    automaton = active()
    job = way(plan(automaton, (41, 23), 11), "disk")
    expected = whole(automaton, job, seed=4)
    cells, about = (automaton.channels, *job.cells), {"seed": 4}

    class Stopped(Exception):
        pass

    grow, calls = CellularAutomaton.grow, 0

    def stops(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 13:
            raise Stopped
        return grow(*args, **kwargs)

    monkeypatch.setattr(CellularAutomaton, "grow", stops)
    with pytest.raises(Stopped):
        made(automaton, job, 4, tmp_path)
    monkeypatch.setattr(CellularAutomaton, "grow", grow)
    with States(tmp_path / "states", cells, about) as states:
        assert (states.steps, states.later, states.row) == (3, 6, 15)
    kept = (tmp_path / "states").read_bytes()
    # With the same plan, one of other passes, and one for another picture, whose states are new.
    assert_array_equal(made(automaton, job, 4, tmp_path), expected)
    (tmp_path / "states").write_bytes(kept)
    other = replace(job, rows=16, pass_steps=2)
    assert_array_equal(made(automaton, other, 4, tmp_path), expected)
    (tmp_path / "states").write_bytes(kept)
    assert_array_equal(made(automaton, job, 5, tmp_path), whole(automaton, job, seed=5))


def test_states_on_disk_that_are_no_states_are_made_anew(tmp_path: Path) -> None:
    for content in (b"", b"half a download", b"{}" + b" " * 5000):
        (tmp_path / "states").write_bytes(content)
        with States(tmp_path / "states", (4, 3, 2), {}) as states:
            assert (states.steps, states.row) == (0, 0)
    with pytest.raises(ValueError, match="give states"):
        next(rendering.paint(active(), way(plan(active(), (50, 23), 5), "disk")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("edge", ["torus", "zero"])
@pytest.mark.parametrize("name", ["rows", "columns", "whole"])
def test_painting_goes_on_from_any_row(kind: str, edge: Any, name: str) -> None:
    settings = dict(KINDS[kind])
    automaton = active(grid=Grid(settings.pop("layout", "square"), edge), **settings)
    job = way(plan(automaton, (41, 23), 6), name)
    expected = render(automaton, job, seed=3)
    for start in ((0, 1), (0, 17), (0, 40), (job.blocks - 1, 9), (0, 41)):
        painted = np.full_like(expected, -1)
        for block in rendering.paint(automaton, job, seed=3, start=start):
            height, width = block.pixels.shape[:2]
            rows = slice(block.top, block.top + height)
            painted[rows, block.left : block.left + width] = block.pixels
        first, row = start
        missing = np.zeros(expected.shape[:2], bool)
        missing[:, : first * job.columns] = True
        missing[:row, : (first + 1) * job.columns] = True
        assert_array_equal(painted[~missing], expected[~missing])
        assert (painted[missing] == -1).all()


# Plans


def test_a_large_picture_is_swept_in_memory_that_does_not_grow_with_its_height() -> None:
    automaton = CellularAutomaton()
    plans = [plan(automaton, (height, 2048), 64) for height in (2048, 8192, 65536)]
    assert {job.way for job in plans} == {"rows"}
    assert len({job.memory for job in plans}) == 1
    assert all(job.work < 1.5 for job in plans)


def test_little_memory_takes_narrower_blocks_and_says_what_it_costs() -> None:
    automaton = CellularAutomaton()
    wide = plan(automaton, (65536, 65536), 64)
    assert wide.memory < 2 << 30
    narrow = plan(automaton, (65536, 65536), 64, memory=100 << 20)
    assert narrow.way == "columns"
    assert narrow.memory <= 100 << 20
    assert narrow.work > wide.work
    with pytest.raises(InputError, match=r"need \d+ MB of memory or more; give --memory"):
        plan(automaton, (65536, 65536), 64, memory=1 << 20)


def test_too_little_memory_for_long_growth_takes_disk_and_says_so() -> None:
    automaton = CellularAutomaton()
    size, memory = (4096, 4096), 200 << 20
    with pytest.raises(InputError, match=r"\(or \d+ MB, and 1536 MB of disk"):
        plan(automaton, size, 5000, memory=memory)
    job = plan(automaton, size, 5000, memory=memory, disk=2 << 30)
    assert job.way == "disk"
    assert job.memory <= memory
    assert job.disk == 4096 + 2 * 4 * 12 * 4096 * 4096
    assert job.work < 2.5
    # With enough memory, and for few steps, no disk is needed.
    assert plan(automaton, size, 5000, disk=2 << 30).way == "whole"
    assert plan(automaton, size, 64, memory=memory, disk=2 << 30).way != "disk"
    with pytest.raises(InputError, match=r"need \d+ MB of memory or more; give"):
        plan(automaton, size, 5000, memory=1 << 20, disk=2 << 30)


def test_long_growth_of_a_small_picture_keeps_the_whole_state() -> None:
    assert plan(CellularAutomaton(), (128, 128), 2000).way == "whole"


def test_a_seed_is_a_number_or_words() -> None:
    automaton = active(seed_kind="noise")
    job = plan(automaton, (12, 12), 3)
    one, other = (render(automaton, job, seed=seed) for seed in ("zebra", "lion"))
    assert_array_equal(render(automaton, job, seed="zebra"), one)
    assert (one != other).any()


@pytest.mark.parametrize("name", WAYS)
def test_progress_ends_at_one(name: str, tmp_path: Path) -> None:
    told: list[float] = []
    job = way(plan(active(), (50, 23), 19), name)
    with States(tmp_path / "states", (6, *job.cells), {}) as states:
        for _ in rendering.paint(active(), job, states=states, progress=told.append):
            pass
    assert told == sorted(told)
    assert told[-1] == 1


def test_a_guess_of_the_time_is_a_time() -> None:
    job = plan(active(), (512, 512), 32)
    assert 0 < seconds(active(), job) < 600


def test_no_steps_show_the_seed() -> None:
    automaton = active(seed_kind="noise", seed_amount=1.0)
    job = plan(automaton, (9, 7), 0)
    seed = automaton.to_image(automaton.seed(1, (9, 7), seed=3))[0].permute(1, 2, 0).numpy()
    assert_array_equal(render(automaton, job, seed=3), seed)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("pixels", [(1, 1), (1, 40), (40, 3), (37, 53), (64, 64), (101, 20)])
@pytest.mark.parametrize("layout", ["square", "hex"])
def test_the_picture_has_the_size_asked_for(layout: Any, pixels: Any, edge: Any) -> None:
    automaton = active(grid=Grid(layout, edge))
    if edge == "reflect" and 1 in pixels:
        with pytest.raises(ValueError, match="at least 2"):
            plan(automaton, pixels, 2)
        return
    picture = render(automaton, plan(automaton, pixels, 2), seed=1)
    assert picture.shape == (*pixels, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1


@pytest.mark.parametrize("pixels", [(64, 64), (100, 30), (512, 512), (1000, 1024)])
def test_hexagonal_rows_are_stretched_by_less_than_one_pair(pixels: Any) -> None:
    job = plan(active(grid=Grid("hex")), pixels, 1)
    assert job.cells[0] % 2 == 0
    assert job.cells[1] == pixels[1]
    assert abs(job.stretch) <= 1 / (job.cells[0] - 1)
    assert job.cells[0] * np.sqrt(3) / 2 * (1 + job.stretch) == pytest.approx(pixels[0])


def test_a_hexagonal_torus_tiles_in_pixels() -> None:
    # The same world twice as wide and high, from a seed that repeats, is the picture repeated.
    automaton = active(grid=Grid("hex"), fire_rate=1.0, seed_kind="noise", seed_amount=1.0)
    job = plan(automaton, (38, 44), 5)
    state = automaton.grow(automaton.seed(1, job.cells, seed=1), 5)
    small = automaton.to_image(state, size=job.pixels)
    large = automaton.grow(automaton.seed(1, job.cells, seed=1).repeat(1, 1, 2, 2), 5)
    picture = automaton.to_image(large, size=(76, 88))
    torch.testing.assert_close(picture, small.repeat(1, 1, 2, 2), atol=1e-5, rtol=0)


# Alpha


def test_alpha_is_straight() -> None:
    straight = np.random.default_rng(0).random((5, 6, 4), dtype=np.float32) * 0.9 + 0.1
    premultiplied = np.concatenate([straight[..., :3] * straight[..., 3:], straight[..., 3:]], -1)
    np.testing.assert_allclose(straight_alpha(premultiplied), straight, rtol=1e-5)


def test_nothing_has_no_colour_and_too_bright_is_white() -> None:
    picture = np.array([[[0.3, 0.2, 0.1, 0.0], [0.9, 0.2, 0.0, 0.5]]], np.float32)
    found = straight_alpha(picture)
    assert_array_equal(found[0, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(found[0, 1], [1, 0.4, 0, 0.5])


def test_an_opaque_picture_stays_as_it_is() -> None:
    picture = np.random.default_rng(0).random((3, 3, 3), dtype=np.float32)
    assert straight_alpha(picture) is picture


def test_a_living_model_has_four_channels() -> None:
    automaton = active(living=True, seed_kind="cell", channels=8)
    picture = render(automaton, plan(automaton, (16, 20), 4))
    assert picture.shape == (16, 20, 4)
    assert (picture[picture[..., 3] == 0] == 0).all()


# Mistakes


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_rule_that_runs_away_is_an_error(value: float) -> None:
    automaton = active()
    with torch.no_grad():
        automaton.weight_out[0] = value  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(ValueError, match="the rule ran away: after 3 steps"):
        render(automaton, plan(automaton, (8, 8), 3))


@pytest.mark.parametrize("pixels", [(0, 8), (8, -1)])
def test_an_empty_picture_is_an_error(pixels: Any) -> None:
    with pytest.raises(ValueError, match="give at least 1x1"):
        plan(active(), pixels, 1)


def test_steps_below_zero_are_an_error() -> None:
    with pytest.raises(ValueError, match="steps is -1; give 0 or more"):
        plan(active(), (8, 8), -1)


# Memory


MEASURE = """
import re, sys
from pathlib import Path
from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.planning import plan
from nca_texture.render import render

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

automaton = CellularAutomaton(hidden=96, grid=Grid(sys.argv[1]))
render(automaton, plan(automaton, (64, 64), 2))
job = plan(automaton, (1024, 1024), 2)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = memory("VmRSS")
render(automaton, job)
print(job.memory + 1024 * 1024 * 3 * 12, memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not tell peak memory"
)
@pytest.mark.parametrize("layout", ["square", "hex"])
def test_the_memory_plan_is_roughly_right(layout: str) -> None:
    call = [sys.executable, "-c", MEASURE, layout]
    result = subprocess.run(call, capture_output=True, text=True, check=True, timeout=120)
    planned, taken = map(int, result.stdout.split())
    assert taken < 1.2 * planned
    assert planned < 3 * taken
