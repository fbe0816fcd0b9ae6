"""``nca-texture tile``: a still picture of any size from a model."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nca_texture.cli import common

if TYPE_CHECKING:
    from nca_texture.automaton import CellularAutomaton
    from nca_texture.canvas import Canvas
    from nca_texture.render import Plan
    from nca_texture.stills.base import Picture

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
            show_default="1024",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="How long to grow.", show_default="what the model was scored at"),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            metavar="BITS", help="8, 16, half or float.", show_default="what the format is for"
        ),
    ] = None,
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
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Working memory, as 1GB.", show_default="half of what is free"
        ),
    ] = None,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and stop.")
    ] = False,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Grow a seamless picture of any size. A larger tile is more texture, not more detail.

    The picture may be larger than memory. What is done lies beside it in OUT.part: after a stop,
    the same command goes on there.
    """
    from nca_texture import render, stills
    from nca_texture.canvas import Canvas, check_disk, columns_of, part_of
    from nca_texture.files import check_writable
    from nca_texture.recipe import from_dict
    from nca_texture.stills.base import DTYPES, half_rolled, repeated
    from nca_texture.store import file_sha256, load_model, model_file

    if steps is not None and steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more")
    repeats = None if proof is None else common.parse_size(proof)
    views = [output.with_name(f"{output.stem}_{view}.png") for view in ("proof", "seam")]
    views = views if repeats else []
    stills.format_of(output)
    automaton, recipe, origin = load_model(model)
    shape = {"edge": edge, "beyond": beyond, "layout": layout}
    asked = {name: value for name, value in shape.items() if value is not None}
    shaped = from_dict(type(recipe.automaton), asked, recipe.automaton)
    automaton = automaton.with_grid(shaped.grid()).to(common.pick_device(device))
    if steps is None:
        steps = origin.steps or recipe.training.steps[1]
    pixels = common.parse_size(size or "1024")
    channels = 4 if automaton.living else 3
    known, kept, colours = stills.choose(output, pixels, channels, depth, space)
    budget = common.parse_memory(memory)
    columns = columns_of(output)
    job = render.plan(
        automaton,
        pixels,
        steps,
        kernel=kernel,
        memory=budget or (common.free_memory() or 2**33) // 2,
        columns=columns if columns is not None and columns < pixels[1] else None,
    )
    number = common.parse_seed(seed)
    said = {
        "picture": {"pixels": pixels, "steps": steps, "seed": number, "depth": kept},
        "model": file_sha256(model_file(model)),
        "grid": [shaped.layout, *automaton.grid.edges],
        "space": colours,
        "kernel": automaton.kernel_for(automaton.seed(1, (2, 2)), kernel),
        "device": automaton.weight_in.device.type,
        "made by": common.versions(),
    }
    canvas = Canvas(output, pixels, channels, DTYPES[kept], said, columns=job.columns, force=force)
    if not dry_run:
        for path in (output, *views):
            check_writable(path, force=force)
        check_disk(output, canvas.bytes if not part_of(output).exists() else 0)
    needed = job.memory + (3 * canvas.bytes if known.whole else 0)
    common.check_memory(needed, f"a {known.name} file of {pixels[1]}x{pixels[0]} pixels")
    about = f"{pixels[1]}x{pixels[0]} pixels, {steps} steps"
    if shaped.layout == "hex":
        about += f", {job.cells[1]}x{job.cells[0]} hexagonal cells, rows {job.stretch:+.2%}"
    if dry_run or (job.cell_steps > _LONG and not quiet):
        took = render.seconds(automaton, job, kernel)
        common.talk(f"{about}: {describe(job, took, canvas.bytes)}", quiet)
        if dry_run and json:
            common.answer(_facts(job, took, canvas.bytes))
        if dry_run:
            return
    words = {
        "Software": "nca-texture",
        "Source": origin.source,
        "Model": f"sha256 {said['model']}",
        "nca-texture": f"tile --size {pixels[1]}x{pixels[0]} --steps {steps} --seed {number} "
        f"--edge {shaped.edge} --layout {shaped.layout}",
    }
    with canvas, common.terminated_as_interrupted():
        try:
            _paint(automaton, job, canvas, number, kernel, about, quiet)
            picture = _picture(canvas, kept, colours, words)
            stills.write(output, picture, force=force)
            if repeats:
                stills.write(views[0], repeated(picture, repeats), force=force)
                stills.write(views[1], half_rolled(picture), force=force)
            report = check_picture(picture, automaton.grid.wraps)
        except KeyboardInterrupt as stop:
            if canvas.share == 0:
                canvas.remove()
                raise
            again = shlex.join(["nca-texture", *sys.argv[1:]])
            common.talk(f"stopped at {canvas.share:.0%} and saved; go on with: {again}")
            raise typer.Exit(common.code_of(stop)) from None
        except BaseException:
            if not canvas.is_worth_keeping():
                canvas.remove()
            raise
        canvas.remove()
    if json:
        common.answer(
            {
                "files": [str(path) for path in (output, *views)],
                "width": pixels[1],
                "height": pixels[0],
                "depth": int(kept) if kept.isdigit() else kept,
                "space": colours,
                "steps": steps,
                "seed": number,
                "edge": shaped.edge,
                "layout": shaped.layout,
                "seams": None if report is None else report.to_dict(),
            }
        )
    if report is not None:
        for axis in report.axes:
            common.talk(axis.reason, quiet)
    wrote = " and ".join(map(str, (output, *views)))
    common.talk(f"wrote {wrote}; next: nca-texture check {output}", quiet)


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
    from nca_texture.cli.console import progress_bar
    from nca_texture.render import paint
    from nca_texture.stills.base import convert

    if canvas.share:
        common.talk(f"going on with {canvas.path} at {canvas.share:.0%}", quiet)
    depth, space = canvas.job["picture"]["depth"], canvas.job["space"]
    start = (canvas.block, canvas.row)
    with progress_bar(f"growing {about}", 1, quiet) as advance:
        for block in paint(automaton, job, seed=seed, kernel=kernel, start=start, progress=advance):
            canvas.put(block.top, block.left, convert(block.pixels, depth, space))


def _picture(canvas: "Canvas", depth: Any, space: Any, words: dict[str, str]) -> "Picture":
    from nca_texture.stills.base import Picture

    return Picture(canvas.size, canvas.channels, depth, canvas.read, space, words)


def check_picture(picture: "Picture", axes: str) -> Any:
    """Report the seams of ``picture`` along ``axes``; None when there are none to check."""
    from nca_texture.seams import check_rows
    from nca_texture.stills.base import floats

    if not axes:
        return None
    return check_rows(picture.size, lambda first, last: floats(picture, first, last), axes)


def describe(job: "Plan", took: float, disk: int) -> str:
    """Say in a line what a plan takes."""
    ways = {
        "rows": "swept in rows",
        "columns": f"swept in {job.blocks} blocks of columns whose margins are computed twice",
        "whole": "all cells in memory",
    }
    text = (
        f"about {common.duration(took)}, {job.memory / 2**20:.0f} MB of memory, "
        f"{disk / 2**20:.0f} MB of disk while it is made; {ways[job.way]}"
    )
    extra = job.work - 1
    return text + (f", {extra:.0%} of the work is done more than once" if extra > 0.5 else "")


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
