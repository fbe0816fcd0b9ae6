"""Shadertoy: one buffer in bands, and the picture; JSON to load, or tabs to paste.

Buffers run in order and an earlier one is read as it is already after its turn, so that channels
spread over several would mix two steps: all lie in one. Only a living mask takes a second buffer,
which is masked; then the first reads the second.
"""

import json
from collections.abc import Sequence
from typing import Any

from nca_texture.automaton import CellularAutomaton
from nca_texture.export.bands import cell_source, masked_source, stepped_source, wrap_source
from nca_texture.export.base import Abilities, Exporter, Trained
from nca_texture.export.stepping import GLSL, colours_source, groups_of, title

_MOST = 256  # cells of a side
_SEED = 1
_BRUSH = 8  # cells

_COMMON = """\
// As many cells as a buffer has room for, one band of rows above the other.
#define nca_pixels() ivec2(iResolution.xy)
#define nca_size() nca_grid(nca_pixels())

ivec2 nca_grid(ivec2 pixels) {{
  ivec2 size = min(ivec2(pixels.x, {rows}), ivec2({most}, {most}));
  return size{even};
}}

// How many pixels of the picture a cell takes.
#define nca_zoom() max(1.0, floor(iResolution.y / (float(nca_size().y) * {row})))

// Where a pixel lies, in cells from the upper left.
#define nca_place(coord) {place}
"""

_PLACE = "(vec2((coord).x, iResolution.y - (coord).y) / nca_zoom())"
_PLACE_IN_THE_MIDDLE = (
    "(vec2((coord).x - 0.5 * iResolution.x, 0.5 * iResolution.y - (coord).y) / nca_zoom() "
    "+ 0.5 * vec2(nca_size()) * vec2(1.0, {row}))"
)

_BUFFER_A = """\
#define nca_texel(place) texelFetch(iChannel0, place, 0)

{step}
void mainImage(out vec4 colour, in vec2 coord) {{
  ivec2 size = nca_size();
  ivec2 place = ivec2(coord);
  bool cleared = false;
  if (iMouse.z > 0.0) {{
    ivec2 away = nca_wrapped(nca_cell(nca_place(iMouse.xy)), size);
    away = abs(ivec2(place.x, place.y - place.y / size.y * size.y) - away);
    vec2 apart = vec2(min(away, size - away));
    cleared = dot(apart, apart) < {brush}.0;
  }}
  colour = nca_stepped(place, {seed}u, iFrame == 0, cleared);
}}
"""

_BUFFER_B = """\
#define nca_texel(place) texelFetch(iChannel0, place, 0)

{mask}
void mainImage(out vec4 colour, in vec2 coord) {{
  colour = nca_masked(ivec2(coord));
}}
"""

_IMAGE = """\
{colours}
void mainImage(out vec4 colour, in vec2 coord) {{
  ivec2 cell = nca_wrapped(nca_cell(nca_place(coord)), nca_size());
  colour = vec4(0.0);
  if (cell.x >= 0) {{
    colour = nca_rgba(texelFetch(iChannel0, cell, 0));
  }}
  colour = vec4(colour.rgb + (1.0 - colour.a), 1.0);
}}
"""

_README = """\
{name} on Shadertoy

Either load {name}.json with a program that reads Shadertoy's JSON, or on the site:

1. New shader; with + beside the tabs add Common{tabs}.
2. Paste common.glsl, buffer_a.glsl,{paste} and image.glsl into the tabs of their names.
3. Click iChannel0 of {channels}.
4. Play. Hold the mouse down to erase.
"""


class ShadertoyExporter(Exporter):
    """A folder with the JSON, the tabs as files, and how to paste them."""

    one_class = True
    abilities = Abilities(classes=True, elements=True, combined=True, channels=32, numbers=16_384)

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write tabs, JSON and a README."""
        (model,) = models
        tabs = sources(model)
        living = model.automaton.living
        channels = "Buffer A and choose Buffer A; the same for Image: Buffer A"
        if living:
            channels = (
                "Buffer A and choose Buffer B; of Buffer B choose Buffer A; of Image choose "
                "Buffer B"
            )
        readme = _README.format(
            name=model.name,
            tabs=", Buffer A and Buffer B" if living else " and Buffer A",
            paste=" buffer_b.glsl" if living else "",
            channels=channels,
        )
        found = {f"{name}.glsl": text for name, text in tabs.items()}
        found[f"{model.name}.json"] = json.dumps(_shader(model, tabs), indent=1) + "\n"
        return {name: text.encode() for name, text in (found | {"README.txt": readme}).items()}

    def advice(self, models: Sequence[Trained]) -> list[str]:
        """Point to the README."""
        return ["README.txt says where to paste what"]


def sources(model: Trained) -> dict[str, str]:
    """Write the tabs: common, buffer_a, buffer_b where cells live, and image."""
    automaton = model.automaton
    is_hex = automaton.grid.layout == "hex"
    row = "0.8660254" if is_hex else "1.0"
    middle = _PLACE_IN_THE_MIDDLE.format(row=row)
    common = _COMMON.format(
        rows=_rows(automaton),
        most=_MOST,
        even=" / ivec2(1, 2) * ivec2(1, 2)" if is_hex else "",
        row=row,
        place=middle if automaton.living else _PLACE,
    )
    found = {
        "common": f"{title(model)}\n{common}\n{cell_source(model)}\n{wrap_source(model)}",
        "buffer_a": _BUFFER_A.format(step=stepped_source(model), brush=_BRUSH**2, seed=_SEED),
        "image": _IMAGE.format(colours=colours_source(model, GLSL)),
    }
    if automaton.living:
        found["buffer_b"] = _BUFFER_B.format(mask=masked_source(model))
    return found


def _rows(automaton: CellularAutomaton) -> str:
    """Count the rows of cells that there is room for."""
    groups = groups_of(automaton)
    if automaton.living:  # four rows of cells take one more, of what lived; see bands.py
        return f"(pixels.y - 1) / {4 * groups + 1} * 4"
    return f"(pixels.y - 1) / {groups}"


def _shader(model: Trained, tabs: dict[str, str]) -> dict[str, Any]:
    """Lay the tabs out as Shadertoy's JSON does."""
    state = 258 if model.automaton.living else 257
    passes = [
        _pass("common", "Common", [], None, tabs["common"]),
        _pass("buffer", "Buffer A", [(0, state)], 257, tabs["buffer_a"]),
    ]
    if "buffer_b" in tabs:
        passes.append(_pass("buffer", "Buffer B", [(0, 257)], 258, tabs["buffer_b"]))
    passes.append(_pass("image", "Image", [(0, state)], 37, tabs["image"]))
    about = {
        "id": "",
        "name": model.name,
        "username": "",
        "description": title(model, "").strip(),
        "tags": ["nca", "cellularautomata", "texture"],
        "published": 0,
        "flags": 32,
        "usePreview": 0,
    }
    return {"Shader": {"ver": "0.1", "info": about, "renderpass": passes}}


def _pass(
    kind: str, name: str, inputs: list[tuple[int, int]], output: int | None, code: str
) -> dict[str, Any]:
    return {
        "type": kind,
        "name": name,
        "inputs": [
            {
                "id": source,
                "src": f"/media/previz/buffer0{source - 257}.png",
                "ctype": "buffer",
                "channel": channel,
                "sampler": {
                    "filter": "nearest",
                    "wrap": "clamp",
                    "vflip": "true",
                    "srgb": "false",
                    "internal": "byte",
                },
            }
            for channel, source in inputs
        ],
        "outputs": [] if output is None else [{"id": output, "channel": 0}],
        "code": code,
    }
