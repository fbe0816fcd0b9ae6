"""Published models grow as their own programs grow them; what is damaged gets one sentence."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from torch import Tensor

from nca_texture import imports
from nca_texture.errors import InputError
from nca_texture.imports.base import Published
from nca_texture.noise import fires
from nca_texture.store import load_model, save

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]])
IDENTITY = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])


def read(folder: Path, name: str, content: str) -> list[Published]:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return imports.read(path)


def see(state: Tensor, kernels: list[Tensor], mode: str) -> Tensor:
    """Filter every channel by every kernel, filter-major, as the demos keep their percepts."""
    bank = torch.stack(kernels)[:, None].repeat_interleave(state.shape[1], 0)
    padded = F.pad(state, (1, 1, 1, 1), mode) if mode != "zeros" else F.pad(state, (1, 1, 1, 1))
    return F.conv2d(padded.repeat(1, len(kernels), 1, 1), bank, groups=len(bank))


def dense(x: Tensor, layer: np.ndarray) -> Tensor:
    """Multiply by rows of inputs; the last row is the bias."""
    weight = torch.tensor(layer[:-1]).T[:, :, None, None]
    return F.conv2d(x, weight, torch.tensor(layer[-1]))


def firing(height: int, width: int, step: int) -> Tensor:
    limit = torch.tensor(2**23, dtype=torch.int32)
    return fires([0], step, torch.arange(height), torch.arange(width), limit)[:, None].float()


def test_a_texture_steps_as_in_its_own_page(tmp_path: Path) -> None:
    names = ["a", "folder/b", "c"]
    data = published.distill(names)
    models = read(tmp_path, "models.json", published.as_text(data))
    assert [model.name for model in models] == names
    shapes = [(49, 8), (9, 12)]
    first, last = published.random_layers(shapes, 3)
    for i, model in enumerate(models):
        automaton = model.build()
        scales = [layer["scale"] for layer in data["layers"]]
        layers = [
            (np.clip(np.round(each[i] / scale * 255 + 127), 0, 255) - 127) / 255 * scale
            for each, scale in zip((first, last), scales, strict=True)
        ]
        layers = [each.astype(np.float32) for each in layers]
        state = torch.randn(1, 12, 7, 9, generator=torch.Generator().manual_seed(i)) * 2
        expected = state
        for step in range(3):
            kernels = [IDENTITY, SOBEL / 8, SOBEL.T / 8, LAPLACIAN / 8]
            percepts = see(expected, kernels, "circular").clamp(-2, 2)
            hidden = dense(percepts, layers[0]).clamp(0, 2)
            update = dense(hidden, layers[1]).clamp(-2, 2)
            expected = (expected + update * firing(7, 9, step)).clamp(-2, 2)
        torch.testing.assert_close(automaton.grow(state, 3), expected, atol=1e-5, rtol=1e-5)
        shown = (expected[:, :3] / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(automaton.to_image(expected), shown)
    assert imports.select(models, "b", "models.json") is models[1]


def test_on_hexagons_a_texture_has_the_kernels_of_hexells(tmp_path: Path) -> None:
    models = read(tmp_path, "models.json", published.as_text(published.distill(["a"])))
    kernels = models[0].plan.grid(), models[0].build().perception.with_layout("hex").filters()
    even = kernels[1][0, 0]  # [F, 3, 3] of even rows: upper neighbours at columns -1 and 0
    expected = torch.tensor([[-1.0, 1, 0], [-2, 0, 2], [-1, 1, 0]]) / 8
    torch.testing.assert_close(even[1], expected)
    torch.testing.assert_close(even[3], torch.tensor([[2.0, 2, 0], [2, -12, 2], [2, 2, 0]]) / 8)


def test_a_picture_grows_as_in_its_own_page(tmp_path: Path) -> None:
    data = published.growing()
    (model,) = read(tmp_path, "ex3_🦎.json", published.as_text(data))
    assert model.name == "ex3_🦎"
    assert model.size == (72, 72)
    automaton = model.build()
    layers = []
    for layer in data:
        rows, outputs = layer["in_ch"] + 1, layer["out_ch"]
        found = np.frombuffer(base64.b64decode(layer["data_b64"]), np.uint8)
        values = found.reshape(rows, outputs).astype(np.float32) / 255 - np.float32(0.5)
        scales = [layer["weight_scale"]] * (rows - 1) + [layer["bias_scale"]]
        layers.append(values * np.array(scales, np.float32)[:, None])
    state = automaton.seed(1, (9, 10))
    expected = state
    for step in range(4):
        hidden = dense(see(expected, [IDENTITY, SOBEL / 8, SOBEL.T / 8], "zeros"), layers[0]).relu()
        after = expected + dense(hidden, layers[1]) * firing(9, 10, step)
        alive = [F.max_pool2d(x[:, 3:4], 3, 1, 1) > 0.1 for x in (expected, after)]
        expected = after * (alive[0] & alive[1])
    assert expected.abs().max() > 0
    torch.testing.assert_close(automaton.grow(state, 4), expected, atol=1e-5, rtol=1e-5)


def munca_step(state: Tensor, numbers: np.ndarray) -> Tensor:
    laplacian = see(state[:, :2], [LAPLACIAN], "circular")
    x = see(state[:, 2:3], [SOBEL], "circular")
    y = see(state[:, 3:], [SOBEL.T], "circular")
    seen = torch.cat([laplacian, x, y], 1)
    update = torch.tensor(numbers[64:], dtype=torch.float32)[None, :, None, None]
    for matrix, part in zip(
        numbers[:64].reshape(4, 4, 4), (state, seen, state.abs(), seen.abs()), strict=True
    ):
        columns = torch.tensor(matrix, dtype=torch.float32)  # [input, output], as GLSL's columns
        update = update + torch.einsum("io,bihw->bohw", columns, part)
    return state + update * 1e-3


def test_numbers_in_a_shader_are_a_rule(tmp_path: Path) -> None:
    numbers = published.munca_numbers()
    (model,) = read(tmp_path, "scales.glsl", published.munca_glsl(numbers))
    state = torch.rand(1, 4, 6, 8) - 0.5
    torch.testing.assert_close(model.build().grow(state, 1), munca_step(state, numbers))
    assert model.plan.rgb_scale == 1


def test_numbers_in_a_script_are_the_same_rule(tmp_path: Path) -> None:
    numbers = published.munca_numbers()
    rows = ", ".join(map(str, numbers[:64]))
    bias = ",".join(map(str, numbers[64:]))
    script = (
        f"this.W = new Float32Array([\n {rows}]);\nthis.b = new Float32Array([{bias}]);\n"
        "vec4 rule(vec4 s, vec4 p) {return 1e-3*(b + W[0]*s + W[1]*p + W[2]*abs(s)); }\n"
        "glsl({tex:state[0], FP:`tex(UV)*2.-.5`});\n"
    )
    (model,) = read(tmp_path, "NeuralCA.js", script)
    (other,) = read(tmp_path, "a.glsl", published.munca_glsl(numbers))
    for name, value in model.weights.items():
        np.testing.assert_array_equal(value, other.weights[name])
    assert model.plan.rgb_scale == 2


def test_three_bands_of_a_shader_are_a_rule_of_twelve_channels(tmp_path: Path) -> None:
    source = np.random.default_rng(3)
    weight, bias = source.integers(-60, 60, (48, 12)), source.integers(-9, 9, 12)
    lines = ["vec4 update(float band, vec4 y[6]) {", "#define M mat4", "vec4 dx;"]
    for band in range(3):
        lines.append(
            f"if (band == {band}.) {{ dx = vec4({','.join(map(str, bias[band * 4 :][:4]))});"
        )
        for j in range(6):
            blocks = [
                weight[start : start + 4, band * 4 : band * 4 + 4].ravel()
                for start in (j * 4, 24 + j * 4)
            ]
            a, b = (f"M({','.join(map(str, block))})" for block in blocks)
            lines.append(f"F({j}, {a}, {b});")
        lines.append("}")
    lines.append("return dx/500.0; }")
    (model,) = read(tmp_path, "large.glsl", "\n".join(lines))
    np.testing.assert_allclose(model.weights["weight_in"], weight.T / 500, rtol=1e-6)
    np.testing.assert_allclose(model.weights["bias_in"], bias / 500, rtol=1e-6)


def bomb(width: int, height: int, rows: bytes | None = None) -> str:
    """A PNG whose header promises so many pixels, and whose rows are endless zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    packed = zlib.compress(bytes(10**7), 9) if rows is None else rows
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def without(key: str) -> Callable[[Any], Any]:
    return lambda data: {name: value for name, value in data.items() if name != key}


def layer_with(**changes: Any) -> Callable[[Any], Any]:
    def change(data: Any) -> Any:
        first = data["layers"] if isinstance(data, dict) else data
        layers = [first[0] | changes, *first[1:]]
        return data | {"layers": layers} if isinstance(data, dict) else layers

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("model_names"), "model_names is missing"),
        (without("layers"), "layers is missing"),
        (lambda data: data | {"layers": data["layers"][:1]}, "two layers"),
        (lambda data: data | {"layers": [1, 2]}, "layer 0 of file.json is 1"),
        (lambda data: data | {"model_names": ["a"] * 100}, "room for 2 x 1 models"),
        (layer_with(scale="big"), "scale 'big'"),
        (layer_with(scale=float("nan")), "scale nan"),
        (layer_with(shape=[49]), "shape"),
        (layer_with(shape=[10**9, 8]), "shape"),
        (layer_with(layout=[60_000, 60_000]), "too large"),
        (layer_with(layout=[3, 1]), "its shape and layout make"),
        (layer_with(data="https://example.org/a.png"), "data URL"),
        (layer_with(data="data:image/png;base64,!!!"), "no base64"),
        (layer_with(data="data:image/png;base64,AAAA"), "no PNG"),
        (layer_with(data=bomb(60_000, 60_000)), "60000x60000"),
        (layer_with(data=bomb(4, 49, b"no zlib")), "damaged PNG"),
        (layer_with(quant_scale_zero=[0, 0]), "quant_scale_zero"),
        (layer_with(quant_scale_zero=[2.0, 0.5]), "below zero"),
    ],
)
def test_a_damaged_file_of_textures_gets_one_sentence(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, "file.json", published.as_text(change(published.distill(["a", "b"]))))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:1], "1 layers"),
        (layer_with(in_ch=10**12), "in_ch"),
        (layer_with(out_ch=-1), "out_ch"),
        (layer_with(type="float32"), "type"),
        (layer_with(data_b64="AAAA"), "3 bytes"),
        (layer_with(data_b64="?"), "no base64"),
        (layer_with(weight_scale=None), "weight_scale missing"),
        (layer_with(bias_scale=1e300), "bias_scale"),
    ],
)
def test_a_damaged_file_of_a_picture_gets_one_sentence(
    tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, "file.json", published.as_text(change(published.growing())))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no format"),
        ("{", "damaged JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1}', "no format"),
        ("mat4(1,2,3)", "a matrix of 3 numbers"),
        ("mat4(" + ",".join("1" * 16) + ")", "1 matrices and 0 vectors"),
        (published.munca_glsl(published.munca_numbers()).replace("1e-03*", ""), "scaled by"),
        (published.munca_glsl(published.munca_numbers() * 10**9), "finite"),
    ],
)
def test_what_is_no_published_model_gets_one_sentence(
    tmp_path: Path, content: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, "file.txt", content)


def test_a_file_that_is_no_text_or_too_large_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no text"):
        imports.read(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="more than 64 MB"):
        imports.read(tmp_path / "b.json")
    with pytest.raises(InputError, match="no file"):
        imports.read(tmp_path / "c.json")
    with pytest.raises(InputError, match="directory"):
        imports.read(tmp_path)


def test_a_model_without_recipe_is_saved_and_loaded(tmp_path: Path) -> None:
    (model,) = read(tmp_path, "lizard.json", published.as_text(published.growing()))
    automaton = model.build()
    save(tmp_path / "a.safetensors", automaton, model.plan)
    again, recipe, _ = load_model(tmp_path / "a.safetensors")
    assert (recipe.preset, recipe.losses, recipe.task) == ("", (), "grow")
    assert recipe.automaton == model.plan
    state = automaton.seed(1, (8, 8))
    assert torch.equal(again.grow(state, 3), automaton.grow(state, 3))


def test_the_command_lists_and_imports(tmp_path: Path, command: Command) -> None:
    names = ["bubbly", "texture/models/dots", "bubbly"]
    text = "const MODELS = " + published.as_text(published.distill(names)) + ";\n"
    (tmp_path / "models.js").write_text(text)
    listed = command(["import", "models.js"], tmp_path)
    assert listed.stdout.split() == names
    assert "next: nca-texture import 'models.js#bubbly'" in listed.stderr
    listed = command(["import", "models.js", "--json"], tmp_path)
    assert [row["name"] for row in json.loads(listed.stdout)] == names
    done = command(["import", "models.js#dots", "-o", "d.safetensors"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: nca-texture tile d.safetensors -o d.png" in done.stderr
    about = json.loads(command(["info", "d.safetensors", "--json"], tmp_path).stdout)
    assert about["kind"] == "model, imported from distill"
    assert about["limits"] == {"percept": 2.0, "hidden": 2.0, "update": 2.0, "state": 2.0}
    assert "preset" not in about
    assert len(about["thumbnail"]) > 100
    small = ["--size", "24", "--steps", "3"]
    done = command(["tile", "d.safetensors", "-o", "d.png", *small], tmp_path)
    assert done.returncode == 0, done.stderr
    done = command(
        ["animate", "d.safetensors", "-o", "d.gif", *small, "--frames", "2", "--blend", "0"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    done = command(["import", "models.js", "--all", "-o", "all", "-q"], tmp_path)
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert files == ["bubbly-2.safetensors", "bubbly.safetensors", "dots.safetensors"]


def test_the_command_says_what_it_cannot_import(tmp_path: Path, command: Command) -> None:
    (tmp_path / "m.json").write_text(published.as_text(published.distill(["bubbly", "dots"])))
    for args, code, words in (
        (["m.json#bubble"], 1, "no model called 'bubble'; among its 2 are bubbly"),
        (["m.json", "-o", "a.safetensors"], 2, "name one, as m.json#bubbly"),
        (["m.json#dots", "--all"], 2, "leave out #dots"),
        (["none.json#dots"], 1, "there is no file none.json"),
    ):
        done = command(["import", *args], tmp_path)
        assert done.returncode == code, args
        assert words in done.stderr, done.stderr
    assert command(["import", "m.json#dots"], tmp_path).returncode == 0
    again = command(["import", "m.json#dots"], tmp_path)
    assert again.returncode == 1
    assert "exists; pass --force" in again.stderr
