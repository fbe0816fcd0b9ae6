"""Sets of tiles: complete, fitting wherever colours agree, and many pictures at once."""

import json
import signal
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning import scramble
from numpy.testing import assert_array_equal
from PIL import Image

from nca_texture.automaton import CellularAutomaton
from nca_texture.grid import Grid
from nca_texture.noise import sample_seeds
from nca_texture.recipe import AutomatonPlan, Recipe
from nca_texture.store import save
from nca_texture.wang import WangSet, WangTile, held_band, wang_tiles


def active(**settings: Any) -> CellularAutomaton:
    return scramble(CellularAutomaton(**{"channels": 6, "hidden": 16} | settings), 2, 0.15)


@pytest.fixture(scope="module")
def two() -> WangSet:
    return wang_tiles(active(), 50, 12, seed=3)


def test_a_set_is_complete(two: WangSet) -> None:
    edges = {(tile.north, tile.east, tile.south, tile.west) for tile in two.tiles}
    assert edges == set(product(range(2), repeat=4))
    assert two.pictures.shape == (16, 50, 50, 3)
    assert len(np.unique(two.pictures.reshape(16, -1), axis=0)) == 16


def test_edges_of_a_colour_are_the_same_to_the_bit(two: WangSet) -> None:
    for side, line in {
        "north": np.s_[0],
        "south": np.s_[-1],
        "west": np.s_[:, 0],
        "east": np.s_[:, -1],
    }.items():
        seen: dict[int, np.ndarray] = {}
        for tile, picture in zip(two.tiles, two.pictures, strict=True):
            first = seen.setdefault(getattr(tile, side), picture[line])
            assert_array_equal(picture[line], first)
        assert (seen[0] != seen[1]).any()


def test_what_meets_at_an_edge_grew_together(two: WangSet) -> None:
    picture = two.assemble(5, 7, seed=1)
    for axis in (0, 1):
        steps = abs(np.diff(picture, axis=axis)).mean(axis=(1 - axis, 2))
        across = steps[49::50]
        assert across.max() < 1.5 * np.quantile(steps, 0.95)


def test_neighbours_in_the_sheet_fit_all_the_way_round(two: WangSet) -> None:
    for number, tile in enumerate(two.tiles):
        row, column = divmod(number, 4)
        right = two.tiles[row * 4 + (column + 1) % 4]
        below = two.tiles[(row + 1) % 4 * 4 + column]
        assert tile.east == right.west
        assert tile.south == below.north
    for place, tile, picture in zip(two.index(), two.tiles, two.pictures, strict=True):
        x, y = place["x"], place["y"]
        assert_array_equal(two.sheet()[y : y + 50, x : x + 50], picture)
        assert WangTile(*(place[key] for key in ("north", "east", "south", "west"))) == tile


@pytest.mark.parametrize("colours", [1, 3])
def test_other_numbers_of_colours(colours: int) -> None:
    found = wang_tiles(active(), 48, 2, colours=colours)
    assert len(set(found.tiles)) == colours**4
    assert found.sheet().shape == (48 * colours**2, 48 * colours**2, 3)


def test_what_cannot_be_a_set_is_said() -> None:
    assert held_band(active()) == 12
    for automaton, size, colours, words in (
        (active(), 47, 2, "give --size 48 or more"),
        (active(), 64, 5, "give 1 to 4"),
        (active(grid=Grid("hex")), 64, 2, "leave out --layout hex"),
        (active(living=True), 64, 2, "grows a picture"),
    ):
        with pytest.raises(ValueError, match=words):
            wang_tiles(automaton, size, 2, colours=colours)


# The commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(path, active(), Recipe(automaton=AutomatonPlan(channels=6, hidden=16)))
    return path


def test_the_command_writes_sheet_index_and_proof(
    command: Any, model: Path, tmp_path: Path
) -> None:
    args = ["wang", str(model), "-o", "w.png", "--size", "48", "--steps", "3", "--proof", "5x2"]
    done = command([*args, "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == ["w.png", "w.json", "w_proof.png"]
    assert Image.open(tmp_path / "w.png").size == (192, 192)
    assert Image.open(tmp_path / "w_proof.png").size == (240, 96)
    index = json.loads((tmp_path / "w.json").read_text())
    assert (index["image"], index["size"], len(index["tiles"])) == ("w.png", 48, 16)
    again = command(args, tmp_path)
    assert again.returncode == 1
    assert "w.png exists" in again.stderr
    small = command(["wang", str(model), "-o", "s.png", "--size", "20"], tmp_path)
    assert small.returncode == 2
    assert "give --size 48 or more" in small.stderr


def test_variations_are_the_pictures_of_their_seeds(
    command: Any, model: Path, tmp_path: Path
) -> None:
    args = ["tile", str(model), "--size", "24", "--steps", "4", "-q", "-o"]
    many = [*args, "many.png", "--variations", "3", "--seed", "7"]
    assert command(many, tmp_path).returncode == 0
    index = json.loads((tmp_path / "many.json").read_text())
    assert index["complete"]
    assert [each["seed"] for each in index["pictures"]] == sample_seeds(7, 3)
    for number, each in enumerate(index["pictures"], start=1):
        one = f"one-{number}.png"
        assert command([*args, one, "--seed", str(each["seed"])], tmp_path).returncode == 0
        assert each["file"] == f"many_{number}.png"
        assert (tmp_path / one).read_bytes() == (tmp_path / each["file"]).read_bytes()
    again = command(many, tmp_path)
    assert again.returncode == 1
    assert "many.json exists" in again.stderr
    none = command([*args, "none.png", "--variations", "0"], tmp_path)
    assert none.returncode == 2
    assert "variations is 0" in none.stderr


def test_interrupted_variations_go_on(command: Any, model: Path, tmp_path: Path) -> None:
    args = ["tile", str(model), "--size", "256", "--steps", "12", "-q", "-o", "many.png"]
    args += ["--variations", "40"]
    going = command.start(args, tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "many_03.png").exists() and time.monotonic() < until:
        time.sleep(0.01)
    going.signal(signal.SIGTERM)
    done = going.wait()
    assert done.returncode == 143, done.stderr
    before = json.loads((tmp_path / "many.json").read_text())
    assert not before["complete"]
    made = {each["file"]: (tmp_path / each["file"]).stat() for each in before["pictures"]}
    other = command([*args, "--seed", "9"], tmp_path)
    assert other.returncode == 1
    assert "many.json exists" in other.stderr
    again = command(args, tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "many.json").read_text())["complete"]
    assert len(list(tmp_path.glob("many_*.png"))) == 40
    for name, stat in made.items():
        assert (tmp_path / name).stat().st_mtime_ns == stat.st_mtime_ns
    assert not list(tmp_path.glob("*.part"))
