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
    "patch.levels": 1,
    "patch.samples": 16,
}


def arguments(settings: Mapping[str, object]) -> list[str]:
    """Turn settings into arguments of ``train``."""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


TINY = arguments(SETTINGS)
