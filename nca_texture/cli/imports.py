"""``nca-texture import``: models that other programs have published, as model files."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nca_texture.cli import common

if TYPE_CHECKING:
    from nca_texture.automaton import CellularAutomaton
    from nca_texture.imports.base import Published

_THUMBNAIL = 64  # cells of a side
_THUMBNAIL_STEPS = 300


@common.sentences
def import_models(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE[#NAME]", help="Published models, and which one of them."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The model file to write; with --all, a folder.",
            show_default="NAME.safetensors",
        ),
    ] = None,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Import every model of the file into a folder.")
    ] = False,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """List or import models of Self-Organising Textures, hexells, Growing NCA and muNCA."""
    from nca_texture import imports
    from nca_texture.errors import InputError
    from nca_texture.files import check_folder, check_writable
    from nca_texture.names import file_names
    from nca_texture.store import file_sha256

    path, name = _split(file)
    models = imports.read(path)
    if all_of_them and name:
        raise ValueError(f"--all imports every model; leave out #{name}")
    if not (name or all_of_them or (output and len(models) == 1)):
        if output is not None:
            raise ValueError(
                f"{path.name} has {len(models)} models; name one, as {path}#{models[0].name}, "
                "or give --all"
            )
        _list(models, path, json, quiet)
        return
    names = file_names([each.name.rpartition("/")[2] for each in models])
    if all_of_them:
        folder = Path(path.stem) if output is None else output
        if folder.is_file():
            raise InputError(f"{folder} is a file; --all writes into a folder")
        wanted = [
            (each, folder / f"{stem}.safetensors") for each, stem in zip(models, names, strict=True)
        ]
    else:
        model = imports.select(models, name, path.name) if name else models[0]
        place = Path(f"{names[models.index(model)]}.safetensors") if output is None else output
        wanted = [(model, place)]
    check_folder(wanted[0][1].parent)
    for _, place in wanted:
        check_writable(place, force=force)
    sha256 = file_sha256(path)
    for model, place in wanted:
        _write(model, place, path.name, sha256, force)
    files = [str(place) for _, place in wanted]
    if json:
        common.answer({"files": files, "models": [model.name for model, _ in wanted]})
    first = wanted[0][1]
    wrote = first if len(files) == 1 else f"{len(files)} models in {first.parent}"
    following = f"nca-texture tile {first} -o {first.stem}.png"
    common.talk(f"wrote {wrote}; next: {following}", quiet)


def _split(file: str) -> tuple[Path, str]:
    """Take FILE#NAME apart; a file whose own name has a # in it is found all the same."""
    if "#" not in file or Path(file).exists():
        return Path(file), ""
    cuts = [at for at, letter in enumerate(file) if letter == "#"]
    cut = next((at for at in cuts if Path(file[:at]).is_file()), cuts[0])
    return Path(file[:cut]), file[cut + 1 :]


def _list(models: "list[Published]", path: Path, json: bool, quiet: bool) -> None:
    """Show what there is to import."""
    if json:
        common.answer(
            [
                {
                    "name": model.name,
                    "format": model.format,
                    "task": "grow" if model.plan.living else "texture",
                    "channels": model.plan.channels,
                    "hidden": model.plan.hidden,
                }
                for model in models
            ]
        )
        return
    for model in models:
        typer.echo(model.name)
    if models:
        example = shlex.quote(f"{path}#{models[0].name}")
        common.talk(f"next: nca-texture import {example} -o model.safetensors", quiet)


def _write(model: "Published", place: Path, file: str, sha256: str, force: bool) -> None:
    from nca_texture.store import Origin, save

    automaton = model.build()
    save(
        place,
        automaton,
        model.plan,
        Origin(
            source=f"{file}#{model.name}",
            sha256=sha256,
            source_note=f"{model.name} of {file}",
            steps=model.steps,
            size=list(model.size or ()),
            published=model.format,
            thumbnail=_thumbnail(automaton, model),
        ),
        force=force,
    )


def _thumbnail(automaton: "CellularAutomaton", model: "Published") -> str:
    """Grow a small picture: the middle of what the model was made for."""
    from nca_texture.store import thumbnail

    size = model.size or (_THUMBNAIL, _THUMBNAIL)
    steps = min(model.steps, _THUMBNAIL_STEPS)
    picture = automaton.to_image(automaton.grow(automaton.seed(1, size), steps))[0]
    top, left = (max(cells - _THUMBNAIL, 0) // 2 for cells in size)
    return thumbnail(picture[:, top:, left:], _THUMBNAIL)
