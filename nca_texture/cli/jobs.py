"""What a training makes: one run, or with --separate one for each picture; begun or resumed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nca_texture.cli import common
from nca_texture.cli.resolve import check_pool, need_image, read_fitted

if TYPE_CHECKING:
    from nca_texture.recipe import Recipe
    from nca_texture.targets import Exemplar
    from nca_texture.training import Snapshot


@dataclass(frozen=True)
class Job:
    """One model to train: in which directory, by which recipe, from which picture."""

    path: Path
    recipe: "Recipe"
    exemplar: "Exemplar"
    snapshot: "Snapshot | None" = None  # to go on from


def one_job(
    recipe: "Recipe",
    task: str,
    output: Path | None,
    force: bool,
    quiet: bool,
    seed_at: tuple[float, float] | None = None,
) -> Job:
    """Read the recipe's picture and choose a directory for the run."""
    need_image(recipe)
    path = None if output is None else _given_place(output, force)
    recipe, exemplar = read_fitted(recipe, task, seed_at, quiet)
    check_pool(recipe)
    return Job(path or _free_place(exemplar.name, set(), quiet), recipe, exemplar)


def separate_jobs(
    images: list[str],
    recipe: "Recipe",
    task: str,
    output: Path | None,
    force: bool,
    quiet: bool,
    seed_at: tuple[float, float] | None = None,
) -> list[Job]:
    """Read all pictures and choose a directory below ``output``, or runs/, for each.

    The first that cannot be used ends it, before anything was written.
    """
    from nca_texture.errors import InputError
    from nca_texture.runs import CHECKPOINT, free_directory

    sources = [source for image in images for source in _pictures(image)]
    if not sources:
        raise ValueError("which images? give pictures, or a folder: train a.jpg b.jpg --separate")
    if output is not None and (output / CHECKPOINT).exists():
        raise InputError(f"{output} is the directory of a run; give another directory with -o")
    taken: set[str] = set()
    jobs = []
    for source in sources:
        own = replace(recipe, target=replace(recipe.target, source=source, sources=()))
        own, exemplar = read_fitted(own, task, seed_at, quiet)
        if jobs and own.task == "grow" and own.training != jobs[0].recipe.training:
            raise ValueError(
                f"{exemplar.label or source} grows on another grid than {jobs[0].exemplar.label}; "
                "pictures that are trained together need one size"
            )
        if output is None:
            path = _free_place(exemplar.name, taken, quiet)
        else:
            path = free_directory(exemplar.name, output, _is_among(taken))
            _given_place(path, force)
        taken.add(path.name.casefold())
        jobs.append(Job(path, own, exemplar))
    if len({job.recipe.training.size for job in jobs}) > 1:
        height, width = recipe.training.size
        common.talk(f"together they are trained on one grid, of {width}x{height} cells", quiet)
        shared = recipe.training
        jobs = [replace(job, recipe=replace(job.recipe, training=shared)) for job in jobs]
    check_pool(jobs[0].recipe, len(jobs))
    return jobs


def resumed_jobs(given: Path, quiet: bool) -> list[Job]:
    """Load the run in ``given`` (its directory, or any file in it), or all runs directly inside.

    Of many, those go on that are not complete and have the recipe of the one that was saved last.
    """
    from nca_texture.errors import InputError
    from nca_texture.runs import CHECKPOINT, RECIPE

    path = given if given.is_dir() else given.parent
    inside = sorted(each.parent for each in path.glob(f"*/{CHECKPOINT}"))
    if given.exists() and (path / CHECKPOINT).is_file():
        job = _load(path)
        if _is_complete(job):
            raise ValueError(
                f"the run in {path} is complete: {job.recipe.training.iterations} iterations; "
                "train on with --from"
            )
        common.talk(f"going on with {path} at iteration {_done(job)}", quiet)
        return [job]
    if not given.is_dir() or not inside:
        raise InputError(
            f"there is no run to go on with in {given}: it has no {CHECKPOINT}; "
            "give the directory of a run that has saved one"
        )
    for each in sorted(begun.parent for begun in path.glob(f"*/{RECIPE}")):
        if each not in inside:
            common.talk(f"left out: {each}, which has not saved anything yet", quiet)
    jobs = [job for job in map(_load, inside) if not _is_complete(job)]
    if not jobs:
        raise ValueError(f"all {len(inside)} runs in {given} are complete; train on with --from")
    jobs = _alike(jobs, quiet)
    least = min(map(_done, jobs))
    common.talk(f"going on with {len(jobs)} runs in {given} at iteration {least}", quiet)
    return jobs


def _alike(jobs: list[Job], quiet: bool) -> list[Job]:
    """Keep of ``jobs`` those with the recipe, but for the target, of the one saved last."""
    from nca_texture.recipe import differences
    from nca_texture.runs import CHECKPOINT

    newest = max(jobs, key=lambda job: (job.path / CHECKPOINT).stat().st_mtime)
    kept = []
    for job in jobs:
        plain = replace(job.recipe, target=newest.recipe.target)
        if different := differences(plain, newest.recipe):
            common.talk(
                f"left out: {job.path}, where {different[0]}; go on with it by --resume {job.path}",
                quiet,
            )
        else:
            kept.append(job)
    return kept


def _load(path: Path) -> Job:
    from nca_texture.errors import InputError
    from nca_texture.runs import CHECKPOINT
    from nca_texture.store import load_checkpoint

    try:
        snapshot, recipe, exemplar = load_checkpoint(path / CHECKPOINT)
    except InputError as reason:
        raise InputError(f"{path}: {reason}") from reason
    return Job(path, recipe, exemplar, snapshot)


def _done(job: Job) -> int:
    return 0 if job.snapshot is None else job.snapshot.iteration


def _is_complete(job: Job) -> bool:
    return _done(job) >= job.recipe.training.iterations


def _pictures(image: str) -> list[str]:
    """List the pictures that ``image`` stands for: those in a folder, or itself."""
    from nca_texture.targets.image import images_inside

    folder = Path(image).expanduser()
    if not folder.is_dir():
        return [image]
    return [str(path) for path in images_inside(folder, image)]


def _is_among(taken: set[str]) -> Callable[[Path], bool]:
    # Some systems take "Bark" and "bark" for one directory.
    return lambda path: path.name.casefold() in taken


def _free_place(stem: str, taken: set[str], quiet: bool) -> Path:
    """Choose a directory that is not there yet, and say so when it is not the obvious one."""
    from nca_texture.files import check_folder
    from nca_texture.runs import free_directory

    is_among = _is_among(taken)
    path = free_directory(stem, is_taken=lambda path: path.exists() or is_among(path))
    if path.name != stem:
        why = "is taken" if is_among(path.with_name(stem)) else "exists"
        common.talk(f"{path.with_name(stem)} {why}: this run goes to {path}", quiet)
    check_folder(path)
    return path


def _given_place(output: Path, force: bool) -> Path:
    """Check the directory of --output: without --force it must not have anything in it."""
    from nca_texture.errors import InputError
    from nca_texture.files import check_folder
    from nca_texture.runs import CHECKPOINT

    if output.is_file():
        raise InputError(f"{output} is a file; give a directory with -o")
    if output.is_dir() and any(output.iterdir()) and not force:
        resume = f"go on with --resume {output}, " if (output / CHECKPOINT).exists() else ""
        raise InputError(
            f"{output} is not empty; give another directory with -o, {resume}"
            "or replace the run in it with --force"
        )
    check_folder(output)
    return output
