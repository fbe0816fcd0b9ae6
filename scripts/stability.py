"""Train a preset many times, and tell which runs exploded, died or had to begin again.

    python scripts/stability.py FOLDER [--preset draft] [--texture NAME ...] [--seeds 6]

FOLDER holds the textures, which are not ours to publish; what the runs grow goes to runs/stability,
which is ignored: a picture for each texture, with a row for each seed of its target and of what was
grown after each of ``STEPS``. Results are appended to docs/stability.jsonl as they come, what is
there is not done again, and docs/stability.md is written from them. Nothing is downloaded.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tables import append_row, read_rows, write_page
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.presets import PRESETS
from nca_texture.recipe import fitted, with_settings
from nca_texture.targets import read_target
from nca_texture.training import TrainingError, train

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "docs" / "stability.jsonl"
PICTURES = ROOT / "runs" / "stability"

TEXTURES = (
    "dtd_bubbly_0117.png", "dtd_honeycombed_0061.png", "tile-floor1_s.o.jpg",
    "big_woven.ex.rgb.png", "leopard2_128.ex.rgb.png",
)  # fmt: skip

STEPS = (200, 1000, 5000)
SIDE = 128  # cells of what is looked at
_FLAT = 0.1  # of the target's deviation: a picture with less has died
_BEYOND = 3.0  # a state with a number above this has exploded


def run(path: Path, preset: str, seed: int) -> tuple[dict, list[Tensor]]:
    """Train ``preset`` on the texture at ``path``; return what happened and what it grows."""
    recipe = with_settings(PRESETS[preset].recipe, [f"training.seed={seed}"])
    goal = recipe.target
    exemplar = read_target(str(path), crop=goal.crop, exemplar_size=goal.exemplar_size)
    recipe = fitted(recipe, exemplar)
    automaton = recipe.build_automaton()
    found = {"texture": path.name, "preset": preset, "seed": seed, "events": [], "error": ""}
    found |= {"threads": torch.get_num_threads(), "retries": 0, "redraws": 0, "losses": []}
    try:
        for report in train(automaton, recipe.build_loss(exemplar), recipe.training):
            found["events"] += report.events
            if report.iteration == report.iterations:
                end = report.snapshot()
                found |= {"retries": end.retries, "redraws": end.redraws, "losses": end.best_marks}
    except TrainingError as reason:
        found["error"] = str(reason)
    with torch.no_grad():
        shown, largest = grow(automaton)
    target = exemplar.image[:, :3]
    least = min(picture.std().item() for picture in shown) / target.std().item()
    found["dead"] = not least > _FLAT
    found["exploded"] = not largest < _BEYOND
    return found, [target[0, :, :SIDE, :SIDE], *shown]


def grow(automaton: CellularAutomaton) -> tuple[list[Tensor], float]:
    """Grow pictures [3, SIDE, SIDE], one after each of ``STEPS``, and find the largest number."""
    state, done, shown, largest = automaton.seed(1, (SIDE, SIDE)), 0, [], 0.0
    for steps in STEPS:
        state = automaton.grow(state, steps - done, start=done)
        done = steps
        shown.append(automaton.to_image(state)[0])
        largest = max(largest, state.abs().max().item())
        largest = largest if state.isfinite().all() else math.inf
    return shown, largest


def add_row(path: Path, row: Sequence[Tensor]) -> None:
    """Append pictures, side by side, to the sheet at ``path``."""
    canvas = torch.ones(3, SIDE, SIDE * len(row))
    for number, picture in enumerate(row):
        height, width = picture.shape[-2:]
        canvas[:, :height, number * SIDE : number * SIDE + width] = picture
    pixels = (canvas.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    if path.exists():
        pixels = np.concatenate([np.asarray(Image.open(path).convert("RGB")), pixels])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def report(found: Sequence[dict]) -> str:
    """Tabulate what was found: a row a texture."""
    bad = [row for row in found if row["dead"] or row["exploded"] or row["error"]]
    again = [row for row in found if row["retries"] or row["redraws"]]
    lines = [
        "# Stability of presets\n",
        f"Trained on photographs with one seed after the other, and grown for {STEPS[-1]} steps. "
        f"Of {len(found)} runs {len(bad)} exploded, died or gave up, and {len(again)} began again "
        "on the way. Losses are the means of each run's last judgement, from the least to the "
        "greatest. Made by `scripts/stability.py`.\n",
        "| texture | preset | seeds | exploded | died | gave up | began again | loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for texture, preset in sorted({(row["texture"], row["preset"]) for row in found}):
        rows = [row for row in found if (row["texture"], row["preset"]) == (texture, preset)]
        losses = [np.mean([loss for _, loss in row["losses"]]) for row in rows if row["losses"]]
        lines.append(
            f"| {texture} | {preset} | {len(rows)} | {sum(row['exploded'] for row in rows)} "
            f"| {sum(row['dead'] for row in rows)} | {sum(bool(row['error']) for row in rows)} "
            f"| {sum(bool(row['retries'] or row['redraws']) for row in rows)} "
            f"| {min(losses, default=math.nan):.3f} to {max(losses, default=math.nan):.3f} |"
        )
    sentences = sorted({event for row in found for event in [*row["events"], row["error"]]} - {""})
    lines += ["", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Do what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="draft", choices=list(PRESETS))
    parser.add_argument("--texture", nargs="+", default=list(TEXTURES))
    parser.add_argument("--seeds", type=int, default=6)
    choice = parser.parse_args()
    found = read_rows(STORE)
    done = {(row["texture"], row["preset"], row["seed"]) for row in found}
    for seed in range(choice.seeds):
        for texture in choice.texture:
            if (texture, choice.preset, seed) in done:
                continue
            row, pictures = run(choice.folder / texture, choice.preset, seed)
            add_row(PICTURES / f"{Path(texture).stem} {choice.preset}.png", pictures)
            found.append(row)
            print(row, flush=True)
            append_row(STORE, row)
            write_page(STORE.with_suffix(".md"), report(found))


if __name__ == "__main__":
    main()
