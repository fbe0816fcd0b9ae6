"""Train the same textures with every kernel and several seeds, and compare where they end.

    python scripts/convergence.py [--iterations N]     goes on where it stopped; writes docs/

Curves and final scores go to docs/benchmarks/convergence.{json,svg,md}. A fast kernel passes when
its mean score lies within what the seeds of the reference kernel reach.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from nca_texture.presets import PRESETS
from nca_texture.targets import read_target
from nca_texture.training import judge, train

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "benchmarks"
TEXTURES = ("weave", "zebra", "bubbles")
SEEDS = (1, 2, 3)
EVERY = 10  # iterations a point of a curve is the mean of
COLOURS = {"reference": "#888888", "cpu": "#1f77b4", "triton": "#2ca02c"}


def contenders(device: str) -> Iterator[tuple[str, str]]:
    """Name kernels and precisions to compare."""
    fast = "triton" if device == "cuda" else "cpu"
    yield "reference", "float32"
    yield fast, "float32"
    yield fast, "bfloat16"


def run(texture: str, kernel: str, precision: str, seed: int, iterations: int, device: str) -> dict:
    """Train once; return the curve of the loss and the score of a long roll-out."""
    recipe = PRESETS["draft"].recipe
    plan = replace(
        recipe.training, iterations=iterations, seed=seed, judge_every=0, precision=precision
    )
    recipe = replace(recipe, training=plan)
    exemplar = read_target(
        f"sample:{texture}", crop=recipe.target.crop, exemplar_size=recipe.target.exemplar_size
    )
    automaton = recipe.build_automaton().to(device)
    loss = recipe.build_loss(exemplar).to(device)
    losses = [report.losses["total"] for report in train(automaton, loss, plan, kernel=kernel)]
    curve = torch.stack(losses)[: iterations // EVERY * EVERY].view(-1, EVERY).mean(1)
    # All are judged alike: by the same kernel, with the same chance.
    same = replace(plan, seed=0, batch_size=4, precision="float32")
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
            f"{left + 10 + 280 * index / (len(curve) - 1):.1f},{210 - 180 * value:.1f}"
            for index, value in enumerate(heights.tolist())
        )
        lines.append(f'<polyline points="{at}" fill="none" stroke="{COLOURS[kernel]}"{dash}/>')
    return "\n".join(lines)


def report(found: dict[str, dict], iterations: int) -> str:
    """Tabulate the scores."""
    rows = ["| texture | kernel | scores of the seeds | mean |", "| --- | --- | --- | --- |"]
    groups: dict[tuple[str, str], list[float]] = {}
    for key, value in found.items():
        texture, kernel, precision, _ = key.split("/")
        groups.setdefault((texture, f"{kernel}, {precision}"), []).append(value["score"])
    for (texture, kernel), scores in groups.items():
        listed = " ".join(f"{score:.4f}" for score in sorted(scores))
        rows.append(f"| {texture} | {kernel} | {listed} | {statistics.mean(scores):.4f} |")
    return (
        f"# Where trainings end, kernel by kernel\n\nDrawn samples, `draft`, {iterations} "
        "iterations; the score is the mean loss at the marks of a 1000-step roll-out, the same "
        "kernel and chance for all. Made by `scripts/convergence.py`.\n\n"
        "![Loss over iterations](convergence.svg)\n\nGrey: reference; coloured: the fast kernel, "
        "dashed in bfloat16. The loss is on a logarithmic axis.\n\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    """Run what is missing, then write curves and table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    choice = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    store = PLACE / "convergence.json"
    found = json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}
    for seed in SEEDS:
        for texture in TEXTURES:
            for kernel, precision in contenders(choice.device):
                key = f"{texture}/{kernel}/{precision}/{seed}"
                if key in found:
                    continue
                found[key] = run(texture, kernel, precision, seed, choice.iterations, choice.device)
                print(key, f"{found[key]['score']:.4f}", flush=True)
                store.write_text(json.dumps(found, indent=0, sort_keys=True), encoding="utf-8")
    charts = "\n".join(chart(found, name, 300 * index) for index, name in enumerate(TEXTURES))
    width = 300 * len(TEXTURES)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 220" width="{width}" '
        f'height="220" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="220" fill="white"/>\n{charts}\n</svg>\n'
    )
    (PLACE / "convergence.svg").write_text(svg, encoding="utf-8")
    (PLACE / "convergence.md").write_text(report(found, choice.iterations), encoding="utf-8")


if __name__ == "__main__":
    main()
