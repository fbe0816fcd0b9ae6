"""Measure how often ``nca-texture check`` is wrong, and write docs/seams.md.

Three kinds of pictures: renders of models that are trained here in a minute each, on drawn samples
and photographs, which tile; crops of photographs of textures, which do not; drawn stripes and cut
renders, which tile on one axis only. The limits of the check were chosen with every other
photograph (in the order of their names) and with drawn pictures; the other photographs, on which
models are trained, and all renders had no part in it. Run with:
python scripts/calibrate_check.py --textures FOLDER [--runs runs/calibrate]
What was trained or rendered before is taken as it is, so that a call that was stopped goes on.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nca_texture
from nca_texture.images import write_png
from nca_texture.planning import plan
from nca_texture.render import render
from nca_texture.seams import check_seams
from nca_texture.store import load_model

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (".png", ".jpg", ".jpeg")
SAMPLES = ("bricks", "weave", "knit", "marble", "honeycomb", "planks", "terrazzo", "lava")
ITERATIONS = 150  # of a training
SIZES = ((256, 256), (180, 300), (384, 128), (131, 97), (64, 200))  # of renders (height, width)
CROPS = 10  # of each photograph
LEAST, MOST = 48, 400  # pixels of a side of a crop
STRIPES = 60


@dataclass(frozen=True)
class Case:
    """A picture [H, W, 3], and whether it tiles on x and on y."""

    kind: str
    name: str
    image: NDArray[np.float32]
    tiles: tuple[bool, bool]


def main() -> None:
    """Train, render, check and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--textures", type=Path, default=os.environ.get("NCA_TEXTURE_TEXTURES"))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "calibrate")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "seams.md")
    asked = parser.parse_args()
    if asked.textures is None:
        parser.error("give --textures FOLDER, or set NCA_TEXTURE_TEXTURES")
    photographs = sorted(
        (path for path in asked.textures.iterdir() if path.suffix.lower() in PICTURES), key=family
    )
    renders = make_renders(photographs, asked.runs)
    pictures, axes = Counter[tuple[str, bool]](), Counter[tuple[str, bool, bool]]()
    wrong: dict[str, list[str]] = defaultdict(list)
    began = time.process_time()
    for case in (*tiling(renders), *crops(photographs), *stripes(), *cut(renders)):
        report = check_seams(case.image)
        right = report.passed == all(case.tiles)
        pictures[case.kind, right] += 1
        for truth, axis in zip(case.tiles, report.axes, strict=True):
            axes[case.kind, truth, axis.tiles == truth] += 1
        if not right:
            wrong[case.kind].append(case.name)
            print(case.kind, case.name, [axis.reason for axis in report.axes], flush=True)
    seconds = (time.process_time() - began) / pictures.total()
    text = table(pictures, axes, wrong, seconds)
    print(text)
    page = asked.docs.read_text() if asked.docs.exists() else ""
    head, mark, _ = page.partition("<!-- measured -->\n")
    asked.docs.write_text(head + (mark or "<!-- measured -->\n") + text)


def family(path: Path) -> str:
    """Name the texture that a photograph shows; several sizes of one have one name."""
    return path.stem.removeprefix("dtd_").split(".")[0]


def families(photographs: list[Path]) -> dict[str, list[Path]]:
    """Sort ``photographs`` by the textures that they show."""
    found: dict[str, list[Path]] = {}
    for path in photographs:
        found.setdefault(family(path), []).append(path)
    return found


def make_renders(photographs: list[Path], runs: Path) -> list[Path]:
    """Train models and render each five times, from different seeds in different sizes."""
    found = []
    targets = {f"sample_{name}": f"sample:{name}" for name in SAMPLES}
    for paths in list(families(photographs).values())[1::2]:
        targets[paths[0].stem] = str(paths[0])
    for name, target in targets.items():
        run = runs / name
        if not (run / "model.safetensors").exists():
            again = ["--resume", str(run)] if run.exists() else [target, "-o", str(run)]
            call = [sys.executable, "-m", "nca_texture", "train", *again, "-q"]
            subprocess.run([*call, "--iterations", str(ITERATIONS)], check=True, cwd=ROOT)
        automaton, recipe, origin = load_model(run)
        steps = origin.steps or recipe.training.steps[1]
        for seed, size in enumerate(SIZES):
            picture = runs / "renders" / f"{name}_{seed}.png"
            if not picture.exists():
                write_png(picture, render(automaton, plan(automaton, size, steps), seed=seed))
            found.append(picture)
    return found


def read(path: Path) -> NDArray[np.float32]:
    """Read a picture as [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.float32) / np.float32(255)


def tiling(renders: list[Path]) -> Iterator[Case]:
    """Yield renders on a torus."""
    for path in renders:
        yield Case("renders", path.stem, read(path), (True, True))


def crops(photographs: list[Path]) -> Iterator[Case]:
    """Yield crops at random places, every other one square."""
    places = list(families(photographs))
    for path in photographs:
        number = places.index(family(path))
        kind = "crops, other photographs" if number % 2 else "crops, photographs for the limits"
        chance = np.random.default_rng(number)
        image = read(path)
        most = np.minimum(image.shape[:2], MOST) - 2
        for count in range(CROPS):
            size = chance.integers(LEAST, most + 1)
            size[:] = size.min() if count % 2 == 0 else size
            y, x = chance.integers(0, np.array(image.shape[:2]) - size + 1)
            name = f"{path.stem} {size[1]}x{size[0]}+{x}+{y}"
            yield Case(kind, name, image[y : y + size[0], x : x + size[1]], (False, False))


def stripes() -> Iterator[Case]:
    """Draw stripes, hard or soft, that are cut in the middle of a period on one axis."""
    chance = np.random.default_rng(1)
    for number in range(STRIPES):
        period = float(chance.uniform(6, 40))
        phase = float(chance.uniform(0.2, 0.8))
        width = round((int(chance.integers(3, 10)) + phase) * period)
        wave = np.sin((np.arange(width) / period + chance.uniform()) * 2 * np.pi)
        hard = number % 2
        wave = np.clip(wave * period / 4, -1, 1) if hard else wave
        row = 0.5 + 0.4 * wave.astype(np.float32)[None, :, None] * chance.uniform(0.3, 1, 3)
        image = np.tile(row, (int(chance.integers(64, 256)), 1, 1)).astype(np.float32)
        image += 0.02 * chance.standard_normal(image.shape, np.float32)
        name = f"{'hard' if hard else 'soft'} period {period:.1f} cut at {phase:.2f}"
        if number % 4 < 2:
            yield Case("stripes in mid-phase", name, image, (False, True))
        else:
            yield Case("stripes in mid-phase", name, image.swapaxes(0, 1), (True, False))


def cut(renders: list[Path]) -> Iterator[Case]:
    """Cut a part off renders, on one axis each: they tile on the other one only."""
    chance = np.random.default_rng(2)
    for number, path in enumerate(renders):
        image = read(path)
        part = int(image.shape[number % 2] * chance.uniform(0.55, 0.9))
        if number % 2:
            yield Case("renders cut on one axis", path.stem, image[:, :part], (False, True))
        else:
            yield Case("renders cut on one axis", path.stem, image[:part], (True, False))


def table(
    pictures: Counter[tuple[str, bool]],
    axes: Counter[tuple[str, bool, bool]],
    wrong: dict[str, list[str]],
    seconds: float,
) -> str:
    """Put what was found into words."""
    lines = [
        f"{time.strftime('%Y-%m-%d')}, nca-texture {nca_texture.__version__}, numpy "
        f"{np.__version__}, {platform.machine()}; {seconds:.2f} s of CPU a picture.",
        "",
        "| pictures | judged rightly | axes that tile: passed | axes that do not: found |",
        "| --- | --- | --- | --- |",
    ]
    for kind in dict.fromkeys(kind for kind, _ in pictures):
        count = pictures[kind, True] + pictures[kind, False]
        cells = [f"{kind} ({count})", f"{pictures[kind, True] / count:.1%}"]
        for truth in (True, False):
            right, all_ = axes[kind, truth, True], axes[kind, truth, True]
            all_ += axes[kind, truth, False]
            cells.append(f"{right} of {all_}" if all_ else "")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Judged wrongly:", ""]
    for kind, names in wrong.items():
        lines.append(f"- {kind}: {'; '.join(names)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
