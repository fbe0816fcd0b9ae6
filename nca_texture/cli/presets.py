"""``nca-texture presets``: recipes by name."""

from typing import Annotated

import typer

from nca_texture.cli import common


@common.sentences
def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which one to tell about.")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """List the presets of train and the experiments, or tell about one."""
    from nca_texture.names import check_name
    from nca_texture.presets import PRESETS
    from nca_texture.recipe import to_toml

    if name is None:
        if json:
            common.answer({each: preset.summary for each, preset in PRESETS.items()})
            return
        width = max(map(len, PRESETS))
        for each, preset in PRESETS.items():
            typer.echo(f"{each:<{width}}  {preset.summary}")
        common.talk("next: nca-texture presets draft, or train IMAGE --preset draft", quiet)
        return
    check_name(name, PRESETS, "preset")
    preset = PRESETS[name]
    if json:
        common.answer(
            {
                "name": name,
                "summary": preset.summary,
                "look_for": preset.look_for,
                "departures": list(preset.departures),
                "recipe": to_toml(preset.recipe),
            }
        )
        return
    typer.echo(f"{name}: {preset.summary}")
    if preset.look_for:
        typer.echo(f"look for: {preset.look_for}")
    for departure in preset.departures:
        typer.echo(f"departs from its source: {departure}")
    plan, target = preset.recipe.training, preset.recipe.target
    cells = f"{plan.width}x{plan.height} cells"
    if preset.recipe.task == "grow":  # the grid is that of the picture
        cells = f"{target.exemplar_size} cells at most and {target.padding} around them"
    typer.echo(
        f"{plan.iterations} iterations of {plan.batch_size} states of {cells}, "
        f"{plan.steps[0]} to {plan.steps[1]} steps"
    )
    common.talk(f"next: nca-texture train IMAGE --preset {name} (--print-config shows all)", quiet)
