"""Make losses/compact.safetensors: VGG19 to relu4_1, each convolution narrowed to what is needed.

Nothing is trained. Layer after layer, principal components say to which few channels a convolution
may narrow what it reads and what it writes, and least squares fit its outputs, read off the
narrowed features before it, to VGG19's (Zhang et al., "Accelerating Very Deep Convolutional
Networks for Classification and Detection", 2016). What counts is what the network is shown: natural
and drawn pictures, generated ones, and pictures of rules before and during training, which no
camera took. Run with: python scripts/distill_features.py [--teacher vgg19.safetensors]
"""

import argparse
import hashlib
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from nca_texture.automaton import CellularAutomaton
from nca_texture.loss_plans import PATCH
from nca_texture.losses import compact
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.networks import Stage, build_stages, up_to
from nca_texture.losses.weights import load_weights
from nca_texture.presets import PRESETS
from nca_texture.targets import SAMPLES, read_target
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
SIDE = 128  # pixels of a teaching picture
PICTURES = 400
IN_TRAINING = 80  # so many more, of rules in training
PLACES = 100_000  # of a layer, to fit its outputs at
CHUNK = 16  # pictures that go through a layer together

# Those that scikit-image carries with it.
PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "clock_motion",
    "coffee", "coins", "grass",
    "gravel", "ihc", "moon", "motorcycle_left", "page", "rocket", "text",
)  # fmt: skip
TRAINED = ("bubbles", "zebra", "weave", "lava")  # rules in training are shown on these


def photographs() -> list[list[Tensor]]:
    """Read scikit-image's photographs [1, 3, H, W], each with its halves."""
    folder = Path(skimage.data.__file__).parent
    found = []
    for name in PHOTOGRAPHS:
        path = next(folder.glob(f"{name}.*"))
        pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        sizes = [torch.from_numpy(pixels).permute(2, 0, 1)[None]]
        while min(sizes[-1].shape[-2:]) >= 2 * SIDE:
            sizes.append(F.interpolate(sizes[-1], scale_factor=0.5, mode="area"))
        found.append(sizes)
    return found


def drawings() -> list[list[Tensor]]:
    """Draw the samples of the project [1, 3, H, W] in two sizes."""
    return [
        [read_target(f"sample:{name}", exemplar_size=side).image for side in (2 * SIDE, SIDE)]
        for name in SAMPLES
    ]


class Pictures:
    """Pictures [1, 3, SIDE, SIDE] of many kinds, some of them beyond [0, 1], as grown ones are."""

    def __init__(self, seed: int) -> None:
        """Read what there is; the same ``seed`` gives the same pictures."""
        self.source = torch.Generator().manual_seed(seed)
        self.photographs = photographs()
        self.drawings = drawings()
        # How many of a hundred.
        kinds = {
            lambda: self.crop(self.photographs): 40,
            lambda: self.crop(self.drawings): 15,
            self.leaves: 10,
            self.cells: 7,
            self.stripes: 7,
            self.spots: 7,
            self.clouds: 6,
            self.grown: 8,
        }
        self.kinds = [kind for kind, count in kinds.items() for _ in range(count)]

    def __call__(self) -> Tensor:
        """Make a picture: one of the kinds, and at times noise on it."""
        picture = self.pick(self.kinds)()
        chance = self.random()
        if chance < 0.15:
            picture = picture + self.normal(*picture.shape) * 0.3 * self.random()
        elif chance < 0.25:
            picture = picture / 2 + self.noise(self.random() * 2 + 0.3) * 0.15 + 0.2
        elif chance < 0.35:
            picture = picture + self.noise(0.5) * 0.15
        return picture.clamp(-0.3, 1.3)

    def random(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number from [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.source))

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number from [low, high)."""
        return int(torch.randint(low, high, (), generator=self.source))

    def normal(self, *shape: int) -> Tensor:
        """Draw normal numbers."""
        return torch.randn(shape, generator=self.source)

    def pick(self, things: Sequence[Any]) -> Any:
        """Choose one of ``things``."""
        return things[self.whole(0, len(things))]

    def palette(self, count: int) -> Tensor:
        """Draw related colours [count, 3, 1, 1]."""
        base, spread = torch.rand(3, generator=self.source), self.random()
        colours = base + spread * (torch.rand(count, 3, generator=self.source) * 2 - 1)
        return colours.clamp(0, 1)[:, :, None, None]

    def crop(self, pictures: list[list[Tensor]]) -> Tensor:
        """Cut a part out of one of ``pictures`` and, mostly, change its colours."""
        picture = self.pick(self.pick(pictures))
        height, width = picture.shape[-2:]
        top, left = self.whole(0, height - SIDE + 1), self.whole(0, width - SIDE + 1)
        part = picture[..., top : top + SIDE, left : left + SIDE]
        return self.recoloured(part) if self.random() < 0.7 else part

    def recoloured(self, picture: Tensor) -> Tensor:
        """Exchange or replace colours, invert, change contrast, turn over."""
        chance = self.random()
        if chance < 0.35:
            picture = picture[:, torch.randperm(3, generator=self.source)]
        elif chance < 0.6:
            dark, middle, bright = torch.rand(3, 1, 3, 1, 1, generator=self.source)
            light = picture.mean(1, keepdim=True).clamp(0, 1) * 2
            lower = dark * (1 - light) + middle * light
            picture = torch.where(light < 1, lower, middle * (2 - light) + bright * (light - 1))
        if self.random() < 0.25:
            picture = 1 - picture
        if self.random() < 0.5:
            picture = (picture - 0.5) * self.random(0.3, 1.7) + self.random(0.35, 0.65)
        for turn in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
            picture = turn(picture) if self.random() < 0.5 else picture
        return picture

    def noise(self, slope: float, channels: int = 3) -> Tensor:
        """Make noise [1, channels, SIDE, SIDE] of unit variance, its amplitude 1/f**slope."""
        spectrum = torch.fft.rfft2(self.normal(1, channels, SIDE, SIDE))
        made = torch.fft.irfft2(spectrum / frequency() ** slope, s=(SIDE, SIDE))
        return (made - made.mean()) / made.std()

    def clouds(self) -> Tensor:
        """Make coloured fractal noise."""
        return self.noise(self.random(0.3, 2.3)) * self.random(0, 0.3) + self.palette(1)

    def leaves(self) -> Tensor:
        """Lay discs, squares or ellipses over each other, flat or shaded like balls."""
        y, x = plane()
        picture = self.palette(1).expand(1, 3, SIDE, SIDE)
        colours = self.palette(8)
        smallest, kind, shaded = self.random(2, 8), self.whole(0, 3), self.random() < 0.6
        for _ in range(self.whole(20, 250)):
            radius = min(smallest / (self.random() + 0.03), 50)
            angle = torch.tensor(self.random(0, torch.pi))
            dx, dy = x - self.random(-10, SIDE + 10), y - self.random(-10, SIDE + 10)
            u = (dx * angle.cos() + dy * angle.sin()) * (self.random(1, 3) if kind == 2 else 1)
            v = dy * angle.cos() - dx * angle.sin()
            away = torch.maximum(u.abs(), v.abs()) if kind == 1 else (u * u + v * v).sqrt()
            cover = (radius - away + 0.5).clamp(0, 1)
            colour = colours[self.whole(0, 8)]
            if shaded:
                height = (1 - (away / radius).clamp(0, 1) ** 2).sqrt()
                light = ((u * 0.5 - v * 0.6) / radius - 0.3).clamp(min=0)
                colour = colour * (0.4 + 0.6 * height) + light * self.random(0.2, 1)
            picture = picture * (1 - cover) + colour * cover
        return picture

    def cells(self) -> Tensor:
        """Make the cells of a Voronoi diagram, with lines between them."""
        count = self.whole(8, 150)
        centres = torch.rand(count, 2, generator=self.source) * SIDE
        y, x = plane()
        away = ((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2).sqrt()
        (near, second), (nearest, _) = (each.unbind(-1) for each in away.topk(2, largest=False))
        inside = ((second - near) / self.random(2, 8)).clamp(0, 1)
        colours = self.palette(count)[nearest, :, 0, 0].permute(2, 0, 1)[None]
        picture = colours * inside + self.palette(1) * (1 - inside)
        return picture * (1 - near / near.max() / 2) if self.random() < 0.5 else picture

    def stripes(self) -> Tensor:
        """Make one or two bent gratings."""
        y, x = plane()
        bend = self.noise(2.0, 2)[0] * self.random(0, 6)
        waves = torch.zeros(SIDE, SIDE)
        for _ in range(self.whole(1, 3)):
            angle = torch.tensor(self.random(0, torch.pi))
            along = (x + bend[0]) * angle.cos() + (y + bend[1]) * angle.sin()
            waves = waves + torch.sin(2 * torch.pi / (3 + 40 * self.random() ** 2) * along)
        return self.two_colours(waves * self.random(0.5, 6.5))

    def spots(self) -> Tensor:
        """Make what reaction and diffusion leave: noise of one scale, cut at a height."""
        scale = self.random(0.02, 0.17)
        band = torch.exp(-(((frequency() - scale) / (scale / 4)) ** 2))
        spectrum = torch.fft.rfft2(self.normal(SIDE, SIDE)) * band
        made = torch.fft.irfft2(spectrum, s=(SIDE, SIDE))
        return self.two_colours((made / made.std() - self.random(-0.75, 0.75)) * self.random(1, 7))

    def two_colours(self, height: Tensor) -> Tensor:
        """Blend two colours by the logistic function of ``height`` [SIDE, SIDE]."""
        first, second = self.palette(2)
        return second + (first - second)[None] * torch.sigmoid(height)

    def grown(self) -> Tensor:
        """Let a random rule grow."""
        automaton = CellularAutomaton(channels=12, hidden=32).requires_grad_(False)
        strength = self.random(0.05, 0.55)
        for weight in automaton.parameters():
            weight.copy_(self.normal(*weight.shape) * strength / weight.shape[-1] ** 0.5)
        number = self.whole(0, 10**6)
        state = automaton.seed(1, (SIDE, SIDE), seed=number)
        state = state + 0.1 * self.normal(*state.shape)
        state = automaton.grow(state, self.whole(4, 64), seed=number)
        picture = torch.nan_to_num(automaton.to_image(state)).clamp(-3, 4)
        even = (picture - picture.mean()) / (picture.std() + 1e-3)
        return even * self.random(0.05, 0.35) + self.random()


def plane() -> tuple[Tensor, Tensor]:
    """Return the coordinates y and x of every pixel, [SIDE, SIDE] each."""
    line = torch.arange(SIDE, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return y, x


def frequency() -> Tensor:
    """Return the cycles per pixel of a real Fourier transform's numbers, [SIDE, SIDE // 2 + 1]."""
    y, x = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None]
    return (y * y + x * x).sqrt().clamp(min=1 / SIDE)


class Watching(Loss):
    """A loss that keeps a picture of every batch it scores."""

    def __init__(self, loss: Loss) -> None:
        """Watch ``loss``."""
        super().__init__()
        self.loss = loss
        self.seen: list[Tensor] = []

    def forward(self, grown: Grown, generator: torch.Generator) -> Tensor:
        """Score each sample as the loss does: [B]."""
        self.seen.append(grown.image[:1].detach().clone())
        return self.loss(grown, generator)


def in_training(count: int, seed: int) -> Tensor:
    """Grow pictures [count, 3, SIDE, SIDE] by rules that are learning drawn samples."""
    seen = []
    for name in TRAINED:
        # The patch loss needs no network: what it is to teach must not depend on it.
        recipe = replace(PRESETS["draft"].recipe, losses=(PATCH,))
        plan = replace(recipe.training, iterations=count, judge_every=0, seed=seed)
        plan = replace(plan, width=SIDE, height=SIDE, batch_size=1, steps=(24, 48))
        loss = Watching(recipe.build_loss(read_target(f"sample:{name}", exemplar_size=SIDE)))
        for _ in train(recipe.build_automaton(), loss, plan):
            pass
        seen += loss.seen[:: len(TRAINED)]
    return torch.cat(seen).clamp(-1, 2)


def chunked(module: nn.Module, flow: Tensor) -> Tensor:
    """Send ``flow`` [N, C, H, W] through ``module``, a few pictures at a time."""
    return torch.cat([module(part) for part in flow.split(CHUNK)])


def at_places(flow: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pick features [n, C] of ``flow`` [N, C, H, W] at random, and say where they were."""
    rows = flow.permute(0, 2, 3, 1).flatten(0, 2)
    places = torch.randperm(len(rows), generator=source)[:PLACES]
    return rows[places], places


def components(rows: Tensor, count: int) -> Tensor:
    """Find the first ``count`` principal directions of ``rows`` [n, C]: orthonormal [C, count]."""
    return torch.linalg.eigh(torch.cov(rows.double().T))[1][:, -count:].float()


def fit(
    teacher: Sequence[Stage], pictures: Tensor, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Narrow ``teacher`` to the shape of ``compact_stages``; return its numbers and its errors.

    An error is the mean square difference of a layer's features over the teacher's variance, on
    the normalised pictures [N, 3, SIDE, SIDE] it was fitted to.
    """
    source = torch.Generator().manual_seed(seed)
    theirs = ours = pictures
    numbers: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    for stage, (name, narrow) in zip(teacher, compact.compact_stages(), strict=True):
        full = stage.module
        theirs = chunked(full, theirs)
        if isinstance(narrow, nn.Sequential):
            assert isinstance(full, nn.Conv2d)
            ours = fit_convolution(full.weight, narrow, ours, theirs, source)
        else:
            if isinstance(narrow, nn.Conv2d):
                narrow.load_state_dict(full.state_dict())
            ours = chunked(narrow, ours)
        for key, number in narrow.state_dict().items():
            numbers[f"{name}.{key}"] = number.half().contiguous()
        if name.startswith("relu"):
            errors[name] = float((ours - theirs).square().mean() / theirs.var())
            print(f"{name}: {errors[name]:.4f}", flush=True)
    return numbers, errors


def fit_convolution(
    weight: Tensor, narrow: nn.Sequential, ours: Tensor, theirs: Tensor, source: torch.Generator
) -> Tensor:
    """Fill ``narrow`` so that from ``ours`` it comes close to ``theirs``; return what it makes."""
    enter, mix, leave = narrow.children()
    assert isinstance(enter, nn.Conv2d)
    assert isinstance(mix, nn.Conv2d)
    assert isinstance(leave, nn.Conv2d)
    reading = components(at_places(ours, source)[0], enter.out_channels)
    enter.weight.copy_(reading.T[:, :, None, None])
    entered = chunked(enter, ours)
    wide = nn.Conv2d(enter.out_channels, len(weight), 3, padding=1, bias=False)
    wide.weight.copy_(torch.einsum("oihw,ik->okhw", weight, reading))
    # The response of all pictures at once would be large, and a part of it says the same.
    response = chunked(wide, entered[:: max(1, len(entered) // 96)])
    writing = components(at_places(response, source)[0], mix.out_channels)
    mix.weight.copy_(torch.einsum("okhw,op->pkhw", wide.weight, writing))
    mixed = chunked(mix, entered)
    given, places = at_places(mixed, source)
    wanted = theirs.permute(0, 2, 3, 1).flatten(0, 2)[places].double()
    given = torch.cat([given, torch.ones(len(given), 1)], 1).double()
    # A ridge keeps directions that hardly vary from being amplified.
    ridge = 1e-6 * given[:, :-1].var() * len(given) * torch.eye(given.shape[1]).double()
    solution = torch.linalg.solve(given.T @ given + ridge, given.T @ wanted).float()
    leave.weight.copy_(solution[:-1].T[:, :, None, None])
    assert leave.bias is not None
    leave.bias.copy_(solution[-1])
    return chunked(leave, mixed)


def provenance(teacher: str, errors: dict[str, float], seed: int) -> dict[str, str]:
    """Say where the numbers come from."""
    call = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "network": "VGG19 to relu4_1, its convolutions narrowed; input normalised as ImageNet's",
        "teacher": "VGG19 of Simonyan and Zisserman (2015), weights CC-BY 4.0, as torchvision has "
        "them; SHA-256 of the file " + hashlib.sha256(Path(teacher).read_bytes()).hexdigest(),
        "licence": "CC-BY 4.0, like the teacher's weights",
        "pictures": f"{PICTURES} photographs of scikit-image, drawn samples, generated pictures, "
        f"and {IN_TRAINING} of rules in training",
        "recipe": f"scripts/distill_features.py --seed {seed}",
        "errors": " ".join(f"{name} {error:.4f}" for name, error in errors.items()),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
    }


@torch.no_grad()
def main() -> None:
    """Make the pictures, fit, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--teacher", type=Path, help="torchvision's VGG19; found when left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=compact.WEIGHTS)
    choice = parser.parse_args()
    began = time.monotonic()
    teacher = up_to("vgg19", build_stages("vgg19"), ["relu4_1"])
    source, (mean, std) = load_weights("vgg19", teacher, choice.teacher)
    with torch.enable_grad():
        shown = in_training(IN_TRAINING, choice.seed)
    make = Pictures(choice.seed)
    pictures = torch.cat([shown, *(make() for _ in range(PICTURES))])
    print(f"{len(pictures)} pictures after {time.monotonic() - began:.0f} s", flush=True)
    mean, std = (torch.tensor(each)[:, None, None] for each in (mean, std))
    numbers, errors = fit(teacher, (pictures - mean) / std, choice.seed)
    save_file(numbers, choice.output, provenance(source, errors, choice.seed))
    size = choice.output.stat().st_size
    print(f"wrote {choice.output}: {size / 1e6:.2f} MB after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
