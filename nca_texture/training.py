"""The only training loop: it yields reports, prints nothing, writes nothing and knows no paths.

Everything random in an iteration is a function of (run seed, iteration), so a run that goes on
from a snapshot is the run that was never stopped.
"""

import copy
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nca_texture.automaton import CellularAutomaton, Init, grow_together
from nca_texture.judging import Verdict, judge_together, show, steps_after
from nca_texture.losses.base import Loss
from nca_texture.losses.together import Scorer
from nca_texture.noise import generator, stream
from nca_texture.pool import Loan, Pool
from nca_texture.soap import Soap
from nca_texture.surgery import Theatre
from nca_texture.train_plan import TrainPlan
from nca_texture.treatments import RESEED, hurt, sow, switch, teach, transplant
from nca_texture.wide import Wide, age_on

# Streams of a run's chance, apart from those of noise.py, judging.py and treatments.py.
_FIRE, _POOL, _REDRAW, _SORT = 11, 13, 15, 16

_CHECK_EVERY = 10  # iterations between looks at the losses: each look waits for the device
_SNAPSHOT_EVERY = 50  # iterations between states that a diverging run can go back to
_EXPLODED = 1e3  # losses that stay above this many times the first values have exploded
_RUN_AWAY = 100.0  # a state with a number beyond this does not come back: it starts anew
_ASLEEP = 1e-12  # a gradient below this moves nothing
_MOST_RETRIES = 3
_OPTIMISERS = {"adam": torch.optim.Adam, "soap": Soap}


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to change."""


@dataclass
class Snapshot:
    """All that a run is, after ``iteration`` iterations: enough to go on to the same bits."""

    iteration: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    pool: Tensor
    pool_classes: Tensor | None = None  # of its states; None where there is one class
    pool_ages: Tensor | None = None  # of its states, in steps; None where they were not kept
    wide: Wide | None = None  # the larger grid; None without one, or where it was not kept
    levels: list[float] = field(default_factory=list)  # how hard the lessons of a curriculum are
    learning_rate_scale: float = 1.0
    retries: int = 0
    redraws: int = 0
    first_loss: float | None = None
    best_weights: dict[str, Tensor] | None = None
    best_score: float = math.inf
    best_iteration: int = 0
    best_steps: int = 0
    best_marks: list[list[float]] = field(default_factory=list)  # [steps, loss] at each mark


@dataclass(frozen=True)
class Report:
    """One iteration. Losses stay on the device until they are asked for."""

    iteration: int  # counted from 1
    iterations: int
    losses: dict[str, Tensor]  # mean over the batch: "total" and the terms, unweighted
    image: Tensor  # [B, 3 or 4, h, w]
    steps: int
    learning_rate: float
    events: tuple[str, ...]  # sentences about what went wrong and was mended
    verdict: Verdict | None  # of the long roll-out, in the iterations that have one
    is_best: bool  # the weights are the best so far
    _run: "_Run"

    @property
    def levels(self) -> list[float]:
        """How hard the lessons of a curriculum are, each 0 to 1; empty without one."""
        return list(self._run.now.levels)

    @property
    def loss(self) -> float:
        """Mean loss of the batch; waits for the device."""
        return self.losses["total"].item()

    def snapshot(self) -> Snapshot:
        """Copy all that is needed to go on from here, or from the last good state before NaN."""
        return self._run.sound_snapshot()


def train(
    automaton: CellularAutomaton,
    loss: Loss,
    plan: TrainPlan,
    *,
    resume: Snapshot | None = None,
    kernel: str = "auto",
    init: Init = "uniform",
    theatre: Theatre | None = None,
    goals: Tensor | None = None,
) -> Iterator[Report]:
    """Train ``automaton`` in place and yield a report after every iteration.

    At the end the automaton has the best weights that a long roll-out found, or the last when
    ``plan.judge_every`` is 0. What a ``theatre`` does befalls every batch, at steps counted from
    when it left the pool, and no long roll-out. ``goals`` [classes, 4, H, W], premultiplied, are
    what a curriculum starts from. ``init`` is how weights are drawn again when a
    start was dead. Raises ``TrainingError`` when the run diverges or stays dead after three
    attempts; a run that goes back to its last good state goes back to a snapshot at most 50
    iterations old, after a resume at most to where it was resumed.
    """
    resumed = None if resume is None else [resume]
    together = train_together(
        [automaton],
        [loss],
        plan,
        resume=resumed,
        kernel=kernel,
        init=init,
        theatres=None if theatre is None else [theatre],
        goals=None if goals is None else [goals],
    )
    for outcome in together:
        if isinstance(outcome[0], TrainingError):
            raise outcome[0]
        yield outcome[0]


def train_together(
    automata: Sequence[CellularAutomaton],
    losses: Sequence[Loss],
    plan: TrainPlan,
    *,
    resume: Sequence[Snapshot] | None = None,
    kernel: str = "auto",
    init: Init = "uniform",
    theatres: Sequence[Theatre] | None = None,
    goals: Sequence[Tensor] | None = None,
) -> Iterator[dict[int, "Report | TrainingError"]]:
    """Train each of ``automata`` by its own loss, as ``train`` would, all as one batch.

    ``automata`` differ in nothing but their weights. Chance is that of a run alone with the plan's
    seed; on a CPU so is every bit. After every round the reports of those that took part are
    yielded, by their index. A run that cannot go on has its error there instead, and the others go
    on without it. Those furthest behind go next: a run that went back to its last good state
    catches up alone, and then all go on together.
    """
    runs = [
        _Run(automaton, loss, plan, kernel, init)
        for automaton, loss in zip(automata, losses, strict=True)
    ]
    for run, theatre in zip(runs, theatres or (), strict=theatres is not None):
        if any(event.do == "enlarge" for event in theatre.events):
            raise ValueError("a training keeps its grid; leave out the event 'enlarge'")
        run.theatre = theatre
    for run, goal in zip(runs, goals or (), strict=goals is not None):
        run.goals = goal.to(run.automaton.weight_in.device)
    if plan.curriculum.threshold and (goals is None or not plan.persistent):
        raise ValueError(
            "a curriculum starts from pictures with transparency and goes on with what it made; "
            "grow one with a persistent regime, or set training.curriculum.threshold to 0"
        )
    for run, snapshot in zip(runs, resume or (), strict=resume is not None):
        run.restore(snapshot)
    edges, seeds = automata[0].grid.edges, automata[0].seed_kind
    if plan.window_every and (set(edges) != {"torus"} or seeds == "cell"):
        raise ValueError(
            "training.window_every cuts windows out of a larger torus that is full of a texture; "
            "set it to 0 on a grid with another edge, and where a picture grows from a cell"
        )
    going, scorer = dict(enumerate(runs)), Scorer()
    while True:
        for index in [i for i, run in going.items() if run.now.iteration >= plan.iterations]:
            going.pop(index).end()
        if not going:
            return
        behind = min(run.now.iteration for run in going.values())
        next_ones = {i: run for i, run in going.items() if run.now.iteration == behind}
        outcomes = _advance(list(next_ones.values()), scorer)
        yield dict(zip(next_ones, outcomes, strict=True))
        for index, outcome in zip(next_ones, outcomes, strict=True):
            if isinstance(outcome, TrainingError):
                del going[index]


def equalise_gradients(module: nn.Module) -> None:
    """Give every parameter tensor a gradient of norm one, so that long growth cannot explode."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad /= parameter.grad.norm() + 1e-8


def _classes_in_turn(count: int, sizes: Sequence[tuple[int, int]], classes: int) -> Tensor:
    """Say of which class each of ``count`` places is: on grids of each size all have their turn."""
    met = Counter[tuple[int, int]]()
    found = []
    for place in range(count):
        size = sizes[place % len(sizes)]
        found.append(met[size] % classes)
        met[size] += 1
    return torch.tensor(found)


@dataclass(frozen=True)
class _Batch:
    """What a run has drawn for one iteration."""

    loan: Loan
    steps: int
    seeds: list[int]  # of its samples
    chance: torch.Generator  # for the loss


def _advance(runs: Sequence["_Run"], scorer: Scorer) -> list["Report | TrainingError"]:
    """Take the next iteration of ``runs``, which has the same number for all, as one batch.

    They have a plan and a seed in common, and so the number of steps.
    """
    plan, automata = runs[0].plan, [run.automaton for run in runs]
    batches = [run.prepare() for run in runs]
    steps, rates = batches[0].steps, [run.rate for run in runs]
    state = torch.cat([batch.loan.states for batch in batches])
    state = _grow(runs, state, steps, [s for b in batches for s in b.seeds])
    loans = [batch.loan for batch in batches]
    classes, ages = [loan.classes for loan in loans], [loan.ages + steps for loan in loans]
    grown = show(automata, state, steps, classes, ages)
    chances = [batch.chance for batch in batches]
    scores = scorer.score([run.loss for run in runs], grown, chances)
    totals = [values.mean() for _, values in scores]
    torch.autograd.backward(totals)

    outcomes: list[tuple[str, ...] | TrainingError] = []
    for run, batch, part, total in zip(runs, batches, grown, totals, strict=True):
        try:
            outcomes.append(run.finish(batch, part.state.detach(), total.detach()))
        except TrainingError as error:
            outcomes.append(error)
    sound = [run for run, outcome in zip(runs, outcomes, strict=True) if outcome == ()]
    verdicts = _judge_runs(
        [run for run in sound if plan.judge_every and run.is_time(plan.judge_every)]
    )

    reports: list[Report | TrainingError] = []
    for run, outcome, rate, part, (terms, _), total in zip(
        runs, outcomes, rates, grown, scores, totals, strict=True
    ):
        if isinstance(outcome, TrainingError):
            reports.append(outcome)
            continue
        losses = {name: value.detach().mean() for name, value in terms.items()}
        verdict = verdicts.get(run)
        report = Report(
            iteration=run.now.iteration,
            iterations=plan.iterations,
            losses=losses | {"total": total.detach()},
            image=part.image.detach().clamp(0, 1),
            steps=steps,
            learning_rate=rate,
            events=outcome,
            verdict=verdict,
            is_best=verdict is not None and run.weigh(verdict),
            _run=run,
        )
        reports.append(report)
    return reports


def _judge_runs(runs: list["_Run"]) -> "dict[_Run, Verdict]":
    if not runs:
        return {}
    automata, losses = [run.automaton for run in runs], [run.loss for run in runs]
    rivals = [run.now.best_marks for run in runs]
    plan, kernel = runs[0].plan, runs[0].kernel
    steps = steps_after(plan, runs[0].now.iteration)
    verdicts = judge_together(automata, losses, plan, kernel, rivals, steps)
    return dict(zip(runs, verdicts, strict=True))


def _grow(runs: Sequence["_Run"], state: Tensor, steps: int, seeds: list[int]) -> Tensor:
    plan, automata = runs[0].plan, [run.automaton for run in runs]
    if theatres := [run.theatre for run in runs if run.theatre is not None]:
        batch, grown = len(state) // len(runs), []
        for number, (theatre, part) in enumerate(zip(theatres, state.split(batch), strict=True)):
            theatre.reset()
            own = seeds[number * batch : (number + 1) * batch]
            grown.append(theatre.grow(part, steps, seed=own))
        return torch.cat(grown)
    how: dict[str, Any] = {"seed": seeds, "kernel": runs[0].kernel, "precision": plan.precision}
    if not plan.unit_state_gradients:
        return grow_together(automata, state, steps, keep_every=plan.keep_every, **how)
    for step in range(steps):
        state = grow_together(automata, state, 1, start=step, **how)
        state.register_hook(
            lambda gradient: nn.functional.normalize(gradient.flatten(1)).view_as(gradient)
        )
    return state


class _Run:
    """One training run: what changes from iteration to iteration."""

    def __init__(
        self,
        automaton: CellularAutomaton,
        loss: Loss,
        plan: TrainPlan,
        kernel: str,
        init: Init,
    ) -> None:
        automaton.grid.check_size(plan.size)
        self.automaton = automaton.requires_grad_()  # one that was loaded is frozen
        self.loss = loss
        self.plan = plan
        self.kernel = kernel
        self.init: Init = init
        self.now = Snapshot(0, {}, {}, torch.empty(0))
        self._begin()
        self.good = self.snapshot()
        self.theatre: Theatre | None = None  # what befalls in every roll-out
        self.goals: Tensor | None = None  # [classes, 4, H, W] that a curriculum starts from
        self.lived = False  # whether its last good state has learned something
        self.recent: list[tuple[Tensor, Tensor]] = []  # (loss, gradient norm) since the last look

    def _begin(self) -> None:
        """Fill the pool with seeds and start the optimiser afresh."""
        plan = self.plan
        self.now.wide = None
        seed = stream(plan.seed, _POOL, self.now.redraws)
        # Without persistence nothing is lent twice: no more states are needed than a batch has.
        count = plan.pool_size if plan.persistent else plan.batch_size
        sizes = plan.sizes
        classes = _classes_in_turn(count, sizes, self.automaton.classes)
        states = self.automaton.seed(count, sizes[0], seed=seed, classes=classes)
        self.pool = Pool(states, classes, sizes=sizes)
        for turn, size in enumerate(sizes[1:], 1):
            places = torch.arange(turn, count, len(sizes))
            others = stream(seed, turn)
            states = self.automaton.seed(len(places), size, seed=others, classes=classes[places])
            self.pool.put(self.pool.lend(places), states)
        self.optimizer = _OPTIMISERS[plan.optimiser](
            self.automaton.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )

    def end(self) -> None:
        """Keep the best weights that were found."""
        if self.now.best_weights is not None:
            self.automaton.load_state_dict(self.now.best_weights)

    def prepare(self) -> "_Batch":
        """Draw all that the next iteration draws, but for what the loss does."""
        plan, iteration = self.plan, self.now.iteration
        chance = generator(plan.seed, iteration)
        loan = self.pool.take(plan.batch_size, chance)
        all_new = plan.starts_from_seeds(iteration)
        if not all_new and (plan.reseed == "worst" or plan.damages(iteration)):
            loan = self._worst_first(loan)
        new = plan.batch_size if all_new else int(iteration % plan.reseed_every == 0)
        if new:
            sow(loan, self.automaton, plan, iteration, new)
        if plan.cuts_window(iteration) and new < plan.batch_size:
            self.now.wide = age_on(self.now.wide, self.automaton, plan, iteration, self.kernel)
            if bool((self.now.wide.state.abs() < _RUN_AWAY).all()):
                transplant(loan, self.now.wide, chance, new)
            else:
                self.now.wide = None
        least, most = plan.steps
        if plan.curriculum.threshold:
            least, most = plan.curriculum.steps_at(self.now.levels, plan.steps)
        steps = int(torch.randint(least, most + 1, (), generator=chance))
        seeds = [
            stream(plan.seed, _FIRE, iteration * plan.batch_size + sample)
            for sample in range(plan.batch_size)
        ]
        if plan.curriculum.threshold:
            assert self.goals is not None
            teach(loan, self.automaton, plan, self.goals, self.now.levels, chance)
        if plan.damages(iteration):
            hurt(loan, self.automaton, plan, chance, new)
        if plan.switch and not all_new and self.automaton.classes > 1:
            switch(loan, self.automaton, plan, chance)
        if self.automaton.classes > 1:
            loan = replace(loan, states=self.automaton.tell(loan.states, loan.classes))
        self.optimizer.zero_grad()
        return _Batch(loan, steps, seeds, chance)

    def _worst_first(self, loan: Loan) -> Loan:
        """Sort a loan by what the loss says of its states as they are."""
        chance = generator(stream(self.plan.seed, _SORT), self.now.iteration)
        with torch.no_grad():
            grown = show([self.automaton], loan.states, 0, [loan.classes], [loan.ages])[0]
            values = self.loss(grown, chance)
        return loan.sorted(values.nan_to_num(nan=math.inf).argsort(descending=True, stable=True))

    def finish(self, batch: "_Batch", state: Tensor, total: Tensor) -> tuple[str, ...]:
        """Follow the gradient, put the states back, and look at how it goes now and then."""
        rate = self.rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = self._treat_gradients()
        self.optimizer.step()
        loan, state = self._without_runaways(batch, state)
        self.pool.put(loan, state)
        self.recent.append((total, norm))
        self.now.iteration += 1
        return self._look() if self.is_time(_CHECK_EVERY) else ()

    @property
    def rate(self) -> float:
        """The learning rate of the next iteration."""
        return self.plan.learning_rate_at(self.now.iteration) * self.now.learning_rate_scale

    def _without_runaways(self, batch: "_Batch", state: Tensor) -> tuple[Loan, Tensor]:
        """Replace samples of ``state`` [B, C, H, W] that ran away by seeds, without a look.

        A young rule may blow a state up; in the pool it would be handed out again and again.
        NaN is no run-away: it is left for the next look to find. The loan comes with the ages.
        """
        gone = (state.abs() > _RUN_AWAY).any(3).any(2).any(1)
        seed, classes = stream(self.plan.seed, RESEED, self.now.iteration), batch.loan.classes
        fresh = self.automaton.seed(len(state), batch.loan.size, seed=seed, classes=classes)
        loan = replace(batch.loan, ages=(batch.loan.ages + batch.steps).masked_fill(gone, 0))
        return loan, torch.where(gone[:, None, None, None], fresh.detach(), state)

    def _treat_gradients(self) -> Tensor:
        """Equalise or clip; return the norm that all gradients had together."""
        found = [p.grad for p in self.automaton.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in found]).norm()
        if self.plan.gradients == "equalise":
            equalise_gradients(self.automaton)
        elif self.plan.gradients == "clip":
            for gradient in found:
                gradient *= (self.plan.clip_norm / (norm + 1e-8)).clamp(max=1.0)
        return norm

    def is_time(self, every: int) -> bool:
        """Tell whether what comes ``every`` so many iterations comes now."""
        return self.now.iteration % every == 0 or self.now.iteration == self.plan.iterations

    def _look(self) -> tuple[str, ...]:
        """Read the losses since the last look; mend what went wrong and say so."""
        losses, norms = torch.stack([torch.stack(pair) for pair in self.recent]).T.tolist()
        self.recent = []
        if self.now.first_loss is None and all(map(math.isfinite, losses)):
            self.now.first_loss = statistics.median(map(abs, losses))
        ceiling = _EXPLODED * max(self.now.first_loss or 0.0, 1e-3)
        bad = [x for x in losses if not math.isfinite(x)]
        if min(map(abs, losses)) > ceiling:  # a single spike heals by itself
            bad.append(max(losses, key=abs))
        if bad or not all(math.isfinite(norm) for norm in norms):
            value = bad[0] if bad else math.nan
            what = "is not a number" if math.isnan(value) else f"exploded to {value:.3g}"
            return (self._go_back(f"the loss {what}"),)
        asleep = max(norms) < _ASLEEP
        if self.automaton.living:
            asleep = asleep or bool((self.pool.states[:, 3] < 0.1).all())
        if asleep and self.automaton.living and self.lived:
            return (self._go_back("the rule let everything die"),)
        if asleep:
            return (self._wake(),)
        lesson = self.plan.curriculum
        if lesson.threshold:
            turn = self.now.iteration // _CHECK_EVERY
            self.now.levels = lesson.moved(self.now.levels, statistics.fmean(losses), turn)
        if self.is_time(_SNAPSHOT_EVERY):
            self.good, self.lived = self.snapshot(), True
        return ()

    def _go_back(self, what: str) -> str:
        at, retries = self.now.iteration, self.now.retries + 1
        scale = self.now.learning_rate_scale * 0.5
        if retries > _MOST_RETRIES:
            raise TrainingError(
                f"{what} at iteration {at} for the {retries}th time; "
                "use a lower training.learning_rate, fewer training.steps, "
                "or training.gradients='equalise'"
            )
        self.restore(self._last_good())
        self.now.retries, self.now.learning_rate_scale = retries, scale
        self.good = self.snapshot()
        return (
            f"{what} at iteration {at}: went back to iteration {self.now.iteration} "
            f"with {scale:g} times the learning rate"
        )

    def _wake(self) -> str:
        self.now.redraws += 1
        if self.now.redraws > _MOST_RETRIES:
            raise TrainingError(
                "the rule never woke up: nothing it does changes the loss after three new draws "
                "of its weights; use another seed, automaton.seed_kind or automaton.init"
            )
        draw = stream(self.plan.seed, _REDRAW, self.now.redraws)
        self.automaton.draw_weights(self.init, draw)
        self._begin()
        self.now.first_loss = None
        self.good, self.lived = self.snapshot(), False
        return f"the rule was dead at iteration {self.now.iteration}: drew new weights"

    def weigh(self, verdict: Verdict) -> bool:
        """Keep the weights when no others did better; return whether that is so."""
        is_best = verdict.beats(self.now.best_marks)
        if is_best:
            self.now.best_score = verdict.score
            self.now.best_weights = _copy(self.automaton.state_dict())
            self.now.best_iteration = self.now.iteration
            self.now.best_steps = verdict.best_steps
            self.now.best_marks = [
                [float(steps), value]
                for steps, value in zip(verdict.marks, verdict.losses, strict=True)
            ]
        return is_best

    def snapshot(self) -> Snapshot:
        """Copy the run, so that it can go on from here."""
        taken = copy.copy(self.now)
        taken.levels = list(self.now.levels)
        taken.weights = _copy(self.automaton.state_dict())
        taken.optimizer = copy.deepcopy(self.optimizer.state_dict())
        taken.pool = self.pool.states.clone()
        taken.pool_classes = self.pool.classes.clone() if self.automaton.classes > 1 else None
        taken.pool_ages = self.pool.ages.clone()
        return taken

    def sound_snapshot(self) -> Snapshot:
        """Copy the run, or return its last good state when what it is now is not finite.

        A look at the losses comes every few iterations; what is saved in between must not be lost
        to a NaN.
        """
        taken = self.snapshot()
        finite = all(value.isfinite().all() for value in (*taken.weights.values(), taken.pool))
        return taken if finite else self._last_good()

    def _last_good(self) -> Snapshot:
        """Return the last good state, with the best weights that were found since."""
        return replace(
            self.good,
            best_weights=self.now.best_weights,
            best_score=self.now.best_score,
            best_iteration=self.now.best_iteration,
            best_steps=self.now.best_steps,
            best_marks=self.now.best_marks,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Become the run that ``snapshot`` was taken of."""
        self.now = copy.copy(snapshot)
        self.automaton.load_state_dict(snapshot.weights)
        self.optimizer.load_state_dict(copy.deepcopy(snapshot.optimizer))
        states = snapshot.pool.to(self.automaton.weight_in.device)
        self.pool = Pool(states, snapshot.pool_classes, snapshot.pool_ages, self.plan.sizes)
        self.recent = []
        self.good, self.lived = snapshot, snapshot.iteration > 0


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}
