"""``nca-texture weights``: the pretrained networks that some losses look through."""

from typing import Annotated

import typer

from nca_texture.cli import common

weights = typer.Typer(
    help="List the feature networks and where their weights are, or fetch one ahead of time.",
    invoke_without_command=True,
)


@weights.callback(invoke_without_command=True)
@common.sentences
def show(
    context: typer.Context,
    json: common.Json = False,
    verbose: common.Verbose = False,
) -> None:
    """List the feature networks and where their weights are, or fetch one ahead of time."""
    from nca_texture.losses.weights import weights_status

    if context.invoked_subcommand is not None:
        return
    rows = weights_status()
    if json:
        common.answer([vars(row) for row in rows])
        return
    for row in rows:
        where = f"{row.place}: {row.path}" if row.path else f"not here; {row.megabytes:.0f} MB"
        typer.echo(f"{row.network:<14}{where}")
    common.talk("next: nca-texture weights fetch vgg19, or put files in $NCA_TEXTURE_WEIGHTS")


@weights.command()
@common.sentences
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="vgg16, vgg19, inception_v3, ...")],
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Download the weights of a network now, so that training can be done offline."""
    from nca_texture.losses.weights import fetch_weights

    path = fetch_weights(name)
    common.talk(f"{name} is at {path}; next: nca-texture train IMAGE --features {name}", quiet)
