"""What all commands share: options, sentences on stderr, exit codes."""

import functools
import json
import os
import platform
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from nca_texture.errors import InputError, MissingError

if TYPE_CHECKING:
    import torch

    from nca_texture.automaton import CellularAutomaton
    from nca_texture.recipe import AutomatonPlan, Recipe
    from nca_texture.seams import SeamReport
    from nca_texture.store import Origin
    from nca_texture.surgery import Event, Theatre

FAILED, USAGE, MISSING, CHECK_FAILED, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model file, or the directory of a run.")
]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="INT|TEXT", help="What chance is drawn from.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="NCA_TEXTURE_DEVICE",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1 or mps.",
    ),
]
# Of the grid; what is not given stays as the preset, or the model, has it.
Layout = Annotated[
    str | None,
    typer.Option(
        metavar="LAYOUT", help="square or hex cells.", show_default="the preset's or model's"
    ),
]
Edge = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="Axes to tile on: xy, x, y or none.",
        show_default="the preset's or model's",
    ),
]
Beyond = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="What lies beyond an axis that does not wrap: zero, reflect, replicate.",
        show_default="the preset's or model's",
    ),
]
# Of pictures.
Size = Annotated[
    str,
    typer.Option("--size", metavar="N|WxH", help="Pixels, as 4096 or 4096x1024 (WIDTHxHEIGHT)."),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="How long to grow.", show_default="what the model was scored at"),
]
# Of models with several classes, and of grown pictures.
Class = Annotated[
    str | None,
    typer.Option("--class", metavar="NAME", help="Which class to make.", show_default="the first"),
]
Mix = Annotated[
    str | None,
    typer.Option("--mix", metavar="NAME=SHARE,...", help="A mixture, as rose=0.5,crocus=0.5."),
]
Plants = Annotated[
    list[str] | None,
    typer.Option(
        "--plant",
        metavar="X,Y[,CLASS]",
        help="A seed at a place in fractions, of a class or a mixture (a=0.5+b=0.5); repeat it.",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background", metavar="COLOUR", help="Lay what is transparent over it: white, #20242c."
    ),
]
Timeline = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        metavar="FILE.toml",
        help="What befalls on the way: erase, graft, freeze, enlarge, rotate, ... at steps.",
    ),
]
Depth = Annotated[
    str | None,
    typer.Option(
        "--depth",
        metavar="BITS",
        help="8, 16, half or float.",
        show_default="what the format is for",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")]
Kernel = Annotated[
    str, typer.Option("--kernel", metavar="NAME", help="auto, cpu, triton or reference.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show where an error came from.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def sentences(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn every failure of ``command`` into one sentence on stderr and its exit code."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as stop:
            fail("interrupted; nothing that existed was changed")
            raise typer.Exit(code_of(stop)) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            if kwargs.get("verbose"):
                traceback.print_exc()
            sentence, code = _explain(error)
            fail(sentence)
            raise typer.Exit(code) from None

    return run


def _explain(error: Exception) -> tuple[str, int]:
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text, FAILED
    if isinstance(error, MissingError):
        return text, MISSING
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or text}", FAILED
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return "there is not enough memory; use a smaller --size or training.width", FAILED
    if isinstance(error, ValueError):
        return text, USAGE
    if type(error).__name__ == "TrainingError":
        return text, FAILED
    kind = type(error).__name__
    return f"{kind}: {text}; this is a bug: run again with -v and report what it shows", FAILED


def fail(sentence: str) -> None:
    """Say on stderr what went wrong."""
    colour = None if os.environ.get("NO_COLOR") else "red"
    typer.secho("error: ", fg=colour, nl=False, err=True)
    typer.echo(sentence, err=True)


def talk(sentence: str, quiet: bool = False) -> None:
    """Say something on stderr."""
    if not quiet:
        typer.echo(sentence, err=True)


def answer(result: Any) -> None:
    """Print a result as JSON on stdout."""
    sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def pick_device(name: str) -> "torch.device":
    """Return the device called ``name``; ``auto`` takes CUDA, then MPS, then the CPU."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"no device is called {name!r}; choose from auto, cpu, cuda, mps"
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"no device is called {name!r}; choose from auto, cpu, cuda, mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(
            f"there is no {name} here: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError("there is no mps here: it needs a Mac with Metal; use --device cpu")
    return device


def parse_seed(text: str | None, default: int = 0) -> int:
    """Turn the text of --seed, a number or any words, into a seed of 32 bits."""
    from nca_texture.noise import seed_number

    if text is None:
        return default
    try:
        return seed_number(int(text))
    except ValueError:
        return seed_number(text)


def parse_size(text: str) -> tuple[int, int]:
    """Turn ``4096`` or ``4096x1024`` (WIDTHxHEIGHT) into (height, width)."""
    width, _, height = text.lower().partition("x")
    try:
        size = int(height or width), int(width)
    except ValueError:
        raise ValueError(
            f"{text!r} is no size; give 1024, or WIDTHxHEIGHT such as 4096x1024"
        ) from None
    if min(size) < 1:
        raise ValueError(f"{text!r} is no size; give at least 1x1")
    return size


def parse_place(text: str, what: str) -> tuple[float, float]:
    """Turn ``0.5,0.8`` into a place (x, y) in fractions."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        x = y = -1.0
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"{what} {text!r} is no place; give X,Y from 0 to 1, such as 0.5,0.8")
    return x, y


def parse_memory(text: str | None) -> int | None:
    """Turn ``1GB``, ``512 MB`` or a number of bytes into bytes; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    power = " KMGT".index(found[2].upper() or " ") if found else 0
    if found is None or (number := int(float(found[1]) * 1024**power)) < 1:
        raise ValueError(f"{text!r} is no amount of memory; give 512MB or 1GB")
    return number


def duration(seconds: float) -> str:
    """Say how long something takes."""
    if seconds < 1:
        return "a second"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def versions() -> list[str]:
    """Name what the bits of a picture depend on, besides the processor's maker."""
    import torch

    from nca_texture import __version__

    return [
        __version__,
        torch.__version__,
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
    ]


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated``, which is handled like Ctrl+C."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def code_of(stop: KeyboardInterrupt) -> int:
    """Return the exit code of an interruption."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def load_shaped(
    model: Path, device: str, edge: str | None, beyond: str | None, layout: str | None
) -> "tuple[CellularAutomaton, AutomatonPlan, Recipe, Origin]":
    """Load a model onto a device and put it on the grid that was asked for.

    What is None stays as the model has it. The plan returned is that of the new grid.
    """
    from nca_texture.store import load_model
    from nca_texture.trees import from_dict

    automaton, recipe, origin = load_model(model)
    asked = {"edge": edge, "beyond": beyond, "layout": layout}
    given = {name: value for name, value in asked.items() if value is not None}
    shaped = from_dict(type(recipe.automaton), given, recipe.automaton)
    automaton = automaton.with_grid(shaped.grid()).to(pick_device(device))
    return automaton, shaped, recipe, origin


def plant(
    automaton: "CellularAutomaton",
    recipe: "Recipe",
    kind: str | None,
    mix: str | None,
    plants: list[str] | None,
) -> "CellularAutomaton":
    """Give an automaton the seeds that --class, --mix and --plant ask for."""
    from nca_texture.automaton import Plant

    names = recipe.target.classes
    if kind is not None and mix is not None:
        raise ValueError("give --class or --mix, not both")
    usual = "" if kind is None else kind
    usual = mix.replace(",", "+") if mix is not None else usual
    if (usual or plants) and automaton.seed_kind != "cell" and automaton.classes == 1:
        raise ValueError(
            "this model makes one texture, which grows everywhere; "
            "leave out --class, --mix and --plant"
        )
    if not plants:
        if not usual:
            return automaton
        place = automaton.garden[0].place
        return automaton.planted([Plant(place, _mixture(usual, names))])
    garden = []
    for text in plants:
        where, _, what = text.partition(",")[2].partition(",")
        x, y = parse_place(f"{text.partition(',')[0]},{where}", "--plant")
        garden.append(Plant((y, x), _mixture(what or usual, names)))
    return automaton.planted(garden)


def _mixture(text: str, names: tuple[str, ...]) -> tuple[float, ...]:
    """Turn a class, or ``rose=0.5+crocus=0.5``, into a weight for each of ``names``."""
    from nca_texture.names import check_name

    if not text:
        return ()
    if not names:
        raise ValueError(f"this model has no classes, so there is no {text!r}; train it on several")
    weights = dict.fromkeys(names, 0.0)
    for part in text.split("+"):
        name, equals, share = part.partition("=")
        check_name(name.strip(), names, "class")
        try:
            weights[name.strip()] += float(share) if equals else 1.0
        except ValueError:
            raise ValueError(f"{part!r} is no share; give NAME=0.5") from None
    return tuple(weights.values())


def garden_words(automaton: "CellularAutomaton", recipe: "Recipe") -> str:
    """Write the seeds of an automaton as options that make them again."""
    names = recipe.target.classes
    if not any(plant.mixture for plant in automaton.garden) and len(automaton.garden) == 1:
        return ""
    words = []
    for each in automaton.garden:
        (y, x), shares = each.place, zip(names, each.mixture, strict=False)
        what = "+".join(f"{name}={share:g}" for name, share in shares if share)
        words.append(f" --plant {x:g},{y:g}" + (f",{what}" if what else ""))
    return "".join(words)


def pixels_of(
    size: str | None, recipe: "Recipe", automaton: "CellularAutomaton", usual: str = "1024"
) -> tuple[int, int]:
    """Turn --size into pixels (height, width); a grown picture is as large as it was trained."""
    if size is None and recipe.task == "grow":
        return automaton.grid.picture_size(recipe.training.size)
    return parse_size(usual if size is None else size)


def read_timeline(path: Path) -> "tuple[Event, ...]":
    """Read the events in a file; models in it are looked for beside it."""
    from nca_texture.recipe import timeline_from_toml
    from nca_texture.surgery import with_models

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as reason:
        why = getattr(reason, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read {path}: {why}") from reason
    try:
        return with_models(timeline_from_toml(text), str(path.parent))
    except ValueError as reason:
        raise ValueError(f"{path}: {reason}") from reason


def theatre_of(
    automaton: "CellularAutomaton", recipe: "Recipe", events: "tuple[Event, ...]", kernel: str
) -> "Theatre":
    """Make ready what events need: the models and classes that they name."""
    from nca_texture.store import load_model
    from nca_texture.surgery import Theatre

    names, where = recipe.target.classes, automaton.weight_in.device
    models = {
        name: load_model(name)[0].with_grid(automaton.grid).to(where)
        for name in {event.model for event in events if event.model}
    }
    told = {event.name for event in events if event.do == "class"} if automaton.held else set()
    mixtures = {name: _mixture(name, names) for name in told}
    return Theatre(automaton, events, kernel=kernel, mixtures=mixtures, models=models)


def parse_colour(text: str) -> tuple[float, float, float]:
    """Turn ``white`` or ``#20242c`` into red, green and blue in [0, 1]."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ValueError(f"{text!r} is no colour; give white, #20242c or rgb(32,36,44)") from None
    return red / 255, green / 255, blue / 255


def steps_of(origin: "Origin", recipe: "Recipe", steps: int | None = None) -> int:
    """Return ``steps`` or, when it is None, those that the model was scored at."""
    if steps is None:
        return origin.steps or recipe.training.steps[1]
    if steps < 0:
        raise ValueError(f"steps is {steps}; give 0 or more")
    return steps


def words_of(origin: "Origin", model: Path, command: str) -> dict[str, str]:
    """Say in a file's metadata what it was made from and how to make it again."""
    from nca_texture.store import file_sha256, model_file

    return {
        "Software": "nca-texture",
        "Source": origin.source,
        "Model": f"sha256 {file_sha256(model_file(model))}",
        "nca-texture": command,
    }


def talk_seams(report: "SeamReport | None", quiet: bool, name: str = "") -> None:
    """Say how like its inside every edge of a picture is, after the ``name`` of one of many."""
    for axis in () if report is None else report.axes:
        talk(f"{name}: {axis.reason}" if name else axis.reason, quiet)


def check_memory(needed: int, what: str, remedy: str = "a smaller --size") -> None:
    """Raise ``InputError`` when ``needed`` bytes are more than the machine has to give."""
    from nca_texture.files import amount

    free = free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{what} needs about {amount(needed)} of memory and {amount(free)} are free; "
            f"give {remedy}"
        )


def free_memory() -> int | None:
    """Count the bytes that programs can still have; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
