"""``nca-texture train``: from one image to a model."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nca_texture.cli import common
from nca_texture.cli.resolve import check_pool, need_image, read_exemplar, rescaled, resolve

if TYPE_CHECKING:
    from nca_texture.automaton import CellularAutomaton
    from nca_texture.losses.base import Loss
    from nca_texture.runs import RunDirectory
    from nca_texture.training import Snapshot

_PRESETS = (
    "draft, balanced, best, or a published recipe: distill-2021, distill-2021-gram, "
    "distill-2021-inception, munca-68, munca-150, munca-264, munca-588, noise-nca."
)
_FROM_PRESET = "the preset's"


@common.sentences
def train(
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE",
            help="A picture, a folder of pictures of one texture, sample:NAME or skimage:NAME.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Directory of the run.",
            show_default="runs/<name>",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help=_PRESETS, show_default="draft")
    ] = None,
    task: Annotated[str, typer.Option(metavar="TASK", help="auto or texture.")] = "auto",
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto, patch, sliced, gram, emd, pixel, activation or package.module:Class.",
            show_default=_FROM_PRESET,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="vgg16, vgg19, inception_v3, googlenet or squeezenet1_1.",
            show_default=_FROM_PRESET,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Weights of that network (safetensors, torchvision's keys)."
        ),
    ] = None,
    layout: common.Layout = None,
    edge: common.Edge = None,
    beyond: common.Beyond = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="WxH+X+Y|square|all", help="The part of the picture to learn, in pixels."
        ),
    ] = None,
    exemplar_size: Annotated[
        int | None,
        typer.Option(
            metavar="CELLS", help="Cells of the picture's longer side.", show_default="128"
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="How many to train for.", show_default=_FROM_PRESET)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="10m",
            help="How long to train, as 90s, 10m or 2h, instead of --iterations.",
        ),
    ] = None,
    parent: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Start from a model's rule and shape."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Go on with the run in DIR; IMAGE is not needed."),
    ] = None,
    seed: common.Seed = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings over the preset.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting, as training.learning_rate=1e-3; repeat it.",
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved recipe as TOML, and stop.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and stop.")
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time between checkpoints, at least.")
    ] = 60.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")
    ] = False,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --output.")] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Learn a texture from an image and save it as a model of some kilobytes."""
    from nca_texture.recipe import to_toml
    from nca_texture.runs import CHECKPOINT, RunDirectory
    from nca_texture.store import load_checkpoint, load_model
    from nca_texture.training import calibrate

    if budget is not None and iterations is not None:
        raise ValueError("give --iterations or --time, not both")
    seconds = None if budget is None else _seconds(budget)
    if not checkpoint_every >= 0:
        raise ValueError(f"--checkpoint-every is {checkpoint_every:g}; give 0 seconds or more")
    writer = _board_class() if tensorboard else None
    where = common.pick_device(device)
    snapshot, path = None, None
    if resume is not None:
        given = {
            "IMAGE": image,
            "--preset": preset,
            "--loss": loss,
            "--features": features,
            "--layout": layout,
            "--edge": edge,
            "--beyond": beyond,
            "--crop": crop,
            "--exemplar-size": exemplar_size,
            "--iterations": iterations,
            "--time": budget,
            "--from": parent,
            "--seed": seed,
            "--config": config,
            "--output": output,
            "--set": settings or None,
        }
        if extra := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"a run is resumed as it was begun, so --resume does not go with {extra[0]}; "
                f"leave it out, or begin a new run with --from {resume}"
            )
        path = _run_directory(resume)
        snapshot, recipe, exemplar = load_checkpoint(path / CHECKPOINT)
        if print_config:
            typer.echo(to_toml(recipe), nl=False)
            return
        if snapshot.iteration >= recipe.training.iterations:
            raise ValueError(
                f"the run in {path} is complete: {snapshot.iteration} iterations; "
                "train on with --from"
            )
        common.talk(f"going on with {path} at iteration {snapshot.iteration}", quiet)
    else:
        flags = {
            "automaton.layout": layout,
            "automaton.edge": edge,
            "automaton.beyond": beyond,
            "target.crop": crop,
            "target.exemplar_size": exemplar_size,
            "training.iterations": iterations,
            "training.seed": None if seed is None else common.parse_seed(seed),
        }
        recipe = resolve(
            image,
            preset=preset,
            config=config,
            parent=parent,
            flags=flags,
            loss=loss,
            features=features,
            weights=weights,
            settings=settings or [],
            quiet=quiet,
        )
        if print_config:
            typer.echo(to_toml(recipe), nl=False)
            return
        need_image(recipe)
        path = None if output is None else _given_place(output, force)
        check_pool(recipe)
        exemplar = read_exemplar(recipe, task, quiet)
        path = path or _free_place(exemplar.name, quiet)

    automaton = recipe.build_automaton().to(where)
    if parent is not None:
        elder, _, _ = load_model(parent)
        automaton.load_state_dict(elder.with_grid(automaton.grid).state_dict())
    measure = recipe.build_loss(exemplar, None if weights is None else str(weights)).to(where)
    if seconds is not None:
        count = calibrate(automaton, measure, recipe.training, seconds)
        recipe = rescaled(recipe, count)
        common.talk(f"{budget} are {count} iterations here", quiet)
    plan = recipe.training
    chosen = automaton.kernel_for(automaton.seed(1, plan.size), kernel)
    common.talk(
        f"{automaton.num_parameters} parameters, {plan.width}x{plan.height} cells, "
        f"{plan.iterations} iterations on {where} ({chosen} kernel) -> {path}",
        quiet,
    )
    if dry_run:
        return
    start = 0 if snapshot is None else snapshot.iteration
    with RunDirectory(path, recipe, exemplar, checkpoint_every, start) as run:
        board = None if writer is None else writer(path)
        _train(run, automaton, measure, snapshot, kernel, board, quiet)
    model = path / "model.safetensors"
    if json:
        common.answer({"directory": str(path), "model": str(model), "iterations": plan.iterations})
    wrote = f"wrote {model} ({model.stat().st_size / 1000:.0f} kB)"
    following = f"nca-texture tile {path} -o {path.name}.png --size 1024"
    common.talk(f"{wrote}; next: {following}", quiet)


def _train(
    run: "RunDirectory",
    automaton: "CellularAutomaton",
    measure: "Loss",
    snapshot: "Snapshot | None",
    kernel: str,
    board: Any,
    quiet: bool,
) -> None:
    """Run the loop: show, record, save; stop in good order when asked to."""
    from nca_texture.cli.console import TrainingView
    from nca_texture.training import train

    recipe = run.recipe
    init = recipe.automaton.init
    reports = train(automaton, measure, recipe.training, resume=snapshot, kernel=kernel, init=init)
    report, saved = None, None
    with (
        TrainingView(recipe.training.iterations, run.start, quiet) as view,
        _stops(view.say) as asked,
    ):
        for report in reports:
            run.record(report, automaton)
            view.show(report)
            if board is not None:
                _to_board(board, report)
            if asked:
                break
        if report is not None:
            saved = report.snapshot()
            run.save(saved, automaton)
    if board is not None:
        board.close()
    if asked and saved is not None and saved.iteration < recipe.training.iterations:
        common.talk(
            f"stopped at iteration {saved.iteration} and saved; "
            f"go on with: nca-texture train --resume {run.path}"
        )
        raise typer.Exit(common.INTERRUPTED if asked[0] == signal.SIGINT else common.TERMINATED)


@contextmanager
def _stops(say: Callable[[str], None]) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one interrupts at once."""
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after this iteration; once more to stop at once, without saving")

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _free_place(stem: str, quiet: bool) -> Path:
    """Choose a directory that is not there yet, and say so when it is not the obvious one."""
    from nca_texture.files import check_folder
    from nca_texture.runs import free_directory

    path = free_directory(stem)
    if path.name != stem:
        common.talk(f"{path.with_name(stem)} exists: this run goes to {path}", quiet)
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


def _run_directory(given: Path) -> Path:
    """Find the run that --resume means: its directory, or any file in it."""
    from nca_texture.errors import InputError
    from nca_texture.runs import CHECKPOINT

    path = given if given.is_dir() else given.parent
    if not given.exists() or not (path / CHECKPOINT).is_file():
        raise InputError(
            f"there is no run to go on with in {given}: it has no {CHECKPOINT}; "
            "give the directory of a run that has saved one"
        )
    return path


def _seconds(text: str) -> float:
    """Turn 90s, 10m, 1.5h or 90 into seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e8:
        raise ValueError(f"{text!r} is no time; give 90s, 10m or 2h")
    return seconds


def _board_class() -> Any:
    """Find TensorBoard's writer before any work is done."""
    from nca_texture.errors import MissingError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as reason:
        raise MissingError(
            'TensorBoard is not installed; pip install "nca-texture[tensorboard]"'
        ) from reason
    return SummaryWriter


def _to_board(board: Any, report: Any) -> None:
    if report.iteration % 10 == 0 or report.verdict is not None:
        for name, value in report.losses.items():
            board.add_scalar(f"loss/{name}", value.item(), report.iteration)
        board.add_scalar("learning_rate", report.learning_rate, report.iteration)
    if report.verdict is not None:
        board.add_scalar("roll-out", report.verdict.score, report.iteration)
        board.add_image("roll-out", report.verdict.picture[:3], report.iteration)
