"""Model files and checkpoints: what is read is what was written, and nothing else is believed."""

import base64
import io
import json
import math
import pickle
import re
import struct
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning import scramble
from PIL import Image
from safetensors.torch import save_file

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.kernels.rule import Limits
from nca_texture.losses.overflow import OverflowLoss
from nca_texture.presets import PRESETS
from nca_texture.recipe import AutomatonPlan, LossPlan, Recipe, TargetPlan
from nca_texture.store import (
    FORMAT,
    Origin,
    load,
    load_checkpoint,
    load_model,
    save,
    save_checkpoint,
    thumbnail,
    versions,
)
from nca_texture.targets import Exemplar
from nca_texture.train_plan import TrainPlan
from nca_texture.training import Snapshot, train

SHAPES: dict[str, AutomatonPlan] = {
    "texture": AutomatonPlan(),
    "hex": AutomatonPlan(layout="hex", edge="x", beyond="zero", hidden=20),
    "growth": AutomatonPlan(
        channels=16, living=True, edge="none", beyond="zero", seed_kind="cell", bank="growing-2020"
    ),
    "muNCA": AutomatonPlan(
        channels=6, rule="abs", bank="munca-150", fire_rate=1.0, seed_kind="noise"
    ),
    "atan": AutomatonPlan(activation="atan", hidden=16),
    "learned": AutomatonPlan(bank="learned", hidden=16, rgb_scale=0.5, rgb_offset=0.25),
    "quantised": AutomatonPlan(output_bias=True, limits=Limits(2.0, 2.0, 2.0, 1.5)),
}


def trained(recipe: Recipe) -> CellularAutomaton:
    """Build the automaton with weights that do something."""
    automaton = recipe.build_automaton()
    scramble(automaton, 3, 0.05)
    return automaton


@pytest.fixture
def model(tmp_path: Path) -> Path:
    recipe = Recipe(automaton=SHAPES["texture"])
    path = tmp_path / "model.safetensors"
    save(path, trained(recipe), recipe, Origin(source="zebra.jpg"))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoint.safetensors"
    save_checkpoint(path, *run())
    return path


def run() -> tuple[Snapshot, Recipe, Exemplar]:
    plan = TrainPlan(
        iterations=4, pool_size=3, width=8, height=8, steps=(1, 2), judge_every=2, judge_steps=3
    )
    recipe = Recipe(automaton=AutomatonPlan(channels=4, hidden=5), training=plan)
    exemplar = Exemplar(
        torch.rand(2, 3, 9, 8), "zébra", "a/zébra.jpg", "f" * 64, (90, 80), 10.0, ("a note",), "z"
    )
    loss = OverflowLoss(limit=0.0)
    *_, report = train(recipe.build_automaton(), loss, plan)
    return report.snapshot(), recipe, exemplar


# Round trips


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stored_model_grows_the_same_bits(shape: str, tmp_path: Path) -> None:
    recipe = Recipe(automaton=SHAPES[shape])
    automaton = trained(recipe)
    save(tmp_path / "a.safetensors", automaton, recipe)
    again, found = load(tmp_path / "a.safetensors")
    assert found == recipe
    assert again.grid == automaton.grid
    for size in ((12, 17), (34, 9)):
        state = automaton.grow(automaton.seed(2, size, seed=5), 7, seed=5)
        other = again.grow(again.seed(2, size, seed=5), 7, seed=5)
        assert torch.equal(other, state)
        assert torch.equal(again.to_image(other), automaton.to_image(state))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_stored(name: str, tmp_path: Path) -> None:
    recipe = PRESETS[name].recipe
    save(tmp_path / "a.safetensors", recipe.build_automaton(), recipe)
    assert load(tmp_path / "a.safetensors")[1] == recipe


def test_a_model_needs_nothing_but_its_file_to_know_its_kernels(tmp_path: Path) -> None:
    # Numbers in the file count, not those that the name of a bank stands for today.
    recipe = Recipe(automaton=SHAPES["texture"])
    automaton = trained(recipe)
    automaton.perception.basis *= 1.5
    save(tmp_path / "a.safetensors", automaton, recipe)
    again, _ = load(tmp_path / "a.safetensors")
    assert torch.equal(again.perception.basis, automaton.perception.basis)


def test_every_field_of_a_model_survives(tmp_path: Path) -> None:
    origin = Origin(
        source="Köln \udce9\n斑馬.jpg",
        sha256="0" * 64,
        source_note="1x1 -> 2x2",
        iterations=7,
        loss=0.125,
        steps=48,
        marks=[[48.0, 0.5], [96.0, 0.25]],
        thumbnail="QUJD",
    )
    recipe = Recipe(
        preset="mine",
        task="grow",
        target=TargetPlan(source="caf\udce9.png", crop="8x8+1+2", exemplar_size=33),
        automaton=SHAPES["growth"],
        losses=(LossPlan(name="a.b:C", weight=0.1, options={"x": [1, 2.5, "é"], "y": True}),),
        training=TrainPlan(milestones=(3, 5), seed=2**31, learning_rate=1 / 3),
    )
    save(tmp_path / "a.safetensors", trained(recipe), recipe, origin)
    _, found, origin_found = load_model(tmp_path / "a.safetensors")
    assert found == recipe
    assert origin_found == replace(origin, versions=versions())
    assert set(versions()) == {"nca-texture", "torch", "torchvision", "python"}


def test_a_run_directory_stands_for_its_model(model: Path) -> None:
    assert load(model.parent)[1] == load(model)[1]
    model.unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        load(model.parent)


def test_other_weights_can_be_stored(model: Path) -> None:
    automaton, recipe = load(model)
    weights = {name: value + 1 for name, value in automaton.state_dict().items()}
    save(model, automaton, recipe, weights=weights)
    found = load(model)[0].state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_every_field_of_a_checkpoint_survives(checkpoint: Path, tmp_path: Path) -> None:
    snapshot, recipe, exemplar = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "b.safetensors", snapshot, recipe, exemplar)
    again, recipe_again, exemplar_again = load_checkpoint(tmp_path / "b.safetensors")
    assert recipe_again == recipe == run()[1]
    for one, other in ((snapshot, again), (run()[0], again)):
        for each in fields(Snapshot):
            compare(getattr(one, each.name), getattr(other, each.name))
    assert again.iteration == 4
    assert again.best_weights is not None
    assert again.best_marks
    for each in fields(Exemplar):
        compare(getattr(exemplar, each.name), getattr(exemplar_again, each.name))
    assert exemplar.source_size == (90, 80)
    assert exemplar.notes == ("a note",)


def compare(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            compare(one[key], other[key])
    elif isinstance(one, list | tuple):  # JSON has no tuples
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            compare(left, right)
    else:
        assert one == other


def test_a_checkpoint_of_a_run_that_was_never_judged_comes_back(tmp_path: Path) -> None:
    snapshot, recipe, exemplar = run()
    plain = replace(snapshot, best_weights=None, best_score=math.inf, first_loss=None)
    save_checkpoint(tmp_path / "c.safetensors", plain, recipe, exemplar)
    found = load_checkpoint(tmp_path / "c.safetensors")[0]
    assert found.best_weights is None
    assert found.best_score == math.inf
    assert found.first_loss is None


# Size


def test_a_model_file_stays_small(tmp_path: Path) -> None:
    recipe = PRESETS["distill-2021"].recipe  # 12 channels, 96 hidden
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    path = tmp_path / "a.safetensors"
    save(path, trained(recipe), recipe, Origin(thumbnail=thumbnail(picture)))
    assert path.stat().st_size < 60_000


def test_a_thumbnail_is_the_upper_left_corner_as_png() -> None:
    picture = torch.rand(4, 70, 20, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    with Image.open(io.BytesIO(base64.b64decode(thumbnail(picture)))) as image:
        assert image.mode == "RGBA"
        assert image.size == (20, 64)
        expected = (picture[:, 7, 11].clamp(0, 1) * 255).round().int().tolist()
        assert list(image.getpixel((11, 7))) == expected  # pyright: ignore


# Files that are something else


def refused(path: Path, words: str, read: Any = load_model) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


class Bomb:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.mark.parametrize("read", [load_model, load_checkpoint])
def test_loading_runs_no_code(read: Any, tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Bomb(str(bait))))
    refused(path, "a.safetensors is not a", read)
    torch.save({"a": Bomb(str(bait))}, path)
    refused(path, "a.safetensors is not a", read)
    assert not bait.exists()


def test_loading_imports_no_loss_from_outside(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_part.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    automaton, recipe = load(model)
    save(model, automaton, replace(recipe, losses=(LossPlan(name="evil_part:Loss"),)))
    assert load(model)[1].losses[0].name == "evil_part:Loss"


def test_what_is_no_file_is_said(tmp_path: Path, checkpoint: Path) -> None:
    refused(tmp_path / "none.safetensors", "there is no file")
    refused(tmp_path / "none.safetensors", "expected a checkpoint", load_checkpoint)
    refused(tmp_path, "has no model.safetensors; give a model file or the directory of a run")
    refused(tmp_path, "is a directory; expected a checkpoint", load_checkpoint)


def test_model_and_checkpoint_are_not_confused(model: Path, checkpoint: Path) -> None:
    refused(checkpoint, "checkpoint.safetensors is a checkpoint; expected a model file")
    refused(model, "model.safetensors is a model file; expected a checkpoint", load_checkpoint)


def test_foreign_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    refused(path, "not a model file of nca-texture")
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    refused(path, "is another kind of file; expected a model file of nca-texture")
    for data in (b"", b"1234567", b"\0" * 100, b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff" * 64):
        path.write_bytes(data)
        refused(path, "not a model file of nca-texture")
        refused(path, "not a checkpoint of nca-texture", load_checkpoint)


def with_header(path: Path, header: bytes, tail: bytes = b"") -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + tail)


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"3",
        b'{"__metadata__": 3}',
        b'{"__metadata__": ["format"]}',
        b'{"__metadata__": null}',
        b'{"__metadata__": {"format": "nca-texture/1"}',
        b'{"__metadata__": {"format": "nca-texture/1"}, "a": 3}',
        b"\xff\xfe{}",
        b"[" * 100_000,
    ],
)
def test_a_damaged_header_is_said(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with_header(path, header, b"tail")
    refused(path, "a.safetensors ")


def rewritten(path: Path, change: Any) -> None:
    """Change the metadata of a file and leave its tensors alone."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = change(header["__metadata__"])
    with_header(path, json.dumps(header).encode(), data[8 + length :])


def test_a_newer_format_is_said(model: Path, tmp_path: Path, checkpoint: Path) -> None:
    rewritten(model, lambda words: words | {"format": "nca-texture/2"})
    refused(model, f"format nca-texture/2, newer than this program knows ({FORMAT}); upgrade")
    copy = tmp_path / "checkpoint.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    rewritten(copy, lambda words: words | {"format": "nca-texture-checkpoint/9"})
    refused(copy, "nca-texture-checkpoint/9, newer than this program knows", load_checkpoint)


@pytest.mark.parametrize(
    "about",
    [
        "",
        "not json",
        "[]",
        "{}",
        "null",
        '{"recipe": 3}',
        '{"recipe": {"automaton": {"channels": -1}}}',
        '{"recipe": {"automaton": {"channels": 5}}}',
        '{"recipe": {"automaton": {"colour": 5}}}',
        '{"recipe": {}, "origin": null}',
        '{"recipe": {}, "origin": [1]}',
        '{"recipe": {}, "origin": 3, "numbers": {}, "exemplar": {}, "groups": []}',
        '{"recipe": {}, "origin": 3, "numbers": [3], "exemplar": null, "groups": null}',
    ],
)
def test_contents_that_make_no_model_are_said(about: str, model: Path, checkpoint: Path) -> None:
    rewritten(model, lambda words: words | {"nca-texture": about})
    refused(model, "model.safetensors is damaged: its contents do not make a model (")
    copy = model.with_name("copy.safetensors")
    copy.write_bytes(checkpoint.read_bytes())
    rewritten(copy, lambda words: words | {"nca-texture": about})
    refused(copy, "copy.safetensors is damaged: its contents do not make a run (", load_checkpoint)


def test_what_a_newer_program_added_to_the_origin_is_no_obstacle(model: Path) -> None:
    def add(words: dict[str, str]) -> dict[str, str]:
        about = json.loads(words["nca-texture"])
        about["origin"]["mood"] = "sunny"
        return words | {"nca-texture": json.dumps(about | {"more": 1})}

    rewritten(model, add)
    assert load_model(model)[2].source == "zebra.jpg"


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.3, 0.9, 0.9999])
def test_a_file_that_was_cut_off_is_said(share: float, model: Path, checkpoint: Path) -> None:
    copy = model.with_name("copy.safetensors")
    for source, read in ((model, load_model), (checkpoint, load_checkpoint)):
        data = source.read_bytes()
        copy.write_bytes(data[: int(len(data) * share)])
        refused(copy, "copy.safetensors ", read)


def test_a_file_with_other_tensors_is_said(model: Path) -> None:
    automaton, recipe = load(model)
    save(model, automaton, recipe, weights={"weight_in": torch.zeros(3, 3)})
    refused(model, "model.safetensors is damaged: its contents do not make a model")


# Writing


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_a_write_that_fails_leaves_the_old_file(
    kind: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.read_bytes()
    automaton, recipe = load(model)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nca_texture.files.os.fsync", full)
    write = partial(save, model, automaton, recipe)
    if kind == "checkpoint":
        write = partial(save_checkpoint, model, *run())
    with pytest.raises(InputError, match="the disk is full"):
        write()
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_an_existing_file_is_kept_when_asked(model: Path) -> None:
    before = model.read_bytes()
    automaton, recipe = load(model)
    with pytest.raises(InputError, match="exists; pass --force"):
        save(model, automaton, Recipe(preset="other"), force=False)
    assert model.read_bytes() == before
    save(model, automaton, recipe, force=True)


def test_saving_into_a_folder_that_is_not_there_makes_it(tmp_path: Path) -> None:
    recipe = Recipe()
    save(tmp_path / "a" / "b" / "c.safetensors", recipe.build_automaton(), recipe)
    assert load(tmp_path / "a" / "b" / "c.safetensors")[1] == recipe
