"""An automaton in motion: frames of a roll-out, and loops that end where they began.

A roll-out never comes back by itself. To close it, the cells of the last frames go over, patch
after patch, to the states that led to the first one. Few are on their way at a time, and between
two frames the rule acts, by the same chance as it did there, and mends where old and new meet: so
that nearly everywhere a frame shows one texture, not two laid over each other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.images import to_uint8
from nca_texture.noise import FILM, generator, seed_number
from nca_texture.render import composited, straight_alpha
from nca_texture.surgery import Theatre

_PATCH = 6.0  # cells, the deviation of the blur that makes patches
_CROSSING = 0.25  # of the closing frames, those that one cell is on its way


@dataclass(frozen=True, kw_only=True)
class Shooting:
    """What is filmed; sizes are (height, width)."""

    pixels: tuple[int, int]
    frames: int = 48
    every: int = 2  # steps from frame to frame
    start: int = 96  # steps before the first frame
    blend: int = 16  # of the frames, the last so many close the loop; 0 closes none
    stage: tuple[int, int] | None = None  # a larger picture, in whose middle it is shown
    background: tuple[float, float, float] | None = None  # what is transparent is laid over it
    zoom: int = 1  # so many pixels of a frame, across and down, for each of ``pixels``

    def __post_init__(self) -> None:
        if min(self.pixels) < 1:
            raise ValueError(f"the size is {self.pixels[1]}x{self.pixels[0]}; give at least 1x1")
        for name, least in (("frames", 1), ("every", 1), ("start", 0), ("blend", 0), ("zoom", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.blend >= self.frames:
            raise ValueError(
                f"{self.blend} frames cannot close a loop of {self.frames}; give more --frames"
            )
        if self.blend * self.every > self.start:
            raise ValueError(
                f"the loop closes onto the {self.blend * self.every} steps before the first frame, "
                f"which is at step {self.start}; give more --steps or fewer --blend"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (height, width) of a frame."""
        height, width = self.stage or self.pixels
        return height * self.zoom, width * self.zoom


@dataclass(frozen=True)
class Film:
    """Frames, and how far apart they are."""

    frames: NDArray[np.uint8]  # [N, H, W, 3 or 4], straight alpha
    steps: NDArray[np.floating]  # [N]: RMS difference of each frame and the next, 0 to 1
    loops: bool
    contrast: float  # the least of a frame that closes the loop, in units of the others'

    @property
    def jump(self) -> float:
        """Return the step from the last frame to the first, in units of the median step."""
        return float(self.steps[-1] / max(float(np.median(self.steps[:-1])), 1e-9))

    @property
    def largest(self) -> float:
        """Return the largest step inside, in units of the median step."""
        return float(self.steps[:-1].max() / max(float(np.median(self.steps[:-1])), 1e-9))


def film(
    automaton: CellularAutomaton,
    shooting: Shooting,
    *,
    seed: int | str = 0,
    kernel: str = "auto",
    theatre: Theatre | None = None,
    progress: Callable[[int], None] = lambda frames: None,
) -> Film:
    """Film a roll-out; ``progress`` is told how many frames are there.

    With a ``theatre`` what befalls is filmed as well; such a film is no loop. A grid that is
    enlarged is shown in the middle of the ``stage`` from the start.
    """
    cells = automaton.grid.cells_for(shooting.pixels)
    automaton.grid.check_size(cells)
    if theatre is not None and shooting.blend:
        raise ValueError("what befalls once closes no loop; give --blend 0")
    every, count, blend = shooting.every, shooting.frames, shooting.blend

    def grow(state: Tensor, steps: int, at: int) -> Tensor:
        if theatre is not None:
            return theatre.grow(state, steps, seed=seed, start=at)
        return automaton.grow(state, steps, seed=seed, start=at, kernel=kernel)

    frames: list[NDArray[np.uint8]] = []
    with torch.inference_mode():
        at = shooting.start - blend * every
        state = grow(automaton.seed(1, cells, seed=seed), at, 0)
        turns = _turns(cells, seed, automaton.weight_in.device)
        before: list[Tensor] = []  # the states that lead to the first frame
        for _ in range(blend):
            before.append(state)
            state = grow(state, every, at)
            at += every
        for number in range(count):
            closing = number - (count - blend)
            if closing >= 0:
                share = _share(turns, closing / blend, (closing + 1) / blend)
                state = torch.lerp(state, before[closing], share)
                at = shooting.start + (number - count) * every
            frames.append(_shown(automaton, state, shooting))
            progress(number + 1)
            if number + 1 < count:
                state = grow(state, every, at)
                at += every
    contrasts = [float(frame.std(axis=(0, 1)).mean()) for frame in frames]
    usual = float(np.median(contrasts[: count - blend]))
    least = min(contrasts[count - blend :], default=usual) / max(usual, 1e-9)
    return Film(np.stack(frames), _steps(frames), blend > 0, least)


def _turns(cells: tuple[int, int], seed: int | str, device: torch.device) -> Tensor:
    """Draw when each cell's turn comes, smooth in space and round the torus: [H, W] in [0, 1]."""
    height, width = cells
    noise = torch.rand(cells, generator=generator(seed_number(seed), 0, FILM))
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    blur = torch.exp(-2 * (math.pi * _PATCH) ** 2 * (rows**2 + columns**2))
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * blur, s=cells)
    ranks = smooth.flatten().argsort().argsort().reshape(cells)
    return (ranks / max(height * width - 1, 1)).to(device)


def _share(turns: Tensor, before: float, after: float) -> Tensor:
    """How much of the way that is left each cell goes between two moments in [0, 1]."""
    done, then = (
        ((moment - turns * (1 - _CROSSING)) / _CROSSING).clamp(0, 1) for moment in (before, after)
    )
    if after == 1:
        return torch.ones_like(turns)
    return torch.where(done < 1, (then - done) / (1 - done).clamp(min=1e-6), 1.0).clamp(0, 1)


def _shown(automaton: CellularAutomaton, state: Tensor, shooting: Shooting) -> NDArray[np.uint8]:
    if shooting.stage is None:
        image = automaton.to_image(state, clip=False, size=shooting.pixels)[0]
    else:
        image = automaton.to_image(state, clip=False)[0]
        image = _in_the_middle(image, shooting.stage)
    picture = image.permute(1, 2, 0).float().cpu().numpy()
    if not np.isfinite(picture).all():
        raise ValueError(
            "the rule ran away: a frame is not finite; use fewer --steps, or train for longer"
        )
    shown = straight_alpha(picture.clip(0, 1))
    if shooting.background is not None:
        shown = composited(shown, shooting.background)
    frame = to_uint8(shown)
    return frame.repeat(shooting.zoom, axis=0).repeat(shooting.zoom, axis=1)


def _in_the_middle(image: Tensor, size: tuple[int, int]) -> Tensor:
    below, beside = size[0] - image.shape[1], size[1] - image.shape[2]
    sides = (beside // 2, beside - beside // 2, below // 2, below - below // 2)
    return torch.nn.functional.pad(image, sides)


def _steps(frames: list[NDArray[np.uint8]]) -> NDArray[np.floating]:
    """Measure the RMS difference of each frame and the next, and of the last and the first."""
    numbers = []
    for number, frame in enumerate(frames):
        after = frames[(number + 1) % len(frames)]
        apart = (frame.astype(np.float32) - after) / 255
        numbers.append(np.sqrt(np.square(apart).mean()))
    return np.array(numbers)
