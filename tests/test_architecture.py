"""Who may import whom. A new part is one row of the table below, and rows point down only."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Part -> the parts whose names it may use. A part is a module or a folder of nca_texture; imports
# inside functions and for type checkers count. Each row names only parts from rows below it.
ARROWS = {
    "__main__": "cli",
    "cli": "__init__ quality export runs imports store presets loss_plans recipe training "
    "pace train_plan surgery film wang motion render planning materials stills canvas "
    "states maps seams images files automaton losses targets kernels noise devices "
    "trees names errors",
    "__init__": "store recipe training automaton perception grid",
    "quality": "recipe planning automaton losses periods seams errors",
    "export": "automaton perception noise files names errors",
    "film": "surgery render images automaton noise",
    "runs": "store render recipe training judging curriculum images files automaton targets errors",
    "store": "recipe training wide train_plan files automaton targets trees errors",
    "presets": "experiments loss_plans recipe train_plan kernels",
    "imports": "recipe automaton kernels errors",
    "experiments": "loss_plans recipe train_plan surgery curriculum targets",
    "loss_plans": "recipe",
    "recipe": "train_plan periods surgery losses targets automaton kernels grid trees",
    "pace": "training judging wide train_plan curriculum losses automaton",
    "training": "judging treatments wide train_plan pool soap surgery losses automaton noise",
    "treatments": "wide train_plan pool damage automaton noise devices",
    "wide": "train_plan automaton noise",
    "judging": "train_plan losses automaton noise",
    "train_plan": "curriculum damage automaton",
    "surgery": "damage automaton noise",
    "curriculum": "damage",
    "wang": "automaton noise grid",
    "render": "planning states automaton grid",
    "planning": "automaton grid errors",
    "motion": "images files errors",
    "materials": "stills errors",
    "stills": "images files errors",
    "canvas": "files errors",
    "states": "files errors",
    "maps": "",
    "periods": "",
    "seams": "",
    "images": "files errors",
    "damage": "",
    "automaton": "kernels perception grid noise devices",
    "pool": "devices",
    "soap": "",
    "perception": "grid devices",
    "grid": "",
    "losses": "kernels trees names errors devices",
    "kernels": "noise devices",
    "targets": "names errors",
    "files": "errors",
    "trees": "",
    "names": "",
    "noise": "devices",
    "devices": "",
    "errors": "",
}

# Of these parts, these only may be named: whoever measures a loss or reads a target is a recipe.
ONLY = {
    ("training", "losses"): {"base.Loss", "together.Scorer"},
    ("pace", "losses"): {"base.Loss"},
    ("judging", "losses"): {"base.Grown", "base.Loss"},
    ("store", "targets"): {"Exemplar"},
    ("runs", "targets"): {"Exemplar"},
    ("cli", "__init__"): {"__version__"},
}

# Recipes bring losses and targets together; the command line, on top of all, lists both.
MEETING_PLACES = {"recipe", "cli"}


@dataclass(frozen=True)
class Import:
    """One name that one file of ours takes from another."""

    file: Path
    line: int
    source: str  # part that imports
    part: str  # part that is imported
    name: str  # what of it, dotted

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.source} uses {self.part}"


def files() -> Iterator[tuple[str, Path]]:
    """List our modules, each with its part; the two links in nca_texture are passed over."""
    for folder in ("losses", "targets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield folder, path
    for path in sorted((ROOT / "nca_texture").rglob("*.py")):
        first = path.relative_to(ROOT / "nca_texture").parts[0]
        if first not in ("losses", "targets"):
            yield first.removesuffix(".py"), path


def named(path: Path) -> Iterator[tuple[int, str]]:
    """List what a module imports from our package, as dotted names with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "nca_texture":
                yield node.lineno, name


def imports() -> list[Import]:
    """List every import between two parts."""
    found = []
    for source, path in files():
        for line, name in named(path):
            _, first, *rest = [*name.split("."), ""]
            if first not in ARROWS:  # a name of the package itself
                first, rest = "__init__", [first]
            if first != source:
                found.append(Import(path, line, source, first, ".".join(rest).strip(".")))
    return found


IMPORTS = imports()


def test_the_table_points_down_only() -> None:
    order = list(ARROWS)
    for source, allowed in ARROWS.items():
        for part in allowed.split():
            assert order.index(part) > order.index(source), f"{source} -> {part} points up"


def test_every_part_has_its_row() -> None:
    parts = {part for part, _ in files()}
    assert parts - set(ARROWS) == set(), "give each new part a row in ARROWS"
    assert set(ARROWS) - parts == set(), "these rows have no part any more"


def test_imports_follow_the_table() -> None:
    against = [each for each in IMPORTS if each.part not in ARROWS.get(each.source, "").split()]
    assert list(map(str, against)) == []


def test_the_table_promises_no_more_than_is_used() -> None:
    used = {(each.source, each.part) for each in IMPORTS}
    allowed = {(source, part) for source, row in ARROWS.items() for part in row.split()}
    assert allowed - used == set()


@pytest.mark.parametrize("arrow", ONLY, ids="-".join)
def test_some_parts_may_name_a_little_of_another(arrow: tuple[str, str]) -> None:
    beyond = [
        f"{each}: {each.name}"
        for each in IMPORTS
        if (each.source, each.part) == arrow and each.name not in ONLY[arrow]
    ]
    assert beyond == []


def test_losses_and_targets_meet_in_recipes_only() -> None:
    parts = {}
    for each in IMPORTS:
        if each.name != "Exemplar":
            parts.setdefault(each.source, set()).add(each.part)
    meeting = {source for source, used in parts.items() if {"losses", "targets"} <= used}
    # A recipe itself is given an Exemplar and asks no target for one.
    assert meeting | {"recipe"} == MEETING_PLACES


def test_imports_are_absolute() -> None:
    for _, path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}"
                assert (node.module or "").split(".")[0] not in ("losses", "targets"), path


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for part, path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if part != "cli" and isinstance(node, ast.Name) and node.id == "print"
    ]
    assert printing == []
