"""What the experiments of growth are measured by: errors, recovery, and what each has of its own.

Every measure takes a `Subject` and returns what it found by name, as JSON can keep it. What one
experiment is looked at for besides stands in ``OWN``, by its name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, Plant
from nca_texture.damage import circle, cut, half
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.moving import rolled_back
from nca_texture.losses.pixel import premultiply
from nca_texture.losses.rotation import RotationLoss
from nca_texture.recipe import Recipe
from nca_texture.surgery import Event, Theatre, resampled
from nca_texture.targets.figures import SHELL_GROWTH, SHELL_MIDDLE, nautilus_at, shown

SEED = 2026  # of what is measured; trainings have others
CUTS = 8
LATE = 6000  # steps after which a class must still be what it is
CYCLES = 8  # quarters of a turn that a shell goes on for

Found = dict[str, object]


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    automaton: CellularAutomaton
    recipe: Recipe
    loss: Loss
    target: Tensor  # [N, 3 or 4, H, W], straight alpha

    @property
    def steps(self) -> int:
        """The most steps it was trained with."""
        return self.recipe.training.steps[1]

    @property
    def size(self) -> tuple[int, int]:
        """Cells (height, width) of its grid."""
        return self.recipe.training.size

    def scores(self, state: Tensor, classes: Tensor, age: int, term: int = 0) -> Tensor:
        """Score each sample by one loss of the recipe, first the difference to the target: [B]."""
        image = self.automaton.to_image(state, clip=False)
        labels = classes if self.automaton.classes > 1 else None
        grown = Grown(image, state, labels, ages=torch.full_like(classes, age))
        chosen = list(self.loss.losses)[term]  # pyright: ignore
        return chosen(grown, torch.Generator().manual_seed(SEED))


def idle(subject: Subject) -> CellularAutomaton:
    """Make the same automaton with a last layer of zeros: a rule that does nothing."""
    twin = subject.recipe.build_automaton().requires_grad_(False)
    twin.load_state_dict(subject.automaton.state_dict())
    for weight in (twin.weight_out, twin.bias_out):
        if weight is not None:
            weight.zero_()
    return twin


def errors(subject: Subject) -> Found:
    """Measure errors at the trained steps and later, and the recovery from cuts."""
    automaton, steps, size = subject.automaton, subject.steps, subject.size
    count = max(CUTS, automaton.classes)
    classes = torch.arange(count) % automaton.classes
    state = automaton.seed(count, size, seed=SEED, classes=classes)
    found: Found = {}
    done, seen = 0, None
    for times in (1, 3, 10):
        state = automaton.grow(state, times * steps - done, seed=SEED, start=done)
        done = times * steps
        values = subject.scores(state, classes, done)
        found[f"error at {times}x"] = mean(values)
        if automaton.classes > 1:
            found[f"worst class at {times}x"] = worst(values, classes)
        seen = state if seen is None else seen
    assert seen is not None
    before = subject.scores(seen, classes, steps)
    turns = [2 * math.pi * (k + 0.37) / count for k in range(count)]
    gone = torch.stack([half(size, (0.5, 0.5), turn) for turn in turns])
    hurt = cut(seen, gone, automaton.held)
    after = automaton.grow(hurt, 2 * steps, seed=SEED, start=steps)
    damage = (subject.scores(hurt, classes, steps) - before).clamp(min=1e-6)
    healed = subject.scores(after, classes, 3 * steps) - before
    return found | {"recovery": round(1 - (healed.mean() / damage.mean()).item(), 4)}


def mean(values: Tensor) -> float:
    """Return the mean with five digits."""
    return round(values.mean().item(), 5)


def worst(values: Tensor, classes: Tensor) -> float:
    """Return the mean of the class that has the largest."""
    return max(mean(values[classes == k]) for k in classes.unique().tolist())


def cavity(subject: Subject) -> Found:
    """Measure how much of the cavity of a hollow figure lived on the way, and lives at the end."""
    alpha = subject.target[0, 3].numpy()
    outside = flooded(alpha < 0.1)
    hollow = torch.from_numpy((alpha < 0.1) & ~outside)
    if not hollow.any():
        return {}
    state, most = subject.automaton.seed(1, subject.size), 0.0
    for step in range(2 * subject.steps):
        state = subject.automaton.grow(state, 1, seed=SEED, start=step)
        most = max(most, (state[0, 3][hollow] > 0.1).float().mean().item())
    last = (state[0, 3][hollow] > 0.1).float().mean().item()
    return {"cavity alive at most": round(most, 3), "cavity alive at the end": round(last, 3)}


def flooded(free: np.ndarray) -> np.ndarray:
    """Find what of ``free`` is connected to the border."""
    from scipy.ndimage import label

    regions = np.zeros(free.shape, np.int32)
    label(free, output=regions)
    border = set(regions[0]) | set(regions[-1]) | set(regions[:, 0]) | set(regions[:, -1])
    return np.isin(regions, list(border - {0}))


def graft(subject: Subject) -> Found:
    """Measure how like its first surroundings those of a grafted, frozen patch become.

    A ring of 6 cells around the graft, 50 steps later, is compared with that around the head, with
    the rule and with a rule that does nothing: then the ring is what was there before.
    """
    plan = graft_on(subject)
    size, head, to = plan.size, plan.head, plan.to
    ring = plan.around(plan.radius + 6 / min(size)) & ~plan.around(plan.radius)
    shift = round((to[1] - head[1]) * size[0]), round((to[0] - head[0]) * size[1])
    rows, columns = (index + way for index, way in zip(ring.nonzero().T, shift, strict=True))
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    automaton = subject.automaton
    grown = automaton.grow(automaton.seed(1, size, seed=SEED), subject.steps, seed=SEED)
    want = automaton.to_image(grown)[0][:, ring][:, inside]
    values = []
    for rule in (automaton, idle(subject)):
        state = surgery(subject, rule).grow(grown, 50, seed=SEED, start=subject.steps)
        there = automaton.to_image(state)[0][:, rows[inside], columns[inside]]
        values.append(mean((there - want).square()))
    return {"ring of the graft": values[0], "with zeroed weights": values[1]}


@dataclass(frozen=True)
class Graft:
    """The head with the shoulders, to beside the flank, on a grid with half as much room again."""

    size: tuple[int, int]  # cells

    @property
    def head(self) -> tuple[float, float]:
        """Where it is from, (x, y) as all places here."""
        return 0.5, 0.5 - 13 / self.size[0]

    @property
    def to(self) -> tuple[float, float]:
        """Where it goes."""
        return 0.5 + 24 / self.size[1], 0.5

    @property
    def radius(self) -> float:
        """Its reach, as a fraction of the shorter side."""
        return 9 / min(self.size)

    def around(self, radius: float) -> Tensor:
        """Find the cells within ``radius`` of where it is from: bool [H, W]."""
        return circle(self.size, (self.head[1], self.head[0]), radius)


def graft_on(subject: Subject) -> Graft:
    """Return what is grafted."""
    height, width = subject.size
    return Graft((3 * height // 2, 3 * width // 2))


def surgery(subject: Subject, rule: CellularAutomaton) -> Theatre:
    """Graft after the trained steps, and hold what was grafted."""
    plan, at = graft_on(subject), subject.steps
    copied = Event(at=at, do="graft", circle=(*plan.head, plan.radius), to=plan.to)
    return Theatre(rule, [copied, Event(at=at, do="freeze", circle=(*plan.to, plan.radius))])


def crawling(subject: Subject) -> Found:
    """Measure how fast something crawls, and its error in a frame that goes as fast as it does.

    The frame of the errors goes as fast as the target; there a rule that is too slow fails.
    """
    automaton, age = subject.automaton, 2 * subject.steps
    stride = max(subject.steps // 4, 1)
    state = automaton.grow(automaton.seed(CUTS, subject.size, seed=SEED), age, seed=SEED)
    pictures, way = automaton.to_image(state), torch.zeros(CUTS, 2)
    while age + stride <= 10 * subject.steps:
        state = automaton.grow(state, stride, seed=SEED, start=age)
        later = automaton.to_image(state)
        way, age, pictures = way + moved(pictures, later), age + stride, later
    goal = premultiply(subject.target).expand(CUTS, -1, -1, -1)
    followed = rolled_back(pictures, moved(goal, pictures))
    down, right = (way / (age - 2 * subject.steps)).mean(0).tolist()
    wanted = subject.recipe.target.motion
    return {
        "cells per step (down, right)": f"{down:.3f}, {right:.3f}",
        "of the target": f"{wanted[0]:g}, {wanted[1]:g}",
        "error where it is at 10x": mean((followed - goal).square()),
    }


def moved(first: Tensor, second: Tensor) -> Tensor:
    """Find how far each of ``first`` [B, C, H, W] has come in ``second``: [B, 2] cells.

    The shift around the torus at which they are most alike, by less than half of the grid.
    """
    size = first.shape[2:]
    alike = torch.fft.irfft2(
        (torch.fft.rfft2(second) * torch.fft.rfft2(first).conj()).sum(1), s=size
    )
    place = alike.flatten(1).argmax(1)
    found = torch.stack([place // size[1], place % size[1]], 1)
    whole = torch.tensor(size)
    return torch.where(found > whole // 2, found - whole, found)


def spiral(subject: Subject) -> Found:
    """Measure the shell that the rule goes on growing, quarter for quarter of its turn.

    From a cell to a shell, then ``CYCLES`` times: all is turned back and made smaller by a quarter,
    and the rule draws the missing one. Errors are against the logarithmic spiral, also after both
    are turned forward and made larger again by one quarter and by two, where the older whorls are
    seen; to draw a small shell large costs the ideal one a little, too. With zeroed weights the
    first shell shrinks to a dot.
    """
    drawn = cycles(subject, subject.automaton)
    left = cycles(subject, idle(subject), drawn[0])
    zeros = torch.zeros(CUTS, dtype=torch.long)
    found: Found = {"cycles": CYCLES, "error at 1x": mean(subject.scores(drawn[0], zeros, 0))}
    for number in (3, CYCLES):
        found[f"after {number} cycles"] = mean(subject.scores(drawn[number], zeros, 0))
    ideal = premultiply(subject.target)
    for quarters in (1, 2):
        shells = {"": drawn[-1], " (the ideal shell itself)": ideal, " (zeroed weights)": left[-1]}
        for whose, shell in shells.items():
            key = f"turned and scaled by {quarters}/4 turn{whose}"
            found[key] = mean(apart(subject, shell, quarters))
    found["with zeroed weights"] = mean(subject.scores(left[-1], zeros, 0))
    return found


def cycles(
    subject: Subject, automaton: CellularAutomaton, state: Tensor | None = None
) -> list[Tensor]:
    """Grow shells from ``state``, or from cells: those of the first cycle and of every later."""
    theatre, found = Theatre(automaton, subject.recipe.event), []
    for number in range(CYCLES + 1):
        theatre.reset()
        if number == 0 and state is not None:
            found.append(state)
            continue
        state = automaton.seed(CUTS, subject.size, seed=SEED) if state is None else state
        state = theatre.grow(
            state, subject.steps, seed=[SEED + CUTS * number + k for k in range(CUTS)]
        )
        found.append(state)
    return found


def apart(subject: Subject, state: Tensor, quarters: int) -> Tensor:
    """Compare shells, turned and scaled by ``quarters`` of a turn, with the ideal spiral: [B].

    Only the figure's own square is looked at: there all of the spiral is drawn.
    """
    plan = subject.recipe.target
    room, cells = plan.padding, plan.exemplar_size
    grown = SHELL_GROWTH**quarters
    ideal = torch.from_numpy(shown(lambda n: nautilus_at(n, grown), cells)).float()
    middle = [(1 + at) / 2 for at in SHELL_MIDDLE]
    own = slice(room, room + cells)
    picture = subject.automaton.to_image(state, clip=False)[..., own, own]
    picture = resampled(picture, quarters * math.pi / 2, grown, middle)
    goal = premultiply(ideal.permute(2, 0, 1)[None])
    # What lies beyond the window before is unknown after.
    known = resampled(torch.ones_like(picture[:, :1]), quarters * math.pi / 2, grown, middle) > 0.99
    return ((picture - goal).square() * known).sum((1, 2, 3)) / (4 * known.sum((1, 2, 3)))


def breeding(subject: Subject) -> Found:
    """Measure a mixture of the first two classes beside both, and beside a blank and noise.

    A mixture should be nearer to each of its parents than an empty picture and noise are.
    """
    automaton, number = subject.automaton, subject.automaton.classes
    place = automaton.garden[0].place
    pictures, areas = [], []
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        mixture = (*weights, *(0.0 for _ in range(number - 2)))
        rule = automaton.planted([Plant(place, mixture)])
        state = rule.grow(rule.seed(1, subject.size), 2 * subject.steps, seed=SEED)
        pictures.append(rule.to_image(state))
        areas.append((state[:, 3] > 0.1).sum().item())
    parents, mixed = pictures[:2], pictures[2]
    chance = torch.rand(mixed.shape, generator=torch.Generator().manual_seed(SEED))
    rivals = {"blank": torch.zeros_like(mixed), "noise": premultiply(chance)}
    to = [mean((mixed - parent).square()) for parent in parents]
    found: Found = {"mixture to its parents": to}
    for name, rival in rivals.items():
        found[name] = [mean((rival - parent).square()) for parent in parents]
    nearest = [
        min((rival - parent).square().mean() for rival in rivals.values()) for parent in parents
    ]
    found["nearer than these"] = all(a < b for a, b in zip(to, nearest, strict=True))
    return found | {"area of the mixture": round(areas[2] / max(sum(areas[:2]) / 2, 1), 3)}


def lasting(subject: Subject) -> Found:
    """Measure whether every class is after thousands of steps what it was at the trained steps."""
    automaton = subject.automaton
    classes = torch.arange(automaton.classes)
    state = automaton.seed(len(classes), subject.size, seed=SEED, classes=classes)
    names = [plan.name for plan in subject.recipe.losses]
    term = names.index("patch") if "patch" in names else 0
    state = automaton.grow(state, subject.steps, seed=SEED)
    first = worst(subject.scores(state, classes, subject.steps, term), classes)
    state = automaton.grow(state, LATE - subject.steps, seed=SEED, start=subject.steps)
    values = subject.scores(state, classes, LATE, term)
    found: Found = {
        "worst class at 1x, alone": first,
        f"after {LATE} steps": worst(values, classes),
    }
    others = subject.scores(state, classes.roll(1), LATE, term)
    return found | {"as another class": mean(others)}


def turned(subject: Subject) -> Found:
    """Find which way each of some growths lies: a rule that knows where up is grows all alike."""
    automaton, steps = subject.automaton, 3 * subject.steps
    seeds = list(range(SEED, SEED + CUTS))
    state = automaton.grow(automaton.seed(CUTS, subject.size, seed=seeds), steps, seed=seeds)
    loss = next(each for each in subject.loss.losses if isinstance(each, RotationLoss))  # pyright: ignore
    ways = loss.turns(automaton.to_image(state, clip=False)).tolist()
    return {"turned by (degrees)": ", ".join(f"{way:.0f}" for way in ways)}


OWN: dict[str, tuple[Callable[[Subject], Found], ...]] = {
    "bone": (cavity,),
    "newt-graft": (graft,),
    "worm-moving": (crawling,),
    "multiclass-flowers": (breeding, lasting),
    "genome-geckos": (breeding, lasting),
    "isotropic": (turned,),
    "two-textures": (lasting,),
}
