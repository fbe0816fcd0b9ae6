"""Import every published model and compare what it grows with what its authors show of it.

    python scripts/compare_published.py FOLDER

FOLDER holds texture/ and growth/ with published files and outputs/ with pictures that some of the
models grew in their own program, called dtd_NAME.png; they are not ours to publish. Results are
appended to docs/published.jsonl as they come, what is there is not done again, and
docs/published.md is written from them. Pictures go to runs/published, which is ignored: the
published one, ours, and ours from another seed. Distances are those of compare_losses.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from compare_losses import Measures
from PIL import Image
from tables import append_row, read_rows, write_page
from torch import Tensor

from nca_texture import imports
from nca_texture.imports.base import Published
from nca_texture.targets import read_target

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "docs" / "published.jsonl"
PICTURES = ROOT / "runs" / "published"

SIDE = 128  # cells of what is compared: the published pictures have as many pixels
SMALL, FEW = 64, 200  # cells and steps of models whose output nobody shows
FLAT = 0.01  # contrast below which a picture shows nothing


def grown(model: Published, side: int, steps: int, seed: int = 0) -> Tensor:
    """Grow a picture [1, 3 or 4, H, W]."""
    automaton = model.build()
    size = model.size or (side, side)
    state = automaton.grow(automaton.seed(1, size, seed=seed), steps, seed=seed)
    return automaton.to_image(state)


def compare(model: Published, output: Path, other: Path) -> dict:
    """Measure ours against ``output``, ours from two seeds, and two published textures."""
    published = read_target(str(output)).image[:, :3]
    ours, again = (grown(model, SIDE, model.steps, seed) for seed in (0, 1))
    measure = Measures(published)
    found = {
        "ours": measure(ours),
        "another seed": Measures(ours)(again),
        "another texture": measure(read_target(str(other)).image[:, :3]),
    }
    show(torch.cat([published, ours, again], dim=3), f"{model.name} compared.png")
    return found


def look(model: Published) -> dict:
    """Grow a model that nobody shows a picture of; say how much there is to see."""
    picture = grown(model, SMALL, model.steps if model.plan.living else FEW)
    show(picture, f"{model.format} {model.name.replace('/', '-')}.png")
    about = {"contrast": round(picture[:, :3].std(dim=(2, 3)).mean().item(), 4)}
    if picture.shape[1] == 4:
        about["cells alive"] = int((picture[:, 3] > 0.1).sum())
    return about


def show(picture: Tensor, name: str) -> None:
    """Save ``picture`` [1, 3 or 4, H, W]; what is transparent lies over white."""
    colours = picture[0, :3] + (1 - picture[0, 3:] if picture.shape[1] == 4 else 0)
    PICTURES.mkdir(parents=True, exist_ok=True)
    pixels = (colours.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(PICTURES / name)


def report(found: Sequence[dict]) -> str:
    """Tabulate what was found."""
    lines = [
        "# Published models, imported\n\n"
        "Every model of the files below was imported and grown. Where its authors show a picture "
        f"of it, what is grown on {SIDE} x {SIDE} cells after the default number of steps is "
        "compared with that picture. Distances are relative errors of Gram matrices of VGG19 and "
        "of SqueezeNet, and transport between patches: 0 for the same picture. Beside them stand "
        "what another seed of the same model is from ours, and what the picture of another texture "
        "is from the published one. Made by `scripts/compare_published.py`.\n",
        "| file | models | show a picture | of them living |",
        "| --- | --- | --- | --- |",
    ]
    for file in dict.fromkeys(row["kind"] for row in found):
        rows = [row for row in found if row["kind"] == file]
        seen = sum(row.get("contrast", 1) > FLAT for row in rows)
        living = sum("cells alive" in row for row in rows)
        lines.append(f"| {file} | {len(rows)} | {seen} | {living} |")
    flat = [row["model"] for row in found if row.get("contrast", 1) <= FLAT]
    if flat:
        lines.append(f"\nAn even colour and nothing else: {', '.join(flat)}.")
    lines += [
        "\n| texture | VGG19 | another seed | another texture "
        "| SqueezeNet | patches | another seed | another texture |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    compared = [row for row in found if "ours" in row]
    for row in sorted(compared, key=lambda row: row["model"]):
        lines.append(f"| {row['model']} | {_cells(row)} |")
    if compared:
        whole = {
            key: {
                name: mean(row[key][name] for row in compared)
                for name in ("vgg19", "squeezenet1_1", "patches")
            }
            for key in ("ours", "another seed", "another texture")
        }
        lines.append(f"| mean of {len(compared)} | {_cells(whole)} |")
    return "\n".join(lines) + "\n"


def _cells(row: dict) -> str:
    ours, seed, other = row["ours"], row["another seed"], row["another texture"]
    return (
        f"{ours['vgg19']:.3f} | {seed['vgg19']:.3f} | {other['vgg19']:.3f} | "
        f"{ours['squeezenet1_1']:.3f} | "
        f"{ours['patches']:.4f} | {seed['patches']:.4f} | {other['patches']:.4f}"
    )


def main() -> None:
    """Do what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    choice = parser.parse_args()
    torch.set_num_threads(1)
    outputs = sorted((choice.folder / "outputs").glob("dtd_*.png"))
    by_name = {path.stem.removeprefix("dtd_"): path for path in outputs}
    found = read_rows(STORE)
    done = {(row["file"], row["model"]) for row in found}
    compared = {row["model"] for row in found if "ours" in row}
    for path in sorted(choice.folder.glob("texture/*")) + sorted(choice.folder.glob("growth/*")):
        for model in imports.read(path):
            if (path.name, model.name) in done:
                continue
            kind = "growth" if model.plan.living else path.name
            row = {"file": path.name, "kind": kind, "model": model.name}
            if model.name in by_name and model.name not in compared:
                output = by_name[model.name]
                row |= compare(model, output, outputs[outputs.index(output) - 1])
                compared.add(model.name)
            else:
                row |= look(model)
            found.append(row)
            print(row, flush=True)
            append_row(STORE, row)
    write_page(STORE.with_suffix(".md"), report(found))


if __name__ == "__main__":
    main()
