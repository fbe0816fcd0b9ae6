"""Train the experiments, going on where they were left, and write what came of them to docs.

    python scripts/experiments.py --time 15m                 # all small ones, so long each
    python scripts/experiments.py bone snowflake --time 5m   # some, for longer
    python scripts/experiments.py --size published --time 8h

Every call goes on with what is not complete. Measured are the mean squared error at the trained
steps, at 3 and at 10 times as many; the recovery from 8 cuts through the middle that no training
saw, after the trained steps: 1 - (after healing - before the cut) / (of the cut - before); and what
an experiment has of its own.
"""

import argparse
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, Plant
from nca_texture.cli.train import _seconds
from nca_texture.damage import cut, half
from nca_texture.experiments import EXPERIMENTS
from nca_texture.images import to_uint8
from nca_texture.losses.base import Grown, Loss
from nca_texture.recipe import Recipe
from nca_texture.render import composited, straight_alpha
from nca_texture.runs import CHECKPOINT
from nca_texture.store import load_checkpoint
from nca_texture.surgery import Event, Theatre
from nca_texture.training import Snapshot

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SEED = 2026  # of what is measured; trainings have others
CUTS = 8
FRAMES = (0, 8, 16, 24, 32, 48, 64)  # steps that a strip shows, then more
WHITE = (1.0, 1.0, 1.0)


def main() -> int:
    """Train, measure and write; return 1 when a training failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--size", choices=["small", "published"], default="small")
    parser.add_argument("--time", default="15m", help="to train each for, as 90s, 15m or 8h")
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where growth.md is written")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}")
    failed = 0
    for name in options.names or EXPERIMENTS:
        preset = name if options.size == "published" else f"{name}-small"
        place = options.runs / preset
        failed += not trained(preset, place, _seconds(options.time), options.set)
        if (place / CHECKPOINT).exists():
            found = measured(name, place)
            (place / "measured.json").write_text(json.dumps(found, indent=1) + "\n")
            print(json.dumps(found), flush=True)
    write(options.runs, options.docs)
    return int(failed > 0)


def trained(preset: str, place: Path, seconds: float, settings: list[str]) -> bool:
    """Train for so many ``seconds`` at most; tell whether nothing went wrong."""
    command = [sys.executable, "-m", "nca_texture", "train"]
    if (place / CHECKPOINT).exists():
        snapshot, recipe, _ = load_checkpoint(place / CHECKPOINT)
        if snapshot.iteration >= recipe.training.iterations:
            return True
        command += ["--resume", str(place)]
    else:
        command += ["--preset", preset, "-o", str(place)]
        command += [part for each in settings for part in ("--set", each)]
    with subprocess.Popen(command) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait(120)
    return process.returncode in (0, 130)


def measured(name: str, place: Path) -> dict[str, object]:
    """Measure the best weights so far of the run in ``place``, and draw its strip."""
    snapshot, recipe, exemplar = load_checkpoint(place / CHECKPOINT)
    automaton = best_of(recipe, snapshot)
    loss = recipe.build_loss(exemplar)
    steps = recipe.training.steps[1]
    found: dict[str, object] = {
        "preset": recipe.preset,
        "iterations": f"{snapshot.iteration} of {recipe.training.iterations}",
        "steps": steps,
    }
    with torch.no_grad():
        if recipe.task == "grow":
            found |= errors(automaton, recipe, loss, steps)
            strip(automaton, recipe, place / "strip.png", steps)
        for own in OWN.get(name, ()):
            found |= own(automaton, recipe, exemplar.image)
    return found


def best_of(recipe: Recipe, snapshot: Snapshot) -> CellularAutomaton:
    """Make the automaton with the best weights that were found."""
    automaton = recipe.build_automaton()
    automaton.load_state_dict(snapshot.best_weights or snapshot.weights)
    return automaton.requires_grad_(False)


def scores(automaton: CellularAutomaton, loss: Loss, state: Tensor, classes: Tensor) -> Tensor:
    """Score each sample by the first loss, the difference to the target: [B]."""
    image = automaton.to_image(state, clip=False)
    labels = classes if automaton.classes > 1 else None
    first = next(iter(loss.losses))  # pyright: ignore
    return first(Grown(image, state, labels), torch.Generator().manual_seed(SEED))


def errors(
    automaton: CellularAutomaton, recipe: Recipe, loss: Loss, steps: int
) -> dict[str, object]:
    """Measure errors at the trained steps and later, and the recovery from cuts."""
    count = max(CUTS, automaton.classes)
    classes = torch.arange(count) % automaton.classes
    size = recipe.training.size
    state = automaton.seed(count, size, seed=SEED, classes=classes)
    found: dict[str, object] = {}
    done, seen = 0, None
    for times in (1, 3, 10):
        state = automaton.grow(state, times * steps - done, seed=SEED, start=done)
        done = times * steps
        values = scores(automaton, loss, state, classes)
        found[f"error at {times}x"] = mean(values)
        if automaton.classes > 1:
            found[f"worst class at {times}x"] = max(
                mean(values[classes == k]) for k in range(automaton.classes)
            )
        seen = state if seen is None else seen
    assert seen is not None
    before = scores(automaton, loss, seen, classes)
    turns = [2 * math.pi * (k + 0.37) / count for k in range(count)]
    gone = torch.stack([half(size, (0.5, 0.5), turn) for turn in turns])
    hurt = cut(seen, gone, automaton.held)
    after = automaton.grow(hurt, 2 * steps, seed=SEED, start=steps)
    damage = (scores(automaton, loss, hurt, classes) - before).clamp(min=1e-6)
    healed = scores(automaton, loss, after, classes) - before
    return found | {"recovery": round(1 - (healed.mean() / damage.mean()).item(), 4)}


def mean(values: Tensor) -> float:
    """Return the mean with five digits."""
    return round(values.mean().item(), 5)


def cavity(automaton: CellularAutomaton, recipe: Recipe, target: Tensor) -> dict[str, object]:
    """Measure how much of the cavity of a hollow figure lived on the way, and lives at the end."""
    alpha = target[0, 3].numpy()
    outside = flooded(alpha < 0.1)
    hollow = torch.from_numpy((alpha < 0.1) & ~outside)
    state, most = automaton.seed(1, recipe.training.size), 0.0
    steps = recipe.training.steps[1]
    for step in range(2 * steps):
        state = automaton.grow(state, 1, seed=SEED, start=step)
        most = max(most, (state[0, 3][hollow] > 0.1).float().mean().item())
    last = (state[0, 3][hollow] > 0.1).float().mean().item()
    return {"cavity alive at most": round(most, 3), "cavity alive at the end": round(last, 3)}


def flooded(free: np.ndarray) -> np.ndarray:
    """Find what of ``free`` is connected to the border."""
    from scipy.ndimage import label

    regions = np.zeros(free.shape, np.int32)
    label(free, output=regions)
    border = set(regions[0]) | set(regions[-1]) | set(regions[:, 0]) | set(regions[:, -1])
    return np.isin(regions, list(border - {0}))


def graft(automaton: CellularAutomaton, recipe: Recipe, target: Tensor) -> dict[str, object]:
    """Measure how like its first surroundings those of a grafted, frozen patch become.

    The patch is the head; it goes to the middle of a fresh grid's right side. A ring of 6 cells
    around it is compared, with the rule and with a rule that does nothing.
    """
    steps = recipe.training.steps[1]
    place, to, radius = (0.5, 0.2), (0.5, 0.72), 0.16
    events = [
        Event(at=steps, do="graft", circle=(*place, radius), to=to),
        Event(at=steps, do="freeze", circle=(*to, radius)),
    ]
    size = recipe.training.size
    idle = recipe.build_automaton().requires_grad_(False)
    idle.load_state_dict(automaton.state_dict())
    for weight in (idle.weight_out, idle.bias_out):
        if weight is not None:
            weight.zero_()
    wide = radius + 6 / min(size)
    from nca_texture.damage import circle

    shift = round((to[1] - place[1]) * size[0]), round((to[0] - place[0]) * size[1])
    ring = circle(size, (place[1], place[0]), wide) & ~circle(size, (place[1], place[0]), radius)
    grown = automaton.grow(automaton.seed(1, size, seed=SEED), steps, seed=SEED)
    want = automaton.to_image(grown)[0][:, ring]
    values = {}
    for label, rule in (("rule", automaton), ("no rule", idle)):
        theatre = Theatre(rule, events)
        state = theatre.grow(grown, 50, seed=SEED, start=steps)
        there = automaton.to_image(state)[0][:, ring.roll(shift, (0, 1))]
        values[label] = round((there - want).square().mean().item(), 5)
    return {"ring of the graft": values["rule"], "ring without a rule": values["no rule"]}


def breeding(automaton: CellularAutomaton, recipe: Recipe, target: Tensor) -> dict[str, object]:
    """Measure a mixture of the first two classes: its living area, in that of its parents."""
    steps, size, number = recipe.training.steps[1], recipe.training.size, automaton.classes
    areas, place = [], automaton.garden[0].place
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        mixture = (*weights, *(0.0 for _ in range(number - 2)))
        grown = automaton.planted([Plant(place, mixture)])
        state = grown.grow(grown.seed(1, size), 2 * steps, seed=SEED)
        areas.append((state[:, 3] > 0.1).sum().item())
    return {"area of a mixture": round(areas[2] / max(sum(areas[:2]) / 2, 1), 3)}


OWN: dict[str, tuple[Callable[..., dict[str, object]], ...]] = {
    "bone": (cavity,),
    "newt-graft": (graft,),
    "multiclass-flowers": (breeding,),
    "genome-geckos": (breeding,),
}


def strip(automaton: CellularAutomaton, recipe: Recipe, path: Path, steps: int) -> None:
    """Draw how each of at most three classes grows, heals and stays, from left to right."""
    rows = []
    size = recipe.training.size
    for number in range(min(automaton.classes, 3)):
        classes = torch.tensor([number])
        state, done, row = automaton.seed(1, size, seed=SEED, classes=classes), 0, []
        for step in (*FRAMES, 3 * steps, 10 * steps):
            state = automaton.grow(state, step - done, seed=SEED, start=done)
            done = step
            row.append(shown(automaton, state))
        hurt = cut(state, half(size, (0.5, 0.5), 0.4), automaton.held)
        row.append(shown(automaton, hurt))
        for healing in (16, 2 * steps):
            after = automaton.grow(hurt, healing, seed=SEED, start=done)
            row.append(shown(automaton, after))
        rows.append(np.concatenate(row, axis=1))
    picture = np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1)
    Image.fromarray(picture).quantize(128).save(path, optimize=True)


def shown(automaton: CellularAutomaton, state: Tensor) -> np.ndarray:
    """Show a state over white: uint8 [H, W, 3]."""
    picture = automaton.to_image(state)[0].permute(1, 2, 0).numpy()
    return to_uint8(composited(straight_alpha(picture), WHITE))


COLUMNS = ("iterations", "error at 1x", "error at 3x", "error at 10x", "recovery")


def write(runs: Path, docs: Path) -> None:
    """Write the table of all that was measured, and the strips beside it."""
    lines = [
        "# Growth",
        "",
        "What the experiments came to, as `python scripts/experiments.py` measured it. Errors are",
        "mean squared differences of premultiplied red, green, blue and alpha to the target (of",
        "`isotropic`, to the target turned as it fits best), over 8 growths with another chance",
        "than in training: at the trained number of steps, at 3 and at 10 times as many. Recovery",
        "is from half planes cut through the middle; only what was trained with damage is meant to",
        "heal. Strips show steps " + ", ".join(map(str, FRAMES)) + ", 3 and 10 times the trained",
        "steps, then a cut, 16 steps later, and healed.",
        "",
        "| experiment | " + " | ".join(COLUMNS) + " | besides |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    strips = []
    for preset in [f"{name}{end}" for name in EXPERIMENTS for end in ("", "-small")]:
        file = runs / preset / "measured.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        known = {*COLUMNS, "preset", "steps"}
        besides = ", ".join(f"{key} {value}" for key, value in found.items() if key not in known)
        cells = [str(found.get(column, "")) for column in COLUMNS]
        lines.append(f"| `{preset}` | " + " | ".join(cells) + f" | {besides} |")
        picture = runs / preset / "strip.png"
        if picture.exists():
            (docs / "growth").mkdir(parents=True, exist_ok=True)
            (docs / "growth" / f"{preset}.png").write_bytes(picture.read_bytes())
            look = EXPERIMENTS[preset.removesuffix("-small")].look_for
            strips += ["", f"`{preset}`: {look}.", "", f"![{preset}](growth/{preset}.png)"]
    (docs / "growth.md").write_text("\n".join([*lines, *strips]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
