"""Compare losses: each learns the same textures for the same time on one core, then is measured.

    python scripts/compare_losses.py FOLDER [--minutes 5] [--texture NAME ...] [--loss NAME ...]

FOLDER holds the textures, which are not ours to publish; the pictures go to runs/losses, which is
ignored. Results are appended to docs/losses.jsonl as they come, what is there is not done again,
and docs/losses.md is written from them. The measures: Gram matrices of VGG19 and SqueezeNet,
relative to the target's (0 at the target), and transport between patches on three scales. Weights
of both networks are looked for as always.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, mean

import numpy as np
import torch
from PIL import Image
from tables import append_row, read_rows, write_page
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.loss_plans import loss_plan
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.features import FeatureNetwork
from nca_texture.losses.gram import gram
from nca_texture.losses.patch import PatchLoss
from nca_texture.presets import PRESETS
from nca_texture.recipe import LossPlan, Recipe
from nca_texture.targets import read_target
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "docs" / "losses.jsonl"
PICTURES = ROOT / "runs" / "losses"

# Chosen before the loss of the presets was: none of them taught its network.
TEXTURES = (
    "dtd_bubbly_0117.png", "dtd_honeycombed_0061.png", "tile-floor1_s.o.jpg",
    "big_woven.ex.rgb.png", "leopard2_128.ex.rgb.png", "dtd_cracked_0085.png",
)  # fmt: skip

# Sinkhorn as first tried: coarse plans, over five levels.
_TRIED = {"levels": 5, "samples": 384, "exemplar_samples": 768, "epsilon": 0.05, "iterations": 12}


LOSSES = {
    "sliced patches": (LossPlan(name="patch", options={"method": "sliced"}),),
    "Sinkhorn patches, as first tried": (LossPlan(name="patch", options=_TRIED | {"debias": 0.0}),),
    "Sinkhorn patches": (LossPlan(name="patch"),),
    "VGG19, sliced": (loss_plan("sliced", "vgg19"),),
    "ours": PRESETS["draft"].recipe.losses[:-1],
}

MEASURES = ("vgg19", "squeezenet1_1", "patches")
STEPS = (128, 1000)  # after which what was grown is measured
SIDE = 160  # cells of what is measured


class Measures:
    """Distances of pictures [1, 3, H, W] to one target."""

    def __init__(self, target: Tensor) -> None:
        """Measure ``target`` [1, 3, H, W]."""
        self.networks = {name: FeatureNetwork(name) for name in MEASURES[:2]}
        self.goals = {name: self._grams(name, target) for name in self.networks}
        self.patches = PatchLoss(target, levels=3, samples=1024, exemplar_samples=1024)

    def __call__(self, picture: Tensor) -> dict[str, float]:
        """Measure ``picture`` by each."""
        picture = picture.clamp(0, 1)
        found = {}
        for name, goals in self.goals.items():
            pairs = zip(self._grams(name, picture), goals, strict=True)
            apart = [((a - b).square().sum() / b.square().sum()).item() for a, b in pairs]
            found[name] = round(mean(apart), 4)
        generator = torch.Generator().manual_seed(0)
        found["patches"] = round(self.patches(Grown(picture, picture), generator).item(), 4)
        return found

    def _grams(self, name: str, picture: Tensor) -> list[Tensor]:
        return [gram(features) for features in self.networks[name](picture).values()]


def count_iterations(recipe: Recipe, target: Tensor, seconds: float) -> int:
    """Find how many iterations of ``recipe`` take so many seconds, by doing forty."""
    began = 0.0
    plan = replace(recipe.training, iterations=40)
    for number, _ in enumerate(train(recipe.build_automaton(), loss_of(recipe, target), plan)):
        if number == 9:  # the first ones are slower
            began = time.process_time()
    return int(seconds / (time.process_time() - began) * 30)


def loss_of(recipe: Recipe, target: Tensor) -> Loss:
    """Build the losses of ``recipe`` for ``target`` [1, 3, H, W]."""
    from nca_texture.targets import Exemplar

    shape = (target.shape[-2], target.shape[-1])
    return recipe.build_loss(Exemplar(target, "", "", "", shape, 1.0))


def run(path: Path, name: str, seconds: float) -> dict:
    """Train on the texture at ``path`` by the loss ``name``; return times and distances."""
    draft = PRESETS["draft"].recipe
    plan = replace(draft.training, judge_every=0)
    recipe = replace(draft, losses=(*LOSSES[name], draft.losses[-1]), training=plan)
    target = read_target(str(path), crop=draft.target.crop).image[:, :3]
    iterations = count_iterations(recipe, target, seconds)
    recipe = replace(recipe, training=replace(plan, iterations=iterations))
    automaton, loss = recipe.build_automaton(), loss_of(recipe, target)
    began = time.process_time()
    for _ in train(automaton, loss, recipe.training):
        pass
    took = time.process_time() - began
    found = {"texture": path.name, "loss": name, "iterations": iterations, "seconds": round(took)}
    with torch.no_grad():
        found["distances"] = look(automaton, target, PICTURES / f"{path.stem} {name}.png")
    return found


def look(automaton: CellularAutomaton, target: Tensor, path: Path) -> dict[str, dict[str, float]]:
    """Grow, measure after each of ``STEPS``, and save target and pictures side by side."""
    measure = Measures(target)
    state, done, distances = automaton.seed(1, (SIDE, SIDE)), 0, {}
    shown = [target[0, :, :SIDE, :SIDE]]
    for steps in STEPS:
        state = automaton.grow(state, steps - done, start=done)
        done = steps
        shown.append(automaton.to_image(state)[0])
        distances[str(steps)] = measure(shown[-1][None])
    sheet = torch.ones(3, SIDE, SIDE * len(shown))
    for number, picture in enumerate(shown):
        height, width = picture.shape[-2:]
        sheet[:, :height, number * SIDE : number * SIDE + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (sheet.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return distances


def report(found: Sequence[dict], minutes: float) -> str:
    """Tabulate what was found, a row a run, and count where ours is closest."""
    lines = [
        f"# Losses compared\n\nThe rule of `draft`, {minutes:g} minutes of one core each, measured "
        f"after {' and '.join(map(str, STEPS))} steps (the mean of both). Distances are 0 at the "
        "target. VGG19's is close to what *VGG19, sliced* was trained by, patches to what those of "
        "that name and ours were. Made by `scripts/compare_losses.py`.\n",
        *(f"- {line}" for line in verdicts(found)),
        "",
        "| texture | loss | ms an iteration | iterations | VGG19 | SqueezeNet | patches | mean |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = list(LOSSES)
    for row in sorted(found, key=lambda row: (row["texture"], order.index(row["loss"]))):
        each = distances_of(row)
        pace = 1000 * row["seconds"] / row["iterations"]
        lines.append(
            f"| {row['texture']} | {row['loss']} | {pace:.0f} | {row['iterations']} "
            f"| {each[0]:.3f} | {each[1]:.3f} | {each[2]:.4f} | {mean(each):.3f} |"
        )
    return "\n".join(lines) + "\n"


def distances_of(row: dict) -> list[float]:
    """Average each measure over the steps."""
    return [mean(found[measure] for found in row["distances"].values()) for measure in MEASURES]


def verdicts(found: Sequence[dict]) -> list[str]:
    """Say on how many textures ours is closer than each other loss.

    By the mean of the measures, and by the geometric one, in which small ones count as much.
    """
    by_run = {(row["texture"], row["loss"]): distances_of(row) for row in found}
    sentences = []
    for name in LOSSES:
        pairs = [
            (by_run[texture, "ours"], theirs)
            for (texture, loss), theirs in by_run.items()
            if loss == name != "ours" and (texture, "ours") in by_run
        ]
        if pairs:
            plain = sum(mean(ours) < mean(theirs) for ours, theirs in pairs)
            ratios = sum(geometric_mean(ours) < geometric_mean(theirs) for ours, theirs in pairs)
            sentences.append(
                f"Closer than {name} on {plain} of {len(pairs)} textures by the mean of the three, "
                f"on {ratios} by their geometric mean."
            )
    return sentences


def main() -> None:
    """Do what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--texture", nargs="+", default=list(TEXTURES))
    parser.add_argument("--loss", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    choice = parser.parse_args()
    torch.set_num_threads(1)
    found = read_rows(STORE)
    done = {(row["texture"], row["loss"]) for row in found}
    for texture in choice.texture:
        for name in choice.loss:
            if (texture, name) in done:
                continue
            found.append(run(choice.folder / texture, name, 60 * choice.minutes))
            print(found[-1], flush=True)
            append_row(STORE, found[-1])
            write_page(STORE.with_suffix(".md"), report(found, choice.minutes))


if __name__ == "__main__":
    main()
