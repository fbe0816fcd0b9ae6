"""Exported shaders are compiled and stepped without a GPU: they fire the cells of the reference."""

import json

import numpy as np
import pytest
import shaders
import torch

from nca_texture.export import isf
from nca_texture.export.base import Trained
from nca_texture.export.glsl import GlslExporter
from nca_texture.export.isf import IsfExporter
from nca_texture.export.shadertoy import ShadertoyExporter
from nca_texture.export.wgsl import WgslExporter


@pytest.mark.parametrize("case", shaders.CASES)
def test_glsl_steps_like_the_reference(case: str) -> None:
    shaders.opengl()
    trained = shaders.model(case)
    shaders.close(shaders.run_opengl(GlslExporter().files([trained]), trained), case)


@pytest.mark.parametrize("case", shaders.CASES)
def test_wgsl_steps_like_the_reference(case: str) -> None:
    shaders.webgpu()
    trained = shaders.model(case)
    code = WgslExporter().files([trained])[""].decode()
    shaders.close(shaders.run_webgpu(code, trained), case)


def toy_size(case: str) -> tuple[int, int]:
    """Give a canvas (width, height) that has room for the cells of the tests, and some more."""
    groups = -(-shaders.model(case).automaton.channels // 4)
    height, width = shaders.SIZE
    flags = height // 4 if shaders.model(case).automaton.living else 0
    return width, groups * height + flags + 1


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


def test_the_mouse_leaves_what_tells_the_class() -> None:
    shaders.opengl()
    trained = shaders.model("one-hot")
    text = ShadertoyExporter().files([trained])["one-hot.json"]
    toy = shaders.Toy(json.loads(text), (40, 81))
    for _ in range(6):
        toy.turn()
    toy.turn(mouse=(40.0, 40.0, 1.0, 0.0))
    state = shaders.bands(toy.read(257), (40, 40), 8)[0]
    assert 150 < (state[:5] == 0).all(0).sum() < 280
    assert torch.equal(state[5:], trained.automaton.seed(1, (40, 40))[0, 5:])


def run_isf(trained: Trained, turns: int) -> dict[str, np.ndarray]:
    """Run an ISF file as a host does; what its targets hold in the end, and the picture (\"\")."""
    context = shaders.opengl()
    text = IsfExporter().files([trained])[""].decode()
    head, code = text[2:].split("*/", 1)
    about = json.loads(head)
    kinds = {"event": "bool", "bool": "bool", "float": "float", "point2D": "vec2"}
    inputs = "".join(f"uniform {kinds[i['TYPE']]} {i['NAME']};\n" for i in about["INPUTS"])
    targets = [each["TARGET"] for each in about["PASSES"] if each]
    samplers = "".join(f"uniform sampler2D {name};\n" for name in targets)
    program = shaders.fragment_program(
        context,
        "#version 330\n#define IMG_PIXEL(image, place) texelFetch(image, ivec2(place), 0)\n"
        f"uniform int PASSINDEX;\nuniform vec2 RENDERSIZE;\n{inputs}{samplers}out vec4 shown;\n"
        + code.replace("gl_FragColor", "shown"),
    )
    values = {i["NAME"]: i["DEFAULT"] for i in about["INPUTS"] if "DEFAULT" in i}
    sizes = {"": (64, 48)}
    for each in filter(None, about["PASSES"]):
        sizes[each["TARGET"]] = (int(each["WIDTH"]), int(each["HEIGHT"]))
    textures = {
        name: [context.texture(size, 4, bytes(size[0] * size[1] * 16), dtype="f4") for _ in "ab"]
        for name, size in sizes.items()
    }
    for _ in range(turns):
        for index, each in enumerate(about["PASSES"]):
            name = each.get("TARGET", "")
            for unit, target in enumerate(targets):
                textures[target][0].use(unit)
                values[target] = unit
            values |= {"PASSINDEX": index, "RENDERSIZE": sizes[name]}
            shaders.draw(context, program, textures[name][1], values)
            textures[name].reverse()
    found = {}
    for name, (width, height) in sizes.items():
        data = textures[name][0].read()
        found[name] = np.frombuffer(data, np.float32).reshape(height, width, 4)
    return found


@pytest.mark.parametrize("case", ["texture", "hexagons", "picture", "genome"])
def test_isf_steps_like_the_reference(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shaders.opengl()
    trained = shaders.model(case)
    monkeypatch.setattr(isf, "_SIDE", 24)  # cells; fewer are faster here
    size = (24, 24)
    held = run_isf(trained, 6)
    found = shaders.bands(held["state"], size, trained.automaton.channels)
    start = trained.automaton.seed(1, size, seed=1)
    expected = trained.automaton.grow(start, 5, seed=1, kernel="reference")
    assert (expected - start).abs().max() > 0.02
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert held[""].std() > 0.01
