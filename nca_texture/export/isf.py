"""ISF, the Interactive Shader Format of VDMX, Resolume and others: one file with its state."""

import json
from collections.abc import Sequence
from typing import Any

from nca_texture.export.bands import both_source, cell_source, rows_of, wrap_source
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.stepping import GLSL, colours_source, title

_SIDE = 256  # cells

_SHADER = """\
ivec2 nca_size() {{ return ivec2({side}, {side}); }}
ivec2 nca_pixels() {{ return ivec2({side}, {rows}); }}
vec4 nca_texel(ivec2 place) {{
  {after}return IMG_PIXEL(state, vec2(place) + 0.5);
}}

{step}
{colours}
{cell}
{wrap}
// Where a point of the picture lies, in cells from the upper left.
vec2 nca_place(vec2 pixel) {{
  {place}
}}

void main() {{
  ivec2 size = nca_size();
  ivec2 place = ivec2(gl_FragCoord.xy);
  if (PASSINDEX == 0) {{
    bool cleared = false;
    if (erase) {{
      ivec2 away = ivec2(vec2(brush.x, 1.0 - brush.y) * vec2(size));
      away = abs(ivec2(place.x, place.y - place.y / size.y * size.y) - away);
      vec2 apart = vec2(min(away, size - away));
      cleared = dot(apart, apart) < brush_size * brush_size;
    }}
    gl_FragColor = nca_stepped(place, uint(seed), restart, cleared);
  }}{mask} else {{
    ivec2 cell = nca_wrapped(nca_cell(nca_place(gl_FragCoord.xy)), size);
    vec4 colour = vec4(0.0, 0.0, 0.0, 0.0);
    if (cell.x >= 0) {{
      colour = nca_rgba(nca_texel(cell));
    }}
    gl_FragColor = vec4(colour.rgb / max(colour.a, 0.001), colour.a);
  }}
}}
"""


class IsfExporter(Exporter):
    """One ``.fs`` file with a persistent buffer of floats; hosts show its inputs as controls."""

    suffix = ".fs"
    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, channels=32, numbers=16_384)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write the file."""
        (model,) = models
        about = json.dumps(_about(model), indent=2, ensure_ascii=False)
        return {"": f"/*{about}*/\n\n{title(model)}\n{_code(model)}".encode()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Say what a host needs."""
        return ["the host needs GLSL 1.30 or later, or Metal: chance is drawn with integers"]


def _code(model: Trained) -> str:
    automaton = model.automaton
    is_hex, living = automaton.grid.layout == "hex", automaton.living
    after = "if (PASSINDEX == 1) { return IMG_PIXEL(after, vec2(place) + 0.5); }\n  "
    mask = """ else if (PASSINDEX == 1) {
    gl_FragColor = nca_masked(place);
  }"""
    middle = f" + 0.5 * vec2(nca_size()) * vec2(1.0, {'0.8660254' if is_hex else '1.0'})"
    place = (
        "return vec2(pixel.x - 0.5 * RENDERSIZE.x, 0.5 * RENDERSIZE.y - pixel.y) / zoom" + middle
    )
    shader = _SHADER.format(
        side=_SIDE,
        rows=rows_of(automaton, _SIDE),
        after=after * living,
        step=both_source(model, GLSL),
        colours=colours_source(model, GLSL),
        cell=cell_source(model),
        wrap=wrap_source(model),
        place=f"{place};",
        mask=mask * living,
    )
    return shader


def _about(model: Trained) -> dict[str, Any]:
    """Write the head of the file: what the host has to offer and to keep."""
    rows = str(rows_of(model.automaton, _SIDE))
    kept = {"PERSISTENT": True, "FLOAT": True, "WIDTH": str(_SIDE), "HEIGHT": rows}
    first = "after" if model.automaton.living else "state"
    passes: list[dict[str, Any]] = [{"TARGET": first} | kept]
    if model.automaton.living:
        passes.append({"TARGET": "state"} | kept)
    return {
        "ISFVSN": "2",
        "DESCRIPTION": title(model, "").strip(),
        "CREDIT": "made by nca-texture",
        "CATEGORIES": ["Generator"],
        "INPUTS": [
            {"NAME": "restart", "TYPE": "event"},
            {"NAME": "zoom", "TYPE": "float", "MIN": 1.0, "MAX": 16.0, "DEFAULT": 4.0},
            {"NAME": "seed", "TYPE": "float", "MIN": 0.0, "MAX": 1000.0, "DEFAULT": 1.0},
            {"NAME": "erase", "TYPE": "bool", "DEFAULT": False},
            {"NAME": "brush", "TYPE": "point2D", "MIN": [0, 0], "MAX": [1, 1]},
            {"NAME": "brush_size", "TYPE": "float", "MIN": 1.0, "MAX": 64.0, "DEFAULT": 10.0},
        ],
        "PASSES": [*passes, {}],
    }
