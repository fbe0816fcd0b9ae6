"""``nca-texture samples``: textures that the project draws itself."""

from pathlib import Path
from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def samples(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which one to write.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.png", help="Where to write it.")
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels of a side, 8 to 2048.")] = 256,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """List the drawn textures, or write one to a file."""
    from nca_texture.images import write_png
    from nca_texture.targets import describe_samples, draw_sample

    if name is None:
        if output is not None:
            raise ValueError("which sample? give its name: nca-texture samples zebra -o zebra.png")
        described = describe_samples()
        if json:
            common.answer(described)
            return
        width = max(map(len, described))
        for sample, line in described.items():
            typer.echo(f"{sample:<{width}}  {line}")
        common.talk("next: nca-texture samples zebra -o zebra.png", quiet)
        return
    output = Path(f"{name}.png") if output is None else output
    picture = draw_sample(name, size)
    write_png(output, picture, metadata={"Software": "nca-texture", "Title": name}, force=force)
    if json:
        common.answer({"files": [str(output)]})
    common.talk(f"wrote {output}; next: nca-texture train {output}", quiet)
