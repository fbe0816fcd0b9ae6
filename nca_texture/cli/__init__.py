"""The command line: one file per verb, and this one that gathers them.

Nothing here imports torch, numpy or scikit-image before a command needs them, so that
``nca-texture --help`` answers at once.
"""

import sys
from typing import Annotated

import typer

from nca_texture import __version__
from nca_texture.cli.check import check
from nca_texture.cli.doctor import doctor
from nca_texture.cli.info import info
from nca_texture.cli.samples import samples
from nca_texture.cli.tile import tile
from nca_texture.cli.train import train
from nca_texture.cli.weights import weights

app = typer.Typer(
    name="nca-texture",
    help="Learn a texture from one image; grow it seamlessly at any size.",
    epilog="Start here: nca-texture train zebra.jpg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, tile, check, info, samples):
    app.command()(command)
app.add_typer(weights, name="weights")
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nca-texture {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Learn a texture from one image; grow it seamlessly at any size."""


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        sys.exit(1)
