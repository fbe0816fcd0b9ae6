"""``nca-texture score``: how good a model or a picture is, and why it is bad when it is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nca_texture.cli import common
from nca_texture.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from nca_texture.quality.scorecard import Score
    from nca_texture.recipe import Recipe
    from nca_texture.store import Origin

_MOST_STEPS = 10_000_000
_LARGEST = 1024  # pixels of a side of grids that a model is scored on


@common.sentences
def score(
    file: Annotated[
        Path,
        typer.Argument(metavar="MODEL|IMAGE", help="A model, a run, or a picture of any kind."),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="What it is compared with: a picture, a folder, sample:NAME or skimage:NAME.",
            show_default="what the model learned, when it is here",
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="WxH+X+Y|square|all",
            help="The part of the target, for a picture.",
            show_default="the model's, or all",
        ),
    ] = None,
    exemplar_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="The target's longer side, for a picture.",
            show_default="the model's, or as it is",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Networks that style is seen through, as compact,vgg19.",
            show_default="all whose weights are here",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="When a model is looked at, as 64,1000.",
            show_default="1, 3, 10 and 100 times the trained steps",
        ),
    ] = None,
    size: common.Size = "128",
    samples: Annotated[int, typer.Option(help="How many a model grows.")] = 2,
    seed: common.Seed = None,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Compare a model, or a picture, with its target; say what is wrong and what to change.

    Distances are 0 at the target; the column "part" is that of a part of the target to the whole.
    """
    from nca_texture.targets.image import SUFFIXES

    networks = None if features is None else _networks(features)
    if file.is_dir() or file.suffix.lower() not in SUFFIXES:
        if crop is not None or exemplar_size is not None:
            raise ValueError(
                "a model's target is cut and reduced as when it was learned; --crop and "
                "--exemplar-size are for pictures"
            )
        about, result = _score_model(
            file, target, networks, _marks(steps), size, samples, seed, device, kernel, quiet
        )
    else:
        if target is None:
            raise ValueError(f"which target? give one: nca-texture score {file} --target IMAGE")
        about, result = _score_picture(file, target, crop, exemplar_size, networks)
    if json:
        common.answer(about | result.to_dict())
    else:
        from nca_texture.cli.tables import show_score

        show_score(about, result)


def _score_model(
    file: Path,
    given: str | None,
    networks: list[str] | None,
    steps: list[int] | None,
    size: str,
    samples: int,
    seed: str | None,
    device: str,
    kernel: str,
    quiet: bool,
) -> "tuple[dict[str, Any], Score]":
    from nca_texture.cli.console import progress_bar
    from nca_texture.quality.scorecard import scorer_of
    from nca_texture.store import load_model, model_file

    automaton, recipe, origin = load_model(file)
    scorer = scorer_of(recipe)
    target, label = _target_of(file, recipe, origin, given)
    pixels = common.parse_size(size)
    if max(pixels) > _LARGEST:
        raise ValueError(f"a score is of at most {_LARGEST}x{_LARGEST} cells, not {size}")
    if not 1 <= samples <= 64:
        raise ValueError(f"samples is {samples}; give 1 to 64")
    automaton = automaton.to(common.pick_device(device))
    with progress_bar(f"growing {samples} samples of {pixels[1]}x{pixels[0]}", 1, quiet) as tell:
        result = scorer(
            automaton,
            recipe,
            target,
            networks=networks,
            steps=steps,
            size=pixels,
            samples=samples,
            seed=common.parse_seed(seed),
            kernel=kernel,
            progress=tell,
        )
    about = {
        "file": str(file),
        "kind": "model",
        "target": label,
        "preset": recipe.preset,
        "iterations": origin.iterations,
        "trained_steps": recipe.training.steps[1],
        "bytes": model_file(file).stat().st_size,
    }
    return about, result


def _score_picture(
    file: Path,
    target: str,
    crop: str | None,
    exemplar_size: int | None,
    networks: list[str] | None,
) -> "tuple[dict[str, Any], Score]":
    from nca_texture.quality.scorecard import score_picture
    from nca_texture.targets import read_target

    picture = read_target(str(file), exemplar_size=_ANY_SIZE)
    if picture.source_size != tuple(picture.image.shape[-2:]):
        raise InputError(f"{file} is larger than {_ANY_SIZE} pixels; score a part of it")
    exemplar = read_target(target, crop=crop, exemplar_size=exemplar_size or _ANY_SIZE)
    result = score_picture(_opaque(picture.image)[:1], _opaque(exemplar.image), networks=networks)
    return {"file": str(file), "kind": "picture", "target": exemplar.describe()}, result


_ANY_SIZE = 16384  # pixels: that much of a picture is taken as it is


def _target_of(
    file: Path, recipe: "Recipe", origin: "Origin", given: str | None
) -> "tuple[Tensor, str]":
    """Find what a model learned, [N, 3, H, W], and what to call it.

    The picture that is given, or the copy in the run's checkpoint, or the picture where the recipe
    says it is; each has to be the one whose SHA-256 the model has.
    """
    from nca_texture.targets import read_target

    plan = recipe.target
    if given is not None:
        exemplar = read_target(given, crop=plan.crop, exemplar_size=plan.exemplar_size)
        if origin.sha256 and exemplar.sha256 != origin.sha256:
            raise InputError(
                f"{given} is not the {origin.source or 'picture'} that {file} learned (its SHA-256 "
                f"begins with {exemplar.sha256[:8]}, not {origin.sha256[:8]}); give that picture, "
                "or score a tile of the model against this one"
            )
        return _opaque(exemplar.image), exemplar.describe()
    folder = file if file.is_dir() else file.parent
    for source in _sources(folder, recipe):
        try:
            exemplar = read_target(source, crop=plan.crop, exemplar_size=plan.exemplar_size)
        except (InputError, ValueError, OSError):
            continue
        if not origin.sha256 or exemplar.sha256 == origin.sha256:
            return _opaque(exemplar.image), exemplar.describe()
    kept = _kept_target(folder, origin)
    if kept is not None:
        return kept
    if not origin.source and not plan.source:
        raise InputError(f"{file} was trained without a picture: there is nothing to compare with")
    raise InputError(
        f"the picture that {file} learned, {origin.source or plan.source} (SHA-256 "
        f"{origin.sha256[:8]}...), is not here; give it with --target"
    )


def _sources(folder: Path, recipe: "Recipe") -> list[str]:
    """List where the picture of a model may be: as its run's recipe says, and beside the model."""
    import tomllib

    from nca_texture.runs import RECIPE

    sources = []
    try:
        text = (folder / RECIPE).read_text(encoding="utf-8")
        sources.append(str(tomllib.loads(text)["target"]["source"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    name = recipe.target.source
    if name:
        sources += [name, str(folder / Path(name).name), str(folder.parent / Path(name).name)]
    # A run directory may have the name of its picture.
    return [source for source in dict.fromkeys(sources) if Path(source) != folder]


def _kept_target(folder: Path, origin: "Origin") -> "tuple[Tensor, str] | None":
    """Take the copy of the picture that a run's checkpoint has, when it is the model's."""
    from nca_texture.runs import CHECKPOINT
    from nca_texture.store import load_checkpoint

    try:
        _, _, exemplar = load_checkpoint(folder / CHECKPOINT)
    except InputError:
        return None
    if exemplar.sha256 != origin.sha256 or not exemplar.source:
        return None
    return _opaque(exemplar.image), exemplar.describe()


def _opaque(image: "Tensor") -> "Tensor":
    """Lay ``image`` [N, 3 or 4, H, W] over white."""
    if image.shape[1] == 3:
        return image
    return image[:, :3] * image[:, 3:] + 1 - image[:, 3:]


def _networks(text: str) -> list[str]:
    """Turn ``compact,vgg19`` into names of feature networks."""
    from nca_texture.losses.networks import NETWORKS
    from nca_texture.names import check_name

    names = [name.strip() for name in text.split(",")]
    for name in names:
        check_name(name, NETWORKS, "network")
    return list(dict.fromkeys(names))


def _marks(text: str | None) -> list[int] | None:
    """Turn ``64,1000`` into rising numbers of steps."""
    if text is None:
        return None
    try:
        marks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        marks = []
    if not marks or marks[0] < 1 or marks[-1] > _MOST_STEPS:
        raise ValueError(f"{text!r} are no steps; give numbers from 1 on, such as 64,1000")
    return marks
