"""Exported shaders are compiled and stepped without a GPU: they fire the cells of the reference."""

import json

import numpy as np
import pytest
import shaders
import torch

from nca_texture.export.glsl import GlslExporter
from nca_texture.export.shadertoy import ShadertoyExporter
from nca_texture.export.wgsl import WgslExporter


def close(found: list[torch.Tensor], case: str) -> None:
    """Hold states to the reference's, which end far from where they begin."""
    trained = shaders.model(case)
    expected = [shaders.start(trained), shaders.grown(trained)]
    assert (expected[1] - expected[0]).abs().max() > 0.05
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", shaders.CASES)
def test_glsl_steps_like_the_reference(case: str) -> None:
    shaders.opengl()
    trained = shaders.model(case)
    close(shaders.run_opengl(GlslExporter().files([trained]), trained), case)


@pytest.mark.parametrize("case", shaders.CASES)
def test_wgsl_steps_like_the_reference(case: str) -> None:
    shaders.webgpu()
    trained = shaders.model(case)
    code = WgslExporter().files([trained])[""].decode()
    close(shaders.run_webgpu(code, trained), case)


def toy_size(case: str) -> tuple[int, int]:
    """Give a canvas (width, height) that has room for the cells of the tests, and some more."""
    groups = -(-shaders.model(case).automaton.channels // 4)
    height, width = shaders.SIZE
    return width, groups * height + 2 - groups % 2


@pytest.mark.parametrize("case", shaders.CASES)
def test_shadertoy_steps_like_the_reference(case: str) -> None:
    shaders.opengl()
    trained = shaders.model(case)
    files = ShadertoyExporter().files([trained])
    assert (
        files["buffer_a.glsl"].decode()
        in json.loads(files[f"{trained.name}.json"])["Shader"]["renderpass"][1]["code"]
    )
    toy = shaders.Toy(json.loads(files[f"{trained.name}.json"]), toy_size(case))
    buffer = 258 if trained.automaton.living else 257
    found = []
    for _ in range(shaders.STEPS + 1):
        toy.turn()
        found.append(shaders.bands(toy.read(buffer), shaders.SIZE, trained.automaton.channels))
    start = trained.automaton.seed(1, shaders.SIZE, seed=1)
    assert torch.equal(found[0], start)
    expected = trained.automaton.grow(start, shaders.STEPS, seed=1, kernel="reference")
    torch.testing.assert_close(found[-1], expected, atol=2e-5, rtol=1e-4)
    shown = toy.read(37)
    assert shown[..., :3].std() > 0.01 or trained.automaton.living  # not all of it is in sight
    if trained.automaton.grid.layout == "square" and not trained.automaton.living:
        colours = trained.automaton.to_image(expected)[0].permute(1, 2, 0).numpy()
        zoom = max(1, len(shown) // shaders.SIZE[0])
        top = shown[::-1][::zoom, ::zoom, :3][: shaders.SIZE[0]]
        np.testing.assert_allclose(top, colours[: len(top), : top.shape[1]], atol=1e-4)


def test_the_mouse_erases_on_shadertoy() -> None:
    shaders.opengl()
    trained = shaders.model("texture")
    text = ShadertoyExporter().files([trained])["texture.json"]
    toy = shaders.Toy(json.loads(text), (40, 121))
    for _ in range(6):
        toy.turn()
    toy.turn(mouse=(60.0, 60.0, 1.0, 0.0))
    state = shaders.bands(toy.read(257), (40, 40), 12)[0]
    erased = (state == 0).all(0)
    assert 150 < erased.sum() < 280
