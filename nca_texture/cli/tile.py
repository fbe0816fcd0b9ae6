"""``nca-texture tile``: a still picture of any size from a model."""

import math
import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nca_texture.cli import common

if TYPE_CHECKING:
    from torch import Tensor

    from nca_texture.automaton import CellularAutomaton
    from nca_texture.canvas import Canvas
    from nca_texture.planning import Plan
    from nca_texture.recipe import Recipe
    from nca_texture.stills.base import Picture
    from nca_texture.store import Origin

_SAVE_EVERY = 120.0  # seconds between two states on disk, of a picture kept whole
_LONG = 2**26  # steps of cells, from which it is worth to say how long it takes


@common.sentences
def tile(
    model: common.Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="Where to write it; the suffix says what."
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH",
            help="Pixels, as 4096 or 4096x1024 (WIDTHxHEIGHT).",
            show_default="1024; of a grown picture what it was trained on",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="How long to grow; auto: until it no longer changes.",
            show_default="what the model was scored at",
        ),
    ] = None,
    kind: common.Class = None,
    mix: common.Mix = None,
    plants: common.Plants = None,
    background: common.Background = None,
    depth: common.Depth = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE", help="srgb or linear colours.", show_default="linear in EXR, else srgb"
        ),
    ] = None,
    edge: common.Edge = None,
    beyond: common.Beyond = None,
    layout: common.Layout = None,
    proof: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNSxROWS",
            help="Also write OUT_proof.png, the tile repeated, as 3x3, and OUT_seam.png, "
            "its edges moved to the middle.",
        ),
    ] = None,
    seed: common.Seed = None,
    variations: Annotated[
        int,
        typer.Option(help="How many, each from a seed of its own: OUT_1, ... and OUT.json."),
    ] = 1,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Working memory, as 1GB.", show_default="half of what is free"
        ),
    ] = None,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    dry_run: common.DryRun = False,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Grow a seamless picture of any size. A larger tile is more texture, not more detail.

    The picture may be larger than memory. What is done lies beside it in OUT.part: after a stop,
    the same command goes on there.
    """
    import numpy as np

    from nca_texture import planning, stills
    from nca_texture.canvas import Canvas, check_disk, columns_of, part_of
    from nca_texture.errors import InputError
    from nca_texture.files import check_writable
    from nca_texture.noise import sample_seeds
    from nca_texture.stills.base import DTYPES, Picture, half_rolled, repeated
    from nca_texture.store import file_sha256, model_file

    if not 1 <= variations <= 10_000:
        raise ValueError(f"variations is {variations}; give 1 to 10000")
    repeats = None if proof is None else common.parse_size(proof)
    stills.format_of(output)
    automaton, shaped, recipe, origin = common.load_shaped(model, device, edge, beyond, layout)
    automaton = common.plant(automaton, recipe, kind, mix, plants)
    pixels = common.pixels_of(size, recipe, automaton)
    colour = None if background is None else common.parse_colour(background)
    if colour and not automaton.living:
        raise ValueError("nothing of a texture is transparent; leave out --background")
    channels = 4 if automaton.living and not colour else 3
    known, kept, colours = stills.choose(output, pixels, channels, depth, space)
    budget = common.parse_memory(memory)
    number = common.parse_seed(seed)
    count = _steps(steps, automaton, pixels, number, kernel, origin, recipe, quiet)
    prints = [Print(*each) for each in _named(output, sample_seeds(number, variations))]
    columns = next(filter(None, (columns_of(each.path) for each in prints)), None)
    picture_bytes = math.prod(pixels) * channels * np.dtype(DTYPES[kept]).itemsize
    job = planning.plan(
        automaton,
        pixels,
        count,
        kernel=kernel,
        memory=budget or (common.free_memory() or 2**33) // 2,
        columns=columns if columns is not None and columns < pixels[1] else None,
        disk=room(output) - picture_bytes,
    )
    said = {
        "picture": {"pixels": pixels, "steps": count, "depth": kept, "background": colour},
        "garden": [[*plant.place, *plant.mixture] for plant in automaton.garden],
        "model": file_sha256(model_file(model)),
        "grid": [shaped.layout, *automaton.grid.edges],
        "space": colours,
        "kernel": automaton.kernel_for(automaton.seed(1, (2, 2)), kernel),
        "device": automaton.weight_in.device.type,
        "made by": common.versions(),
    }
    series = said | {"seed": number, "variations": variations, "proof": proof}
    beside = output.with_name(f"{stills.split(output.name)[0]}.json")
    index = Index(beside, prints, series) if variations > 1 else None
    disk = picture_bytes + job.disk
    if not dry_run:
        finished = [] if index is None else index.finished(force)
        prints = [each for each in prints if each.path not in finished]
        for each in prints:
            mine = force or (index is not None and each.path.name == index.begun)
            for path in (each.path, *(each.views if repeats else ())):
                check_writable(path, force=mine)
        check_disk(output, 0 if any(part_of(each.path).exists() for each in prints) else disk)
    needed = job.memory + (3 * picture_bytes if known.whole else 0)
    common.check_memory(needed, f"a {known.name} file of {pixels[1]}x{pixels[0]} pixels")
    about = f"{pixels[1]}x{pixels[0]} pixels, {count} steps"
    if shaped.layout == "hex":
        about += f", {job.cells[1]}x{job.cells[0]} hexagonal cells, rows {job.stretch:+.2%}"
    if dry_run or (job.cell_steps > _LONG and not quiet):
        took = planning.seconds(automaton, job, kernel)
        common.talk(f"{about}: {describe(job, took, disk)}", quiet)
        if dry_run and json:
            common.answer(_facts(job, took, disk))
        if dry_run:
            return
    reports = []
    for each in prints:
        mine = force or (index is not None and each.path.name == index.begun)
        if index is not None:
            index.begin(each)
        words = common.words_of(
            origin,
            model,
            f"tile --size {pixels[1]}x{pixels[0]} --steps {count} --seed {each.seed} "
            f"--edge {shaped.edge} --beyond {shaped.beyond} --layout {shaped.layout} "
            f"--depth {kept} --space {colours}{common.garden_words(automaton, recipe)}"
            + ("" if background is None else f" --background {background}"),
        )
        canvas = Canvas(
            each.path,
            pixels,
            channels,
            DTYPES[kept],
            said | {"seed": each.seed},
            columns=job.columns,
            force=force,
        )
        with canvas, common.terminated_as_interrupted():
            try:
                _paint(automaton, job, canvas, each.seed, kernel, about, quiet)
                picture = Picture(pixels, channels, kept, canvas.read, colours, words)
                stills.write(each.path, picture, force=mine)
                if repeats:
                    stills.write(each.views[0], repeated(picture, repeats), force=mine)
                    stills.write(each.views[1], half_rolled(picture), force=mine)
                reports.append(check_picture(picture, automaton.grid.wraps))
            except KeyboardInterrupt as stop:
                if canvas.share == 0 and not canvas.kept and len(prints) == 1:
                    canvas.remove()
                    raise
                again = shlex.join(["nca-texture", *sys.argv[1:]])
                at = f"at {canvas.share:.0%} " if canvas.share else ""
                common.talk(f"stopped {at}and saved; go on with: {again}")
                raise typer.Exit(common.code_of(stop)) from None
            except BaseException as error:
                mistaken = isinstance(error, ValueError) and not isinstance(error, InputError)
                if mistaken or not canvas.is_worth_keeping():
                    canvas.remove()
                raise
            canvas.remove()
        if index is not None:
            index.finish(each)
    written = [path for each in prints for path in (each.path, *(each.views if repeats else ()))]
    written += [] if index is None else [index.path]
    if json:
        seams = [None if report is None else report.to_dict() for report in reports]
        common.answer(
            {
                "files": [str(path) for path in written],
                "width": pixels[1],
                "height": pixels[0],
                "depth": int(kept) if kept.isdigit() else kept,
                "space": colours,
                "steps": count,
                "seed": number,
                "edge": shaped.edge,
                "layout": shaped.layout,
                "seams": seams[0] if variations == 1 else seams,
            }
        )
    for each, report in zip(prints, reports, strict=True):
        common.talk_seams(report, quiet, "" if variations == 1 else each.path.name)
    wrote = " and ".join(map(str, written))
    if index is not None:
        wrote = f"{len(prints)} pictures and {index.path}"
    first = prints[0].path if prints else output
    following = f"; next: nca-texture check {first}" if automaton.grid.wraps else ""
    common.talk(f"wrote {wrote}{following}", quiet)


@dataclass(frozen=True)
class Print:
    """One picture that is made, and the seed that it is made from."""

    path: Path
    seed: int

    @property
    def views(self) -> list[Path]:
        """Name what shows that it tiles."""
        from nca_texture.stills import split

        stem, _ = split(self.path.name)
        return [self.path.with_name(f"{stem}_{view}.png") for view in ("proof", "seam")]


class Index:
    """The file that lists variations; while it is not complete, the same command goes on."""

    def __init__(self, path: Path, prints: list[Print], job: dict[str, Any]) -> None:
        self.path, self.prints = path, prints
        self.job = dumps(job, sort_keys=True)
        self.done: list[Path] = []
        self.begun = ""  # the name of a picture that such a call may have written, too

    def finished(self, force: bool) -> list[Path]:
        """Return what an interrupted call of the same command has written."""
        from nca_texture.files import check_writable

        try:
            before = loads(self.path.read_text(encoding="utf-8"))
            same = not before["complete"] and before["job"] == self.job
            names = {each["file"] for each in before["pictures"]} if same else set()
            self.begun = before["making"] if same else ""
        except (OSError, ValueError, KeyError, TypeError):
            same, names = False, set()
        if not same:
            check_writable(self.path, force=force)
        self.done = [
            each.path for each in self.prints if each.path.name in names and each.path.exists()
        ]
        return self.done

    def begin(self, made: Print) -> None:
        """Say which picture comes next."""
        self._write(made.path.name)

    def finish(self, made: Print) -> None:
        """List one more."""
        self.done.append(made.path)
        self._write("")

    def _write(self, making: str) -> None:
        from nca_texture.files import atomic_write

        pictures = [
            {"file": each.path.name, "seed": each.seed}
            for each in self.prints
            if each.path in self.done
        ]
        complete = len(pictures) == len(self.prints)
        about = {"complete": complete, "pictures": pictures, "making": making, "job": self.job}
        with atomic_write(self.path, force=True) as file:
            file.write(dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")


def _named(output: Path, seeds: list[int]) -> list[tuple[Path, int]]:
    """Name the pictures of ``seeds``: one has the name that was given, several have numbers."""
    if len(seeds) == 1:
        return [(output, seeds[0])]
    from nca_texture.stills import split

    digits = len(str(len(seeds)))
    stem, suffix = split(output.name)
    return [
        (output.with_name(f"{stem}_{number:0{digits}}{suffix}"), seed)
        for number, seed in enumerate(seeds, start=1)
    ]


def _paint(
    automaton: "CellularAutomaton",
    job: "Plan",
    canvas: "Canvas",
    seed: int,
    kernel: str,
    about: str,
    quiet: bool,
) -> None:
    """Grow what is missing of the picture into its canvas."""
    from torch import from_numpy

    from nca_texture.cli.console import progress_bar
    from nca_texture.render import composited, paint
    from nca_texture.states import States
    from nca_texture.stills.base import convert

    keeper = _Keeper(canvas)
    saved = canvas.load_state() if job.way == "whole" and not canvas.share else None
    depth, space = canvas.job["picture"]["depth"], canvas.job["space"]
    colour = canvas.job["picture"]["background"]
    with ExitStack() as stack:
        states, step = None, 0 if saved is None else saved[0]
        if job.way == "disk":
            cells = (automaton.channels, *job.cells)
            states = stack.enter_context(States(canvas.state_path, cells, canvas.job))
            stack.callback(lambda: canvas.keep(states.steps > 0 or states.row > 0))
            step = states.steps
        if canvas.share:
            common.talk(f"going on with {canvas.path} at {canvas.share:.0%}", quiet)
        elif step:
            common.talk(f"going on with {canvas.path} at step {step}", quiet)
        advance = stack.enter_context(progress_bar(f"growing {about}", 1, quiet))
        try:
            for block in paint(
                automaton,
                job,
                seed=seed,
                kernel=kernel,
                start=(canvas.block, canvas.row),
                saved=None if saved is None else (saved[0], from_numpy(saved[1])),
                save=keeper.save,
                states=states,
                progress=advance,
            ):
                pixels = composited(block.pixels, colour) if colour else block.pixels
                canvas.put(block.top, block.left, convert(pixels, depth, space))
        except KeyboardInterrupt:
            keeper.write()
            raise


def _steps(
    text: str | None,
    automaton: "CellularAutomaton",
    pixels: tuple[int, int],
    seed: int,
    kernel: str,
    origin: "Origin",
    recipe: "Recipe",
    quiet: bool,
) -> int:
    """Turn --steps into a number; ``auto`` grows until nothing changes."""
    from nca_texture.render import settle

    if text != "auto":
        try:
            number = None if text is None else int(text)
        except ValueError:
            raise ValueError(f"steps is {text!r}; give a number, or auto") from None
        return common.steps_of(origin, recipe, number)
    cells = automaton.grid.cells_for(pixels)
    automaton.grid.check_size(cells)
    needed = 8 * 4 * automaton.channels * cells[0] * cells[1]
    common.check_memory(needed, f"growing {cells[1]}x{cells[0]} cells until nothing changes")
    steps, still = settle(automaton, cells, seed=seed, kernel=kernel)
    if not still:
        raise ValueError(f"it still changes after {steps} steps; give --steps a number")
    common.talk(f"nothing changes after {steps} steps", quiet)
    return steps


class _Keeper:
    """Keeps the newest state of a picture whose cells are all in memory, now and then on disk."""

    def __init__(self, canvas: "Canvas") -> None:
        self.canvas = canvas
        self.newest: tuple[int, Tensor] | None = None
        self.written = monotonic()

    def save(self, steps: int, state: "Tensor") -> None:
        """Take the state after ``steps`` steps."""
        self.newest = (steps, state)
        if monotonic() - self.written > _SAVE_EVERY:
            self.write()

    def write(self) -> None:
        """Write the newest state, if there is one."""
        if self.newest is not None:
            steps, state = self.newest
            self.canvas.save_state(steps, state.float().cpu().numpy())
            self.canvas.keep()
        self.written = monotonic()


def check_picture(picture: "Picture", axes: str) -> Any:
    """Report the seams of ``picture`` along ``axes``; None when there are none to check."""
    from nca_texture.seams import check_rows
    from nca_texture.stills.base import floats

    if not axes:
        return None
    return check_rows(picture.size, lambda first, last: floats(picture, first, last), axes)


def room(output: Path) -> int:
    """Count the bytes of disk that ``output`` may take, with those that an unfinished one has."""
    from nca_texture.canvas import free_disk, part_of, state_of

    own = [path for path in (part_of(output), state_of(output)) if path.exists()]
    return free_disk(output) + sum(path.stat().st_size for path in own)


def describe(job: "Plan", took: float, disk: int) -> str:
    """Say in a line what a plan takes."""
    ways = {
        "rows": "swept in rows",
        "columns": f"swept in {job.blocks} blocks of columns whose halos are computed again",
        "whole": "all cells in memory",
        "disk": f"{job.disk / 2**20:.0f} MB of it for states, strips of which are in memory",
    }
    text = (
        f"about {common.duration(took)}, {job.memory / 2**20:.0f} MB of memory, "
        f"{disk / 2**20:.0f} MB of disk while it is made; {ways[job.way]}"
    )
    return text + (f", {job.work:.1f} times the work of the cells alone" if job.work > 1.5 else "")


def _facts(job: "Plan", took: float, disk: int) -> dict[str, Any]:
    return {
        "width": job.pixels[1],
        "height": job.pixels[0],
        "steps": job.steps,
        "seconds": round(took, 1),
        "memory": job.memory,
        "disk": disk,
        "way": job.way,
        "blocks": job.blocks,
        "work": round(job.work, 3),
    }
