"""Exported shaders are compiled and stepped without a GPU: they fire the cells of the reference."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import shaders
import torch

from nca_texture.export import isf
from nca_texture.export.base import Trained
from nca_texture.export.glsl import GlslExporter
from nca_texture.export.godot import GodotExporter
from nca_texture.export.isf import IsfExporter
from nca_texture.export.shadertoy import ShadertoyExporter
from nca_texture.export.unity import UnityExporter
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


def run_godot(code: str, trained: Trained) -> list[torch.Tensor]:
    """Run the compute shader with its push constants in a uniform block: first and last state."""
    context = shaders.opengl()
    code = code.replace("#[compute]\n", "").replace("set = 0, ", "")
    code = code.replace("layout(push_constant, std430)", "layout(std140, binding = 0)")
    version, _, rest = code.lstrip().partition("\n")
    assert version == "#version 450"
    program = context.compute_shader(f"{version}\n{rest}")
    height, width = shaders.SIZE
    groups = -(-trained.automaton.channels // 4)
    buffers = [context.buffer(reserve=groups * height * width * 16) for _ in range(3)]
    picture = context.buffer(reserve=height * width * 4)
    world = context.buffer(reserve=32)

    def call(task: int, order: list[int], step: int = 0) -> None:
        numbers = [width, height, step, shaders.SEED, task, 0, 0, 0]
        world.write(np.array(numbers, np.uint32).tobytes())
        world.bind_to_uniform_block(0)
        for binding, index in enumerate(order):
            buffers[index].bind_to_storage_buffer(binding)
        picture.bind_to_storage_buffer(3)
        program.run(-(-width // 8), -(-height // 8))
        context.memory_barrier()

    def read(index: int) -> torch.Tensor:
        data = np.frombuffer(buffers[index].read(), np.float32)
        cells = data.reshape(groups, height, width, 4)
        return shaders.unpacked(cells, trained.automaton.channels)

    living = trained.automaton.living
    sets = [[0, 1, 2], [2, 1, 0] if living else [1, 0, 2]]
    call(0, [1, 0, 2])
    first = read(0)
    for step in range(shaders.STEPS):
        call(1, sets[step % 2], step)
        if living:
            call(2, sets[step % 2], step)
    last = sets[shaders.STEPS % 2]
    call(3, last)
    colours = np.frombuffer(picture.read(), np.uint8)
    assert colours.std() > 1
    return [first, read(last[0])]


@pytest.mark.parametrize("case", ["texture", "hexagonal picture", "genome", "elements"])
def test_godot_steps_like_the_reference(case: str) -> None:
    shaders.opengl()
    trained = shaders.model(case)
    code = GodotExporter().files([trained])["step.glsl"].decode()
    close(run_godot(code, trained), case)


def test_scripts_for_godot_are_scripts() -> None:
    parser = pytest.importorskip("gdtoolkit.parser", reason="gdtoolkit is not installed").parser
    for case in ("texture", "picture"):
        files = GodotExporter().files([shaders.model(case)])
        for name, data in files.items():
            if name.endswith(".gd"):
                parser.parse(data.decode())
            if name.endswith(".tscn"):
                script = re.search(r'path="res://([^"]+)"', data.decode())
                assert script is not None
                assert script[1] in files


# What Unity's own headers say, as far as the exported shaders use it.
UNITY = """
Texture2D _Any;
SamplerState _Point;
#define tex2Dlod(image, at) _Any.SampleLevel(_Point, (at).xy, 0.0)
struct v2f_customrendertexture { float4 p : SV_POSITION; float3 globalTexcoord : TEXCOORD1; };
struct appdata_base { float4 vertex : POSITION; float4 texcoord : TEXCOORD0; };
float4 UnityObjectToClipPos(float4 place) { return place; }
"""


@pytest.mark.parametrize("case", shaders.CASES)
def test_shaders_for_engines_compile(case: str, tmp_path: Path) -> None:
    compiler = shutil.which("glslangValidator")
    if compiler is None:
        pytest.skip("there is no glslangValidator (Debian: glslang-tools)")
    trained = shaders.model(case)
    files = UnityExporter().files([trained])
    (name,) = (name for name in files if name.endswith(".compute"))
    entries = ["Start", "Step", "Show"] + ["Mask"] * trained.automaton.living
    lines = files[name].decode().splitlines()
    code = "\n".join(line for line in lines if not line.startswith("#pragma"))
    (tmp_path / "unity.comp").write_text(code)
    for entry in entries:
        flags = ["-D", "-V", "-e", entry, "-S", "comp", "-o", "unity.spv"]
        done = subprocess.run(
            [compiler, *flags, "unity.comp"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    for name, entry in (("State", "Step"), ("Picture", "Pixel")):
        found = [data.decode() for file, data in files.items() if file.endswith(f"{name}.shader")]
        for text in found:
            (code,) = re.findall(r"HLSLPROGRAM\n(.*?)ENDHLSL", text, re.DOTALL)
            code = re.sub(r"#(pragma|include).*|sampler2D.*;", "", code)
            (tmp_path / "unity.frag").write_text(UNITY + code)
            done = subprocess.run(
                [compiler, "-D", "-V", "-e", entry, "-S", "frag", "-o", "unity.spv", "unity.frag"],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout
    files = GodotExporter().files([trained])
    code = files["step.glsl"].decode().replace("#[compute]\n", "")
    (tmp_path / "godot.comp").write_text(code)
    done = subprocess.run(
        [compiler, "-V", "-o", "godot.spv", "godot.comp"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
