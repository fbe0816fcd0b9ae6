"""Progress: a live picture on a terminal, plain lines anywhere else; all on stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from torch import Tensor

    from nca_texture.training import Report

_COLUMNS = 64  # of the picture on the terminal, at most
_REDRAW = 0.5  # seconds
_PLAIN_EVERY = 10.0  # seconds between plain lines
_SPARKS = "▁▂▃▄▅▆▇█"


@contextmanager
def progress_bar(title: str, total: float, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show how many of ``total`` are done; yields what to call with that number."""
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        console.print(title, highlight=False, soft_wrap=True)
        began = shown = time.monotonic()
        first: float | None = None

        def tell(done: float) -> None:
            nonlocal shown, first
            now = time.monotonic()
            first = done if first is None else first
            if now - shown > _PLAIN_EVERY and done > first:
                shown = now
                left = (total - done) * (now - began) / (done - first)
                line = f"{done / total:.0%}  {_duration(left)} left"
                console.print(line, highlight=False, soft_wrap=True)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


class TrainingView:
    """What a training looks like: use it as a context and show it the reports of every round."""

    def __init__(self, iterations: int, start: int, quiet: bool) -> None:
        """Expect reports from ``start`` + 1 to ``iterations``."""
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.iterations = iterations
        self.start = start
        self.losses: list[float] = []
        self._least: tuple[int, int] | None = None  # height and width of the smallest grid so far
        self._began = self._shown = time.monotonic()
        self._live: Live | None = None
        narrow = self.console.width < 60
        self._bar = Progress(
            *(() if narrow else (TextColumn("{task.description}"),)),
            BarColumn(bar_width=10 if narrow else 40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("training", total=iterations, completed=start, rate="")
        self._line = Text()
        utf8 = self.console.encoding.lower().startswith("utf")
        self._blocks = utf8 and not self.console.no_color and self.console.color_system is not None

    def __enter__(self) -> "TrainingView":
        if self.console.is_terminal and not self.console.quiet:
            self._live = Live(self._bar, console=self.console, auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.update(Group(self._line, self._bar), refresh=True)
            self._live.__exit__(*exception)

    def say(self, sentence: str) -> None:
        """Say something above the progress."""
        self.console.print(sentence, soft_wrap=True)

    def show(self, reports: "list[Report]") -> None:
        """Show the latest reports of all runs when it is time to: how far, and the mean loss.

        The picture of a single run is shown as it grows.
        """
        if not reports:
            return
        iteration = min(report.iteration for report in reports)
        height, width = reports[0].image.shape[-2:]
        least = self._least or (height, width)
        self._least = min(height, least[0]), min(width, least[1])
        now = time.monotonic()
        wait = _REDRAW if self._live else _PLAIN_EVERY
        if now - self._shown < wait and iteration != self.iterations:
            return
        self._shown = now
        loss = sum(report.loss for report in reports) / len(reports)
        self.losses.append(loss)
        done = max(iteration - self.start, 1)  # a run may go back to where it began
        rate = done / max(now - self._began, 1e-9)
        if self._live is None:
            left = (self.iterations - iteration) / rate
            self.say(
                f"{iteration}/{self.iterations}  loss {loss:.4g}  "
                f"{rate:.1f} it/s  {_duration(left)} left"
            )
            return
        self._bar.update(self._task, completed=iteration, rate=f"{rate:.1f} it/s")
        room = min(32, self.console.width - 20)
        course = sparkline(self.losses, room) if self._blocks and room > 0 else ""
        self._line = Text(f"loss {loss:.4g}  {course}", no_wrap=True)
        parts = [self._line, self._bar]
        if self._blocks and len(reports) == 1:
            columns = min(_COLUMNS, self.console.width - 1)
            rows = max(2, self.console.height - 6)
            height, width = self._least  # of grids of two sizes, so that lines stay in place
            shown = reports[0].image[0, :, :height, :width]
            parts = [half_blocks(shown, columns, rows), *parts]
        self._live.update(Group(*parts), refresh=True)


def half_blocks(image: "Tensor", columns: int, rows: int) -> Text:
    """Draw ``image`` [3 or 4, H, W] in [0, 1] with two pixels a character."""
    import torch

    height, width = image.shape[-2:]
    scale = min(columns / width, 2 * rows / height, 1.0)
    size = (max(2, int(height * scale) // 2 * 2), max(1, int(width * scale)))
    small = torch.nn.functional.interpolate(
        image[None, :3].float(), size, mode="bilinear", antialias=True
    )[0]
    pixels = (small.clamp(0, 1) * 255).byte().permute(1, 2, 0).tolist()
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text(no_wrap=True)
        for over, under in zip(upper, lower, strict=True):
            line.append("▀", Style(color=_rgb(over), bgcolor=_rgb(under)))
        lines.append(line)
    return Text("\n", no_wrap=True).join(lines)


def sparkline(values: list[float], width: int = 32) -> str:
    """Draw the course of ``values`` in one line of blocks, on a logarithmic scale when it fits."""
    import math

    recent = [value for value in values if math.isfinite(value)]
    if len(recent) < 2:
        return ""
    each = max(1, len(recent) // width)
    means = [sum(recent[i : i + each]) / each for i in range(0, len(recent) - each + 1, each)]
    if min(means) > 0:
        means = [math.log(value) for value in means]
    low, high = min(means), max(means)
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[round((v - low) / (high - low or 1) * steps)] for v in means[-width:])


def _rgb(pixel: list[int]) -> str:
    return f"#{pixel[0]:02x}{pixel[1]:02x}{pixel[2]:02x}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
