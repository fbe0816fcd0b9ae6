"""Train the same textures with every kernel and several seeds, and compare where they end.

    python scripts/convergence.py [--iterations N] [--side CELLS] [--steps LEAST MOST]

goes on where it stopped. Curves and final scores go to docs/benchmarks/convergence.{json,svg,md}. A
fast kernel passes when its mean score lies within what the seeds of the reference kernel reach.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from nca_texture.judging import judge
from nca_texture.kernels import cpu
from nca_texture.kernels.rule import Precision
from nca_texture.presets import PRESETS
from nca_texture.recipe import Recipe
from nca_texture.targets import read_target
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "benchmarks"
TEXTURES = ("weave", "zebra", "bubbles")
SEEDS = (1, 2, 3, 4, 5)
EMULATE = "NCA_TEXTURE_EMULATE_BFLOAT16"  # the same results where the processor has no bfloat16
EVERY = 10  # iterations a point of a curve is the mean of
COLOURS = {"reference": "#888888", "cpu": "#1f77b4", "triton": "#2ca02c"}


def contenders(device: str) -> Iterator[tuple[str, Precision]]:
    """Name kernels and precisions to compare."""
    fast = "triton" if device == "cuda" else "cpu"
    yield "reference", "float32"
    yield fast, "float32"
    yield fast, "bfloat16"


def shortened(iterations: int, side: int, steps: tuple[int, int]) -> Recipe:
    """Make the ``draft`` preset small enough to be trained again and again."""
    recipe = PRESETS["draft"].recipe
    plan = replace(
        recipe.training, iterations=iterations, width=side, height=side, steps=steps, judge_every=0
    )
    return replace(recipe, training=plan)


def run(
    recipe: Recipe, texture: str, kernel: str, precision: Precision, seed: int, device: str
) -> dict:
    """Train once; return the curve of the loss and the score of a roll-out from the seed."""
    plan = replace(recipe.training, seed=seed, precision=precision)
    recipe = replace(recipe, training=plan)
    exemplar = read_target(
        f"sample:{texture}", crop=recipe.target.crop, exemplar_size=recipe.target.exemplar_size
    )
    automaton = recipe.build_automaton().to(device)
    loss = recipe.build_loss(exemplar).to(device)
    losses = [report.losses["total"] for report in train(automaton, loss, plan, kernel=kernel)]
    curve = torch.stack(losses)[: plan.iterations // EVERY * EVERY].view(-1, EVERY).mean(1)
    # All are judged alike: by the same kernel, with the same chance, as far as four times the
    # steps they were trained for; how much longer so short a training holds is another question.
    same = replace(plan, seed=0, batch_size=4, precision="float32", judge_steps=4 * plan.steps[1])
    return {
        "curve": [round(value, 5) for value in curve.tolist()],
        "score": judge(automaton, loss, same).score,
    }


def chart(found: dict[str, dict], texture: str, left: float) -> str:
    """Draw the curves of one texture, 300 x 200 units, the loss on a logarithmic axis."""
    curves = {key: value["curve"] for key, value in found.items() if key.startswith(texture)}
    points = [value for curve in curves.values() for value in curve]
    low, high = min(points), max(points)
    lines = [f'<text x="{left + 150}" y="16" text-anchor="middle">{texture}</text>']
    for key, curve in curves.items():
        _, kernel, precision, _ = key.split("/")
        dash = ' stroke-dasharray="4 2"' if precision == "bfloat16" else ""
        heights = torch.log(torch.tensor(curve) / low) / torch.log(torch.tensor(high / low))
        at = " ".join(
            f"{left + 10 + 280 * index / max(1, len(curve) - 1):.1f},{210 - 180 * value:.1f}"
            for index, value in enumerate(heights.tolist())
        )
        lines.append(f'<polyline points="{at}" fill="none" stroke="{COLOURS[kernel]}"{dash}/>')
    return "\n".join(lines)


def report(found: dict[str, dict], recipe: Recipe) -> str:
    """Tabulate the scores, and say which means lie outside of what the reference reaches."""
    plan = recipe.training
    how = ", which the processor had to emulate" if EMULATE in os.environ else ""
    groups: dict[str, dict[str, list[float]]] = {}
    for key, value in found.items():
        texture, kernel, precision, _ = key.split("/")
        of_texture = groups.setdefault(texture, {})
        of_texture.setdefault(f"{kernel}, {precision}", []).append(value["score"])
    rows = [
        "| texture | kernel | scores of the seeds | mean | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for texture, kernels in groups.items():
        reference = kernels["reference, float32"]
        for kernel, scores in kernels.items():
            mean, verdict = statistics.mean(scores), "within"
            if mean < min(reference):
                verdict = "better than every seed of the reference"
            elif mean > max(reference):
                verdict = "**worse than every seed of the reference**"
            if scores is reference:
                verdict = ""
            listed = " ".join(f"{score:.4f}" for score in sorted(scores))
            rows.append(f"| {texture} | {kernel} | {listed} | {mean:.4f} | {verdict} |")
    return (
        f"# Where trainings end, kernel by kernel\n\nDrawn samples and the recipe `draft`, made "
        f"smaller: {plan.iterations} iterations on {plan.width} x {plan.height} cells, "
        f"{plan.steps[0]} to {plan.steps[1]} steps each. The score is the mean loss at "
        f"{plan.steps[1]}, {2 * plan.steps[1]} and {4 * plan.steps[1]} steps from the seed, the "
        "same kernel and chance for all. Made by `scripts/convergence.py`.\n\n"
        "![Loss over iterations](convergence.svg)\n\nGrey: reference; coloured: the fast kernel, "
        f"dashed in bfloat16{how}. The loss is on a logarithmic axis.\n\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    """Run what is missing, then write curves and table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--side", type=int, default=48, help="of the training grid, in cells")
    parser.add_argument("--steps", type=int, nargs=2, default=(16, 32), help="least and most")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--place", type=Path, default=PLACE, help="folder to write to")
    choice = parser.parse_args()
    if choice.device == "cpu" and cpu.instruction_set("avx512bf16") is None:
        os.environ[EMULATE] = "1"
    place: Path = choice.place
    recipe = shortened(choice.iterations, choice.side, tuple(choice.steps))
    place.mkdir(parents=True, exist_ok=True)
    store = place / "convergence.json"
    asked = {"iterations": choice.iterations, "side": choice.side, "steps": list(choice.steps)}
    kept = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    if kept.setdefault("asked", asked) != asked:
        parser.error(f"{store} holds runs of {kept['asked']}; ask for the same, or move it away")
    found: dict[str, dict] = kept.setdefault("runs", {})
    wanted: list[tuple[str, str, str, Precision, int]] = [
        (f"{texture}/{kernel}/{precision}/{seed}", texture, kernel, precision, seed)
        for seed in SEEDS
        for texture in TEXTURES
        for kernel, precision in contenders(choice.device)
    ]
    for key, texture, kernel, precision, seed in wanted:
        if key in found:
            continue
        found[key] = run(recipe, texture, kernel, precision, seed, choice.device)
        print(key, f"{found[key]['score']:.4f}", flush=True)
        store.write_text(json.dumps(kept, indent=0, sort_keys=True), encoding="utf-8")
    found = {key: found[key] for key, *_ in wanted}
    charts = "\n".join(chart(found, name, 300 * index) for index, name in enumerate(TEXTURES))
    width = 300 * len(TEXTURES)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 220" width="{width}" '
        f'height="220" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="220" fill="white"/>\n{charts}\n</svg>\n'
    )
    (place / "convergence.svg").write_text(svg, encoding="utf-8")
    (place / "convergence.md").write_text(report(found, recipe), encoding="utf-8")


if __name__ == "__main__":
    main()
