"""Exports: what all of them share, and the command."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning import scramble

from nca_texture import CellularAutomaton, Grid, Recipe, save
from nca_texture import export as family
from nca_texture.automaton import Plant
from nca_texture.errors import InputError
from nca_texture.export.base import Abilities, Exporter, Trained, rounded
from nca_texture.export.html import PARTS, about, fill, read_asset
from nca_texture.export.shading import kernels, literal, pack
from nca_texture.recipe import with_settings

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"
GAP = "\0"  # where a page has what is its own

RULES = {
    "mlp": {"channels": 6, "hidden": 10, "output_bias": True, "bank": "distill-2021"},
    "abs": {"channels": 4, "rule": "abs", "bank": "munca-68", "seed_kind": "noise"},
    "learned": {"channels": 5, "hidden": 7, "bank": "learned"},
    "held": {"channels": 5, "rule": "abs", "condition": "genome", "classes": 3},
}


def random_automaton(**settings: object) -> CellularAutomaton:
    """Make an automaton all of whose weights differ from zero."""
    automaton = CellularAutomaton(**settings)  # pyright: ignore
    scramble(automaton, 5, 0.2)
    return automaton.requires_grad_(False)


def stepped(automaton: CellularAutomaton, state: np.ndarray) -> np.ndarray:
    """Take one step as a shader would: from the stream of vectors, all cells firing, wrapped."""
    rule, filters = pack(automaton), kernels(automaton)
    height, width = state.shape[1:]
    cells = np.zeros((rule.groups * 4, height, width), np.float32)
    cells[: automaton.channels] = state
    result = cells.copy()
    for y in range(height):
        bank = filters[y % len(filters)]
        for x in range(width):
            at = cells[:, y, x]
            near = np.stack(
                [
                    np.stack([cells[:, (y + j) % height, (x + i) % width] for i in (-1, 0, 1)])
                    for j in (-1, 0, 1)
                ]
            ).reshape(3, 3, rule.groups, 4)
            seen = np.einsum("gfjil,jigl->fgl", bank, near).reshape(-1, 4)
            stream = iter(rule.vectors)

            def times(values: np.ndarray, stream=stream) -> np.ndarray:
                columns = np.stack([next(stream) for _ in values])
                return values @ columns

            update = np.zeros((rule.groups, 4), np.float32)
            if rule.kind == "mlp":
                for _ in range(rule.hidden):
                    hidden = next(stream) + sum(times(each) for each in seen)
                    for group in range(rule.groups):
                        update[group] += times(np.maximum(hidden, 0))
                if rule.output_bias:
                    update += np.stack([next(stream) for _ in range(rule.groups)])
            else:
                inputs = np.concatenate([at.reshape(-1, 4), seen])
                inputs = np.concatenate([inputs, np.abs(inputs)])
                for group in range(rule.groups):
                    update[group] = next(stream) + sum(times(each) for each in inputs)
            assert next(stream, None) is None, "the stream is longer than what was read"
            result[:, y, x] = at + update.ravel()
    return result


@pytest.mark.parametrize("layout", ["square", "hex"])
@pytest.mark.parametrize("kind", RULES)
def test_the_stream_of_vectors_is_the_rule(kind: str, layout: str) -> None:
    automaton = random_automaton(**RULES[kind], grid=Grid(layout))
    state = torch.rand(1, automaton.channels, 4, 5, generator=torch.Generator().manual_seed(1))
    expected = automaton.grow(state, 1, fire_rate=1.0, kernel="reference")[0]
    found = stepped(automaton, state[0].numpy())
    np.testing.assert_allclose(found[: automaton.channels], expected, atol=2e-6)
    assert (found[automaton.channels :] == 0).all()


def test_literals_are_read_back_as_themselves() -> None:
    numbers = [0, -0.0, 1, -2.5, 1 / 3, 1e-7, -3.4e38, 1.1754944e-38, 123456.789]
    for number in map(np.float32, numbers):
        text = literal(number)
        assert np.float32(text) == number
        assert "." in text or "e" in text


def test_rounding_is_measured() -> None:
    model = Trained(name="m", automaton=random_automaton(**RULES["mlp"]))
    assert rounded(model, "float32") is model
    half, byte = rounded(model, "float16"), rounded(model, "int8")
    assert 0 < half.rounding[0] < byte.rounding[0] <= byte.rounding[1] <= 1
    numbers = byte.automaton.weight_in
    assert len(numbers.unique()) <= 255
    with pytest.raises(ValueError, match="choose from float32, float16, int8"):
        rounded(model, "int4")


class SquareOnly(Exporter):
    """Refuses much."""

    suffix = ".txt"
    abilities = Abilities(layouts=("square",), edges=("torus",), living=False, channels=4)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        return {"": b"fine"}


def test_a_refusal_lists_all_reasons(tmp_path: Path) -> None:
    grid = Grid("hex", ("torus", "zero"))
    automaton = CellularAutomaton(channels=5, hidden=8, grid=grid, living=True)
    place = f"{__name__}:SquareOnly"
    exporter = SquareOnly()
    with pytest.raises(InputError) as caught:
        family.check(place, exporter, [Trained(name="reef", automaton=automaton)])
    for part in ("reef cannot", "layout hex", "edge zero", "living mask", "5 channels"):
        assert part in str(caught.value)
    simple = Trained(name="a", automaton=CellularAutomaton(channels=4, hidden=8))
    family.check(place, exporter, [simple])
    with pytest.raises(InputError, match="2 were given"):
        family.check(place, exporter, [simple, simple])


def test_targets_that_know_no_classes_refuse_them() -> None:
    automaton = CellularAutomaton(
        channels=4, hidden=8, condition="one-hot", classes=3, fire_by="element"
    )
    assert Abilities().lacking(automaton) == [
        "it has 3 classes, told apart by one-hot",
        "chance decides for each element, not for each cell",
    ]
    assert Abilities(classes=True, elements=True).lacking(automaton) == []


def test_every_entry_of_the_table_is_an_exporter() -> None:
    for name, (_, summary) in family.EXPORTERS.items():
        assert isinstance(family.pick_exporter(name), Exporter)
        assert summary
    with pytest.raises(ValueError, match="did you mean 'json'"):
        family.pick_exporter("jsn")


@pytest.mark.parametrize("name", ["gallery", "html", "distill"])
def test_what_a_target_cannot_run_is_refused(name: str) -> None:
    automaton = random_automaton(channels=5, hidden=4, bank="isotropic")
    with pytest.raises(InputError, match="percepts are combined by norm"):
        family.check(name, family.pick_exporter(name), [Trained(name="a", automaton=automaton)])


@pytest.mark.parametrize("name", [name for name in family.EXPORTERS if name != "json"])
def test_what_no_target_can_run_is_refused(name: str) -> None:
    automaton = random_automaton(channels=5, hidden=4, activation="atan")
    with pytest.raises(InputError, match="the activation atan is not among relu"):
        family.check(name, family.pick_exporter(name), [Trained(name="a", automaton=automaton)])


def test_a_model_never_takes_the_place_of_the_gallery_s_own_pages() -> None:
    automaton = random_automaton(channels=4, hidden=4)
    models = [Trained(name=name, automaton=automaton) for name in ("Index", "together")]
    pages = [name for name in family.pick_exporter("gallery").files(models) if "/" not in name]
    assert pages == ["index.html", "Index-2.html", "together-2.html", "together.html"]


@pytest.mark.parametrize("path", sorted(GALLERY.glob("*.html")), ids=lambda path: path.name)
def test_the_gallery_in_the_docs_is_what_is_exported_now(path: Path) -> None:
    if path.name == "index.html":
        fixed = fill(read_asset("gallery.html"), dict.fromkeys(("title", "together", "cards"), GAP))
    else:
        script = "\n".join(map(read_asset, PARTS))
        parts = {"style": read_asset("page.css"), "script": script}
        own = dict.fromkeys(("title", "icon", "models"), GAP)
        fixed = fill(read_asset("page.html"), parts | own)
    pattern = "(.*?)".join(map(re.escape, fixed.split(GAP)))
    found = re.fullmatch(pattern, path.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "run scripts/pictures.py"
    if path.name != "index.html":
        known = about(Trained(name="a", automaton=random_automaton(channels=4, hidden=4))).keys()
        assert all(model.keys() == known for model in json.loads(found.group(3)))


def test_one_file_of_the_pages_of_the_article_knows_no_classes() -> None:
    automaton = random_automaton(channels=5, hidden=4, condition="one-hot", classes=2)
    trained = [Trained(name="a", automaton=automaton)]
    with pytest.raises(InputError, match="told apart by one-hot"):
        family.check("distill", family.pick_exporter("distill"), trained)
    for name in family.EXPORTERS.keys() - {"distill"}:
        family.check(name, family.pick_exporter(name), trained)


def test_a_class_or_a_mixture_is_named() -> None:
    automaton = random_automaton(channels=4, hidden=4, condition="genome", classes=3)
    names = ("rose", "crocus", "fern")

    def named(*mixture: float) -> str:
        told = automaton.planted([Plant((0.5, 0.5), mixture)])
        return Trained(name="a", automaton=told, classes=names).mixture

    assert Trained(name="a", automaton=automaton).mixture == "1"
    assert [named(), named(0, 1, 0), named(0.5, 0, 0.25)] == [
        "rose",
        "crocus",
        "rose=0.5 + fern=0.25",
    ]


def test_the_command_writes_the_class_that_is_asked_for(command, tmp_path: Path) -> None:
    recipe = with_settings(
        Recipe(), ["automaton.condition=one-hot", "automaton.classes=2", "automaton.hidden=8"]
    )
    recipe = replace(recipe, target=replace(recipe.target, classes=("rose", "crocus")))
    save(tmp_path / "both.safetensors", recipe.build_automaton(), recipe)
    for options, said, code in (
        ([], "both is written as rose; choose another with --class or --mix", "1.0f, 0.0f"),
        (["--class", "crocus"], "both is written as crocus\n", "0.0f, 1.0f"),
        (["--mix", "rose=0.5,crocus=2"], "written as rose=0.5 + crocus=2\n", "0.5f, 2.0f"),
    ):
        words = ["export", "both.safetensors", "--to", "c", "--force", "--json", *options]
        done = command(words, tmp_path)
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
        assert json.loads(done.stdout)["classes"]["both"] in said
        header = (tmp_path / "both.h").read_text()
        assert "// of 2 classes this is " in header
        seed = header.partition("both_seed")[2].partition(";")[0]
        assert seed.count(code) == 2, seed
    for target, options, exit_code, words in (
        ("json", ["--class", "crocus"], 2, "json holds no class of a model by itself"),
        ("c", ["--class", "crocuss"], 2, "crocus"),
        ("c", ["--class", "rose", "--mix", "rose=1"], 2, "not both"),
        ("distill", [], 1, "2 classes"),
    ):
        done = command(["export", "both.safetensors", "--to", target, *options], tmp_path)
        assert done.returncode == exit_code, (target, done.stderr)
        assert words in done.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "moss.safetensors"
    save(path, Recipe().build_automaton(), Recipe())
    return path


def test_plain_numbers_are_those_of_the_model(command, model: Path, tmp_path: Path) -> None:
    done = command(["export", "moss.safetensors", "--to", "json", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == ["moss.json"]
    about = json.loads((tmp_path / "moss.json").read_text())
    automaton = Recipe().build_automaton()
    assert about["weight_in"] == automaton.weight_in.tolist()
    assert np.shape(about["filters"]) == (1, 12, 4, 3, 3)
    again = command(["export", "moss.safetensors", "--to", "json"], tmp_path)
    assert again.returncode == 1
    assert "pass --force" in again.stderr


def test_the_command_lists_and_refuses(command, model: Path, tmp_path: Path) -> None:
    listed = command(["export", "--list", "--json"], tmp_path)
    assert set(json.loads(listed.stdout)) == set(family.EXPORTERS)
    for args, code, words in (
        (["export"], 2, "give --to"),
        (["export", "--to", "json"], 2, "which model"),
        (["export", "moss.safetensors", "--to", "jso"], 2, "did you mean 'json'"),
        (["export", "none.safetensors", "--to", "json"], 1, "there is no file"),
        (["export", "moss.safetensors", "--to", "json", "--weights", "int4"], 2, "int8"),
        (["export", "moss.safetensors", "moss.safetensors", "--to", "json"], 1, "holds one model"),
        (["export", "moss.safetensors", "--to", "json", "-o", "."], 1, "is a folder"),
    ):
        done = command(args, tmp_path)
        assert done.returncode == code, (args, done.stderr)
        assert words in done.stderr
