"""What engines run, without the engines: their shaders in Mesa, called as the scripts call them."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shaders
import torch

from nca_texture.export import godot, unity
from nca_texture.export.base import Trained
from nca_texture.export.godot import GodotExporter
from nca_texture.export.unity import UnityExporter

SIDE = 12  # cells of the pictures in bands; fewer are faster


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
    shaders.close(run_godot(code, trained), case)


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


def canvas_program(context: Any, code: str) -> Any:
    """Turn a canvas shader of Godot into GLSL ES, which it becomes in the engine too."""
    code = re.sub(r"(?m)^(shader_type|render_mode) .*;$", "", code)
    assert "shader_type" not in code
    code = re.sub(r"(?m)^(uniform \w+ \w+)( :| =).*;$", r"\1;", code)  # hints, defaults
    code = re.sub(r"\bUV\b", "(gl_FragCoord.xy / drawn)", code)  # down, as rows are
    code = re.sub(r"\bCOLOR\b", "shown", code).replace("void fragment()", "void main()")
    head = (
        "#version 300 es\nprecision highp float;\nprecision highp int;\n"
        "precision highp sampler2D;\nuniform vec2 drawn;\nout vec4 shown;\n"
    )
    return shaders.fragment_program(context, head + code)


def nearest(texture: Any) -> Any:
    """Let a texture be read without mixing, as both engines are told."""
    texture.filter = 0x2600, 0x2600  # GL_NEAREST
    return texture


class Canvas:
    """Two viewports in turn, of floats or of half floats, driven by what the script says."""

    def __init__(self, trained: Trained, kind: str) -> None:
        """Compile the canvas shaders of a model; ``kind`` is f4 or f2."""
        self.context = shaders.opengl()
        files = {name: data.decode() for name, data in GodotExporter().files([trained]).items()}
        self.rule = canvas_program(self.context, files["step.gdshader"])
        self.show = canvas_program(self.context, files["show.gdshader"])
        script = files["canvas.gd"]
        pixels = re.search(r"PIXELS := Vector2i\((\d+), (\d+)\)", script)
        assert pixels is not None
        self.size = int(pixels[1]), int(pixels[2])
        self.kind, self.turn = kind, 0
        process = script.partition("func _process")[2].replace(" / ", " // ")
        self.rules = re.findall(r'rule.set_shader_parameter\("(\w+)", (.*)\)', process)
        self.now = re.findall(r"var now := (.*)", process)[0]
        (self.shown,) = re.findall(r"turns\[(.*?)\].get_texture\(\)", process)
        self.names = {"LIVING": "const LIVING := true" in script, "random_seed": 1}
        self.textures = [nearest(self.context.texture(self.size, 4, dtype=kind)) for _ in range(2)]

    def step(self) -> None:
        """Draw a frame."""
        now = eval(self.now, {"turn": self.turn})
        names = self.names | {"turn": self.turn, "now": now}
        values = {name: eval(value, names) for name, value in self.rules}
        assert {"steps_taken", "begin_anew", "random_seed"} <= values.keys()
        self.textures[1 - now].use(0)
        values |= {"cells": 0, "drawn": self.size}
        shaders.draw(self.context, self.rule, self.textures[now], values)
        # What has been drawn in this frame is seen in the next one.
        self.seen = eval(self.shown, names | {"now": 1 - now})
        self.turn += 1

    def read(self) -> np.ndarray:
        """Return the picture that is shown, [height, width, 4]."""
        width, height = self.size
        dtype = {"f4": np.float32, "f2": np.float16}[self.kind]
        data = np.frombuffer(self.textures[self.seen].read(), dtype)
        return data.astype(np.float32).reshape(height, width, 4)

    def picture(self, side: int, cells: float) -> np.ndarray:
        """Return what is seen of so many cells on ``side`` x ``side`` pixels, alpha straight."""
        target = self.context.texture((side, side), 4, dtype="f4")
        self.textures[self.seen].use(0)
        values = {"cells": 0, "cells_across": cells, "drawn": (side, side)}
        shaders.draw(self.context, self.show, target, values)
        return np.frombuffer(target.read(), np.float32).reshape(side, side, 4)


def on_a_canvas(trained: Trained, kind: str) -> tuple[list[torch.Tensor], Canvas]:
    """Grow on a canvas: the first state and the last, and the canvas in the end."""
    canvas, found = Canvas(trained, kind), []
    turns = 2 if trained.automaton.living else 1  # of a step
    for turn in range(turns * (shaders.STEPS + 1)):
        canvas.step()
        if turn in (turns - 1, turns * (shaders.STEPS + 1) - 1):
            found.append(shaders.bands(canvas.read(), (SIDE, SIDE), trained.automaton.channels))
    return found, canvas


def expected_of(trained: Trained, seed: int) -> list[torch.Tensor]:
    """Grow by the reference on as many cells: the first state and the last."""
    start = trained.automaton.seed(1, (SIDE, SIDE), seed=seed)
    grown = trained.automaton.grow(start, shaders.STEPS, seed=seed, kernel="reference")
    return [start, grown]


@pytest.mark.parametrize("case", shaders.CASES)
def test_canvas_shaders_of_godot_step_like_the_reference(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaders.opengl()
    monkeypatch.setattr(godot, "_SIDE", SIDE)
    trained = shaders.model(case)
    expected = expected_of(trained, 1)
    found, canvas = on_a_canvas(trained, "f4")
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=2e-5, rtol=1e-4)
    if trained.automaton.grid.layout == "square":
        colours = trained.automaton.to_image(expected[1])[0].permute(1, 2, 0).numpy()
        seen = canvas.picture(2 * SIDE, SIDE)[::2, ::2].copy()
        if trained.automaton.living:
            np.testing.assert_allclose(seen[..., 3], colours[..., 3], atol=2e-5)
            seen[..., :3] *= seen[..., 3:]
            visible = colours[..., 3] > 0.01  # straight colours need some alpha
            seen, colours = seen[visible], colours[visible]
        np.testing.assert_allclose(seen[..., :3], colours[..., :3], atol=2e-5)


@pytest.mark.parametrize("case", ["hexagons", "genome"])
def test_half_floats_carry_a_canvas(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shaders.opengl()
    monkeypatch.setattr(godot, "_SIDE", SIDE)
    trained = shaders.model(case)
    found, _ = on_a_canvas(trained, "f2")
    _, expected = expected_of(trained, 1)
    assert (found[1] - expected).abs().max() < 0.01 * expected.abs().max()


@pytest.mark.parametrize("case", shaders.CASES)
def test_canvas_shaders_declare_no_name_twice(case: str) -> None:
    # Unlike GLSL, Godot's language takes no name for a parameter or a variable that a uniform, or a
    # block around it, has already.
    files = GodotExporter().files([shaders.model(case)])
    for name in ("step.gdshader", "show.gdshader"):
        code = re.sub(r"//.*", "", files[name].decode())
        kinds = r"\b(?:bool|u?int|float|[iu]?vec[234]|sampler2D)"
        uniforms = re.findall(rf"(?m)^uniform {kinds} (\w+)", code)
        bodies = re.split(rf"(?m)^(?={kinds[2:]} \w+\(|void )", code)[1:]
        assert len(bodies) > 3
        for body in bodies:
            declared = re.findall(rf"{kinds} (\w+)\b", body)
            assert len({*declared, *uniforms}) == len(declared) + len(uniforms), declared


def test_a_canvas_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    shaders.opengl()
    monkeypatch.setattr(godot, "_SIDE", SIDE)
    trained = shaders.model("picture")
    canvas, found = Canvas(trained, "f2"), []
    for frames in (11, 12, 12):
        for _ in range(frames):
            canvas.step()
        found.append(canvas.read())
        canvas.turn = 0  # as restart() does, in the middle of a step too
    np.testing.assert_array_equal(found[1], found[2])


# What Unity's own headers say, as far as the exported shaders use it.
UNITY = """
Texture2D _Any;
SamplerState _Point;
#define tex2Dlod(image, at) _Any.SampleLevel(_Point, (at).xy, 0.0)
struct v2f_customrendertexture { float4 p : SV_POSITION; float3 globalTexcoord : TEXCOORD1; };
struct appdata_base { float4 vertex : POSITION; float4 texcoord : TEXCOORD0; };
float4 UnityObjectToClipPos(float4 place) { return place; }
"""


def hlsl(code: str, entry: str, stage: str, place: Path) -> str:
    """Compile what is between the lines for Unity, and return it as GLSL."""
    compiler, back = shutil.which("glslangValidator"), shutil.which("spirv-cross")
    if compiler is None or back is None:
        pytest.skip("HLSL becomes GLSL by Debian's glslang-tools and spirv-cross; one is missing")
    code = re.sub(r"#(pragma|include).*|sampler2D.*;", "", code)
    (place / f"unity.{stage}").write_text(UNITY * (stage == "frag") + code)
    version = {"frag": "330", "comp": "430"}[stage]
    for command in (
        [compiler, "-D", "-V", "--amb", "-e", entry, "-S", stage, "-o", "u.spv", f"unity.{stage}"],
        [back, "u.spv", "--version", version, "--no-es", "--glsl-emit-ubo-as-plain-uniforms",
         "--output", "u.glsl"],
    ):  # fmt: skip
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return (place / "u.glsl").read_text()


def found_in(files: Mapping[str, bytes], end: str) -> str:
    """Read the file with this end; of several, that with the longest name."""
    name = max((name for name in files if name.endswith(end)), key=len)
    return files[name].decode()


def set_globals(program: Any, values: Mapping[str, object]) -> None:
    """Set what HLSL has as global numbers; those that a kernel does not ask for are not there."""
    for name in program:
        last = name.rpartition(".")[2]
        if last in values:
            program[name].value = values[last]


@pytest.mark.parametrize("case", shaders.CASES)
def test_the_render_texture_of_unity_steps_like_the_reference(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = shaders.opengl()
    monkeypatch.setattr(unity, "_SIDE", SIDE)
    trained = shaders.model(case)
    files = UnityExporter().files([trained])
    (code,) = re.findall(r"HLSLPROGRAM\n(.*?)ENDHLSL", found_in(files, "State.shader"), re.DOTALL)
    glsl = hlsl(code, "Step", "frag", tmp_path)
    glsl, count = re.subn(r"in vec3 \w+globalTexcoord;", "uniform vec2 drawn;", glsl)
    assert count == 1
    glsl = re.sub(r"\w+_globalTexcoord\b", "vec3(gl_FragCoord.xy / drawn, 0.0)", glsl)
    program = shaders.fragment_program(context, glsl.lstrip())
    script = found_in(files, "Texture.cs")
    sizes = re.search(r"new CustomRenderTexture\((\d+), (\d+),", script)
    assert sizes is not None
    size = int(sizes[1]), int(sizes[2])
    twice = "cells.Update(2 * (fresh ? 1 : stepsPerFrame));" in script
    assert twice == trained.automaton.living
    white = np.ones((size[1], size[0], 4), np.float32)  # what Unity begins with
    textures = [nearest(context.texture(size, 4, white, dtype="f4")) for _ in range(2)]

    def update(count: int, fresh: bool) -> torch.Tensor:
        for _ in range(count * (2 if twice else 1)):
            textures[0].use(0)
            set_globals(program[0], {"_Seed": shaders.SEED, "_Restart": int(fresh)})
            shaders.draw(context, program, textures[1], {"drawn": size})
            textures.reverse()
        data = np.frombuffer(textures[0].read(), np.float32).reshape(size[1], size[0], 4)
        return shaders.bands(data, (SIDE, SIDE), trained.automaton.channels)

    found = [update(1, fresh=True), update(shaders.STEPS, fresh=False)]
    assert torch.equal(update(1, fresh=True), found[0])
    expected = expected_of(trained, shaders.SEED)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["texture", "embedding", "trained seed", "elements"])
def test_the_compute_shader_of_unity_steps_like_the_reference(case: str, tmp_path: Path) -> None:
    context = shaders.opengl()
    trained = shaders.model(case)
    height, width = shaders.SIZE
    groups = -(-trained.automaton.channels // 4)
    code = found_in(UnityExporter().files([trained]), ".compute")
    living = trained.automaton.living
    kernels = {}
    for name in ("Start", "Step", *(["Mask"] if living else [])):
        glsl = hlsl(code, name, "comp", tmp_path)
        bound = re.findall(r"binding = (\d+), std430\) \w*\s*buffer (\w+)", glsl)
        kernels[name] = context.compute_shader(glsl), {what: int(i) for i, what in bound}
    buffers = [context.buffer(reserve=groups * height * width * 16) for _ in range(3)]

    def call(name: str, given: Iterable[Any], taken: int) -> None:
        program, bound = kernels[name]
        values = {"Width": width, "Height": height, "Taken": taken, "Seed": shaders.SEED}
        set_globals(program, values)
        for what, buffer in zip(("Before", "After", "Masked"), given, strict=False):
            if what in bound:
                buffer.bind_to_storage_buffer(bound[what])
        program.run(-(-width // 8), -(-height // 8))
        context.memory_barrier()

    def read() -> torch.Tensor:
        cells = np.frombuffer(buffers[0].read(), np.float32).reshape(groups, height, width, 4)
        return shaders.unpacked(cells, trained.automaton.channels)

    call("Start", buffers[1::-1], 0)
    found = [read()]
    for step in range(shaders.STEPS):
        call("Step", buffers[:2], step)
        if living:
            call("Mask", buffers, step)
        after = 2 if living else 1
        buffers[0], buffers[after] = buffers[after], buffers[0]
    shaders.close([*found, read()], case)


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
