"""What befalls states that a pool lent, before the rule grows them: each changes a loan in place.

Some start anew, some from what a lesson leaves of the target, some give way to a window of a larger
grid, some are cut, some are told that they are of another class.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.damage import at_random, cut
from nca_texture.devices import send
from nca_texture.noise import stream
from nca_texture.pool import Loan
from nca_texture.train_plan import TrainPlan
from nca_texture.wide import Wide, window

RESEED = 12  # the stream of chance that seeds are drawn from in the course of a run


def sow(
    loan: Loan, automaton: CellularAutomaton, plan: TrainPlan, iteration: int, count: int
) -> None:
    """Let the first ``count`` samples start anew; all classes have their turn."""
    first = iteration if count > 1 else iteration // plan.reseed_every
    classes = (torch.arange(count) + first * count) % automaton.classes
    seed = stream(plan.seed, RESEED, iteration)
    loan.states[:count] = automaton.seed(count, loan.size, seed=seed, classes=classes)
    loan.classes[:count] = send(classes, loan.classes.device)
    loan.ages[:count] = 0


def transplant(loan: Loan, wide: Wide, chance: torch.Generator, new: int) -> None:
    """Let the sample after the first ``new`` be a window of ``wide``; its edges do not fit."""
    loan.states[new] = window(wide, loan.size, chance)
    loan.classes[new : new + 1], loan.ages[new : new + 1] = wide.classes, wide.ages


def teach(
    loan: Loan,
    automaton: CellularAutomaton,
    plan: TrainPlan,
    goals: Tensor,
    levels: Sequence[float],
    chance: torch.Generator,
) -> None:
    """Let the first half start from what the curriculum leaves of ``goals`` [classes, 4, H, W]."""
    lesson = plan.curriculum
    count = max(1, len(loan.states) // 2)
    seeds = automaton.seed(count, plan.size, classes=loan.classes[:count]).detach()
    own, place = automaton.own, automaton.garden[0].place
    begun = lesson.begin(goals[loan.classes[:count]], seeds[:, :own], place, levels, chance)
    loan.states[:count] = torch.cat([begun, seeds[:, own:]], 1)
    loan.ages[:count] = 0
    bitten = len(loan.states) if lesson.moment == "any" else count
    gone = lesson.bites(bitten, plan.size, levels, chance)
    alone = seeds[:, 3] > 0  # the seed is left, so that something can grow
    gone[:count] &= ~alone.cpu()
    loan.states[:bitten] = cut(loan.states[:bitten], send(gone, seeds.device), automaton.held)


def hurt(
    loan: Loan, automaton: CellularAutomaton, plan: TrainPlan, chance: torch.Generator, new: int
) -> None:
    """Cut something out of the last ``plan.damage`` samples, but for the first ``new`` of all.

    Those have just begun: a batch of one may be due for both, and half a seed may be none.
    """
    shapes = plan.damage_shapes
    chosen = torch.randint(len(shapes), (plan.damage,), generator=chance).tolist()
    gone = torch.stack([at_random(shapes[shape], loan.size, chance) for shape in chosen])
    gone[: max(0, new - (len(loan.states) - plan.damage))] = False
    last = loan.states[-plan.damage :]
    loan.states[-plan.damage :] = cut(last, send(gone, last.device), automaton.held)


def switch(
    loan: Loan, automaton: CellularAutomaton, plan: TrainPlan, chance: torch.Generator
) -> None:
    """Tell ``plan.switch`` samples, not those that are damaged, that they are of another class.

    So a rule learns to become one thing from another.
    """
    number = automaton.classes
    turn = torch.randint(1, number, (plan.switch,), generator=chance)
    end = len(loan.classes) - plan.damage
    some = slice(end - plan.switch, end)
    loan.classes[some] = (loan.classes[some] + send(turn, loan.classes.device)) % number
