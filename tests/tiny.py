"""What makes a training so small that it ends in a second, as arguments of the command."""

from collections.abc import Mapping

SETTINGS = {
    "training.width": 16,
    "training.height": 16,
    "training.steps": [2, 3],
    "training.pool_size": 2,
    "training.judge_every": 2,
    "training.judge_steps": 4,
    "automaton.channels": 4,
    "automaton.hidden": 8,
    "sliced.samples": 16,
    "sliced.projections": 4,
    "patch.levels": 1,
    "patch.samples": 16,
}


def arguments(settings: Mapping[str, object]) -> list[str]:
    """Turn settings into arguments of ``train``."""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


TINY = arguments(SETTINGS)


def without_loss(args: list[str]) -> list[str]:
    """Leave out of arguments what sets the usual losses, for a training by another one."""
    pairs = zip(args, [*args[1:], ""], strict=True)
    usual = ("sliced.", "patch.")
    wanted = [not (arg.startswith(usual) or after.startswith(usual)) for arg, after in pairs]
    return [arg for arg, keep in zip(args, wanted, strict=True) if keep]
