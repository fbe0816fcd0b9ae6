"""What shaders are tested with: models of every kind, and what runs shaders without a GPU."""

import functools
import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from learning import scramble

from nca_texture import CellularAutomaton, Grid
from nca_texture.automaton import Plant
from nca_texture.export.base import Trained
from nca_texture.kernels.rule import Limits

LIMITS = Limits(percept=0.5, hidden=0.6, update=0.3, state=0.9)
CASES: dict[str, dict[str, Any]] = {
    "texture": {"channels": 12, "hidden": 10},
    "hexagons": {"channels": 6, "hidden": 9, "grid": Grid("hex"), "output_bias": True},
    "limits": {"channels": 8, "hidden": 8, "limits": LIMITS, "bank": "distill-hex"},
    "munca": {"channels": 4, "rule": "abs", "bank": "munca-68", "seed_kind": "noise"},
    "learned": {"channels": 5, "hidden": 7, "bank": "learned", "grid": Grid("hex", "reflect")},
    "always": {
        "channels": 4, "hidden": 4, "fire_rate": 1.0, "seed_kind": "noise", "seed_amount": 0.5,
        "grid": Grid("square", ("torus", "replicate")),
    },
    "picture": {
        "channels": 7, "hidden": 9, "living": True, "seed_kind": "cell", "bank": "growing-2020",
        "grid": Grid("square", "zero"), "rgb_offset": 0.0, "output_bias": True,
    },
    "hexagonal picture": {
        "channels": 8, "hidden": 9, "living": True, "seed_kind": "cell", "bank": "growing-2020",
        "grid": Grid("hex", "torus"), "rgb_offset": 0.0, "seed_place": (0.3, 0.9),
    },
    "dying": {
        "channels": 6, "hidden": 9, "living": True, "seed_kind": "cell", "bank": "growing-2020",
        "grid": Grid("square", "zero"), "rgb_offset": 0.0, "output_bias": True,
        "condition": "one-hot", "classes": 2,
    },
    "one-hot": {
        "channels": 5, "hidden": 8, "output_bias": True, "condition": "one-hot", "classes": 3,
    },
    "genome": {
        "channels": 6, "hidden": 9, "living": True, "seed_kind": "cell", "bank": "growing-2020",
        "grid": Grid("square", "zero"), "rgb_offset": 0.0, "output_bias": True,
        "condition": "genome", "classes": 5, "limits": Limits(state=0.9),
    },
    "embedding": {
        "channels": 5, "rule": "abs", "bank": "distill-tf", "seed_kind": "noise",
        "condition": "embedding", "classes": 2, "embedding": 3,
    },
    "trained seed": {
        "channels": 7, "hidden": 9, "living": True, "seed_kind": "cell", "bank": "growing-2020",
        "grid": Grid("hex", "zero"), "rgb_offset": 0.0, "output_bias": True,
        "condition": "trainable-seed", "classes": 2,
    },
    "trained noise": {
        "channels": 6, "hidden": 8, "seed_kind": "noise", "seed_amount": 0.5,
        "condition": "trainable-seed", "classes": 3,
    },
    "elements": {
        "channels": 6, "hidden": 8, "fire_by": "element", "living": True, "seed_kind": "cell",
        "rgb_offset": 0.0, "output_bias": True, "condition": "one-hot", "classes": 2,
    },
    "isotropic": {
        "channels": 5, "hidden": 7, "bank": "isotropic", "limits": LIMITS, "grid": Grid("hex"),
    },
    "steerable": {
        "channels": 6, "rule": "abs", "bank": "steerable", "seed_kind": "noise", "fire_rate": 0.7,
        "fire_by": "element", "condition": "genome", "classes": 2,
    },
}  # fmt: skip
MIXTURES = {
    "one-hot": (0.0, 1.0, 0.0),
    "genome": (0.0, 0.0, 0.0, 0.0, 1.0),
    "embedding": (0.25, 0.75),
    "trained seed": (0.5, 0.5),
    "trained noise": (0.0, 0.0, 1.0),
}
SIZE = (12, 14)  # height, width
STEPS = 9
SEED = 3_000_000_019


@functools.cache
def model(case: str) -> Trained:
    """Make an automaton all of whose weights differ from zero."""
    automaton = CellularAutomaton(**CASES[case])
    scramble(automaton, 5, 0.1)
    with torch.no_grad():
        if automaton.living and automaton.bias_out is not None:
            automaton.bias_out[3] = 0.2  # it grows
        if case == "dying":  # cells come and go until the end
            assert automaton.weight_out is not None
            assert automaton.bias_out is not None
            automaton.weight_out[3] *= 10
            automaton.bias_out[3] = 0.1
    if case in MIXTURES:
        automaton = automaton.planted([Plant(automaton.seed_place, MIXTURES[case])])
    return Trained(name=case.replace(" ", "_"), automaton=automaton.requires_grad_(False), steps=9)


def start(trained: Trained) -> torch.Tensor:
    """Return the state [1, C, H, W] that is grown from."""
    return trained.automaton.seed(1, SIZE, seed=SEED)


def grown(trained: Trained) -> torch.Tensor:
    """Return the reference's state [1, C, H, W] after ``STEPS``."""
    return trained.automaton.grow(start(trained), STEPS, seed=SEED, kernel="reference")


def close(found: list[torch.Tensor], case: str) -> None:
    """Hold states to the reference's, which end far from where they begin."""
    trained = model(case)
    expected = [start(trained), grown(trained)]
    assert (expected[1] - expected[0]).abs().max() > 0.05
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=2e-5, rtol=1e-4)


def unpacked(cells: np.ndarray, channels: int) -> torch.Tensor:
    """Turn groups of four [G, H, W, 4] into a state [1, C, H, W]."""
    state = cells.transpose(0, 3, 1, 2).reshape(-1, *cells.shape[1:3])
    return torch.from_numpy(np.ascontiguousarray(state[None, :channels]))


def opengl() -> Any:
    """Return a context of OpenGL 4.3 without a window, or skip the test and say why."""
    context = _opengl()
    context.__enter__()  # WebGPU, which looks for OpenGL as well, makes another one the current
    return context


def _triton_first() -> None:
    """Load Triton, which torch does later: its LLVM and that of Mesa, once it is there, crash."""
    with suppress(ImportError):
        importlib.import_module("triton")


@functools.cache
def _opengl() -> Any:
    _triton_first()
    moderngl = pytest.importorskip("moderngl", reason="moderngl is not installed")
    try:
        return moderngl.create_context(standalone=True, backend="egl", require=430)
    except Exception as reason:
        pytest.skip(f"no OpenGL 4.3 through EGL here: {reason}")


@functools.cache
def webgpu() -> Any:
    """Find a device of WebGPU, a processor if nothing else, or skip the test and say why."""
    _triton_first()
    wgpu = pytest.importorskip("wgpu", reason="wgpu is not installed")
    try:
        return wgpu.gpu.request_adapter_sync(force_fallback_adapter=False).request_device_sync()
    except Exception as reason:
        pytest.skip(f"no adapter of WebGPU here: {reason}")


def run_opengl(files: Mapping[str, bytes], trained: Trained) -> list[torch.Tensor]:
    """Grow by compute shaders: states [1, C, H, W] at first and after ``STEPS``."""
    context = opengl()
    height, width = SIZE
    groups = -(-trained.automaton.channels // 4)
    count = groups * height * width * 16
    buffers = [context.buffer(reserve=count) for _ in range(3)]
    program = context.compute_shader(files["step.comp"].decode())
    mask = context.compute_shader(files["mask.comp"].decode()) if "mask.comp" in files else None

    def call(shader: Any, bound: list[Any], **uniforms: Any) -> None:
        for name, value in uniforms.items():
            if name in shader:
                shader[name].value = value
        for binding, buffer in enumerate(bound):
            buffer.bind_to_storage_buffer(binding)
        shader.run(-(-width // 8), -(-height // 8))
        context.memory_barrier()

    def read() -> torch.Tensor:
        cells = np.frombuffer(buffers[0].read(), np.float32).reshape(groups, height, width, 4)
        return unpacked(cells, trained.automaton.channels)

    call(program, [buffers[1], buffers[0]], size=(width, height), seed=SEED, start=1)
    first = read()
    for step in range(STEPS):
        call(program, buffers[:2], size=(width, height), seed=SEED, start=0, step=step)
        if mask is None:
            buffers[:2] = buffers[1::-1]
        else:
            call(mask, buffers, size=(width, height))
            buffers = [buffers[2], buffers[1], buffers[0]]
    return [first, read()]


def run_webgpu(code: str, trained: Trained) -> list[torch.Tensor]:
    """Grow by a WGSL module: states [1, C, H, W] at first and after ``STEPS``."""
    import wgpu

    device = webgpu()
    height, width = SIZE
    groups = -(-trained.automaton.channels // 4)
    count = groups * height * width * 16
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    buffers = [device.create_buffer(size=count, usage=usage) for _ in range(3)]
    module = device.create_shader_module(code=code)
    pipelines: dict[str, Any] = {}

    def call(entry: str, bound: list[Any], step: int) -> None:
        world = np.array([width, height, step, SEED], np.uint32).tobytes()
        uniform = device.create_buffer_with_data(data=world, usage=wgpu.BufferUsage.UNIFORM)
        if entry not in pipelines:
            pipelines[entry] = device.create_compute_pipeline(
                layout="auto", compute={"module": module, "entry_point": entry}
            )
        pipeline = pipelines[entry]
        entries = [
            {"binding": i, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
            for i, buffer in enumerate([uniform, *bound])
            if i in used[entry]
        ]
        group = device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)
        encoder = device.create_command_encoder()
        work = encoder.begin_compute_pass()
        work.set_pipeline(pipeline)
        work.set_bind_group(0, group)
        work.dispatch_workgroups(-(-width // 8), -(-height // 8))
        work.end()
        device.queue.submit([encoder.finish()])

    def read() -> torch.Tensor:
        data = device.queue.read_buffer(buffers[0])
        cells = np.frombuffer(data, np.float32).reshape(groups, height, width, 4)
        return unpacked(cells, trained.automaton.channels)

    used = {"start": {0, 2}, "step": {0, 1, 2}, "mask": {0, 1, 2, 3}}
    call("start", [buffers[1], buffers[0]], 0)
    first = read()
    for step in range(STEPS):
        call("step", buffers[:2], step)
        if trained.automaton.living:
            call("mask", buffers, step)
            buffers = [buffers[2], buffers[1], buffers[0]]
        else:
            buffers[:2] = buffers[1::-1]
    return [first, read()]


class Toy:
    """Runs tabs of Shadertoy: buffers in their order, each of floats, read a turn later."""

    def __init__(self, shader: Mapping[str, Any], size: tuple[int, int]) -> None:
        """Compile the tabs of Shadertoy's JSON for a canvas of ``size`` (width, height)."""
        context = opengl()
        self.context, self.size, self.frame = context, size, 0
        passes = shader["Shader"]["renderpass"]
        common = "".join(each["code"] for each in passes if each["type"] == "common")
        self.passes = [each for each in passes if each["type"] != "common"]
        self.programs = [self._program(common, each) for each in self.passes]
        self.textures = {
            each["outputs"][0]["id"]: [
                context.texture(size, 4, bytes(size[0] * size[1] * 16), dtype="f4")
                for _ in range(2)
            ]
            for each in self.passes
        }

    def _program(self, common: str, part: Mapping[str, Any]) -> Any:
        channels = "".join(f"uniform sampler2D iChannel{i};\n" for i in range(4))
        fragment = (
            "#version 300 es\nprecision highp float;\nprecision highp int;\n"
            "precision highp sampler2D;\n"
            "uniform vec3 iResolution;\nuniform int iFrame;\nuniform vec4 iMouse;\n"
            f"{channels}out vec4 shown;\n{common}\n{part['code']}\n"
            "void main() { mainImage(shown, gl_FragCoord.xy); }\n"
        )
        return fragment_program(self.context, fragment)

    def turn(self, mouse: tuple[float, float, float, float] = (0, 0, 0, 0)) -> None:
        """Draw a frame."""
        for part, program in zip(self.passes, self.programs, strict=True):
            own = self.textures[part["outputs"][0]["id"]]
            for source in part["inputs"]:
                self.textures[source["id"]][0].use(source["channel"])
            values = {"iResolution": (*self.size, 1.0), "iFrame": self.frame, "iMouse": mouse}
            values |= {f"iChannel{i}": i for i in range(4)}
            draw(self.context, program, own[1], values)
            own.reverse()
        self.frame += 1

    def read(self, buffer: int) -> np.ndarray:
        """Return a buffer, or the picture (37): [height, width, 4], the lowest row first."""
        width, height = self.size
        data = self.textures[buffer][0].read()
        return np.frombuffer(data, np.float32).reshape(height, width, 4)


def fragment_program(context: Any, fragment: str) -> Any:
    """Compile a fragment shader that covers everything."""
    version = fragment.partition("\n")[0]
    vertex = (
        f"{version}\nvoid main() {{ vec2 p = vec2(gl_VertexID & 1, gl_VertexID >> 1);\n"
        "  gl_Position = vec4(p * 4.0 - 1.0, 0.0, 1.0); }\n"
    )
    program = context.program(vertex_shader=vertex, fragment_shader=fragment)
    return program, context.vertex_array(program, [])


def draw(context: Any, program: Any, target: Any, values: Mapping[str, Any]) -> None:
    """Run a fragment shader over ``target``."""
    import moderngl

    code, corners = program
    for name, value in values.items():
        if name in code:
            code[name].value = value
    frame = context.framebuffer([target])
    frame.use()
    corners.render(moderngl.TRIANGLES, vertices=3)
    frame.release()


def bands(picture: np.ndarray, size: tuple[int, int], channels: int) -> torch.Tensor:
    """Take a state [1, C, H, W] of ``size`` (height, width) out of a picture in bands."""
    height, width = size
    groups = -(-channels // 4)
    cells = picture[: groups * height, :width].reshape(groups, height, width, 4)
    return unpacked(cells, channels)
