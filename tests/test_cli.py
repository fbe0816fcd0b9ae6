"""What the commands do, said by real processes: files, exit codes, stdout and stderr."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from nca_texture.presets import PRESETS
from nca_texture.recipe import from_toml
from nca_texture.store import load_model
from nca_texture.targets import SAMPLES

COMMANDS = (
    "train",
    "tile",
    "wang",
    "animate",
    "maps",
    "check",
    "score",
    "info",
    "presets",
    "samples",
    "weights",
    "doctor",
)
TINY = ["--exemplar-size", "16", "--iterations", "4", *tiny.TINY]
TRAIN = ["train", "sample:zebra", *TINY]


@pytest.fixture(scope="module")
def place(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a picture and a tiny run."""
    place = tmp_path_factory.mktemp("cli")
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(place / "noise.png")
    done = command([*TRAIN, "-o", "run"], place)
    assert done.returncode == 0, done.stderr
    return place


def words_of(text: str) -> list[str]:
    return text.replace("│", " ").replace(",", " ").replace(". ", " ").split()


@pytest.mark.parametrize("name", ["", *COMMANDS, "weights fetch"])
def test_every_command_explains_itself(name: str, command: Any, tmp_path: Path) -> None:
    for flag in ("--help", "-h"):
        done = command([*name.split(), flag], tmp_path)
        assert done.returncode == 0
        assert done.stderr == ""
        assert " ".join(["Usage:", "nca-texture", *name.split()]) in done.stdout


def test_help_names_every_command_and_every_preset(command: Any, tmp_path: Path) -> None:
    done = command([], tmp_path)
    assert done.returncode == 0
    assert set(COMMANDS) <= set(words_of(done.stdout))
    assert set(PRESETS) <= set(words_of(command(["presets"], tmp_path).stdout))
    ours = {"draft", "balanced", "best", "grow"}
    assert ours <= set(words_of(command(["train", "--help"], tmp_path).stdout))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_tells_what_it_is(name: str, command: Any, tmp_path: Path) -> None:
    done = command(["presets", name, "--json"], tmp_path)
    told = json.loads(done.stdout)
    assert told["summary"] == PRESETS[name].summary
    assert from_toml(told["recipe"]) == PRESETS[name].recipe
    said = command(["presets", name], tmp_path).stdout
    assert all(line in said for line in (PRESETS[name].look_for, *PRESETS[name].departures))


@pytest.mark.parametrize("args", [["--help"], ["train", "--help"], ["--version"], ["tile"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\nfrom nca_texture.cli import main\n"
        f"sys.argv = ['nca-texture', *{args}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'skimage', 'scipy', 'PIL', 'kornia', 'torchvision'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_from_picture_to_tile_in_new_interpreters(whole_command: Any, tmp_path: Path) -> None:
    trained = whole_command.run([*TRAIN, "--json"], tmp_path)
    assert trained.returncode == 0, trained.stderr
    answer = json.loads(trained.stdout)
    assert answer == {
        "directory": "runs/zebra",
        "model": "runs/zebra/model.safetensors",
        "iterations": 4,
    }
    names = {path.name for path in (tmp_path / "runs" / "zebra").iterdir()} - {".lock"}
    assert names == {
        *("model.safetensors", "checkpoint.safetensors"),
        *("recipe.toml", "log.jsonl", "preview.png"),
    }
    assert "16.0 source pixels become one cell" in trained.stderr
    assert trained.stderr.splitlines()[-1].endswith(
        "next: nca-texture tile runs/zebra -o zebra.png --size 1024"
    )

    tiled = whole_command.run(
        ["tile", "runs/zebra", "-o", "zebra.png", "--size", "40x24", "--json"], tmp_path
    )
    assert tiled.returncode == 0, tiled.stderr
    assert json.loads(tiled.stdout)["files"] == ["zebra.png"]
    assert Image.open(tmp_path / "zebra.png").size == (40, 24)
    assert "wrote zebra.png" in tiled.stderr

    checked = whole_command.run(["check", "zebra.png", "--json"], tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)[0]["file"] == "zebra.png"


def test_talk_is_on_stderr_and_results_are_json_on_stdout(command: Any, place: Path) -> None:
    for args in (
        ["info", "run"],
        ["info", "run/checkpoint.safetensors"],
        ["tile", "run", "-o", "talk.png", "--size", "16"],
        ["info", "talk.png"],
        ["check", "talk.png"],
        ["samples"],
        ["samples", "bricks", "-o", "bricks.png", "--size", "16"],
        ["weights"],
        ["doctor"],
    ):
        done = command([*args, "--json"], place)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    quiet = command(["tile", "run", "-o", "quiet.png", "--size", "16", "-q"], place)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    quiet = command([*TRAIN, "-o", "quiet-run", "-q"], place)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (place / "quiet-run" / "model.safetensors").exists()


def test_a_reader_that_goes_away_is_no_error(place: Path) -> None:
    piped = f"{sys.executable} -m nca_texture info run --json | head -c 1"
    done = subprocess.run(piped, cwd=place, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert done.stderr == ""


def test_a_stdout_that_is_full_is_one_sentence(place: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nca_texture", "info", "run"],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_same_seed_is_the_same_model_and_the_same_picture(command: Any, place: Path) -> None:
    models, pictures = [], []
    for name, seed in (("same-a", "7"), ("same-b", "7"), ("other", "8"), ("words", "old oak")):
        assert command([*TRAIN, "-o", name, "--seed", seed, "-q"], place).returncode == 0
        models.append((place / name / "model.safetensors").read_bytes())
        args = ["tile", "same-a", "-o", f"{name}.png", "--size", "32", "--seed", seed, "-q"]
        assert command(args, place).returncode == 0
        pictures.append((place / f"{name}.png").read_bytes())
    for results in (models, pictures):
        assert results[0] == results[1]
        assert len(set(results)) == 3
    assert load_model(place / "words")[1].training.seed > 2**16


def test_a_second_run_takes_another_directory_and_says_so(command: Any, tmp_path: Path) -> None:
    for name in ("zebra", "zebra-2", "zebra-3"):
        done = command(TRAIN, tmp_path)
        assert done.returncode == 0
        assert f"-> runs/{name}\n" in done.stderr
        said = f"runs/zebra exists: this run goes to runs/{name}" in done.stderr
        assert said == (name != "zebra")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"zebra", "zebra-2", "zebra-3"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_printed_recipe_reads_back(preset: str, command: Any, tmp_path: Path) -> None:
    first = command(["train", "a.png", "--preset", preset, "--print-config"], tmp_path)
    assert first.returncode == 0, first.stderr
    assert from_toml(first.stdout).preset == preset
    (tmp_path / "recipe.toml").write_text(first.stdout)
    again = command(["train", "--config", "recipe.toml", "--print-config"], tmp_path)
    assert again.stdout == first.stdout


def test_settings_go_over_flags_over_files_over_presets(command: Any, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'preset = "best"\n[training]\niterations = 11\nwidth = 33\nseed = 5\n'
    )
    args = ["train", "a.png", "--config", "own.toml", "--print-config"]
    resolved = tomllib.loads(command(args, tmp_path).stdout)
    assert resolved["preset"] == "best"
    assert resolved["target"]["source"] == "a.png"
    assert resolved["automaton"]["hidden"] == PRESETS["best"].recipe.automaton.hidden
    assert resolved["training"]["iterations"] == 11
    assert resolved["training"]["batch_size"] == PRESETS["best"].recipe.training.batch_size
    args += ["--iterations", "12", "--seed", "6", "--edge", "x", "--layout", "hex"]
    args += [
        "--set",
        "training.seed=7",
        "--set",
        "training.steps=[5, 6]",
        "--set",
        "sliced.projections=3",
    ]
    resolved = tomllib.loads(command(args, tmp_path).stdout)
    assert resolved["training"]["iterations"] == 12
    assert resolved["training"]["seed"] == 7
    assert resolved["training"]["steps"] == [5, 6]
    assert resolved["training"]["width"] == 33
    assert resolved["automaton"]["edge"] == "x"
    assert resolved["automaton"]["layout"] == "hex"
    assert resolved["losses"][0]["options"]["projections"] == 3
    assert resolved["losses"][0]["options"]["border"] == "zeros"  # on x only it is a torus


def test_weights_of_layers_stay_with_their_network_and_it_says_so(
    command: Any, tmp_path: Path
) -> None:
    args = ["train", "a.png", "--preset", "balanced", "--print-config"]
    own = tomllib.loads(command(args, tmp_path).stdout)["losses"][0]["options"]
    done = command([*args, "--features", "vgg19"], tmp_path)
    options = tomllib.loads(done.stdout)["losses"][0]["options"]
    assert own.keys() - options.keys() == {"layer_weights", "projections"}
    assert options["features"] == "vgg19"
    assert "vgg19: left out layer_weights and projections of sliced" in done.stderr


@pytest.mark.parametrize("edge", [None, "xy", "x", "none"])
def test_balanced_learns_without_windows_on_a_grid_that_does_not_tile(
    edge: str | None, command: Any, tmp_path: Path
) -> None:
    args = ["train", "a.png", "--preset", "balanced", "--print-config"]
    done = command(args if edge is None else [*args, "--edge", edge], tmp_path)
    tiles = edge in (None, "xy")
    assert (tomllib.loads(done.stdout)["training"]["window_every"] > 0) == tiles
    assert ("it learns without" in done.stderr) != tiles


def test_a_dry_run_writes_nothing(command: Any, place: Path) -> None:
    before = sorted(place.rglob("*"))
    for args in (
        [*TRAIN, "--dry-run"],
        [*TRAIN, "--dry-run", "-o", "dry/run"],
        ["tile", "run", "-o", "dry.png", "--dry-run", "--proof", "2x2"],
    ):
        done = command(args, place)
        assert done.returncode == 0, done.stderr
        assert done.stderr
    assert sorted(place.rglob("*")) == before


def test_a_time_budget_becomes_iterations(command: Any, place: Path) -> None:
    args = [*TRAIN, "-o", "timed", "--time", "0.5s"]
    at = args.index("--iterations")
    done = command(args[:at] + args[at + 2 :], place)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stderr.splitlines() if line.startswith("0.5s are"))
    count = int(said.split()[2])
    stored = tomllib.loads((place / "timed" / "recipe.toml").read_text())
    assert stored["training"]["iterations"] == count
    assert load_model(place / "timed")[1].training.iterations == count


def test_memory_decides_how_many_states_are_kept(command: Any, place: Path) -> None:
    size = ["--set", "training.width=128", "--set", "training.height=128"]
    state = 4 * 16 * 128 * 128 * 2  # a batch of two, channels padded to 16

    def kept(budget: str) -> Any:
        done = command(
            ["train", "noise.png", *size, "--memory", budget, "--print-config", "-q"], place
        )
        return done if done.returncode else tomllib.loads(done.stdout)["training"]["keep_every"]

    assert kept("1GB") == 1
    assert kept(str(65 * state)) == 1
    every = kept(str(20 * state))
    assert every > 1
    assert 64 / every + every + 1 <= 20
    refused = kept(str(10 * state))
    assert refused.returncode == 1
    assert "the states of 64 steps need" in refused.stderr
    assert kept("plenty").returncode == 2


def test_a_pool_that_memory_cannot_hold_is_refused_with_the_grids_it_has(
    command: Any, place: Path
) -> None:
    for larger, cells in (("0", "64x64"), ("2", "96x96")):
        settings = ["training.pool_size=40000000", f"training.large_every={larger}"]
        flags = [part for each in settings for part in ("--set", each)]
        done = command(["train", "noise.png", *flags, "-o", "huge"], place)
        assert done.returncode == 1
        assert f"a pool of 40000000 states of {cells} cells needs about" in done.stderr
        assert not (place / "huge").exists()


def test_from_starts_at_the_parents_weights_and_shape(command: Any, place: Path) -> None:
    still = ["--set", "training.learning_rate=1e-9", "--set", "training.judge_every=0"]
    args = ["train", "noise.png", "--from", "run", *TINY, *still, "-o", "child", "-q"]
    assert command(args, place).returncode == 0
    parent, child = load_model(place / "run")[0], load_model(place / "child")[0]
    for name, value in parent.state_dict().items():
        torch.testing.assert_close(child.state_dict()[name], value, atol=1e-6, rtol=0)
    done = command(["train", "noise.png", "--from", "run", "--print-config"], place)
    assert tomllib.loads(done.stdout)["automaton"]["channels"] == 4


@pytest.mark.parametrize(
    ("options", "axes"), [(["--edge", "x"], "x"), (["--edge", "y", "--beyond", "zero"], "y")]
)
def test_a_tile_wraps_where_it_was_told_to(
    options: list[str], axes: str, command: Any, place: Path
) -> None:
    args = ["tile", "run", "-o", f"wraps-{axes}.png", "--size", "32", *options, "--json"]
    done = command(args, place)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["edge"] == axes
    assert command(["check", f"wraps-{axes}.png", "--axes", axes, "-q"], place).returncode == 0


def test_tiles_have_the_size_depth_and_cells_asked_for(command: Any, place: Path) -> None:
    args = ["tile", "run", "--size", "40x24", "-q"]
    for name, options in {
        "none": ["--edge", "none"],
        "hex": ["--layout", "hex"],
        "deep": ["--depth", "16"],
        "proof": ["--proof", "3x2"],
    }.items():
        done = command([*args, "-o", f"is-{name}.png", *options], place)
        assert done.returncode == 0, done.stderr
        assert Image.open(place / f"is-{name}.png").size == (40, 24)
    assert (place / "is-deep.png").read_bytes()[24] == 16
    assert (place / "is-none.png").read_bytes()[24] == 8
    one, many = (np.asarray(Image.open(place / f"is-proof{end}.png")) for end in ("", "_proof"))
    assert np.array_equal(many, np.tile(one, (2, 3, 1)))


def test_check_tells_a_picture_that_tiles_from_one_that_does_not(command: Any, place: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    wave = (127 + 120 * np.sin(np.arange(64) * 2 * np.pi / 64)).astype(np.uint8)
    for name, line in (("ramp", ramp), ("wave", wave)):
        Image.fromarray(np.repeat(line[None], 64, 0)).save(place / f"{name}.png")
    assert command(["check", "wave.png"], place).returncode == 0
    done = command(["check", "wave.png", "ramp.png"], place)
    assert done.returncode == 4
    assert "wave.png: tiles" in done.stderr
    assert "ramp.png: does not tile" in done.stderr
    assert command(["check", "ramp.png", "--axes", "y"], place).returncode == 0


def test_info_tells_what_a_file_is(command: Any, place: Path) -> None:
    text = command(["info", "run"], place).stdout
    assert "sample:zebra 256x256 -> 16x16" in text
    told = json.loads(command(["info", "run", "--json"], place).stdout)
    assert told["kind"] == "model"
    assert told["iterations"] in (2, 4)
    assert told["recipe"]["training"]["width"] == 16
    told = json.loads(command(["info", "run/checkpoint.safetensors", "--json"], place).stdout)
    assert told["iteration"] == "4 of 4"


def test_samples_are_listed_and_written(command: Any, place: Path) -> None:
    listed = command(["samples"], place)
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(SAMPLES)
    for _ in range(2):
        args = ["samples", "marble", "-o", "marble.png", "--size", "48", "--force"]
        assert command(args, place).returncode == 0
    assert Image.open(place / "marble.png").size == (48, 48)


def test_weights_and_doctor_report(command: Any, place: Path) -> None:
    listed = command(["weights"], place)
    assert {"vgg16", "vgg19", "squeezenet1_1"} <= set(listed.stdout.split())
    healthy = command(["doctor"], place)
    assert healthy.returncode == 0
    assert "torch" in healthy.stdout
    assert "FAIL" not in healthy.stdout


# Many at once

FILES = {"model.safetensors", "checkpoint.safetensors", "recipe.toml", "log.jsonl", "preview.png"}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def logged(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def test_separate_models_are_those_that_would_be_trained_alone(
    command: Any, tmp_path: Path
) -> None:
    pictures = ["moss.png", "folder/bark.png", "folder/Moss.png"]
    for seed, name in enumerate(pictures):
        draw(tmp_path / name, seed)
    (tmp_path / "folder" / "notes.txt").write_text("no picture\n")
    args = ["train", "moss.png", "folder", "sample:zebra", "--separate", *TINY, "--seed", "3"]
    done = command([*args, "-o", "many", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["moss", "Moss-2", "bark", "zebra"]  # of a folder in the order of its names
    assert json.loads(done.stdout) == [
        {
            "directory": f"many/{name}",
            "model": f"many/{name}/model.safetensors",
            "iterations": 4,
        }
        for name in names
    ]
    assert done.stderr.count(" it/s ") == 1
    assert "4 models of" in done.stderr
    assert {path.name for path in (tmp_path / "many").iterdir()} == set(names)
    sources = ["moss.png", "folder/Moss.png", "folder/bark.png", "sample:zebra"]
    for name, source in zip(names, sources, strict=True):
        run, alone = tmp_path / "many" / name, tmp_path / "alone" / name
        lone = ["train", source, *TINY, "--seed", "3", "-o", f"alone/{name}", "-q"]
        assert command(lone, tmp_path).returncode == 0
        assert {path.name for path in run.iterdir()} - {".lock"} == FILES
        for file in FILES - {"checkpoint.safetensors", "log.jsonl"}:
            assert (run / file).read_bytes() == (alone / file).read_bytes(), file
        assert logged(run) == logged(alone)


def test_a_grid_is_moved_to_where_what_repeats_comes_out_even(command: Any, tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :128]
    for name, height, width in (("tall", 60, 38), ("small", 43, 43)):
        squares = (y * 2 // height + x * 2 // width) % 2 * 255
        Image.fromarray(squares.astype(np.uint8)).save(tmp_path / f"{name}.png")
    whole = ["training.whole_periods=true", "training.width=96", "training.height=96"]
    given = [word for each in whole for word in ("--set", each)]
    done = command(["train", "tall.png", *given, "--dry-run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "what repeats comes out even on 76x120 cells, and not on 96x96" in done.stderr
    assert "parameters, 76x120 cells" in done.stderr
    args = ["train", "tall.png", "small.png", "--separate", *given, "--dry-run"]
    done = command(args, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "together they are trained on one grid, of 96x96 cells" in done.stderr
    assert "parameters, 96x96 cells" in done.stderr


def test_separate_runs_take_directories_that_are_free(command: Any, tmp_path: Path) -> None:
    args = ["train", "sample:zebra", "sample:zebra", "--separate", *TINY]
    done = command(args, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"zebra", "zebra-2"}
    at = args.index("--iterations")
    again = command([*args[:at], *args[at + 2 :], "--time", "0.2s"], tmp_path)
    assert again.returncode == 0, again.stderr
    assert "runs/zebra exists: this run goes to runs/zebra-3" in again.stderr
    count = {load_model(tmp_path / "runs" / f"zebra-{n}")[1].training.iterations for n in (3, 4)}
    assert len(count) == 1
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.*")}
    taken = command([*args, "-o", "runs"], tmp_path)
    assert taken.returncode == 1
    assert "runs/zebra is not empty" in taken.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.*")} == before
    forced = command([*args, "-o", "runs", "--force", "--dry-run"], tmp_path)
    assert forced.returncode == 0, forced.stderr


def test_tensorboard_gets_losses_and_pictures(command: Any, place: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = command([*TRAIN, "-o", "board", "--tensorboard", "-q"], place)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events = accumulator.EventAccumulator(str(place / "board"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/total", "loss/sliced", "roll-out", "learning_rate"} <= set(tags["scalars"])
    assert "roll-out" in tags["images"]
    assert [event.step for event in events.Scalars("loss/total")] == [2, 4]
