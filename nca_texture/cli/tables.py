"""Results as tables, on stdout."""

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from nca_texture.quality.scorecard import Score

_DIGITS = {"spectrum": 1, "colour": 1, "seam": 2}


def show_score(about: dict[str, Any], score: "Score") -> None:
    """Print a score: distances by step, what else was measured, and what is wrong."""
    from nca_texture.quality.measures import SEAM, STYLE, UNITS

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print(f"{about['file']}, beside {about['target']}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN)
    table.add_column("distance")
    table.add_column("part", justify="right")
    for steps in score.steps or ["picture"]:
        table.add_column(f"{steps} steps" if score.steps else "picture", justify="right")
    for name in score.distances[0]:
        own = score.part.get(name)
        mark = " *" if name in score.trained else ""
        values = [_number(name, each.get(name)) for each in score.distances]
        table.add_row(name + mark, _number(name, own), *values)
    console.print(table)
    if score.trained:
        console.print("* close to what it was trained by; the others are independent of it")
    units = [f"{SEAM}: {UNITS[SEAM]}"] if SEAM in score.distances[0] else []
    units += [f"{name} in {UNITS[name]}" for name in ("spectrum", "colour")]
    console.print(f"{STYLE}, patches: {UNITS[STYLE].split(' of ')[0]} of the target's own spread")
    console.print("; ".join(units), soft_wrap=True)
    console.print()
    for name, value in _facts(about, score):
        console.print(f"{name:<12}  {value}", soft_wrap=True)
    console.print()
    for fault in score.faults:
        console.print(f"[bold red]{fault.name}[/]: {fault.saw}", soft_wrap=True)
        console.print(f"  to change: {fault.change}", soft_wrap=True, markup=False)
    if not score.faults:
        console.print("no fault found")


def _facts(about: dict[str, Any], score: "Score") -> list[tuple[str, str]]:
    facts = []
    if score.drift:
        last = f"{score.steps[min(1, len(score.steps) - 1)]} to {score.steps[-1]} steps"
        facts.append(("drift", f"{_shares(score.drift, '+.0%')} from {last}"))
    if score.recovery:
        facts.append(("recovery", f"{_shares(score.recovery, '.0%')} after half was erased"))
    if score.diversity is not None:
        beside = f"the target's own parts {score.target_diversity:.2f}"
        facts.append(("diversity", f"{score.diversity:.2f} between two seeds; {beside}"))
    copied = f"{score.copy} pixels" if score.copy else "nothing of 12 pixels or more"
    again = f"{score.target_repeat} pixels" if score.target_repeat else "nothing"
    facts.append(("copied", f"{copied}; the target repeats {again} of itself"))
    if score.cost is not None:
        memory = f"{score.cost.memory / 2**20:.0f} MB"
        facts.append(
            (
                "a step",
                f"{score.cost.milliseconds:.0f} ms and {memory} for 1024x1024 cells "
                f"({score.cost.kernel} kernel)",
            )
        )
        facts.append(("model", f"{score.parameters} parameters, {about['bytes']} bytes"))
    return facts


def _shares(values: dict[str, Any], form: str) -> str:
    return ", ".join(
        f"{name} {'-' if value is None else format(value, form)}" for name, value in values.items()
    )


def _number(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS.get(name, 3)}f}"
