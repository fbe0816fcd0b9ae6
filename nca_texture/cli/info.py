"""``nca-texture info``: what is in a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nca_texture.cli import common

# What nobody knows of a model that was trained elsewhere.
_OF_TRAINING = ("preset", "losses", "seed", "iterations", "loss", "loss at steps", "recipe")


@common.sentences
def info(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A model, a run, a checkpoint or a PNG of ours.")
    ],
    json: common.Json = False,
    verbose: common.Verbose = False,
) -> None:
    """Say what a model, a checkpoint or a picture is and where it came from."""
    from nca_texture.store import model_file

    path = model_file(file)
    about = _picture(path) if path.suffix.lower() == ".png" else _model_or_checkpoint(path)
    if json:
        common.answer(about)
        return
    width = max(map(len, about), default=0)
    for name, value in about.items():
        if name not in ("recipe", "thumbnail"):
            typer.echo(f"{name:<{width}}  {_text(value)}")


def _model_or_checkpoint(path: Path) -> dict[str, Any]:
    from nca_texture.errors import InputError
    from nca_texture.store import load_checkpoint, load_model
    from nca_texture.trees import to_dict

    try:
        automaton, recipe, origin = load_model(path)
    except InputError as reason:
        if "is a checkpoint" not in str(reason):
            raise
        snapshot, recipe, exemplar = load_checkpoint(path)
        return {
            "file": str(path),
            "kind": "checkpoint",
            "iteration": f"{snapshot.iteration} of {recipe.training.iterations}",
            "source": exemplar.describe(),
            "preset": recipe.preset,
            "recipe": to_dict(recipe),
        }
    about = {
        "file": str(path),
        "kind": f"model, imported from {origin.published}" if origin.published else "model",
        "bytes": path.stat().st_size,
        "source": origin.source_note or origin.source,
        "sha256": origin.sha256,
        "preset": recipe.preset,
        "losses": [f"{plan.weight:g} {plan.name}" for plan in recipe.losses],
        "task": recipe.task,
        "classes": list(recipe.target.classes) or None,
        "condition": None if automaton.condition == "none" else automaton.condition,
        "parameters": automaton.num_parameters,
        "channels": automaton.channels,
        "hidden": automaton.hidden,
        "activation": automaton.activation if automaton.rule == "mlp" else None,
        "grid": f"{recipe.automaton.layout}, tiles on {automaton.grid.wraps or 'no axis'}",
        "perception": recipe.automaton.bank,
        "fire rate": automaton.fire_rate,
        "limits": to_dict(automaton.limits),
        "rgb": f"state * {automaton.rgb_scale:g} + {automaton.rgb_offset:g}",
        "seed": recipe.training.seed,
        "iterations": origin.iterations,
        "loss": origin.loss,
        "steps": origin.steps,
        "loss at steps": {str(int(steps)): loss for steps, loss in origin.marks},
        "kernel": f"auto takes {automaton.kernel_for(automaton.seed(1, (8, 8)))} here",
        "versions": origin.versions,
        "thumbnail": origin.thumbnail,
        "recipe": to_dict(recipe),
    }
    unknown = _OF_TRAINING if origin.published else ()
    return {name: value for name, value in about.items() if name not in unknown}


def _picture(path: Path) -> dict[str, Any]:
    from nca_texture.images import read_png_metadata

    return {"file": str(path), "kind": "picture"} | read_png_metadata(path)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return (
        f"{value:.4g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)
    )
