"""``nca-texture train``: from an image to a model, or from many to one each."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nca_texture.cli import common
from nca_texture.cli.jobs import Job, one_job, resumed_jobs, separate_jobs
from nca_texture.cli.resolve import keep_within, rescaled, resolve

if TYPE_CHECKING:
    import torch

    from nca_texture.automaton import CellularAutomaton
    from nca_texture.losses.total import TotalLoss
    from nca_texture.train_plan import TrainPlan
    from nca_texture.training import Report, TrainingError

_PRESETS = "draft, balanced, best, grow, or another one that `nca-texture presets` lists."
_FROM_PRESET = "the preset's"


@common.sentences
def train(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="A picture, a folder of pictures of one texture, sample:NAME or skimage:NAME; "
            "of several IMAGEs one model learns all, each a class.",
        ),
    ] = None,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="Train a model for each of many IMAGEs, all together; a folder stands for its "
            "pictures. DIR then has a directory for each.",
        ),
    ] = False,
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
        str | None,
        typer.Option(metavar="NAME", help=_PRESETS, show_default="draft, or grow"),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK", help="auto, texture or grow; auto grows what has transparent parts."
        ),
    ] = "auto",
    regime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of growth: growing, persistent (it stays) or regenerating (it heals).",
            show_default=_FROM_PRESET,
        ),
    ] = None,
    padding: Annotated[
        int | None,
        typer.Option(
            metavar="CELLS", help="Room around a picture that grows.", show_default=_FROM_PRESET
        ),
    ] = None,
    seed_at: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Where it grows from, as fractions of the picture from its upper left.",
            show_default="0.5,0.5",
        ),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How a class is told: trainable-seed, one-hot, genome or embedding.",
            show_default="one-hot",
        ),
    ] = None,
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
            help="compact, vgg16, vgg19, inception_v3, googlenet or squeezenet1_1.",
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
    timeline: common.Timeline = None,
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
        typer.Option(
            metavar="DIR", help="Go on with the run, or all runs, in DIR; IMAGE is not needed."
        ),
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
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of products: float32, bfloat16 or, on a GPU, float16.",
            show_default="float32",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="For the states of an iteration, as 1GB; what is not kept is computed again.",
            show_default="as many as it takes",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --output.")] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Learn to make a texture, or to grow a picture, and save it as a model of some kilobytes."""
    from nca_texture.devices import hold_memory
    from nca_texture.recipe import to_toml

    if budget is not None and iterations is not None:
        raise ValueError("give --iterations or --time, not both")
    seconds = None if budget is None else parse_seconds(budget)
    if not checkpoint_every >= 0:
        raise ValueError(f"--checkpoint-every is {checkpoint_every:g}; give 0 seconds or more")
    room = common.parse_memory(memory)
    writer = _board_class() if tensorboard else None
    where = common.pick_device(device)
    hold_memory()
    images = images or []
    if resume is not None:
        given = {
            "IMAGE": images or None,
            "--preset": preset,
            "--loss": loss,
            "--features": features,
            "--layout": layout,
            "--edge": edge,
            "--beyond": beyond,
            "--crop": crop,
            "--exemplar-size": exemplar_size,
            "--regime": regime,
            "--padding": padding,
            "--seed-at": seed_at,
            "--condition": condition,
            "--timeline": timeline,
            "--iterations": iterations,
            "--time": budget,
            "--from": parent,
            "--seed": seed,
            "--precision": precision,
            "--memory": memory,
            "--config": config,
            "--output": output,
            "--set": settings or None,
        }
        if extra := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"a run is resumed as it was begun, so --resume does not go with {extra[0]}; "
                f"leave it out, or begin a new run with --from {resume}"
            )
        jobs = resumed_jobs(resume, quiet)
        separate = jobs[0].path.parent == resume
        if print_config:
            typer.echo(to_toml(jobs[0].recipe), nl=False)
            return
    else:
        place = None if seed_at is None else common.parse_place(seed_at, "--seed-at")
        flags = {
            "automaton.layout": layout,
            "automaton.edge": edge,
            "automaton.beyond": beyond,
            "target.crop": crop,
            "target.exemplar_size": exemplar_size,
            "target.padding": padding,
            "automaton.condition": condition,
            "training.iterations": iterations,
            "training.precision": precision,
            "training.seed": None if seed is None else common.parse_seed(seed),
        }
        recipe = resolve(
            images[:1] if separate else images,
            task=task,
            preset=preset,
            regime=regime,
            config=config,
            parent=parent,
            flags=flags,
            loss=loss,
            features=features,
            weights=weights,
            settings=settings or [],
            quiet=quiet,
        )
        if timeline is not None:
            recipe = replace(recipe, event=common.read_timeline(timeline))
        if room is not None and not separate:
            recipe = keep_within(recipe, room)
        if print_config:
            typer.echo(to_toml(recipe), nl=False)
            return
        if separate:
            jobs = separate_jobs(images, recipe, task, output, force, quiet, place)
        else:
            jobs = [one_job(recipe, task, output, force, quiet, place)]
        if room is not None and separate:
            jobs = [replace(job, recipe=keep_within(job.recipe, room, len(jobs))) for job in jobs]

    models = [_start(job, parent, where) for job in jobs]
    losses = _measure(jobs, None if weights is None else str(weights), where)
    if seconds is not None:
        jobs = _fitted(jobs, models, losses, seconds)
        count = jobs[0].recipe.training.iterations
        common.talk(f"{budget} are {count} iterations here", quiet)
    plan = jobs[0].recipe.training
    chosen = models[0].kernel_for(models[0].seed(1, plan.size), kernel, plan.precision)
    place = jobs[0].path.parent if separate else jobs[0].path
    each = f"{len(jobs)} models of " if separate else ""
    common.talk(
        f"{each}{models[0].num_parameters} parameters, {plan.width}x{plan.height} cells, "
        f"{plan.iterations} iterations on {where} ({chosen} kernel) -> {place}",
        quiet,
    )
    if dry_run:
        return
    failed = _train(jobs, models, losses, kernel, writer, place, checkpoint_every, quiet)
    done = [job for index, job in enumerate(jobs) if index not in failed]
    _conclude(done, place, separate, json, quiet)
    if failed:
        first, error = next(iter(failed.items()))
        count = f"{len(failed)} of {len(jobs)} models could not be trained"
        raise type(error)(f"{count}: {jobs[first].path.name}: {error}")


def _start(job: Job, parent: Path | None, where: "torch.device") -> "CellularAutomaton":
    """Make the automaton that is trained, with the weights of its parent if it has one."""
    from nca_texture.store import load_model

    automaton = job.recipe.build_automaton().to(where)
    if parent is not None:
        elder, _, _ = load_model(parent)
        try:
            automaton.load_state_dict(elder.with_grid(automaton.grid).state_dict())
        except RuntimeError as reason:
            raise ValueError(
                f"{parent} has other weights than this run: {elder.classes} classes told by "
                f"{elder.condition}, not {automaton.classes} told by {automaton.condition}, or "
                "another size of its layers; train without --from"
            ) from reason
    return automaton


def _measure(jobs: list[Job], weights: str | None, where: "torch.device") -> "list[TotalLoss]":
    losses = jobs[0].recipe.build_losses([job.exemplar for job in jobs], weights)
    return [loss.to(where) for loss in losses]


def _fitted(
    jobs: list[Job],
    models: "list[CellularAutomaton]",
    losses: "list[TotalLoss]",
    seconds: float,
) -> list[Job]:
    """Give ``jobs`` as many iterations as ``seconds`` have room for."""
    from nca_texture.pace import calibrate_together

    count = calibrate_together(models, losses, jobs[0].recipe.training, seconds)
    return [replace(job, recipe=rescaled(job.recipe, count)) for job in jobs]


def _train(
    jobs: list[Job],
    models: "list[CellularAutomaton]",
    losses: "list[TotalLoss]",
    kernel: str,
    writer: Any,
    place: Path,
    checkpoint_every: float,
    quiet: bool,
) -> "dict[int, TrainingError]":
    """Run the loop: show, record, save; stop in good order when asked to.

    Returns the errors of those among many that could not be trained, by their index.
    """
    from nca_texture.cli.console import TrainingView
    from nca_texture.recipe import goals_of
    from nca_texture.runs import RunDirectory, SaveTimes
    from nca_texture.training import TrainingError, train_together

    plan = jobs[0].recipe.training
    snapshots = [job.snapshot for job in jobs if job.snapshot is not None]
    starts = [0 if job.snapshot is None else job.snapshot.iteration for job in jobs]
    theatres = [
        common.theatre_of(model, job.recipe, job.recipe.event, kernel)
        for model, job in zip(models, jobs, strict=True)
        if job.recipe.event
    ]
    goals = [goals_of(job.recipe, job.exemplar) for job in jobs]
    rounds = train_together(
        models,
        losses,
        plan,
        theatres=theatres or None,
        goals=[goal for goal in goals if goal is not None] or None,
        resume=snapshots or None,
        kernel=kernel,
        init=jobs[0].recipe.automaton.init,
    )
    reports: dict[int, Report] = {}  # the latest of each run
    failed: dict[int, TrainingError] = {}
    times = SaveTimes(checkpoint_every)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(RunDirectory(job.path, job.recipe, job.exemplar, start))
            for job, start in zip(jobs, starts, strict=True)
        ]
        boards = [] if writer is None else [writer(job.path) for job in jobs]
        view = stack.enter_context(TrainingView(plan.iterations, min(starts), quiet))
        asked = stack.enter_context(_stops(view.say))

        def save() -> int:
            """Save all; return how far those are that are furthest behind."""
            done = [plan.iterations]
            with times.saving():
                for index, report in reports.items():
                    snapshot = report.snapshot()
                    runs[index].save(snapshot, models[index])
                    done.append(snapshot.iteration)
            return min(done)

        for outcomes in rounds:
            for index, outcome in outcomes.items():
                name = f"{jobs[index].path.name}: " if len(jobs) > 1 else ""
                if isinstance(outcome, TrainingError):
                    if len(jobs) == 1:
                        raise outcome
                    view.say(f"{name}{outcome}")
                    failed[index] = outcome
                    reports.pop(index, None)
                    continue
                reports[index] = outcome
                runs[index].record(outcome)
                for event in outcome.events:
                    view.say(f"{name}{event}")
                if boards:
                    _to_board(boards[index], outcome)
                    if outcome.verdict is not None and models[index].living:
                        _film_to_board(boards[index], outcome, models[index], plan)
            view.show(list(reports.values()))
            if times.is_time():
                save()
            if asked:
                break
        done = save()
    for board in boards:
        board.close()
    if asked and done < plan.iterations:
        common.talk(
            f"stopped at iteration {done} and saved; go on with: nca-texture train --resume {place}"
        )
        raise typer.Exit(common.INTERRUPTED if asked[0] == signal.SIGINT else common.TERMINATED)
    return failed


def _conclude(done: list[Job], place: Path, separate: bool, json: bool, quiet: bool) -> None:
    """Say what was written and what to do with it."""
    from nca_texture.runs import MODEL

    answers = [
        {
            "directory": str(job.path),
            "model": str(job.path / MODEL),
            "iterations": job.recipe.training.iterations,
        }
        for job in done
    ]
    if json:
        common.answer(answers if separate else answers[0])
    if not done:
        return
    path = done[0].path
    what = f"{len(done)} models in {place}" if separate else str(path / MODEL)
    size = sum((job.path / MODEL).stat().st_size for job in done) / 1000
    following = f"nca-texture tile {path} -o {path.name}.png"
    if done[0].recipe.task == "texture":
        following += " --size 1024"
    common.talk(f"wrote {what} ({size:.0f} kB); next: {following}", quiet)


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


def parse_seconds(text: str) -> float:
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


def _film_to_board(
    board: Any, report: "Report", automaton: "CellularAutomaton", plan: "TrainPlan"
) -> None:
    """Add a film of a growth, to three times the trained steps, as TensorBoard shows a GIF."""
    import io

    from PIL import Image
    from tensorboard.compat.proto import summary_pb2

    from nca_texture.film import Shooting, film

    every = 4
    shooting = Shooting(
        pixels=automaton.grid.picture_size(plan.size),
        frames=3 * plan.steps[1] // every + 1,
        every=every,
        start=0,
        blend=0,
        background=(1.0, 1.0, 1.0),
        zoom=2,
    )
    frames = [Image.fromarray(frame) for frame in film(automaton, shooting).frames]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=60, loop=0)
    height, width = shooting.size
    made: Any = summary_pb2  # its classes are made when it is imported
    image = made.Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=file.getvalue()
    )
    summary = made.Summary(value=[made.Summary.Value(tag="growth", image=image)])
    board._get_file_writer().add_summary(summary, report.iteration)
