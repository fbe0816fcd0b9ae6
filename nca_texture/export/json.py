"""The rule as plain numbers in JSON, for whatever program reads it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nca_texture.export.base import Exporter, Trained


def describe(model: Trained) -> dict[str, Any]:
    """Say all that a step needs, but the learned numbers."""
    automaton = model.automaton
    return {
        "name": model.name,
        "source": model.source,
        "sha256": model.sha256,
        "rule": automaton.rule,
        "channels": automaton.channels,
        "own": automaton.own,  # the rule changes these; the others say what class a cell is of
        "hidden": automaton.hidden,
        "activation": automaton.activation,
        "combine": automaton.perception.bank.combine,  # what is made of the two gradients
        "layout": automaton.grid.layout,
        "edges": list(automaton.grid.edges),
        "classes": list(model.classes) or [str(i + 1) for i in range(automaton.classes)],
        "condition": automaton.condition,
        "fire_by": automaton.fire_by,
        "fire_rate": automaton.fire_rate,
        "fire_limit": round(automaton.fire_rate * 2**24),
        "living": automaton.living,
        "limits": asdict(automaton.limits),
        "seed": {
            "kind": automaton.seed_kind,
            "amount": automaton.seed_amount,
            "place": list(automaton.seed_place),
        },
        "rgb": {"scale": automaton.rgb_scale, "offset": automaton.rgb_offset},
        "steps": model.steps,
        "weights": model.weights,
        "rounding": list(model.rounding),
    }


class JsonExporter(Exporter):
    """One JSON file: ``filters`` [R, C, F, 3, 3] by row parity, and the weights as they are."""

    suffix = ".json"

    def files(self, models: Sequence[Trained]) -> dict[str, bytes]:
        """Write names, limits and numbers; percepts are channel by channel, filters adjacent."""
        (model,) = models
        automaton = model.automaton
        about = describe(model) | {"filters": automaton.perception.filters().tolist()}
        for name in ("weight_in", "bias_in", "weight_out", "bias_out", "codes", "seeds"):
            value = getattr(automaton, name)
            about[name] = None if value is None else value.tolist()
        return {"": (json.dumps(about, ensure_ascii=False) + "\n").encode()}
