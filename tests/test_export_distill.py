"""Models written as models.json run in its pages; what is read back is what was written."""

import json
from pathlib import Path

import pytest
import shaders
import torch

from nca_texture import CellularAutomaton, Grid, imports
from nca_texture.errors import InputError
from nca_texture.export.base import Trained
from nca_texture.export.distill import DistillExporter
from nca_texture.kernels.rule import Limits


def trained(seed: int = 0, **settings: object) -> Trained:
    settings = {"channels": 6, "hidden": 9} | settings
    automaton = CellularAutomaton(**settings)  # pyright: ignore
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in automaton.named_parameters():
            amount = {"weight_in": 0.02, "bias_in": 0.3}.get(name, 0.1)  # it moves and stays small
            parameter.copy_(torch.randn(parameter.shape, generator=source) * amount)
    return Trained(name=f"model-{seed}", automaton=automaton.requires_grad_(False), steps=8)


def read_back(models: list[Trained], folder: Path) -> list[CellularAutomaton]:
    path = folder / "models.json"
    path.write_bytes(DistillExporter().files(models)[""])
    found = imports.read(path)
    assert [each.name for each in found] == [each.name for each in models]
    return [each.build() for each in found]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bank": "distill-tf", "output_bias": True},
        {"bank": "growing-2020", "rgb_scale": 2.0},
        {"grid": Grid("hex")},
        {"limits": Limits(percept=3, hidden=2, update=3, state=3)},
    ],
)
def test_a_model_grows_in_the_page_what_it_grows_here(
    settings: dict[str, object], tmp_path: Path
) -> None:
    model = trained(**settings)
    ours = model.automaton
    assert DistillExporter().reasons(model) == []
    (page,) = read_back([model], tmp_path)
    page = page.with_grid(ours.grid)
    state = ours.seed(1, (12, 10))
    mine, theirs = (each.grow(state, 8, seed=3) for each in (ours, page))
    difference = (ours.to_image(mine) - page.to_image(theirs)).abs()
    change = (ours.to_image(mine) - ours.to_image(state)).abs().mean()
    assert change > 0.02
    assert difference.mean() < 0.1 * change  # weights of 8 bits


def test_published_models_come_back_as_they_were(tmp_path: Path) -> None:
    limits = Limits(percept=2, hidden=2, update=2, state=2)
    same = {"limits": limits, "rgb_scale": 0.5, "bank": "distill-hex", "output_bias": True}
    models = [trained(seed, **same) for seed in range(5)]
    first = read_back(models, tmp_path)
    again = [Trained(name=m.name, automaton=a) for m, a in zip(models, first, strict=True)]
    for before, after in zip(first, read_back(again, tmp_path), strict=True):
        assert after.limits == before.limits
        for name, value in before.state_dict().items():
            torch.testing.assert_close(after.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    layers = json.loads((tmp_path / "models.json").read_text())["layers"]
    assert layers[0]["shape"] == [25, 9]
    assert layers[1]["shape"] == [10, 6]
    assert layers[1]["quant_scale_zero"] == [4, 127 / 255]


def test_what_the_page_cannot_do_is_a_reason() -> None:
    for case, words in (
        ("munca", "rule abs"),
        ("learned", "learned"),
        ("always", "noise"),
        ("picture", "living mask"),
    ):
        assert words in "; ".join(DistillExporter().reasons(shaders.model(case)))
    with pytest.raises(InputError, match="one shape"):
        DistillExporter().files([trained(), trained(channels=4)])
