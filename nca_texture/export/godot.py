"""Godot 4: a project with a compute shader and a canvas shader, each with its scene.

The compute version runs on a rendering device (Forward+ and Mobile). The canvas version needs
viewports of half floats (Forward+, and Compatibility from 4.4 on, the web included): two of them in
turn hold the state in bands, see bands.py. A step of living cells takes two turns, so that the
second viewport always holds what is masked.
"""

from collections.abc import Sequence

from nca_texture.export.bands import cell_source, rows_of, turn_source, wrap_source
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.stepping import (
    GLSL,
    GODOT,
    colours_source,
    groups_of,
    step_source,
    title,
)

_SIDE = 256  # cells

_PROJECT = """\
config_version=5

[application]

config/name="{name}"
run/main_scene="res://{main}.tscn"
config/features=PackedStringArray("4.2")

[display]

window/size/viewport_width=768
window/size/viewport_height=768

[rendering]

textures/canvas_textures/default_texture_filter=0
"""

_SCENE = """\
[gd_scene load_steps=2 format=3]

[ext_resource type="Script" path="res://{script}.gd" id="1"]

[node name="{node}" type="TextureRect"]
anchors_preset = 15
anchor_right = 1.0
anchor_bottom = 1.0
stretch_mode = 5
expand_mode = 1
script = ExtResource("1")
"""

_COMPUTE = """\
#[compute]
#version 450
{head}
layout(local_size_x = 8, local_size_y = 8, local_size_z = 1) in;

layout(set = 0, binding = 0, std430) restrict buffer Before {{ vec4 before[]; }};
layout(set = 0, binding = 1, std430) restrict buffer After {{ vec4 after[]; }};
layout(set = 0, binding = 2, std430) restrict buffer Masked {{ vec4 masked[]; }};
layout(set = 0, binding = 3, std430) restrict buffer Picture {{ uint picture[]; }};

layout(push_constant, std430) uniform World {{
  int width;
  int height;
  uint step;  // steps already taken
  uint seed;
  int task;  // 0: start, 1: step, 2: mask, 3: show
  int unused0;
  int unused1;
  int unused2;
}} world;

int nca_index(int group, int x, int y) {{ return (group * world.height + y) * world.width + x; }}
vec4 nca_read(int group, int x, int y) {{ return before[nca_index(group, x, y)]; }}
{after}
{step}
{colours}
void main() {{
  int x = int(gl_GlobalInvocationID.x);
  int y = int(gl_GlobalInvocationID.y);
  if (x >= world.width || y >= world.height) {{ return; }}
  if (world.task == 0) {{
    for (int g = 0; g < {groups}; ++g) {{
      after[nca_index(g, x, y)] = nca_seed(g, x, y, world.width, world.height, world.seed);
    }}
  }} else if (world.task == 1) {{
    vec4 next[{groups}];
    nca_step(x, y, world.width, world.height, world.step, world.seed, next);
    for (int g = 0; g < {groups}; ++g) {{ after[nca_index(g, x, y)] = next[g]; }}
  }}{mask} else {{
    vec4 colour = nca_rgba(nca_read(0, x, y));
    colour.rgb /= max(colour.a, 0.001);
    picture[nca_index(0, x, y)] = packUnorm4x8(colour);
  }}
}}
"""

_MASK = """ else if (world.task == 2) {{
    bool alive = nca_alive(x, y, world.width, world.height);
    for (int g = 0; g < {groups}; ++g) {{
      int i = nca_index(g, x, y);
      masked[i] = alive ? after[i] : nca_erased(g, after[i]);
    }}
  }}"""

_COMPUTE_SCRIPT = """\
extends TextureRect

@export var cells := Vector2i({side}, {side})
@export var steps_per_frame := 1
@export var random_seed := 1

const GROUPS := {groups}
const LIVING := {living}

var device: RenderingDevice
var shader: RID
var pipeline: RID
var buffers: Array[RID] = []
var sets: Array[RID] = []
var now := 0
var step := 0


func _ready() -> void:
\tdevice = RenderingServer.create_local_rendering_device()
\tif device == null:
\t\tpush_error("compute shaders need the Forward+ or Mobile renderer; open canvas.tscn instead")
\t\tset_process(false)
\t\treturn
\tvar source: RDShaderFile = load("res://step.glsl")
\tshader = device.shader_create_from_spirv(source.get_spirv())
\tpipeline = device.compute_pipeline_create(shader)
\tvar count := cells.x * cells.y * GROUPS * 16
\tfor i in 3:
\t\tbuffers.append(device.storage_buffer_create(count))
\tbuffers.append(device.storage_buffer_create(cells.x * cells.y * 4))
\tsets.append(_set([0, 1, 2, 3]))
\tsets.append(_set([2, 1, 0, 3] if LIVING else [1, 0, 2, 3]))
\trestart()


func restart() -> void:
\tstep = 0
\tnow = 0
\t_run(0, _set([1, 0, 2, 3]))


func _process(_delta: float) -> void:
\tfor i in steps_per_frame:
\t\t_run(1, sets[now])
\t\tif LIVING:
\t\t\t_run(2, sets[now])
\t\tnow = 1 - now
\t\tstep += 1
\t_run(3, sets[now])
\tvar pixels := device.buffer_get_data(buffers[3])
\tvar image := Image.create_from_data(cells.x, cells.y, false, Image.FORMAT_RGBA8, pixels)
\ttexture = ImageTexture.create_from_image(image)


func _set(order: Array) -> RID:
\tvar uniforms: Array[RDUniform] = []
\tfor binding in order.size():
\t\tvar uniform := RDUniform.new()
\t\tuniform.uniform_type = RenderingDevice.UNIFORM_TYPE_STORAGE_BUFFER
\t\tuniform.binding = binding
\t\tuniform.add_id(buffers[order[binding]])
\t\tuniforms.append(uniform)
\treturn device.uniform_set_create(uniforms, shader, 0)


func _run(task: int, uniforms: RID) -> void:
\tvar world := PackedInt32Array([cells.x, cells.y, step, random_seed, task, 0, 0, 0])
\tvar bytes := world.to_byte_array()
\tvar list := device.compute_list_begin()
\tdevice.compute_list_bind_compute_pipeline(list, pipeline)
\tdevice.compute_list_bind_uniform_set(list, uniforms, 0)
\tdevice.compute_list_set_push_constant(list, bytes, bytes.size())
\tdevice.compute_list_dispatch(list, (cells.x + 7) / 8, (cells.y + 7) / 8, 1)
\tdevice.compute_list_end()
\tdevice.submit()
\tdevice.sync()
"""

# Half floats count to 2048 only: the steps taken come from the script, and so does whether the step
# is whole. Nothing inside a function may have the name of a uniform in this language.
_CANVAS = """\
shader_type canvas_item;
render_mode unshaded, blend_disabled;

{head}
uniform sampler2D cells : filter_nearest, repeat_disable;
uniform int steps_taken = 0;{whole}
uniform int random_seed = 1;
uniform bool begin_anew = true;

ivec2 nca_size() {{ return ivec2({side}, {side}); }}
ivec2 nca_pixels() {{ return ivec2({side}, {rows}); }}
vec4 nca_texel(ivec2 place) {{
  vec4 found = textureLod(cells, (vec2(place) + vec2(0.5)) / vec2(nca_pixels()), 0.0);
  bool last = place == nca_pixels() - ivec2(1, 1);
  return last ? vec4(vec2(nca_size()), float(steps_taken), {memory}) : found;
}}
{step}
void fragment() {{
  ivec2 place = ivec2(floor(UV * vec2(nca_pixels())));
  COLOR = nca_turn(place, uint(random_seed), begin_anew, false);
}}
"""

_SHOW = """\
shader_type canvas_item;
render_mode unshaded;

uniform sampler2D cells : filter_nearest, repeat_disable;
uniform float cells_across = 256.0;

ivec2 nca_size() {{ return ivec2({side}, {side}); }}
{colours}
void fragment() {{
  ivec2 cell = nca_wrapped(nca_cell(UV * cells_across), nca_size());
  vec2 at = (vec2(cell) + vec2(0.5)) / vec2({side}.0, {rows}.0);
  vec4 colour = nca_rgba(textureLod(cells, at, 0.0));
  COLOR = cell.x < 0 ? vec4(0.0) : vec4(colour.rgb / max(colour.a, 0.001), colour.a);
}}
"""

_CANVAS_SCRIPT = """\
extends TextureRect

@export var random_seed := 1

const PIXELS := Vector2i({side}, {rows})
const LIVING := {living}

var turns: Array[SubViewport] = []
var rules: Array[ShaderMaterial] = []
var turn := 0


func _ready() -> void:
\tfor i in 2:
\t\tvar view := SubViewport.new()
\t\tview.size = PIXELS
\t\tview.use_hdr_2d = true
\t\tview.transparent_bg = true
\t\tview.disable_3d = true
\t\tview.render_target_update_mode = SubViewport.UPDATE_DISABLED
\t\tvar rule := ShaderMaterial.new()
\t\trule.shader = load("res://step.gdshader")
\t\tvar field := ColorRect.new()
\t\tfield.size = Vector2(PIXELS)
\t\tfield.material = rule
\t\tview.add_child(field)
\t\tadd_child(view)
\t\tturns.append(view)
\t\trules.append(rule)
\tfor i in 2:
\t\trules[i].set_shader_parameter("cells", turns[1 - i].get_texture())
\tvar shown := ShaderMaterial.new()
\tshown.shader = load("res://show.gdshader")
\tmaterial = shown
\tvar blank := Image.create(1, 1, false, Image.FORMAT_RGBA8)
\ttexture = ImageTexture.create_from_image(blank)


func restart() -> void:
\tturn = 0


func _process(_delta: float) -> void:
\tvar now := turn % 2
\tvar rule := rules[now]
{turn}\trule.set_shader_parameter("begin_anew", turn == 0)
\trule.set_shader_parameter("random_seed", random_seed)
\tturns[now].render_target_update_mode = SubViewport.UPDATE_ONCE
\tvar shown := material as ShaderMaterial
\tshown.set_shader_parameter("cells", turns[1 if LIVING else 1 - now].get_texture())
\tturn += 1
"""

_TURN = """\
\trule.set_shader_parameter("steps_taken", turn - 1)
"""

# Steps and masks in turn; either is told how many steps its picture has behind it.
_TURN_LIVING = """\
\trule.set_shader_parameter("is_whole", now == 0)
\trule.set_shader_parameter("steps_taken", turn / 2 - 1 + now)
"""

_README = """\
{name} in Godot 4.2 or later

Open this folder as a project. compute.tscn runs the compute shader (Forward+ and Mobile renderers)
in floats. canvas.tscn runs in viewports of half floats: with Forward+, and from Godot 4.4 on with
Compatibility, the web included; where the Mobile renderer has 10 bits for them, it cannot.
"""


class GodotExporter(Exporter):
    """A folder that opens as a project; its parts can be copied into another."""

    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, channels=32, numbers=16_384)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write project, scenes, scripts and shaders."""
        (model,) = models
        automaton, head = model.automaton, title(model)
        groups, living = groups_of(automaton), automaton.living
        known = {"side": _SIDE, "rows": rows_of(automaton, _SIDE), "groups": groups}
        known |= {"living": str(living).lower(), "head": head}
        known |= {
            "whole": "\nuniform bool is_whole = true;" * living,
            "memory": "is_whole ? 1.0 : 2.0" if living else "1.0",
            "turn": _TURN_LIVING if living else _TURN,
        }
        parts = [colours_source(model, GODOT), cell_source(model), wrap_source(model)]
        found = {
            "project.godot": _PROJECT.format(name=model.name, main="compute"),
            "compute.tscn": _SCENE.format(script="compute", node="Compute"),
            "compute.gd": _COMPUTE_SCRIPT.format(**known),
            "step.glsl": compute_source(model),
            "canvas.tscn": _SCENE.format(script="canvas", node="Canvas"),
            "canvas.gd": _CANVAS_SCRIPT.format(**known),
            "step.gdshader": _CANVAS.format(step=turn_source(model, GODOT), **known),
            "show.gdshader": _SHOW.format(colours="\n".join(parts), **known),
            "README.txt": _README.format(name=model.name),
        }
        return {name: text.encode() for name, text in found.items()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say how to open it."""
        return ["open the folder as a project in Godot 4; this was not run in the engine"]


def compute_source(model: Trained) -> str:
    """Write the compute shader for a rendering device."""
    groups, living = groups_of(model.automaton), model.automaton.living
    after = "vec4 nca_read_after(int group, int x, int y) { return after[nca_index(group, x, y)]; }"
    return _COMPUTE.format(
        head=title(model),
        groups=groups,
        after=f"{after}\n" * living,
        step=step_source(model, GLSL),
        colours=colours_source(model, GLSL),
        mask=_MASK.format(groups=groups) * living,
    )
