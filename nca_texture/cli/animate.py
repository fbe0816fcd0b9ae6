"""``nca-texture animate``: moving pictures from a model."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def animate(
    model: common.Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="gif, webp, apng, avif, mp4 or webm; without a suffix, a folder of frames.",
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH",
            help="Pixels, as 512 or 512x256 (WIDTHxHEIGHT).",
            show_default="256; of a grown picture what it was trained on",
        ),
    ] = None,
    zoom: Annotated[int, typer.Option(help="Pixels of the frame across one of the size.")] = 1,
    frames: Annotated[int, typer.Option(help="How many.")] = 48,
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 24.0,
    every: Annotated[int, typer.Option(help="Steps from frame to frame.")] = 2,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps before the first frame.",
            show_default="what the model was scored at; 0 for a growing one",
        ),
    ] = None,
    blend: Annotated[
        int | None,
        typer.Option(
            help="Frames that close the loop; 0 leaves it open.",
            show_default="a third; 0 for a growing one",
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            metavar="auto|COLUMNSxROWS",
            help="All frames in one PNG, with Aseprite's JSON and Unity's .meta.",
        ),
    ] = None,
    kind: common.Class = None,
    mix: common.Mix = None,
    plants: common.Plants = None,
    background: common.Background = None,
    timeline: common.Timeline = None,
    gutter: Annotated[
        int, typer.Option(help="Pixels around each frame of a sheet; they wrap.")
    ] = 0,
    edge: common.Edge = None,
    beyond: common.Beyond = None,
    layout: common.Layout = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    dry_run: common.DryRun = False,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Film a texture that never stands still, in a loop without a jump and without ghosts."""
    from nca_texture import motion
    from nca_texture.cli.console import progress_bar
    from nca_texture.files import check_folder, check_writable
    from nca_texture.film import Shooting, film
    from nca_texture.motion import sheet as sheets
    from nca_texture.motion.base import Clip
    from nca_texture.motion.frames import check_place
    from nca_texture.seams import check_seams

    automaton, shaped, recipe, origin = common.load_shaped(model, device, edge, beyond, layout)
    if not 0.1 <= fps <= 1000:
        raise ValueError(f"fps is {fps:g}; give 0.1 to 1000")
    if frames < 1:
        raise ValueError(f"frames is {frames}; give 1 or more")
    if blend is None:
        blend = 0 if automaton.living or timeline is not None else frames // 3
    if steps is None:
        scored = common.steps_of(origin, recipe)
        steps = 0 if automaton.living else max(scored, blend * every)
    automaton = common.plant(automaton, recipe, kind, mix, plants)
    cells_shown = common.pixels_of(size, recipe, automaton, "256")
    colour = None if background is None else common.parse_colour(background)
    if colour and not automaton.living:
        raise ValueError("nothing of a texture is transparent; leave out --background")
    theatre = stage = None
    if timeline is not None:
        events = common.read_timeline(timeline)
        theatre = common.theatre_of(automaton, recipe, events, kernel)
        grid, first = automaton.grid, automaton.grid.cells_for(cells_shown)
        last = theatre.size_at(first, steps + frames * every)
        stage = grid.picture_size(last) if last != first else None
    shooting = Shooting(
        pixels=cells_shown,
        stage=stage,
        frames=frames,
        every=every,
        start=steps,
        blend=blend,
        background=colour,
        zoom=zoom,
    )
    pixels = shooting.size
    channels = 4 if automaton.living and not colour else 3
    if gutter and sheet is None:
        raise ValueError("a gutter lies around the frames of a sheet; give --sheet auto as well")
    shape = _shape(sheet, frames)
    if shape and output.suffix.lower() != ".png":
        raise ValueError(f"a sheet is a PNG file, not {output.name}; give a name that ends in .png")
    if shape is None:
        motion.check(output, pixels, channels)
    written = sheets.files(output) if shape else (output,)
    if not dry_run:
        if output.suffix:
            for path in written:
                check_writable(path, force=force)
            check_folder(output.parent)
        else:
            check_place(output, force)
    cells = automaton.grid.cells_for(cells_shown)
    needed = 4 * cells[0] * cells[1] * automaton.channels * (blend + 8)
    needed += 4 * frames * pixels[0] * pixels[1] * channels
    common.check_memory(needed, f"{frames} frames of {pixels[1]}x{pixels[0]} pixels")
    about = f"{frames} frames of {pixels[1]}x{pixels[0]} pixels, {frames / fps:.3g} s"
    if dry_run:
        common.talk(f"{about}, about {needed / 2**20:.0f} MB of memory", quiet)
        return
    number = common.parse_seed(seed)
    with progress_bar(f"growing {about}", frames, quiet) as advance:
        found = film(
            automaton, shooting, seed=number, kernel=kernel, theatre=theatre, progress=advance
        )
    words = common.words_of(
        origin,
        model,
        f"animate --size {cells_shown[1]}x{cells_shown[0]} --zoom {zoom} "
        f"--frames {frames} --fps {fps:g} --every {every} --steps {steps} --blend {blend} "
        f"--seed {number} --edge {shaped.edge} --beyond {shaped.beyond} --layout {shaped.layout}"
        + common.garden_words(automaton, recipe)
        + ("" if background is None else f" --background {background}")
        + ("" if timeline is None else f" --timeline {timeline.name}"),
    )
    wraps = automaton.grid.wraps
    clip = Clip(found.frames, fps, found.loops, wraps, words)
    if shape:
        sheets.write(output, clip, shape, gutter, force)
    else:
        motion.write(output, clip, force=force)
    first = found.frames[0].astype("float32") / 255
    report = check_seams(first, axes=wraps) if wraps else None
    if json:
        common.answer(
            {
                "files": [str(path) for path in written],
                "width": pixels[1],
                "height": pixels[0],
                "frames": frames,
                "fps": fps,
                "seed": number,
                "loops": found.loops,
                "jump": round(found.jump, 4) if frames > 1 else None,
                "largest": round(found.largest, 4) if frames > 1 else None,
                "contrast": round(found.contrast, 4),
                "sheet": None if shape is None else {"rows": shape[0], "columns": shape[1]},
                "seams": None if report is None else report.to_dict(),
            }
        )
    if found.loops:
        common.talk(
            f"loop: the step from the last frame to the first is {found.jump:.2f} times the "
            f"median step, the largest inside {found.largest:.2f} times; the frames that close it "
            f"keep {found.contrast:.0%} of the contrast",
            quiet,
        )
    common.talk_seams(report, quiet)
    common.talk(f"wrote {' and '.join(map(str, written))}", quiet)


def _shape(sheet: str | None, frames: int) -> tuple[int, int] | None:
    """Turn ``auto`` or COLUMNSxROWS into (rows, columns)."""
    from nca_texture.motion.sheet import layout

    if sheet is None:
        return None
    shape = layout(frames) if sheet == "auto" else common.parse_size(sheet)
    if shape[0] * shape[1] < frames:
        raise ValueError(f"a sheet of {shape[1]}x{shape[0]} has no room for {frames} frames")
    return shape
