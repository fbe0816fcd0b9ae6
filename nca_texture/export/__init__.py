"""Trained automata for other programs; see base.py for what an exporter is.

A new exporter is one file and one line of ``EXPORTERS``; one from outside is named
"package.module:Class". Nothing here imports torch: a name is resolved when it is asked for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nca_texture.errors import InputError
from nca_texture.files import atomic_write, check_folder, check_writable
from nca_texture.names import find_class

if TYPE_CHECKING:
    from nca_texture.export.base import Exporter, Trained

# Name -> class, and what `export --list` says of it.
EXPORTERS: dict[str, tuple[str, str]] = {
    "gallery": (
        "nca_texture.export.gallery:GalleryExporter",
        "a folder: a page for each model, and an index with pictures",
    ),
    "html": ("nca_texture.export.html:HtmlExporter", "a page to play with: one file, no network"),
    "glsl": ("nca_texture.export.glsl:GlslExporter", "GLSL to include, and compute shaders"),
    "wgsl": ("nca_texture.export.wgsl:WgslExporter", "a compute module for WebGPU"),
    "shadertoy": (
        "nca_texture.export.shadertoy:ShadertoyExporter",
        "JSON and tabs for Shadertoy; the mouse erases",
    ),
    "isf": ("nca_texture.export.isf:IsfExporter", "ISF, for VDMX, Resolume and other hosts"),
    "godot": ("nca_texture.export.godot:GodotExporter", "a project for Godot 4 with two scenes"),
    "unity": ("nca_texture.export.unity:UnityExporter", "shaders and scripts for Unity"),
    "c": ("nca_texture.export.c:CExporter", "a C header with the weights and a step"),
    "onnx": ("nca_texture.export.onnx:OnnxExporter", "one step of any size, the mask an input"),
    "distill": ("nca_texture.export.distill:DistillExporter", "models.json of the Distill page"),
    "json": ("nca_texture.export.json:JsonExporter", "the rule as plain numbers, for any program"),
}


def pick_exporter(name: str) -> "Exporter":
    """Make the exporter called ``name`` in ``EXPORTERS`` or "package.module:Class".

    Raises ``ValueError`` with the nearest name when there is none, or when what is there is not an
    exporter.
    """
    from nca_texture.export.base import Exporter

    table = {known: place for known, (place, _) in EXPORTERS.items()}
    return cast("type[Exporter]", find_class(name, table, "exporter", Exporter))()


def check(name: str, exporter: "Exporter", models: "Sequence[Trained]") -> None:
    """Raise ``InputError``, one sentence with all reasons, when ``models`` cannot be written."""
    if len(models) > 1 and not exporter.many:
        raise InputError(f"{name} holds one model; {len(models)} were given: export each by itself")
    for model in models:
        if reasons := exporter.reasons(model):
            raise InputError(f"{model.name} cannot be exported to {name}: {'; '.join(reasons)}")


def places(exporter: "Exporter", output: Path, names: Sequence[str]) -> list[Path]:
    """Say where the files called ``names`` go: below ``output``, or it itself if it is a file."""
    return [output / name if name else output for name in names]


def write(
    name: str, models: "Sequence[Trained]", output: Path, *, force: bool = False
) -> list[Path]:
    """Export ``models`` with the exporter called ``name`` to ``output``, and name what was written.

    ``output`` is a file, or a folder for exporters without a suffix. Raises ``InputError`` when
    the exporter cannot write the models, and when a file exists (unless ``force``): then nothing
    has been written.
    """
    exporter = pick_exporter(name)
    check(name, exporter, models)
    if exporter.suffix:
        check_writable(output, force=force)
        check_folder(output.parent)
    elif output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give the name of a folder")
    else:
        check_folder(output)
    files = exporter.files(models)
    paths = places(exporter, output, list(files))
    for path in paths:
        check_writable(path, force=force)
    for path, data in zip(paths, files.values(), strict=True):
        with atomic_write(path, force=force) as file:
            file.write(data)
    return paths
