"""Plain GLSL: a step with its weights as constants, and a compute shader that takes it."""

from collections.abc import Sequence

from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.stepping import (
    GLSL,
    colours_source,
    groups_of,
    mask_source,
    step_source,
    title,
)

# State buffers hold group after group, rows in them, vectors of four channels in these.
_BUFFERS = """\
#version 430
layout(local_size_x = 8, local_size_y = 8) in;

layout(std430, binding = 0) readonly buffer Before {{ vec4 before[]; }};
layout(std430, binding = 1) {access} buffer After {{ vec4 after[]; }};
{more}
uniform ivec2 size;  // cells: width, height
uniform uint step;   // steps already taken
uniform uint seed;
uniform int start;   // 1: write the state to start from, and take no step

int nca_index(int group, int x, int y) {{ return (group * size.y + y) * size.x + x; }}
vec4 nca_read(int group, int x, int y) {{ return before[nca_index(group, x, y)]; }}
"""

_MAIN = """\
void main() {{
  int x = int(gl_GlobalInvocationID.x);
  int y = int(gl_GlobalInvocationID.y);
  if (x >= size.x || y >= size.y) {{ return; }}
  vec4 next[{groups}];
  if (start == 1) {{
    for (int g = 0; g < {groups}; ++g) {{ next[g] = nca_seed(g, x, y, size.x, size.y, seed); }}
  }} else {{
    nca_step(x, y, size.x, size.y, step, seed, next);
  }}
  for (int g = 0; g < {groups}; ++g) {{ after[nca_index(g, x, y)] = next[g]; }}
}}
"""

_MASK = """\
void main() {{
  int x = int(gl_GlobalInvocationID.x);
  int y = int(gl_GlobalInvocationID.y);
  if (x >= size.x || y >= size.y) {{ return; }}
  bool alive = nca_alive(x, y, size.x, size.y);
  for (int g = 0; g < {groups}; ++g) {{
    int i = nca_index(g, x, y);
    masked[i] = alive ? after[i] : nca_erased(g, after[i]);
  }}
}}
"""


class GlslExporter(Exporter):
    """A folder: the step to include anywhere, and compute shaders for OpenGL 4.3."""

    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, numbers=65_536)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the parts by name."""
        (model,) = models
        groups, living = groups_of(model.automaton), model.automaton.living
        head, step = title(model), f"{step_source(model, GLSL)}\n{colours_source(model, GLSL)}"
        plain = (
            f"{head}// Include this and say before it how a state is read: four channels of a cell"
            "\n// whose row 0 is the upper one.\n//   vec4 nca_read(int group, int x, int y)\n"
            + "//   vec4 nca_read_after(int group, int x, int y), after the step\n" * living
            + f"\n#define NCA_GROUPS {groups}\n\n{step}"
        )
        after = "vec4 nca_read_after(int group, int x, int y) { return vec4(0.0); }\n" * living
        compute = (
            _version_first(head, _BUFFERS.format(access="writeonly", more=""))
            + after
            + f"\n{step}\n{_MAIN.format(groups=groups)}"
        )
        found = {"step.glsl": plain, "step.comp": compute}
        if living:
            third = "layout(std430, binding = 2) writeonly buffer Masked { vec4 masked[]; };"
            read = (
                "vec4 nca_read_after(int group, int x, int y) "
                "{ return after[nca_index(group, x, y)]; }\n"
            )
            buffers = _version_first(head, _BUFFERS.format(access="readonly", more=third))
            mask = mask_source(model, GLSL)
            found["mask.comp"] = f"{buffers}{read}\n{mask}\n{_MASK.format(groups=groups)}"
        return {name: text.encode() for name, text in found.items()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say how to run it."""
        (model,) = models
        turns = "then mask.comp on both into a third, " if model.automaton.living else ""
        return [
            f"run step.comp with start = 1, then {model.steps} times with start = 0 and step = 0, "
            f"1, ..., {turns}buffers in turn; colours are nca_rgba of the first group"
        ]


def _version_first(head: str, text: str) -> str:
    """Put comments behind the version, which has to be the first line."""
    version, _, rest = text.partition("\n")
    return f"{version}\n{head}{rest}"
