"""What programs call the maps of a material, how they pack them, and a MaterialX file.

A preset is a list of files. More of them can be read from a TOML file::

    [[map]]
    name = "{name}_mask.png"            # {name} is that of the material
    channels = ["metal", "occlusion", "zero", "smoothness"]
    depth = "8"
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import InputError
from nca_texture.stills import FORMATS, split
from nca_texture.stills.base import Depth

# What a channel can be: a colour, a map, the opposite of one, or a constant.
SOURCES = (
    *("red", "green", "blue", "alpha", "height", "occlusion", "roughness", "smoothness", "metal"),
    *("normal_x", "normal_y", "normal_y_down", "normal_z", "zero", "one"),
)
COLOUR = ("red", "green", "blue")
NORMAL_GL = ("normal_x", "normal_y", "normal_z")
NORMAL_DX = ("normal_x", "normal_y_down", "normal_z")


@dataclass(frozen=True)
class MapFile:
    """One file of a material."""

    name: str  # with {name} for the material's
    channels: tuple[str, ...]
    depth: Depth = "8"

    def __post_init__(self) -> None:
        suffix = split(self.name)[1].lower()
        if "{name}" not in self.name or Path(self.name).name != self.name:
            raise ValueError(
                f"{self.name!r} is no name of a map; write one such as {{name}}_ao.png"
            )
        if suffix not in FORMATS or self.depth not in FORMATS[suffix].depths:
            raise ValueError(f"{self.name}: no such file has a depth of {self.depth}")
        if len(self.channels) not in (1, 3, 4):
            raise ValueError(f"{self.name}: {len(self.channels)} channels; give 1, 3 or 4")
        for channel in self.channels:
            if channel not in SOURCES:
                raise ValueError(
                    f"{self.name}: no channel is called {channel!r}; choose from "
                    f"{', '.join(SOURCES)}"
                )

    @property
    def is_colour(self) -> bool:
        """Whether it holds colours, not data."""
        return self.channels[:3] == COLOUR


PACKED = ("occlusion", "roughness", "metal")
PRESETS: dict[str, tuple[MapFile, ...]] = {
    "polyhaven": (
        MapFile("{name}_diff.png", COLOUR),
        MapFile("{name}_disp.png", ("height",), "16"),
        MapFile("{name}_nor_gl.png", NORMAL_GL, "16"),
        MapFile("{name}_nor_dx.png", NORMAL_DX, "16"),
        MapFile("{name}_rough.png", ("roughness",), "16"),
        MapFile("{name}_ao.png", ("occlusion",), "16"),
        MapFile("{name}_arm.png", PACKED),
    ),
    "unreal": (
        MapFile("T_{name}_D.png", COLOUR),
        MapFile("T_{name}_N.png", NORMAL_DX),
        MapFile("T_{name}_ORM.png", PACKED),
        MapFile("T_{name}_H.png", ("height",), "16"),
    ),
    "unity": (
        MapFile("{name}_Albedo.png", COLOUR),
        MapFile("{name}_Normal.png", NORMAL_GL),
        MapFile("{name}_MetallicSmoothness.png", ("metal", "metal", "metal", "smoothness")),
        MapFile("{name}_MaskMap.png", ("metal", "occlusion", "one", "smoothness")),
        MapFile("{name}_Occlusion.png", ("occlusion",)),
        MapFile("{name}_Height.png", ("height",), "16"),
    ),
    "gltf": (
        MapFile("{name}_baseColor.png", COLOUR),
        MapFile("{name}_normal.png", NORMAL_GL),
        MapFile("{name}_occlusionRoughnessMetallic.png", PACKED),
    ),
    "godot": (
        MapFile("{name}_albedo.png", COLOUR),
        MapFile("{name}_normal.png", NORMAL_GL),
        MapFile("{name}_orm.png", PACKED),
        MapFile("{name}_height.exr", ("height",), "half"),
    ),
    "blender": (
        MapFile("{name}_albedo.png", COLOUR),
        MapFile("{name}_normal.png", NORMAL_GL, "16"),
        MapFile("{name}_roughness.png", ("roughness",), "16"),
        MapFile("{name}_ao.png", ("occlusion",), "16"),
        MapFile("{name}_height.exr", ("height",), "float"),
    ),
}


def preset(name: str) -> tuple[MapFile, ...]:
    """Return the files of a preset: a name of the table, or a TOML file.

    Raises ``ValueError`` for an unknown name or key, ``InputError`` for a file that is no TOML.
    """
    if name in PRESETS:
        return PRESETS[name]
    if not name.endswith(".toml"):
        raise ValueError(
            f"no preset is called {name!r}; choose from {', '.join(PRESETS)}, or give a .toml file"
        )
    try:
        found = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{name} is not TOML: {error}") from error
    entries = found.get("map")
    if set(found) != {"map"} or not isinstance(entries, list) or not entries:
        raise InputError(f"{name} has no [[map]] tables, or something else beside them")
    return tuple(_entry(name, entry) for entry in entries)


def _entry(name: str, entry: Any) -> MapFile:
    if not isinstance(entry, dict) or not {"name", "channels"} <= set(entry) <= {
        *("name", "channels", "depth")
    }:
        raise InputError(f"{name}: a [[map]] has a name, channels and perhaps a depth")
    depths = [depth for depth in get_args(Depth) if depth == str(entry.get("depth", "8"))]
    channels = entry["channels"]
    if not depths or not isinstance(channels, list):
        raise InputError(f"{name}: depth is 8, 16, half or float, and channels are a list")
    try:
        return MapFile(str(entry["name"]), tuple(map(str, channels)), depths[0])
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def pack(
    file: MapFile, colours: NDArray[np.float32], maps: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Put the channels of ``file`` together: [H, W, 1, 3 or 4] in [0, 1]."""
    planes: dict[str, NDArray[np.float32]] = {
        **{name: colours[..., index] for index, name in enumerate(COLOUR)},
        **{name: plane for name, plane in maps.items() if name != "normal"},
        **{name: maps["normal"][..., index] for index, name in enumerate(NORMAL_GL)},
        "normal_y_down": 1 - maps["normal"][..., 1],
        "smoothness": 1 - maps["roughness"],
        "zero": np.zeros_like(maps["height"]),
        "one": np.ones_like(maps["height"]),
        "alpha": colours[..., 3] if colours.shape[-1] == 4 else np.ones_like(maps["height"]),
    }
    return np.stack([planes[channel] for channel in file.channels], axis=-1)


def materialx(name: str, files: tuple[MapFile, ...], wraps: str) -> str | None:
    """Describe the material as MaterialX; None when its normals are not those of OpenGL only."""
    nodes, inputs = [], []

    def image(file: MapFile, kind: str) -> str:
        label = f"image_{len(nodes)}"
        colour = ' colorspace="srgb_texture"' if file.is_colour else ""
        modes = " ".join(
            f'<input name="{axis}addressmode" type="string" value='
            f'"{"periodic" if of in wraps else "clamp"}"/>'
            for axis, of in (("u", "x"), ("v", "y"))
        )
        path = quoteattr(file.name.format(name=name))
        nodes.append(
            f'  <image name="{label}" type="{kind}">'
            f'<input name="file" type="filename" value={path}{colour}/>{modes}</image>'
        )
        return label

    def wire(to: str, kind: str, node: str, output: str = "") -> None:
        output = f' output="{output}"' if output else ""
        inputs.append(f'    <input name="{to}" type="{kind}" nodename="{node}"{output}/>')

    single = {file.channels[0]: file for file in files if len(file.channels) == 1}
    by_channels = {file.channels: file for file in files}
    if COLOUR not in by_channels or NORMAL_GL not in by_channels:
        return None
    wire("base_color", "color3", image(by_channels[COLOUR], "color3"))
    normals = image(by_channels[NORMAL_GL], "vector3")
    nodes.append(
        f'  <normalmap name="normals" type="vector3">'
        f'<input name="in" type="vector3" nodename="{normals}"/></normalmap>'
    )
    wire("normal", "vector3", "normals")
    if "roughness" in single:
        wire("specular_roughness", "float", image(single["roughness"], "float"))
    elif PACKED in by_channels:
        nodes.append(
            f'  <separate3 name="packed" type="multioutput">'
            f'<input name="in" type="vector3" nodename="{image(by_channels[PACKED], "vector3")}"/>'
            "</separate3>"
        )
        wire("specular_roughness", "float", "packed", "outy")
        wire("metalness", "float", "packed", "outz")
    lines = "\n".join(nodes)
    shader, material = quoteattr(f"{name}_shader"), quoteattr(name)
    wired = "\n".join(inputs)
    return f"""<?xml version="1.0"?>
<materialx version="1.38">
{lines}
  <standard_surface name={shader} type="surfaceshader">
{wired}
  </standard_surface>
  <surfacematerial name={material} type="material">
    <input name="surfaceshader" type="surfaceshader" nodename={shader}/>
  </surfacematerial>
</materialx>
"""
