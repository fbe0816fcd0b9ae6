"""The command line: one file per verb, and this one that gathers them.

Nothing here imports torch, numpy or scikit-image before a command needs them, so that
``nca-texture --help`` answers at once.
"""

import os
import sys
from typing import Annotated

import typer

from nca_texture import __version__
from nca_texture.cli import common
from nca_texture.cli.animate import animate
from nca_texture.cli.check import check
from nca_texture.cli.doctor import doctor
from nca_texture.cli.export import export
from nca_texture.cli.imports import import_models
from nca_texture.cli.info import info
from nca_texture.cli.maps import maps
from nca_texture.cli.presets import presets
from nca_texture.cli.samples import samples
from nca_texture.cli.score import score
from nca_texture.cli.tile import tile
from nca_texture.cli.train import train
from nca_texture.cli.wang import wang
from nca_texture.cli.weights import weights

app = typer.Typer(
    name="nca-texture",
    help="Learn a texture from one image; grow it seamlessly at any size.",
    epilog="Start here: nca-texture train zebra.jpg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, tile, wang, animate, maps, export, check, score, info, presets, samples):
    app.command()(command)
app.command("import")(import_models)
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
    """Run the command line; a usage error is one sentence, like every other."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="nca-texture", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(common.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        _hush()
        sys.exit(common.FAILED)
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer has had its own click and none
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "nca-texture"
        sentence = message().strip().rstrip(".")
        common.fail(f"{sentence[:1].lower()}{sentence[1:]}; see {asked} --help")
        sys.exit(common.USAGE)
    _flush()
    sys.exit(code if isinstance(code, int) else 0)


def _flush() -> None:
    """Write out what is left for stdout now, while a failure can still be told."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush()
        sys.exit(common.FAILED)
    except OSError as error:
        _hush()
        common.fail(f"cannot write the result: {error.strerror}; send it elsewhere")
        sys.exit(common.FAILED)


def _hush() -> None:
    """Let nothing that is left for stdout fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
