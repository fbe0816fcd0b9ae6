"""Model files and checkpoints: safetensors with one JSON object in the metadata.

Loading never runs code. A model file is some kilobytes and holds all that is needed to go on: the
recipe, the kernels as numbers, the rgb rule, where the picture came from and how it was trained.
"""

import base64
import hashlib
import io
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from nca_texture.automaton import CellularAutomaton
from nca_texture.errors import InputError
from nca_texture.files import atomic_write
from nca_texture.recipe import AutomatonPlan, Recipe
from nca_texture.targets import Exemplar
from nca_texture.train_plan import TrainPlan
from nca_texture.training import Snapshot
from nca_texture.trees import from_dict, to_dict
from nca_texture.wide import Wide

FORMAT = "nca-texture/1"
CHECKPOINT_FORMAT = "nca-texture-checkpoint/1"

_MOST_BYTES = 2**31  # a larger header or file is not one of ours
_SNAPSHOT_NUMBERS = (
    "iteration",
    "learning_rate_scale",
    "retries",
    "redraws",
    "first_loss",
    "best_score",
    "best_iteration",
    "best_steps",
    "best_marks",
    "levels",
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model came from and how it did; all of it is for people and for the defaults."""

    source: str = ""  # name of the file it learned
    sha256: str = ""  # of that file
    source_note: str = ""  # one line: sizes, and how many source pixels became one cell
    iterations: int = 0
    loss: float | None = None  # in the long roll-out that the weights were kept for
    steps: int = 0  # how long to grow by default; 0 when it was never judged
    marks: list[list[float]] = field(default_factory=list)  # [steps, loss] of that roll-out
    versions: dict[str, str] = field(default_factory=dict)
    thumbnail: str = ""  # PNG, base64
    published: str = ""  # the format it was imported from; "" when it was trained here
    size: list[int] = field(default_factory=list)  # cells [height, width] it was made for, if said


def versions() -> dict[str, str]:
    """Name the versions that made a file."""
    found = {name: metadata.version(name) for name in ("nca-texture", "torch", "torchvision")}
    return found | {"python": platform.python_version()}


def thumbnail(picture: Tensor, side: int = 64) -> str:
    """Encode the upper left ``side`` pixels of ``picture`` [3 or 4, H, W] as PNG in base64."""
    pixels = (picture[:, :side, :side].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy())).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def save(
    path: str | Path,
    automaton: CellularAutomaton,
    recipe: Recipe | AutomatonPlan,
    origin: Origin | None = None,
    *,
    weights: Mapping[str, Tensor] | None = None,
    force: bool = True,
) -> None:
    """Write a model file; ``weights`` instead of the automaton's own when given.

    A model that was trained elsewhere has no recipe: give the plan of its automaton instead.
    """
    own = automaton.state_dict() if weights is None else weights
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in own.items()}
    kind = "automaton" if isinstance(recipe, AutomatonPlan) else "recipe"
    about = {
        kind: to_dict(recipe),
        "rgb": {"scale": automaton.rgb_scale, "offset": automaton.rgb_offset},
        "origin": to_dict(origin or Origin()) | {"versions": versions()},
    }
    header = {"format": FORMAT, "nca-texture": _json(about)}
    _write(path, tensors, header, force)


def load(path: str | Path) -> tuple[CellularAutomaton, Recipe]:
    """Read a model file, or the one in a run directory: its automaton and its recipe."""
    automaton, recipe, _ = load_model(path)
    return automaton, recipe


def load_model(path: str | Path) -> tuple[CellularAutomaton, Recipe, Origin]:
    """Read a model file with where it came from.

    A model that was trained elsewhere has a recipe without preset and losses: all but its
    automaton, task and size are our defaults.

    Raises ``InputError`` for a file that is missing, damaged, foreign or of a newer format.
    """
    file = model_file(path)
    tensors, header = _read(file, FORMAT)
    try:
        about = json.loads(header["nca-texture"])
        known = {each.name for each in fields(Origin)}
        origin = Origin(**{k: v for k, v in about.get("origin", {}).items() if k in known})
        recipe = (
            _without_recipe(from_dict(AutomatonPlan, about["automaton"]), origin)
            if "automaton" in about
            else from_dict(Recipe, about["recipe"])
        )
        automaton = recipe.build_automaton()
        automaton.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as reason:
        raise InputError(
            f"{file.name} is damaged: its contents do not make a model ({_first_line(reason)})"
        ) from reason
    return automaton.requires_grad_(False).eval(), recipe, origin


def _without_recipe(plan: AutomatonPlan, origin: Origin) -> Recipe:
    """Say in a recipe what is known of a model that was trained elsewhere."""
    training = TrainPlan()
    if origin.size:
        height, width = origin.size
        training = replace(training, height=height, width=width)
    task = "grow" if plan.living else "texture"
    return Recipe(preset="", task=task, automaton=plan, training=training)


def model_file(path: str | Path) -> Path:
    """Find the model that ``path`` means: a model file, or a run directory that has one."""
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / "model.safetensors").exists():
        raise InputError(
            f"{path} has no model.safetensors; give a model file or the directory of a run that "
            "has saved one"
        )
    return path / "model.safetensors"


def save_checkpoint(
    path: str | Path, snapshot: Snapshot, recipe: Recipe, exemplar: Exemplar
) -> None:
    """Write all that a run is, in one file, so that a kill leaves the old one or the new one.

    The exemplar is in it: a run goes on when the picture it learns has moved or changed.
    """
    tensors = {f"weights.{k}": v for k, v in snapshot.weights.items()}
    tensors |= {f"best.{k}": v for k, v in (snapshot.best_weights or {}).items()}
    tensors["pool"] = snapshot.pool
    for name in ("pool_classes", "pool_ages"):
        if (values := getattr(snapshot, name)) is not None:
            tensors[name] = values
    if snapshot.wide is not None:
        tensors |= {f"wide.{k}": v for k, v in vars(snapshot.wide).items()}
    tensors["exemplar"] = exemplar.image
    state = snapshot.optimizer["state"]
    for index, moments in state.items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    about = {
        "recipe": to_dict(recipe),
        "exemplar": to_dict(replace(exemplar, image=None)),
        "numbers": {name: _finite(getattr(snapshot, name)) for name in _SNAPSHOT_NUMBERS},
        "groups": snapshot.optimizer["param_groups"],
    }
    header = {"format": CHECKPOINT_FORMAT, "nca-texture": _json(about)}
    _write(path, tensors, header, force=True)


def load_checkpoint(path: str | Path) -> tuple[Snapshot, Recipe, Exemplar]:
    """Read a checkpoint; raises ``InputError`` as ``load_model`` does."""
    path = Path(path)
    tensors, header = _read(path, CHECKPOINT_FORMAT)
    try:
        about = json.loads(header["nca-texture"])
        numbers = dict(about["numbers"])
        if numbers["best_score"] is None:
            numbers["best_score"] = math.inf
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        snapshot = Snapshot(
            weights=_under("weights.", tensors),
            best_weights=_under("best.", tensors) or None,
            optimizer={"state": moments, "param_groups": about["groups"]},
            pool=tensors["pool"],
            pool_classes=tensors.get("pool_classes"),
            pool_ages=tensors.get("pool_ages"),
            wide=Wide(**wide) if (wide := _under("wide.", tensors)) else None,
            **numbers,
        )
        recipe = from_dict(Recipe, about["recipe"])
        exemplar = from_dict(Exemplar, about["exemplar"] | {"image": tensors["exemplar"]})
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as reason:
        raise InputError(
            f"{path.name} is damaged: its contents do not make a run ({_first_line(reason)})"
        ) from reason
    return snapshot, recipe, exemplar


def file_sha256(path: str | Path) -> str:
    """Hash a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _write(
    path: str | Path, tensors: dict[str, Tensor], header: dict[str, str], force: bool
) -> None:
    with atomic_write(Path(path), force=force) as file:
        file.write(_ordered(save_tensors(tensors, header)))


def _ordered(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file, whose order is by chance: same model, same bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": about} | header, ensure_ascii=False, separators=(",", ":"))
    start = text.encode()
    start += b" " * (-len(start) % 8)  # the numbers stay aligned
    return len(start).to_bytes(8, "little") + start + data[8 + length :]


def _read(path: Path, expected: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata, or say in one sentence what is wrong with the file."""
    kind = "a model file" if expected == FORMAT else "a checkpoint"
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size < _MOST_BYTES else b""
    except FileNotFoundError as reason:
        raise InputError(f"there is no file {path}; expected {kind}") from reason
    except IsADirectoryError as reason:
        raise InputError(f"{path} is a directory; expected {kind}") from reason
    except OSError as reason:
        raise InputError(f"{path} cannot be read: {reason.strerror}") from reason
    if len(data) < 8:
        raise InputError(f"{path.name} is not {kind} of nca-texture: {size} bytes")
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])["__metadata__"] if length < len(data) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        header = None
    if not isinstance(header, dict):
        what = "is cut off or" if length < 2**27 and data[8:9] == b"{" else "is"
        raise InputError(f"{path.name} {what} not {kind} of nca-texture")
    found = str(header.get("format", ""))
    name = expected.partition("/")[0]
    if found.startswith(f"{name}/") and found != expected:
        raise InputError(
            f"{path.name} has format {found}, newer than this program knows ({expected}); "
            "upgrade nca-texture"
        )
    if found != expected:
        other = "a checkpoint" if found == CHECKPOINT_FORMAT else "another kind of file"
        other = "a model file" if found == FORMAT else other
        raise InputError(f"{path.name} is {other}; expected {kind} of nca-texture")
    try:
        return load_tensors(data), header
    except (SafetensorError, ValueError) as reason:
        raise InputError(f"{path.name} is damaged or cut off; make it again") from reason


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _json(about: dict[str, Any]) -> str:
    """Write an object as JSON; bytes of a file name that are no text are kept, escaped."""
    return json.dumps(about, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first_line(reason: Exception) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(reason).__name__
