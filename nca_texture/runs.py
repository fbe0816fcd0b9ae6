"""A run directory: what a training leaves on the disk, and when.

model.safetensors        best so far
checkpoint.safetensors   all that is needed to go on
recipe.toml              the resolved recipe
log.jsonl                one object per report
preview.png              the latest long roll-out
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch

from nca_texture.automaton import CellularAutomaton
from nca_texture.curriculum import ASPECTS
from nca_texture.errors import InputError
from nca_texture.files import REMEDIES, atomic_write, remove_stale_parts, try_lock
from nca_texture.images import write_png
from nca_texture.judging import Verdict
from nca_texture.recipe import Recipe, to_toml
from nca_texture.render import straight_alpha
from nca_texture.store import Origin, save, save_checkpoint, thumbnail
from nca_texture.targets import Exemplar
from nca_texture.training import Report, Snapshot

MODEL, CHECKPOINT, RECIPE = "model.safetensors", "checkpoint.safetensors", "recipe.toml"
LOG, PREVIEW, LOCK = "log.jsonl", "preview.png", ".lock"

_LOG_EVERY = 10  # iterations
_MOST_TIME = 50  # a checkpoint may take one part in so many of the time


def free_directory(
    stem: str, parent: Path = Path("runs"), is_taken: Callable[[Path], bool] = Path.exists
) -> Path:
    """Find a run directory that is not taken: runs/zebra, runs/zebra-2, ..."""
    path, number = parent / stem, 2
    while is_taken(path):
        path, number = parent / f"{stem}-{number}", number + 1
    return path


class SaveTimes:
    """When to save: every so many seconds, or more rarely when saving takes long."""

    def __init__(self, every: float = 60.0) -> None:
        """Begin to wait for ``every`` seconds."""
        self.every = every
        self._next = time.monotonic() + every

    def is_time(self) -> bool:
        """Tell whether it is time to save."""
        return time.monotonic() >= self._next

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long a saving takes, and wait for the next."""
        began = time.monotonic()
        yield
        now = time.monotonic()
        self._next = now + max(self.every, _MOST_TIME * (now - began))


class RunDirectory:
    """Everything that one training writes. Use it as a context: it locks the directory."""

    def __init__(self, path: Path, recipe: Recipe, exemplar: Exemplar, start: int = 0) -> None:
        """Claim ``path`` for a run that has done ``start`` iterations."""
        self.path = path
        self.recipe = recipe
        self.exemplar = exemplar
        self.start = start
        self._lock: IO[str] | None = None

    def __enter__(self) -> "RunDirectory":
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / LOCK).open("w")
        except OSError as reason:
            raise InputError(f"cannot write in {self.path}: {_remedy(reason)}") from reason
        if not try_lock(self._lock):
            self._lock.close()
            raise InputError(f"{self.path} is in use by another run; choose another place with -o")
        remove_stale_parts(self.path)
        with atomic_write(self.path / RECIPE, force=True) as file:
            file.write(to_toml(self.recipe).encode())
        self._trim_log()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            self._lock.close()  # which unlocks

    def record(self, report: Report) -> None:
        """Log a report, and show the roll-out if it has one."""
        if report.verdict or report.events or report.iteration % _LOG_EVERY == 0:
            self.log(_log_line(report))
        if report.verdict:
            self._preview(report.verdict)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one object to the log."""
        try:
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as reason:
            raise InputError(f"cannot write {self.path / LOG}: {_remedy(reason)}") from reason

    def _trim_log(self) -> None:
        """Keep of the log what led to where the run goes on; the rest will be done again."""
        path = self.path / LOG
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["iteration"] <= self.start:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a kill
        with atomic_write(path, force=True) as file:
            file.write("".join(kept if self.start else []).encode())

    def save(self, snapshot: Snapshot, automaton: CellularAutomaton) -> None:
        """Write checkpoint and model."""
        save_checkpoint(self.path / CHECKPOINT, snapshot, self.recipe, self.exemplar)
        self.save_model(snapshot, automaton)

    def save_model(self, snapshot: Snapshot, automaton: CellularAutomaton) -> None:
        """Write the best weights so far, or the present ones when none were judged yet."""
        exemplar, target = self.exemplar, self.recipe.target
        name = Path(target.source).name or target.source
        origin = Origin(
            source=name or exemplar.label,
            sha256=exemplar.sha256,
            source_note=exemplar.describe(),
            iterations=snapshot.best_iteration or snapshot.iteration,
            loss=None if snapshot.best_weights is None else snapshot.best_score,
            steps=snapshot.best_steps,
            marks=snapshot.best_marks,
            thumbnail=thumbnail(self._picture) if self._picture is not None else "",
        )
        sources = tuple(Path(source).name or source for source in target.sources)
        recipe = replace(self.recipe, target=replace(target, source=name, sources=sources))
        save(
            self.path / MODEL,
            automaton,
            recipe,
            origin,
            weights=snapshot.best_weights or snapshot.weights,
        )

    _picture: torch.Tensor | None = None

    def _preview(self, verdict: Verdict) -> None:
        self._picture = verdict.picture
        picture = verdict.picture.permute(1, 2, 0).float().cpu().numpy()
        write_png(self.path / PREVIEW, straight_alpha(picture), force=True)


def _remedy(reason: OSError) -> str:
    return REMEDIES.get(reason.errno or 0, f"{reason.strerror}; choose another place with -o")


def _log_line(report: Report) -> dict[str, Any]:
    line: dict[str, Any] = {
        "iteration": report.iteration,
        "losses": {name: _finite(value.item()) for name, value in report.losses.items()},
        "steps": report.steps,
        "learning_rate": report.learning_rate,
        "time": round(time.time(), 3),
    }
    if levels := report.levels:
        line["levels"] = dict(zip(ASPECTS, levels, strict=True))
    if report.events:
        line["events"] = list(report.events)
    if report.verdict:
        line["verdict"] = {
            "score": _finite(report.verdict.score),
            "marks": list(report.verdict.marks),
            "losses": [_finite(value) for value in report.verdict.losses],
            "best": report.is_best,
        }
    return line


def _finite(value: float) -> float | None:
    """Return ``value``, or None for what JSON has no word for."""
    return value if math.isfinite(value) else None
