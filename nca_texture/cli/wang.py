"""``nca-texture wang``: a set of tiles that fit in many ways."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def wang(
    model: common.Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The sheet; an index comes beside it, OUT.json."
        ),
    ],
    size: Annotated[int, typer.Option(help="Pixels of a side of one tile.")] = 128,
    colours: Annotated[
        int, typer.Option(help="Kinds of edges on each axis, 1 to 4: there are N^4 tiles.")
    ] = 2,
    steps: common.Steps = None,
    depth: common.Depth = None,
    proof: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNSxROWS", help="Also write OUT_proof.png, so many tiles laid by chance."
        ),
    ] = None,
    seed: common.Seed = None,
    device: common.Device = "auto",
    kernel: common.Kernel = "auto",
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Grow a set of Wang tiles: laid by their edges they cover any area without repeating."""
    from json import dumps

    from nca_texture import stills
    from nca_texture.cli.console import progress_bar
    from nca_texture.files import atomic_write, check_folder, check_writable
    from nca_texture.seams import check_seams
    from nca_texture.stills.base import convert, picture_of
    from nca_texture.store import load_model
    from nca_texture.wang import check, wang_tiles

    automaton, recipe, origin = load_model(model)
    steps = common.steps_of(origin, recipe, steps)
    check(automaton, size, colours)
    side = colours**2 * size
    _, kept, space = stills.choose(output, (side, side), 3, depth)
    repeats = None if proof is None else common.parse_size(proof)
    stem, _ = stills.split(output.name)
    index, view = output.with_name(f"{stem}.json"), output.with_name(f"{stem}_proof.png")
    written = [output, index, *([view] if repeats else [])]
    for path in written:
        check_writable(path, force=force)
    check_folder(output.parent)
    many = side * side + (repeats[0] * repeats[1] * size * size if repeats else 0)
    needed = 4 * (automaton.channels * 6 * side * side + 12 * many)
    common.check_memory(needed, f"{colours**4} tiles of {size}x{size} pixels")
    automaton = automaton.to(common.pick_device(device))
    number = common.parse_seed(seed)
    about = f"{colours**4} tiles of {size}x{size} pixels, {steps} steps"
    with progress_bar(f"growing {about}", max(steps, 1), quiet) as advance:
        found = wang_tiles(
            automaton, size, steps, colours=colours, seed=number, kernel=kernel, progress=advance
        )
    words = common.words_of(
        origin,
        model,
        f"wang --size {size} --colours {colours} --steps {steps} --seed {number}",
    )
    sheet = found.sheet().clip(0, 1)
    picture = picture_of(convert(sheet, kept, space), space=space, metadata=words)
    stills.write(output, picture, force=force)
    if repeats:
        laid = found.assemble(*repeats, seed=number).clip(0, 1)
        stills.write(view, picture_of(convert(laid, "8", "srgb"), metadata=words), force=force)
    tiles = {"image": output.name, "size": size, "colours": colours, "tiles": found.index()}
    with atomic_write(index, force=force) as file:
        file.write(dumps(tiles | {"metadata": words}, indent=1).encode() + b"\n")
    report = check_seams(sheet)
    if json:
        files = [str(path) for path in written]
        common.answer(tiles | {"files": files, "seed": number, "seams": report.to_dict()})
    common.talk_seams(report, quiet)
    common.talk(f"wrote {' and '.join(map(str, written))}", quiet)
