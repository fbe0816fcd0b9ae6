"""``nca-texture maps``: a material from a picture."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def maps(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="Colours, ours or not.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write them to.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml",
            help="polyhaven, unreal, unity, gltf, godot, blender, or a list of your own.",
        ),
    ] = "polyhaven",
    name: Annotated[
        str | None, typer.Option(help="Of the material.", show_default="the picture's")
    ] = None,
    edge: Annotated[
        str, typer.Option(metavar="AXES", help="Axes the picture tiles on: xy, x, y or none.")
    ] = "xy",
    relief: Annotated[float, typer.Option(help="Pixels from the lowest to the highest.")] = 4.0,
    invert: Annotated[bool, typer.Option("--invert", help="Dark is high.")] = False,
    roughness: Annotated[float, typer.Option(help="Mean, 0 to 1.")] = 0.7,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Guess height, normals, ambient occlusion and roughness from colours; name and pack them."""
    import numpy as np

    from nca_texture import stills
    from nca_texture.errors import InputError
    from nca_texture.files import atomic_write, check_folder, check_writable
    from nca_texture.maps import Look, make_maps
    from nca_texture.materials import materialx, pack
    from nca_texture.materials import preset as find_preset
    from nca_texture.seams import check_seams
    from nca_texture.stills.base import convert, picture_of
    from nca_texture.targets.decode import read_raster
    from nca_texture.targets.image import MAX_PIXELS

    if edge not in ("xy", "x", "y", "none"):
        raise ValueError(f"edge is {edge!r}; choose from xy, x, y, none")
    wraps = "" if edge == "none" else edge
    look = Look(relief=relief, invert=invert, roughness=roughness)
    files = find_preset(preset)
    name = picture.stem if name is None else name
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of a material; give a plain word with --name")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; give the name of a folder")
    paths = [output / file.name.format(name=name) for file in files]
    described = materialx(name, files, wraps)
    if described is not None:
        paths.append(output / f"{name}.mtlx")
    for path in paths:
        check_writable(path, force=force)
    check_folder(output)
    values = read_raster(picture, MAX_PIXELS).values
    common.check_memory(values.shape[0] * values.shape[1] * 120, f"maps of {picture.name}")
    if values.dtype.kind == "u":
        values = values.astype(np.float32) / np.iinfo(values.dtype).max
    colours = np.asarray(values, np.float32)
    if colours.shape[-1] < 3:  # grey, perhaps with alpha
        colours = np.concatenate([colours[..., :1]] * 3 + [colours[..., 1:]], axis=-1)
    for file, path in zip(files, paths, strict=False):
        stills.choose(path, colours.shape[:2], len(file.channels), file.depth)
    made = make_maps(colours, wraps, look)
    words = {
        "Software": "nca-texture",
        "Source": picture.name,
        "nca-texture": f"maps --preset {preset} --edge {edge} --relief {relief:g} "
        f"--roughness {roughness:g}" + (" --invert" if invert else ""),
    }
    seams = {}
    for file, path in zip(files, paths, strict=False):
        values = pack(file, colours, made)
        space = "srgb" if file.is_colour else "data"
        packed = picture_of(convert(values, file.depth, space), space=space, metadata=words)
        stills.write(path, packed, force=force)
        if wraps:
            seams[path.name] = check_seams(values, axes=wraps)
    if described is not None:
        with atomic_write(paths[-1], force=force) as stream:
            stream.write(described.encode())
    if json:
        reports = {each: report.to_dict() for each, report in seams.items()}
        common.answer({"files": [str(path) for path in paths], "seams": reports})
    for each, report in seams.items():
        common.talk_seams(report, quiet, each)
    common.talk(f"wrote {len(paths)} files to {output}", quiet)
