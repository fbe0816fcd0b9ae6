"""WGSL: a compute module for WebGPU with the weights as constants."""

from collections.abc import Sequence

from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.stepping import WGSL, colours_source, groups_of, step_source, title

# State buffers hold group after group, rows in them, vectors of four channels in these.
_BINDINGS = """\
struct World {{
  width: i32,
  height: i32,
  step: u32,  // steps already taken
  seed: u32,
}}

@group(0) @binding(0) var<uniform> world: World;
@group(0) @binding(1) var<storage, read> before: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> after: array<vec4f>;

fn nca_index(group: i32, x: i32, y: i32) -> i32 {{
  return (group * world.height + y) * world.width + x;
}}

fn nca_read(group: i32, x: i32, y: i32) -> vec4f {{ return before[nca_index(group, x, y)]; }}
"""

_LIVING = """
@group(0) @binding(3) var<storage, read_write> masked: array<vec4f>;

fn nca_read_after(group: i32, x: i32, y: i32) -> vec4f { return after[nca_index(group, x, y)]; }
"""

_MAIN = """\
@compute @workgroup_size(8, 8)
fn start(@builtin(global_invocation_id) id: vec3u) {{
  let x = i32(id.x);
  let y = i32(id.y);
  if (x >= world.width || y >= world.height) {{ return; }}
  for (var g = 0; g < {groups}; g++) {{
    after[nca_index(g, x, y)] = nca_seed(g, x, y, world.width, world.height, world.seed);
  }}
}}

@compute @workgroup_size(8, 8)
fn step(@builtin(global_invocation_id) id: vec3u) {{
  let x = i32(id.x);
  let y = i32(id.y);
  if (x >= world.width || y >= world.height) {{ return; }}
  var next = nca_step(x, y, world.width, world.height, world.step, world.seed);
  for (var g = 0; g < {groups}; g++) {{ after[nca_index(g, x, y)] = next[g]; }}
}}
"""

_MASK = """
@compute @workgroup_size(8, 8)
fn mask(@builtin(global_invocation_id) id: vec3u) {{
  let x = i32(id.x);
  let y = i32(id.y);
  if (x >= world.width || y >= world.height) {{ return; }}
  let alive = nca_alive(x, y, world.width, world.height);
  for (var g = 0; g < {groups}; g++) {{
    let i = nca_index(g, x, y);
    masked[i] = select(nca_erased(g, after[i]), after[i], alive);
  }}
}}
"""


class WgslExporter(Exporter):
    """One module with the entry points ``start``, ``step`` and, where cells live, ``mask``."""

    suffix = ".wgsl"
    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, numbers=65_536)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the module."""
        (model,) = models
        groups, living = groups_of(model.automaton), model.automaton.living
        parts = [
            title(model),
            _BINDINGS.format(),
            _LIVING * living,
            step_source(model, WGSL),
            colours_source(model, WGSL),
            _MAIN.format(groups=groups),
            _MASK.format(groups=groups) * living,
        ]
        return {"": "\n".join(filter(None, parts)).encode()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say how to run it."""
        (model,) = models
        turns = ", each followed by mask" if model.automaton.living else ""
        return [
            f"dispatch start once, then step {model.steps} times with step = 0, 1, ...{turns}, "
            "buffers in turn; colours are nca_rgba of the first group"
        ]
