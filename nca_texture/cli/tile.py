"""``nca-texture tile``: a still picture of any size from a model."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def tile(
    model: common.Model,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT.png", help="Where to write it.")
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
    depth: Annotated[int, typer.Option(help="Bits of a channel: 8 or 16.")] = 8,
    edge: common.Edge = None,
    beyond: common.Beyond = None,
    layout: common.Layout = None,
    proof: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNSxROWS", help="Also write OUT_proof.png, the tile repeated, as 3x3."
        ),
    ] = None,
    seed: common.Seed = None,
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
    """Grow a seamless picture of any size. A larger tile is more texture, not more detail."""
    from nca_texture.cli.console import progress_bar
    from nca_texture.files import check_folder, check_writable
    from nca_texture.images import proof as repeat
    from nca_texture.images import write_png
    from nca_texture.recipe import from_dict
    from nca_texture.render import plan, render
    from nca_texture.seams import check_seams
    from nca_texture.store import load_model

    if depth not in (8, 16):
        raise ValueError(f"depth is {depth}; give 8 or 16")
    if steps is not None and steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more")
    if output.suffix.lower() != ".png":
        raise ValueError(f"{output.name} is no PNG file; give a name that ends in .png")
    repeats = None if proof is None else common.parse_size(proof)
    proof_path = output.with_name(f"{output.stem}_proof.png")
    automaton, recipe, origin = load_model(model)
    shape = {"edge": edge, "beyond": beyond, "layout": layout}
    asked = {name: value for name, value in shape.items() if value is not None}
    shaped = from_dict(type(recipe.automaton), asked, recipe.automaton)
    automaton = automaton.with_grid(shaped.grid()).to(common.pick_device(device))
    if steps is None:
        steps = origin.steps or recipe.training.steps[1]
    pixels = common.parse_size(size or "1024")
    job = plan(automaton, pixels, steps)
    channels = 4 if automaton.living else 3
    total = job.memory + pixels[0] * pixels[1] * channels * 12
    if not dry_run:
        check_writable(output, force=force)
        if repeats:
            check_writable(proof_path, force=force)
        check_folder(output.parent)
    common.check_memory(total, f"a picture of {pixels[1]}x{pixels[0]} pixels")
    about = f"{pixels[1]}x{pixels[0]} pixels, {steps} steps"
    if shaped.layout == "hex":
        about += f", {job.cells[1]}x{job.cells[0]} hexagonal cells, rows {job.stretch:+.2%}"
    if dry_run:
        common.talk(f"{about}, about {total / 2**20:.0f} MB of memory", quiet)
        return
    number = common.parse_seed(seed)
    with progress_bar(f"growing {about}", steps, quiet) as advance:
        picture = render(automaton, job, seed=number, kernel=kernel, progress=advance)
    words = {
        "Software": "nca-texture",
        "Source": origin.source,
        "nca-texture": f"tile --size {pixels[1]}x{pixels[0]} --steps {steps} --seed {number} "
        f"--edge {shaped.edge} --layout {shaped.layout}",
    }
    write_png(output, picture, depth=16 if depth == 16 else 8, metadata=words, force=force)
    if repeats:
        write_png(proof_path, repeat(picture, repeats), metadata=words, force=force)
    report = check_seams(picture, axes=automaton.grid.wraps) if automaton.grid.wraps else None
    if json:
        files = [str(output)] + ([str(proof_path)] if repeats else [])
        seams = None if report is None else report.to_dict()
        common.answer(
            {
                "files": files,
                "width": pixels[1],
                "height": pixels[0],
                "depth": depth,
                "steps": steps,
                "seed": number,
                "edge": shaped.edge,
                "layout": shaped.layout,
                "seams": seams,
            }
        )
    if report is not None:
        for axis in report.axes:
            common.talk(axis.reason, quiet)
    wrote = f"wrote {output}" + (f" and {proof_path}" if repeats else "")
    common.talk(f"{wrote}; next: nca-texture check {output}", quiet)
