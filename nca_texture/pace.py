"""How long training takes: a budget of seconds as a number of iterations."""

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from nca_texture.automaton import CellularAutomaton
from nca_texture.curriculum import Curriculum
from nca_texture.judging import judge_together, steps_after
from nca_texture.losses.base import Loss
from nca_texture.train_plan import TrainPlan
from nca_texture.training import Report, train_together
from nca_texture.wide import age_on

_MOST_TRIALS = 25  # iterations run to find out how long one takes


def calibrate(automaton: CellularAutomaton, loss: Loss, plan: TrainPlan, seconds: float) -> int:
    """Turn a budget of ``seconds`` into a number of iterations, by running a few on a copy."""
    return calibrate_together([automaton], [loss], plan, seconds)


def calibrate_together(
    automata: Sequence[CellularAutomaton], losses: Sequence[Loss], plan: TrainPlan, seconds: float
) -> int:
    """Turn a budget of ``seconds`` for all ``automata`` together into a number of iterations."""
    mean = sum(plan.steps) // 2
    trial = replace(
        plan,
        iterations=_MOST_TRIALS,
        steps=(mean, mean),
        judge_every=0,
        window_every=0,
        large_every=0,
    )
    trial = replace(trial, curriculum=Curriculum(), from_seeds=0.0)  # the dearer part of them
    twins = [copy.deepcopy(automaton) for automaton in automata]
    times: list[float] = []
    before = time.perf_counter()
    for outcomes in train_together(twins, losses, trial):
        for report in outcomes.values():
            if isinstance(report, Report):
                report.loss  # noqa: B018 - waits for the device
        now = time.perf_counter()
        times.append(now - before)
        before = now
        if len(times) >= 4 and sum(times) > min(10.0, 0.05 * seconds):
            break
    cells = statistics.mean(height * width for height, width in plan.sizes)
    each = statistics.median(times[1:]) * cells / (plan.height * plan.width)
    if plan.judge_every:
        before = time.perf_counter()
        judge_together(twins, losses, plan, "auto")
        shorter = steps_after(plan, 0) / steps_after(plan, plan.iterations)  # in the first half
        each += (time.perf_counter() - before) * (1 + shorter) / 2 / plan.judge_every
    if plan.window_every:
        before = time.perf_counter()
        for twin in twins:
            age_on(None, twin, plan, 0, "auto")
        each += (time.perf_counter() - before) / plan.window_every
    return max(1, int(seconds / each))
