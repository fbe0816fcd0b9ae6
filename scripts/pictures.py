"""Make the pictures of the README: drawn samples beside what the draft preset grows from them.

    python scripts/pictures.py     trains what runs/pictures lacks, then writes docs/

They are docs/samples.png, and docs/gallery: pages to play with, of more samples. Each training
takes some minutes on two CPU cores; a finished one is kept and used again.
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
GAP = 8


def train(name: str) -> Path:
    """Train one sample with the draft preset, unless that was done before."""
    path = RUNS / name
    if not (path / "model.safetensors").exists():
        command = ["-m", "nca_texture", "train", f"sample:{name}", "-o", str(path)]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
    return path


def pair(name: str) -> np.ndarray:
    """Put a sample's exemplar, 128 pixels, beside 512x128 pixels of what was grown."""
    automaton, _, origin = load_model(train(name))
    grown = render(automaton, plan(automaton, (128, 512), origin.steps), seed=name)
    exemplar = read_target(f"sample:{name}").image[0].permute(1, 2, 0).numpy()
    gap = np.ones((128, GAP, 3), np.float32)
    return np.concatenate([exemplar, gap, grown], axis=1)


def main() -> None:
    """Write docs/samples.png, a pair a row, and the gallery."""
    pairs = [pair(name) for name in SAMPLES]
    rows: list[np.ndarray] = []
    for row in pairs:
        rows += [row, np.ones((GAP, row.shape[1], 3), np.float32)]
    pixels = (np.concatenate(rows[:-1]).clip(0, 1) * 255).round().astype(np.uint8)
    path = ROOT / "docs" / "samples.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, optimize=True)
    print(f"wrote {path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    command = ["-m", "nca_texture", "export", *(str(train(name)) for name in GALLERY)]
    command += ["--to", "gallery", "-o", str(ROOT / "docs" / "gallery"), "--force"]
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
