"""``nca-texture doctor``: whether everything that is needed is here and works."""

import importlib.util
import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

from nca_texture.cli import common

# Names to import for each extra; core comes first.
_CORE = (
    "torch",
    "torchvision",
    "kornia",
    "numpy",
    "PIL",
    "skimage",
    "scipy",
    "typer",
    "rich",
    "safetensors",
    "tifffile",
)
_DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image"}
_EXTRAS = {"tensorboard": "tensorboard", "video": "av"}


@common.sentences
def doctor(json: common.Json = False, verbose: common.Verbose = False) -> None:
    """Look over the installation; exit code 1 when something that is needed fails."""
    rows = [_python(), *map(_package, _CORE), *_devices(), _writable()]
    rows += [_extra(name, module) for name, module in _EXTRAS.items()] + _networks()
    healthy = all(row["ok"] or not row["needed"] for row in rows)
    if json:
        common.answer({"ok": healthy, "rows": rows})
    else:
        for row in rows:
            mark = "ok  " if row["ok"] else "FAIL" if row["needed"] else "-   "
            typer.echo(f"{mark}  {row['name']:<16}{row['detail']}")
    if not healthy:
        raise typer.Exit(common.FAILED)


def _row(name: str, ok: bool, detail: str, needed: bool = True) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail, "needed": needed}


def _python() -> dict[str, Any]:
    return _row("python", True, f"{platform.python_version()} on {platform.platform()}")


def _package(module: str) -> dict[str, Any]:
    name = _DISTRIBUTIONS.get(module, module)
    if importlib.util.find_spec(module) is None:
        return _row(name, False, f"is missing; pip install {name}")
    return _row(name, True, metadata.version(name))


def _extra(name: str, module: str) -> dict[str, Any]:
    if importlib.util.find_spec(module) is None:
        return _row(name, False, f'not installed; pip install "nca-texture[{name}]"', needed=False)
    return _row(name, True, metadata.version(module), needed=False)


def _devices() -> list[dict[str, Any]]:
    import torch

    rows = [_self_test("cpu", f"{torch.get_num_threads()} threads, {os.cpu_count()} cores")]
    if torch.cuda.is_available():
        rows += [
            _self_test(f"cuda:{index}", torch.cuda.get_device_name(index))
            for index in range(torch.cuda.device_count())
        ]
    else:
        rows.append(_row("cuda", False, "no CUDA device", needed=False))
    if torch.backends.mps.is_available():
        rows.append(_self_test("mps", "Metal"))
    return [*rows, _compiled()]


def _self_test(device: str, detail: str) -> dict[str, Any]:
    """Grow a torus on ``device``, rolled, and compare with the reference kernel on the CPU."""
    import torch

    from nca_texture.automaton import CellularAutomaton

    automaton = CellularAutomaton(channels=8, hidden=32, seed_kind="noise")
    torch.nn.init.normal_(automaton.weight_out, std=0.05)  # type: ignore[arg-type]
    automaton.requires_grad_(False)
    start = automaton.seed(1, (24, 32), seed=1)
    want = automaton.grow(start, 8, seed=1, kernel="reference")
    there = automaton.to(device)
    state = there.seed(1, (24, 32), seed=1).roll((5, 7), (2, 3))
    got = there.grow(state, 8, seed=1, origin=(-5, -7)).roll((-5, -7), (2, 3)).cpu()
    apart = (got - want).abs().max().item()
    kernel = there.kernel_for(state)
    return _row(
        device, apart < 1e-3, f"{detail}, {kernel} kernel; self-test differs by {apart:.1e}"
    )


def _compiled() -> dict[str, Any]:
    from nca_texture.kernels import cpu

    found = cpu.instruction_set()
    detail = f"for {found}" if found else "no: install a C compiler, then the package again"
    return _row("compiled steps", found is not None, detail, needed=False)


def _writable() -> dict[str, Any]:
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            pass
    except OSError as reason:
        return _row("write here", False, f"{Path.cwd()}: {reason.strerror}")
    return _row("write here", True, str(Path.cwd()))


def _networks() -> list[dict[str, Any]]:
    from nca_texture.losses.weights import weights_status

    return [
        _row(row.network, row.path is not None, f"weights: {row.place}", needed=False)
        for row in weights_status()
    ]
