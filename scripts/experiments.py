"""Train the experiments, going on where they were left, and write what came of them to docs.

    python scripts/experiments.py --time 15m                 # all small ones, so long each
    python scripts/experiments.py bone snowflake --time 5m   # some, for 5 minutes more
    python scripts/experiments.py growing-2020=rabbit.png    # of a picture of one's own
    python scripts/experiments.py multiclass-flowers=a.png,b.png,c.png
    python scripts/experiments.py --size published --time 8h
    python scripts/experiments.py bone --measure             # only measure what is there

Every call goes on with what is not complete, and calls for different experiments may run beside
each other. Measured are the mean squared error at the trained steps, at 3 and at 10 times as many;
the recovery from 8 cuts through the middle that no training saw, after the trained steps: 1 -
(after healing - before the cut) / (of the cut - before); and what an experiment has of its own.
Rows are kept in docs/growth.json, from which the table of docs/growth.md is made; what stands
there below the line "<!-- by hand -->" stays. Of pictures that are not the project's own, the
strips are left in the folder of the run.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from growth_measures import (
    CUTS,
    CYCLES,
    OWN,
    SEED,
    Found,
    Subject,
    cycles,
    errors,
    graft_on,
    spiral,
    surgery,
)
from PIL import Image
from tables import write_page
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.cli.train import parse_seconds
from nca_texture.curriculum import ASPECTS
from nca_texture.damage import cut, half
from nca_texture.experiments import EXPERIMENTS
from nca_texture.images import to_uint8
from nca_texture.recipe import Recipe
from nca_texture.render import composited, straight_alpha
from nca_texture.runs import CHECKPOINT
from nca_texture.store import load_checkpoint
from nca_texture.surgery import Theatre
from nca_texture.training import Snapshot

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FRAMES = (0, 8, 16, 24, 32, 48, 64, 96)  # steps that a strip shows, then more
WHITE = (1.0, 1.0, 1.0)

# What is trained where an experiment has no target of its own and none is given.
USUAL = "figure:gecko"

# The same experiment with other settings, for the same time: a row of its own.
VARIANTS = {"pokemon-curriculum": {"without lessons": ("training.curriculum.threshold=0.0",)}}


@dataclass(frozen=True)
class Job:
    """One training, and the row it has in the table."""

    name: str  # of the experiment
    preset: str
    pictures: tuple[str, ...] = ()  # instead of the experiment's own
    variant: str = ""
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name the row."""
        stems = ", ".join(Path(picture).stem for picture in self.pictures)
        of = f" of {stems}" if self.is_foreign else ""
        return self.preset + of + (f" {self.variant}" if self.variant else "")

    @property
    def is_foreign(self) -> bool:
        """Whether a picture of it is somebody else's, which is not shown."""
        return any(not picture.startswith("figure:") for picture in self.pictures)

    @property
    def folder(self) -> str:
        """Name the directory of its run."""
        return self.label.replace(",", "").replace(" ", "-")


def main() -> int:
    """Train, measure and write; return 1 when a training failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = ", ".join(EXPERIMENTS)
    parser.add_argument("names", nargs="*", metavar="NAME[=PICTURE,...]", help=known)
    parser.add_argument("--size", choices=["small", "published"], default="small")
    parser.add_argument("--time", default="15m", help="to train each for, as 90s, 15m or 8h")
    parser.add_argument("--measure", action="store_true", help="train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where growth.md is written")
    options = parser.parse_args()
    asked = [name.partition("=")[::2] for name in options.names or EXPERIMENTS]
    unknown = [name for name, _ in asked if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {unknown[0]!r}; there are {known}")
    failed = 0
    for name, pictures in asked:
        for job in jobs(name, tuple(filter(None, pictures.split(","))), options.size, options.set):
            place = options.runs / job.folder
            if not options.measure:
                failed += not trained(job, place, parse_seconds(options.time))
            if (place / CHECKPOINT).exists():
                found = measured(job, place)
                (place / "measured.json").write_text(json.dumps(found, indent=1) + "\n")
                print(json.dumps(found), flush=True)
    write(options.runs, options.docs)
    return int(failed > 0)


def jobs(name: str, pictures: tuple[str, ...], size: str, settings: Sequence[str]) -> list[Job]:
    """List the trainings of an experiment: itself, and its variants."""
    experiment = EXPERIMENTS[name]
    own = experiment.recipe.target
    preset = name if size == "published" else experiment.small.preset
    pictures = pictures or (() if own.source or own.sources else (USUAL,))
    variants = {"": ()} | VARIANTS.get(name, {})
    return [
        Job(name, preset, pictures, variant, (*more, *settings))
        for variant, more in variants.items()
    ]


def trained(job: Job, place: Path, seconds: float) -> bool:
    """Train for so many ``seconds`` at most; tell whether nothing went wrong."""
    command = [sys.executable, "-m", "nca_texture", "train"]
    if (place / CHECKPOINT).exists():
        snapshot, recipe, _ = load_checkpoint(place / CHECKPOINT)
        if snapshot.iteration >= recipe.training.iterations:
            return True
        command += ["--resume", str(place)]
    else:
        command += [*job.pictures, "--preset", job.preset, "-o", str(place)]
        command += [part for each in job.settings for part in ("--set", each)]
    with subprocess.Popen(command) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()  # it saves first, however long that takes
    return process.returncode in (0, 130)


def measured(job: Job, place: Path) -> Found:
    """Measure the best weights so far of the run in ``place``, and draw its strip."""
    snapshot, recipe, exemplar = load_checkpoint(place / CHECKPOINT)
    automaton = best_of(recipe, snapshot)
    loss = recipe.build_loss(exemplar)
    steps = recipe.training.steps[1]
    found: Found = {
        "label": job.label,
        "name": job.name,
        "shown": not job.is_foreign,
        "iterations": f"{snapshot.iteration} of {recipe.training.iterations}",
        "steps": steps,
    }
    if snapshot.levels:
        levels = zip(ASPECTS, snapshot.levels, strict=True)
        found["how hard at last, of 1"] = ", ".join(f"{name} {at:.2f}" for name, at in levels)
    subject = Subject(automaton, recipe, loss, exemplar.image)
    with torch.no_grad():
        if recipe.event:
            found |= spiral(subject)
            filmed(subject, place / "strip.png")
        elif recipe.task == "grow":
            found |= errors(subject)
            rows = strips(automaton, recipe, steps)
            rows += [grafted(subject)] if job.name == "newt-graft" else []
            lay_out(rows, place / "strip.png")
        for own in OWN.get(job.name, ()):
            found |= own(subject)
    return found


def best_of(recipe: Recipe, snapshot: Snapshot) -> CellularAutomaton:
    """Make the automaton with the best weights that were found."""
    automaton = recipe.build_automaton()
    automaton.load_state_dict(snapshot.best_weights or snapshot.weights)
    return automaton.requires_grad_(False)


def strips(automaton: CellularAutomaton, recipe: Recipe, steps: int) -> list[np.ndarray]:
    """Draw how each of at most three classes grows, heals and stays, from left to right."""
    rows = []
    size = recipe.training.size
    for number in range(min(automaton.classes, 3)):
        classes = torch.tensor([number])
        state, done, row = automaton.seed(1, size, seed=SEED, classes=classes), 0, []
        for step in sorted({*FRAMES, 3 * steps, 10 * steps}):
            state = automaton.grow(state, step - done, seed=SEED, start=done)
            done = step
            row.append(seen(automaton, state))
        hurt = cut(state, half(size, (0.5, 0.5), 0.4), automaton.held)
        row.append(seen(automaton, hurt))
        for healing in (16, 2 * steps):
            after = automaton.grow(hurt, healing, seed=SEED, start=done)
            row.append(seen(automaton, after))
        rows.append(np.concatenate(row, axis=1))
    return rows


def grafted(subject: Subject) -> np.ndarray:
    """Draw what grows around the graft."""
    automaton, theatre = subject.automaton, surgery(subject, subject.automaton)
    state = automaton.seed(1, graft_on(subject).size, seed=SEED)
    state, done, row = automaton.grow(state, subject.steps, seed=SEED), 0, []
    row.append(seen(automaton, state))
    for step in (1, 10, 25, 50, 100, 200):
        state = theatre.grow(state, step - done, seed=SEED, start=subject.steps + done)
        done = step
        row.append(seen(automaton, state))
    return np.concatenate(row, axis=1)


def filmed(subject: Subject, path: Path) -> None:
    """Draw what the rule has made at the end of each cycle; below, what it does in the last."""
    ends = cycles(subject, subject.automaton)
    theatre = Theatre(subject.automaton, subject.recipe.event)
    shares = np.linspace(0, subject.steps, len(ends)).round().astype(int).tolist()
    below, state, done = [], ends[-2][:1], 0
    seeds = [SEED + CUTS * CYCLES]
    for step in shares:
        # The events come before the first step; a picture before it shows what they do.
        state = theatre.grow(state, max(step, 1) - done, seed=seeds, start=done)
        done = max(step, 1)
        below.append(seen(subject.automaton, state))
    above = [seen(subject.automaton, state[:1]) for state in ends]
    lay_out([np.concatenate(row, axis=1) for row in (above, below)], path)


def lay_out(rows: list[np.ndarray], path: Path) -> None:
    """Write rows of pictures, one below the other, twice as large."""
    width = max(row.shape[1] for row in rows)
    padding = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    rows = [np.pad(row, room, constant_values=255) for row, room in zip(rows, padding, strict=True)]
    picture = np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(picture).quantize(128).save(path, optimize=True)


def seen(automaton: CellularAutomaton, state: Tensor) -> np.ndarray:
    """Show a state over white: uint8 [H, W, 3]."""
    picture = automaton.to_image(state)[0].permute(1, 2, 0).numpy()
    return to_uint8(composited(straight_alpha(picture), WHITE))


COLUMNS = ("iterations", "error at 1x", "error at 3x", "error at 10x", "recovery")
HEAD = """# Growth

What the experiments came to, as `python scripts/experiments.py` measured it. Errors are mean
squared differences of premultiplied red, green, blue and alpha to the target (of `isotropic`, to
the target turned as it fits best; of `worm-moving`, to the target where it should have come to),
over 8 growths with another chance than in training: at the trained number of steps, at 3 and at 10
times as many. Recovery is from half planes cut through the middle; only what was trained with
damage is meant to heal. Strips show steps {frames}, 3 and 10 times
the trained steps, then a cut, 16 steps later, and healed; that of `nautilus` the end of each
cycle, and below the last cycle from its first step on; that of `newt-graft`, below, what is grown
after 0, 1, 10, 25, 50, 100 and 200 steps around a graft that is held. Iterations are those that
were done, of those planned: a run that was stopped goes on with the same command.

Pictures that are not the project's own (*of* a name) are in the table only.
"""


def write(runs: Path, docs: Path) -> None:
    """Add what was measured to the rows, and write their table and the strips."""
    store, page = docs / "growth.json", docs / "growth.md"
    rows: dict[str, Found] = json.loads(store.read_text()) if store.exists() else {}
    docs.mkdir(parents=True, exist_ok=True)
    for file in sorted(runs.glob("*/measured.json")):
        found = json.loads(file.read_text())
        rows[found["label"]] = found
        picture = file.with_name("strip.png")
        if found["shown"] and picture.exists():
            (docs / "growth").mkdir(exist_ok=True)
            name = str(found["label"]).replace(" ", "-")
            (docs / "growth" / f"{name}.png").write_bytes(picture.read_bytes())
    order = list(EXPERIMENTS)
    rows = dict(sorted(rows.items(), key=lambda row: (order.index(str(row[1]["name"])), row[0])))
    store.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [HEAD.format(frames=", ".join(map(str, FRAMES)))]
    lines.append("| experiment | " + " | ".join(COLUMNS) + " | besides |")
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    strips = []
    for label, found in rows.items():
        known = {*COLUMNS, "label", "name", "shown", "steps"}
        own = {key: value for key, value in found.items() if key not in known}
        besides = "; ".join(f"{key}: {said(value)}" for key, value in own.items())
        cells = [said(found.get(column, "")) for column in COLUMNS]
        lines.append(f"| `{label}` | " + " | ".join(cells) + f" | {besides} |")
        name = label.replace(" ", "-")
        if found["shown"] and (docs / "growth" / f"{name}.png").exists():
            look = EXPERIMENTS[str(found["name"])].look_for
            strips += ["", f"`{label}`: {look}.", "", f"![{label}](growth/{name}.png)"]
    write_page(page, "\n".join([*lines, *strips]))


def said(value: object) -> str:
    """Write a number, an answer or a list of them."""
    if isinstance(value, list):
        return " and ".join(map(said, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
