"""``nca-texture export``: models for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nca_texture.cli import common

if TYPE_CHECKING:
    from nca_texture.export.base import Trained


@common.sentences
def export(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Model files, directories of runs, or folders of such; most targets hold one.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAME", help="What to write; see --list.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="A file, or a folder for many files."),
    ] = None,
    weights: Annotated[
        str, typer.Option(metavar="KIND", help="float32, or rounded: float16, int8.")
    ] = "float32",
    kind: common.Class = None,
    mix: common.Mix = None,
    listing: Annotated[bool, typer.Option("--list", help="Say what there is, and stop.")] = False,
    edge: common.Edge = None,
    beyond: common.Beyond = None,
    layout: common.Layout = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Write a model for another program: a web page, a shader, plain numbers."""
    from nca_texture import export as family

    if listing:
        about = {name: summary for name, (_, summary) in family.EXPORTERS.items()}
        if json:
            common.answer(about)
            return
        width = max(map(len, about))
        for name, line in about.items():
            typer.echo(f"{name:<{width}}  {line}")
        return
    if to is None:
        raise ValueError(f"export to what? give --to with one of {', '.join(family.EXPORTERS)}")
    if not models:
        raise ValueError("export which model? give a model file or the directory of a run")
    exporter = family.pick_exporter(to)
    if (kind or mix) and not exporter.one_class:
        raise ValueError(f"{to} holds no class of a model by itself; leave out --class and --mix")
    found = [path for model in models for path in _models_in(model)]
    trained = _load(found, edge, beyond, layout, weights, kind, mix)
    if output is None:
        stem = trained[0].name if len(trained) == 1 else to
        output = Path(f"{stem}{exporter.suffix}" if exporter.suffix else f"{stem}-{to}")
    written = family.write(to, trained, output, force=force)
    told = [each for each in trained if exporter.one_class and each.automaton.classes > 1]
    if json:
        common.answer(
            {
                "files": [str(path) for path in written],
                "models": [model.name for model in trained],
                "classes": {model.name: model.mixture for model in told},
                "bytes": sum(path.stat().st_size for path in written),
                "weights": weights,
                "rounding": {model.name: list(model.rounding) for model in trained},
            }
        )
    for model in told:
        choice = "" if kind or mix else "; choose another with --class or --mix"
        common.talk(f"{model.name} is written as {model.mixture}{choice}", quiet)
    for model in trained if weights != "float32" else ():
        mean, most = model.rounding
        common.talk(
            f"{model.name}: {weights} changes colours after 32 steps by {mean:.2g} in the mean "
            f"and {most:.2g} at most (0 to 1)",
            quiet,
        )
    several = f"{len(written)} files to {output}" if len(written) > 1 else str(written[0])
    common.talk(f"wrote {several}", quiet)
    for sentence in exporter.advice(trained):
        common.talk(sentence, quiet)


def _models_in(path: Path) -> list[Path]:
    """List the models that ``path`` means: itself, or those of the runs in a folder of runs."""
    if not path.is_dir() or (path / "model.safetensors").exists():
        return [path]
    inside = sorted(each.parent for each in path.glob("*/model.safetensors"))
    return inside or sorted(path.glob("*.safetensors")) or [path]


def _load(
    paths: list[Path],
    edge: str | None,
    beyond: str | None,
    layout: str | None,
    weights: str,
    kind: str | None,
    mix: str | None,
) -> "list[Trained]":
    from nca_texture.export.base import Trained, rounded
    from nca_texture.store import file_sha256, model_file

    trained: list[Trained] = []
    names: set[str] = set()
    for path in paths:
        automaton, _, recipe, origin = common.load_shaped(path, "cpu", edge, beyond, layout)
        stem = path.resolve().name if path.is_dir() else path.stem
        name, turn = stem, 2
        while name in names:
            name, turn = f"{stem}-{turn}", turn + 1
        names.add(name)
        model = Trained(
            name=name,
            automaton=common.plant(automaton, recipe, kind, mix, None),
            steps=common.steps_of(origin, recipe),
            size=(recipe.training.height, recipe.training.width),
            classes=recipe.target.classes,
            source=origin.source or origin.source_note,
            sha256=file_sha256(model_file(path)),
        )
        trained.append(rounded(model, weights))  # pyright: ignore[reportArgumentType] - it checks
    return trained
