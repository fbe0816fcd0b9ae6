"""Make the pictures of the README: drawn samples beside what our presets grow from them.

    python scripts/pictures.py     trains what runs/pictures lacks, then writes docs/

They are docs/samples.png, by draft and by balanced, and docs/gallery: pages to play with, of more
samples, by balanced. Each training takes some minutes on two CPU cores; a finished one is kept and
used again.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nca_texture.planning import plan
from nca_texture.render import render
from nca_texture.store import load_model
from nca_texture.targets import read_target

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "pictures"
SAMPLES = ("weave", "leopard")
GALLERY = (*SAMPLES, "zebra", "bubbles", "honeycomb", "scales")
SHOWN = ("draft", "balanced")  # presets; the gallery is by the last of them
GAP = 8


def train(name: str, preset: str) -> Path:
    """Train one sample with a preset, unless that was done before."""
    path = RUNS / preset / name
    if not (path / "model.safetensors").exists():
        command = ["-m", "nca_texture", "train", f"sample:{name}", "--preset", preset]
        subprocess.run([sys.executable, *command, "-o", str(path)], check=True, cwd=ROOT)
    return path


def row_of(name: str) -> np.ndarray:
    """Put a sample's exemplar, 128 pixels, beside 256x128 pixels of what each preset grew."""
    parts = [read_target(f"sample:{name}").image[0].permute(1, 2, 0).numpy()]
    for preset in SHOWN:
        automaton, _, origin = load_model(train(name, preset))
        parts.append(np.ones((128, GAP, 3), np.float32))
        parts.append(render(automaton, plan(automaton, (128, 256), origin.steps), seed=name))
    return np.concatenate(parts, axis=1)


def main() -> None:
    """Write docs/samples.png, a sample a row, and the gallery."""
    rows: list[np.ndarray] = []
    for row in map(row_of, SAMPLES):
        rows += [row, np.ones((GAP, row.shape[1], 3), np.float32)]
    pixels = (np.concatenate(rows[:-1]).clip(0, 1) * 255).round().astype(np.uint8)
    path = ROOT / "docs" / "samples.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, optimize=True)
    print(f"wrote {path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    command = ["-m", "nca_texture", "export", *(str(train(name, SHOWN[-1])) for name in GALLERY)]
    command += ["--to", "gallery", "-o", str(ROOT / "docs" / "gallery"), "--force"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
