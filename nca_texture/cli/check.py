"""``nca-texture check``: the seams of pictures."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures from anywhere.")],
    axes: Annotated[
        str, typer.Option(metavar="AXES", help="Axes that have to tile: xy, x or y.")
    ] = "xy",
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Measure the seams of pictures; exit code 4 when one does not tile."""
    import numpy as np

    from nca_texture.seams import check_seams
    from nca_texture.targets.decode import read_raster
    from nca_texture.targets.image import MAX_PIXELS

    if axes not in ("xy", "x", "y"):
        raise ValueError(f"axes is {axes!r}; choose from xy, x, y")
    results, passed = [], True
    for file in files:
        pixels = read_raster(file, MAX_PIXELS).values
        if np.issubdtype(pixels.dtype, np.integer):
            pixels = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
        report = check_seams(np.asarray(pixels, np.float32), axes=axes)
        passed = passed and report.passed
        results.append({"file": str(file)} | report.to_dict())
        if not json:
            common.talk(f"{file}: {'tiles' if report.passed else 'does not tile'}", quiet)
            for axis in report.axes:
                common.talk(f"  {axis.reason}", quiet)
    if json:
        common.answer(results)
    if not passed:
        raise typer.Exit(common.CHECK_FAILED)
