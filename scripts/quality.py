"""Train textures by presets, score them beside published outputs, and tabulate what came out.

    python scripts/quality.py FOLDER [--texture NAME ...] [--preset NAME ...] [--seconds 960]
                              [--published FOLDER] [--sweep] [--iterations N] [--set KEY=VALUE]
                              [--device NAME]

FOLDER holds the targets; PUBLISHED, by the same names, what others' models grew from them. Neither
is ours to publish: pictures of target, published output and ours, side by side, go to runs/quality,
which is ignored, and so do the runs. A budget is processor seconds of one thread, turned into
iterations once for each preset, so that other work on the machine changes nothing but the time it
takes. What is done is not done again, and a training that was stopped goes on where it was: a full
pass can be spread over days. Results are appended to docs/quality.jsonl; docs/quality.md is written
from them. Weights of feature networks are looked for as always; the table says which were here.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean, mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image
from tables import append_row, read_rows, write_page
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.losses.networks import COMPACT
from nca_texture.names import check_name
from nca_texture.presets import PRESETS
from nca_texture.quality.measures import PATCHES, STYLE, Yardstick, at_hand
from nca_texture.quality.rollout import SETTLED, Rollout, roll_out
from nca_texture.quality.scorecard import score_picture, score_texture
from nca_texture.recipe import Recipe, fitted, with_settings
from nca_texture.runs import CHECKPOINT, MODEL, RunDirectory, SaveTimes
from nca_texture.store import load_checkpoint, load_model
from nca_texture.targets import Exemplar, read_target
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "docs" / "quality.jsonl"
RUNS = ROOT / "runs" / "quality"

PUBLISHED = "published"
LATE = 10_000  # steps, after 1, 3 and 10 times those that a rule was trained with
LOOK = 2  # at which of them textures are compared
SIDE = 128  # cells of what is scored, and pixels of what others have published
LOOKED = 2  # growths that are scored by every measure
GROWTHS = 8  # those whose drift is the mean: two of one rule differ by a tenth and more
CHIEF = (f"{STYLE} {COMPACT}", PATCHES)  # what drift is told of

# One thing at a time around the presets' 12 channels and 96 hidden units; 0: no hidden layer.
SWEEP = [(channels, 96) for channels in (4, 6, 8, 12, 16, 24)]
SWEEP += [(12, hidden) for hidden in (0, 16, 32, 64, 128, 192)]


@dataclass(frozen=True)
class Place:
    """Where runs and pictures go, and how what comes out of them is looked at."""

    runs: Path
    side: int  # cells
    late: int  # steps of the last look
    device: str

    def of(self, name: str, texture: Path) -> Path:
        """Name the directory of a run."""
        return self.runs / name.replace("/", "-") / texture.stem


@dataclass(frozen=True)
class Contender:
    """A recipe under the name that it has in the table."""

    name: str
    recipe: Recipe


def contenders(
    presets: Sequence[str], sweep: bool, settings: Sequence[str] = ()
) -> Iterator[Contender]:
    """List the presets with ``settings``, or with ``sweep`` the sizes of the first of them."""
    for preset in presets[: 1 if sweep else None]:
        recipe = with_settings(PRESETS[preset].recipe, settings)
        name = " ".join([preset, *settings])
        if not sweep:
            yield Contender(name, recipe)
            continue
        for channels, hidden in SWEEP:
            shape = [f"automaton.channels={channels}"]
            shape += [f"automaton.hidden={hidden}"] if hidden else ["automaton.rule=abs"]
            yield Contender(f"{name} {channels}/{hidden}", with_settings(recipe, shape))


def exemplar_of(path: Path, recipe: Recipe) -> Exemplar:
    """Read a target as ``recipe`` has it, laid over white where it is transparent."""
    target = recipe.target
    found = read_target(str(path), crop=target.crop, exemplar_size=target.exemplar_size)
    image = found.image
    if image.shape[1] == 4:
        image = image[:, :3] * image[:, 3:] + 1 - image[:, 3:]
    return replace(found, image=image)


def count_iterations(contender: Contender, exemplar: Exemplar, seconds: float, runs: Path) -> int:
    """Find how many iterations take so many processor seconds, once for each contender."""
    place = runs / "pace.json"
    paces = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    if contender.name not in paces:
        recipe = contender.recipe
        steps = sum(recipe.training.steps) // 2
        plan = replace(recipe.training, iterations=40, steps=(steps, steps), judge_every=0)
        began, first = 0.0, 10  # those before are slower
        automaton, loss = recipe.build_automaton(), recipe.build_loss(exemplar)
        for report in train(automaton, loss, plan):
            if report.iteration == first:
                began = time.process_time()
        paces[contender.name] = (time.process_time() - began) / (plan.iterations - first)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(paces, indent=1), encoding="utf-8")
    return max(1, int(seconds / paces[contender.name]))


def trained(
    contender: Contender, exemplar: Exemplar, iterations: int, device: str, path: Path
) -> tuple[CellularAutomaton, Recipe, float]:
    """Train, or go on with, the run in ``path``; return the best rule and the seconds it took."""
    # Milestones stay: a published recipe that is given less time is seen at its beginning.
    plan = replace(contender.recipe.training, iterations=iterations)
    target = replace(contender.recipe.target, source=exemplar.source)
    recipe = fitted(replace(contender.recipe, training=plan, target=target), exemplar)
    resume, note = None, path / "seconds"
    if (path / CHECKPOINT).exists():
        resume, recipe, exemplar = load_checkpoint(path / CHECKPOINT)
    spent = float(note.read_text(encoding="utf-8")) if note.exists() else 0.0
    automaton = recipe.build_automaton().to(device)
    loss = recipe.build_loss(exemplar).to(device)
    times, began, report = SaveTimes(120), time.process_time(), None
    start = 0 if resume is None else resume.iteration
    with RunDirectory(path, recipe, exemplar, start) as run:
        for report in train(automaton, loss, recipe.training, resume=resume):
            run.record(report)
            if times.is_time() or report.iteration == report.iterations:
                with times.saving():
                    run.save(report.snapshot(), automaton)
                    took = spent + time.process_time() - began
                    note.write_text(f"{took:.1f}\n", encoding="utf-8")
    automaton, recipe, _ = load_model(path / MODEL)
    return automaton.to(device), recipe, float(note.read_text(encoding="utf-8"))


def score_ours(
    contender: Contender, path: Path, exemplar: Exemplar, iterations: int, where: Place
) -> dict[str, Any]:
    """Train on one texture, score what came out, and save its pictures."""
    place = where.of(contender.name, path)
    automaton, recipe, seconds = trained(contender, exemplar, iterations, where.device, place)
    most = recipe.training.steps[1]
    marks = sorted({most, 3 * most, 10 * most, max(where.late, 10 * most)})
    rollout = roll_out(automaton, marks, size=(where.side, where.side), samples=GROWTHS)
    result = score_texture(automaton, recipe, exemplar.image, rollout=first(rollout, LOOKED))
    for name, mark in (("grown", rollout.marks[LOOK]), ("late", rollout.marks[-1])):
        save_picture(place / f"{name}.png", mark.pictures[0])
    return {
        "texture": path.name,
        "by": contender.name,
        "iterations": recipe.training.iterations,
        "seconds": round(seconds),
        "bytes": (place / MODEL).stat().st_size,
        "channels": recipe.automaton.channels,
        "hidden": automaton.hidden,
    } | (result.to_dict() | drift_of(rollout, exemplar.image, automaton.grid.wraps))


def first(rollout: Rollout, count: int) -> Rollout:
    """Take the first ``count`` growths of a roll-out."""
    return replace(
        rollout,
        marks=tuple(replace(mark, pictures=mark.pictures[:count]) for mark in rollout.marks),
        erased=rollout.erased[:count],
        healed=rollout.healed[:count],
    )


def drift_of(rollout: Rollout, target: Tensor, wraps: str) -> dict[str, dict[str, float]]:
    """Say how much farther from ``target`` a roll-out ends than it was when it had settled.

    "drift" is the relative change of the mean over growths, "drift_error" its standard error, as
    growths differ.
    """
    yardstick = Yardstick(target, [COMPACT])
    settled, last = (
        [yardstick(picture[None], wraps).distances for picture in mark.pictures]
        for mark in (rollout.marks[SETTLED], rollout.marks[-1])
    )
    drift, error = {}, {}
    for name in CHIEF:
        before, after = ([each[name] for each in looks] for looks in (settled, last))
        ratio = mean(after) / mean(before)
        spread = [stdev(values) / mean(values) for values in (before, after)]
        drift[name] = round(ratio - 1, 4)
        error[name] = round(ratio * math.hypot(*spread) / math.sqrt(len(before)), 4)
    return {"drift": drift, "drift_error": error}


def score_published(path: Path, target: Path) -> dict[str, Any]:
    """Score what others have grown, a torus as ours is."""
    picture = read_target(str(path), exemplar_size=4096).image[:, :3]
    exemplar = exemplar_of(target, PRESETS["draft"].recipe)
    result = score_picture(picture, exemplar.image, wraps="xy")
    return {"texture": target.name, "by": PUBLISHED} | result.to_dict()


def save_picture(path: Path, picture: Tensor) -> None:
    """Write ``picture`` [3, H, W] in [0, 1]."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def save_grid(
    textures: Sequence[Path], published: Path | None, names: Sequence[str], where: Place
) -> None:
    """Lay target, published output and ours side by side: a row for each texture."""
    gap = 4
    rows: list[list[np.ndarray | None]] = []
    for texture in textures:
        exemplar = exemplar_of(texture, PRESETS["draft"].recipe)
        row: list[np.ndarray | None] = [exemplar.image[0].permute(1, 2, 0).numpy()]
        row.append(_read(None if published is None else published / texture.name))
        for name in names:
            place = where.of(name, texture)
            row += [_read(place / "grown.png"), _read(place / "late.png")]
        rows.append(row)
    columns = max(map(len, rows), default=0)
    if not columns:
        return
    sheet = np.ones((len(rows) * (SIDE + gap), columns * (SIDE + gap), 3), np.float32)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                part = picture[:SIDE, :SIDE]
                top, left = y * (SIDE + gap), x * (SIDE + gap)
                sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
    save_picture(where.runs / "grid.png", torch.from_numpy(sheet).permute(2, 0, 1))


def _read(path: Path | None) -> np.ndarray | None:
    if path is None or not path.exists():
        return None
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def look_of(row: dict[str, Any]) -> dict[str, float]:
    """Take the distances by which a row is compared with others."""
    return row["looks"][min(LOOK, len(row["looks"]) - 1)]


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Tabulate what was found, and count who is closer."""
    parts = [
        "# Quality\n\nHow far textures are from their targets: what our presets grow, after ten "
        f"times the steps they were trained with, on {SIDE} x {SIDE} cells, and beside it what was "
        "published for the same targets. Distances are those of `nca-texture score`: 0 at the "
        "target; `part` is that of a part of the target to the whole, and no rule is asked to be "
        "closer. Our presets are trained through `compact` and by patches: the other networks are "
        "independent of them. *drift* is the change of `style compact` and of `patches` from three "
        f"times the trained steps to the last look (usually {LATE} steps), a mean of {GROWTHS} "
        "growths and its standard error in points; without an error it is of two, as all else is. "
        "*healed* is what has come back after half was erased, *copied* the side in pixels of the "
        "largest square taken over from the target (and of the largest that the target itself "
        "repeats). Seconds are of one processor thread. Made by `scripts/quality.py`.\n"
    ]
    sized = [row for row in rows if "/" in row["by"]]
    plain = [row for row in rows if "/" not in row["by"]]
    ours = list(dict.fromkeys(row["by"] for row in plain if row["by"] != PUBLISHED))
    networks = [name for name in look_of(rows[0]) if name.startswith("style")] if rows else []
    if ours:
        parts.append(_summary(plain, ours, networks))
    if plain:
        parts.append("## Every texture\n\n" + _table(plain, networks))
    if sized:
        parts.append(
            "## What size buys\n\nChannels / hidden units, the same iterations for none: each has "
            "the same processor time. 0 hidden units: the single layer of muNCA.\n\n"
            + _sizes(sized, networks)
        )
    return "\n".join(parts)


def _summary(rows: Sequence[dict[str, Any]], ours: Sequence[str], networks: list[str]) -> str:
    """Count for each preset on how many textures it is closer than what was published."""
    by = {(row["texture"], row["by"]): row for row in rows}
    measures = {"style": networks} | {name: [name] for name in (*networks, "patches")}
    lines = ["## Closer than what was published\n"]
    lines += [
        "On how many textures, and in brackets the geometric mean over all of them of our distance "
        "over the published one. *style* is that mean over the networks too. What was published "
        "was trained through VGG16, next of kin to `vgg19`, as ours was through `compact`.\n"
    ]
    lines += [f"| preset | textures | {' | '.join(measures)} | drift above 10 % |"]
    lines += ["|" + " --- |" * (len(measures) + 3)]
    for name in ours:
        mine = [row for row in rows if row["by"] == name]
        pairs = [
            (look_of(row), look_of(by[row["texture"], PUBLISHED]))
            for row in mine
            if (row["texture"], PUBLISHED) in by
        ]
        cells = []
        for keys in measures.values():
            ratios = [geometric_mean(_ratio(a[key], b[key]) for key in keys) for a, b in pairs]
            closer = sum(ratio < 1 for ratio in ratios)
            cells.append(f"{closer} ({geometric_mean(ratios):.2f})" if ratios else "")
        late = sum(max(row["drift"].get(key, 0.0) for key in CHIEF) > 0.1 for row in mine)
        lines.append(f"| {name} | {len(pairs)} | {' | '.join(cells)} | {late} |")
    return "\n".join(lines) + "\n"


def _ratio(ours: float, theirs: float) -> float:
    """Divide distances, which are nothing where a picture is the target itself."""
    return (ours + 1e-6) / (theirs + 1e-6)


def _table(rows: Sequence[dict[str, Any]], networks: list[str]) -> str:
    measures = [*networks, "patches", "spectrum", "colour", "seam"]
    head = ["texture", "by", "iterations", "seconds", *measures]
    head += ["drift", "healed", "copied", "faults"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    seen = set()
    for row in sorted(rows, key=lambda row: (row["texture"], row["by"] != PUBLISHED, row["by"])):
        if row["texture"] not in seen:
            seen.add(row["texture"])
            own = [_figure(row["part"].get(name), name) for name in measures]
            repeat = row["target_repeat"] or ""
            lines.append(f"| {row['texture']} | part | | | {' | '.join(own)} | | | {repeat} | |")
        look = look_of(row)
        cells = ["", row["by"], str(row.get("iterations", "")), str(row.get("seconds", ""))]
        cells += [_figure(look.get(name), name) for name in measures]
        cells.append(" ".join(_change(row, name) for name in CHIEF if name in row["drift"]))
        healed = [row["recovery"].get(name) for name in CHIEF]
        cells.append(" ".join(f"{value:.0%}" for value in healed if value is not None))
        cells += [str(row["copy"] or ""), ", ".join(fault["name"] for fault in row["faults"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sizes(rows: Sequence[dict[str, Any]], networks: list[str]) -> str:
    measures = [*networks, "patches", "spectrum", "colour"]
    head = ["size", "parameters", "ms a step", *measures]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for name in dict.fromkeys(row["by"] for row in rows):
        group = [row for row in rows if row["by"] == name]
        cells = [name, str(group[0]["parameters"])]
        cells.append(f"{mean(row['cost']['milliseconds'] for row in group):.0f}")
        for measure in measures:
            cells.append(_figure(mean(look_of(row).get(measure, 0.0) for row in group), measure))
        lines.append(f"| {' | '.join(cells)} |")
    textures = ", ".join(sorted({row["texture"] for row in rows}))
    return "\n".join(lines) + f"\n\nMeans over {textures}; a step is one of 1024 x 1024 cells.\n"


def _change(row: dict[str, Any], name: str) -> str:
    error = row.get("drift_error", {}).get(name)
    return f"{row['drift'][name]:+.0%}" + ("" if error is None else f" ±{100 * error:.0f}")


def _figure(value: float | None, name: str) -> str:
    if value is None:
        return ""
    return f"{value:.{1 if name in ('spectrum', 'colour') else 3}f}"


def main() -> None:
    """Do what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the targets")
    parser.add_argument("--published", type=Path, help="folder of what others have grown")
    parser.add_argument(
        "--texture", nargs="+", help="names of targets; all in FOLDER when left out"
    )
    parser.add_argument("--preset", nargs="*", default=["balanced"], help="none: published only")
    parser.add_argument("--seconds", type=float, default=960.0, help="of one thread, a training")
    parser.add_argument("--iterations", type=int, help="instead of --seconds")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, in every preset")
    parser.add_argument("--sweep", action="store_true", help="sizes of the first preset")
    parser.add_argument("--side", type=int, default=SIDE, help="cells of what is scored")
    parser.add_argument("--late", type=int, default=LATE, help="steps that drift is measured at")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store", type=Path, default=STORE, help="where results are appended")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where runs and pictures go")
    parser.add_argument("--report", action="store_true", help="write the table only")
    choice = parser.parse_args()
    for name in choice.preset:
        check_name(name, PRESETS, "preset")
    if choice.device == "cpu":
        torch.set_num_threads(1)
    os.environ.setdefault("NCA_TEXTURE_OFFLINE", "1")
    names = choice.texture or sorted(path.name for path in choice.folder.iterdir())
    textures = [choice.folder / name for name in names]
    store: Path = choice.store
    where = Place(choice.runs, choice.side, choice.late, choice.device)
    rows = read_rows(store)
    done = {(row["texture"], row["by"]) for row in rows}

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        append_row(store, row)
        write_page(store.with_suffix(".md"), report(rows))
        look = ", ".join(f"{name} {value:.3g}" for name, value in look_of(row).items())
        print(f"{row['texture']} {row['by']}: {look}", flush=True)

    wanted = [] if choice.report else list(contenders(choice.preset, choice.sweep, choice.set))
    print("style is seen through", ", ".join(at_hand()), flush=True)
    for path in textures:
        output = None if choice.published is None else choice.published / path.name
        if output is not None and output.exists() and (path.name, PUBLISHED) not in done:
            add(score_published(output, path))
        for contender in wanted:
            if (path.name, contender.name) in done:
                continue
            exemplar = exemplar_of(path, contender.recipe)
            count = choice.iterations or count_iterations(
                contender, exemplar, choice.seconds, where.runs
            )
            add(score_ours(contender, path, exemplar, count, where))
            save_grid(textures, choice.published, [each.name for each in wanted], where)
    write_page(store.with_suffix(".md"), report(rows))
    shown = [each.name for each in wanted] or choice.preset
    save_grid(textures, choice.published, shown, where)


if __name__ == "__main__":
    main()
