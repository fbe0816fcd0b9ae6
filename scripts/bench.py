"""Time our steps and iterations against those of a notebook, in one run, as ratios.

    python scripts/bench.py                      the kernels' tests first, then all tables
    python scripts/bench.py --append             also append each, once done, to docs/benchmarks/

Times of one machine mean little on another, and on a busy machine little at all: what counts is
the ratio of two contenders that took turns. Every call takes several steps, as training and
rendering do (64 on small grids, 4 on the largest), and what a call costs besides is shared out
among them; backward passes start from a gradient that is given. On a machine that is never quiet,
`OMP_NUM_THREADS=1 taskset -c 0` counts the processor time of one thread.

The notebook's step is written here as in Self-Organising Textures' PyTorch notebook (Niklasson et
al., Distill 2021): circular padding, one convolution with the four filters, two 1x1 convolutions, a
random mask. With JAX installed, a jitted step joins in, once with convolutions and once with
shifted copies.
"""

import argparse
import contextlib
import datetime
import gc
import multiprocessing
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from nca_texture.automaton import CellularAutomaton
from nca_texture.devices import hold_memory
from nca_texture.kernels import cpu
from nca_texture.kernels.rule import Precision
from nca_texture.loss_plans import loss_plan
from nca_texture.losses.base import Grown, Loss
from nca_texture.presets import PRESETS
from nca_texture.targets import Exemplar
from nca_texture.training import train

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
PATIENCE = 20.0  # seconds of all rounds after the third


class NotebookStep(nn.Module):
    """The published step, plainly."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.channels = channels
        identity = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        laplacian = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]])
        filters = torch.stack([identity, sobel, sobel.T, laplacian])[:, None]
        self.register_buffer("filters", filters)
        self.first = nn.Conv2d(4 * channels, hidden, 1)
        self.last = nn.Conv2d(hidden, channels, 1, bias=False)
        nn.init.normal_(self.last.weight, std=0.01)

    def forward(self, state: Tensor) -> Tensor:
        """Take one step from ``state`` [B, C, H, W]."""
        batch, channels, height, width = state.shape
        flat = state.reshape(batch * channels, 1, height, width)
        flat = F.conv2d(F.pad(flat, [1, 1, 1, 1], "circular"), self.get_buffer("filters"))
        update = self.last(torch.relu(self.first(flat.reshape(batch, -1, height, width))))
        mask = (torch.rand(batch, 1, height, width, device=state.device) + 0.5).floor()
        return state + update * mask


def notebook(step: NotebookStep, state: Tensor, steps: int) -> Tensor:
    """Take ``steps`` steps as the notebook's loop does."""
    for _ in range(steps):
        state = step(state)
    return state


def jax_steps(
    channels: int, hidden: int, shifts: bool
) -> Callable[..., Callable[[], object]] | None:
    """Make timed calls of a jitted step, or None without JAX."""
    try:
        import jax  # pyright: ignore[reportMissingImports]
        import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    module = NotebookStep(channels, hidden)
    filters = jnp.asarray(module.get_buffer("filters")[:, 0].numpy())
    weights = (
        jnp.asarray(module.first.weight.detach()[:, :, 0, 0].t().numpy()),
        jnp.asarray(module.first.bias.detach().numpy()),  # pyright: ignore
        jnp.asarray(module.last.weight.detach()[:, :, 0, 0].t().numpy()),
    )

    def perceive(cells):
        if shifts:
            rows = {d: jnp.roll(cells, -d, 1) if d else cells for d in (-1, 0, 1)}
            seen = {
                (y, x): jnp.roll(rows[y], -x, 2) if x else rows[y]
                for y in (-1, 0, 1)
                for x in (-1, 0, 1)
            }
            taps = module.get_buffer("filters")[:, 0].tolist()
            return jnp.concatenate(
                [
                    sum(tap[y + 1][x + 1] * seen[y, x] for y, x in seen if tap[y + 1][x + 1])
                    for tap in taps
                ],
                -1,
            )
        padded = jnp.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        kernel = jnp.tile(filters.transpose(1, 2, 0)[:, :, None, :], (1, 1, 1, channels))
        return jax.lax.conv_general_dilated(
            padded,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )

    def grow(weights, cells, key, steps):
        def body(cells, key):
            hidden = jax.nn.relu(perceive(cells) @ weights[0] + weights[1])
            mask = jax.random.bernoulli(key, 0.5, (*cells.shape[:3], 1))
            return cells + (hidden @ weights[2]) * mask, None

        return jax.lax.scan(body, cells, jax.random.split(key, steps))[0]

    def make(state: Tensor, steps: int, training: bool) -> Callable[[], object]:
        cells, key = jnp.asarray(state.permute(0, 2, 3, 1).numpy()), jax.random.PRNGKey(0)
        if training:

            def loss(weights, cells, key):
                return (grow(weights, cells, key, steps) * cells).sum()

            run = jax.jit(jax.grad(loss, argnums=(0, 1)))
        else:
            run = jax.jit(lambda weights, cells, key: grow(weights, cells, key, steps))
        return lambda: jax.block_until_ready(run(weights, cells, key))

    return make


def clock() -> float:
    """Tell the time; with one thread that is the processor's, which others do not take part in."""
    return time.process_time() if alone() else time.perf_counter()


def alone() -> bool:
    """Whether one thread does all the work."""
    return torch.get_num_threads() == 1 and not torch.cuda.is_available()


def take_turns(contenders: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """Run all contenders in turn, 3 times or up to ROUNDS; the median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for turn in range(ROUNDS):
        if turn >= 3 and sum(map(sum, times.values())) > PATIENCE:
            break
        for name, call in contenders.items():
            synchronize(device)
            begin = clock()
            call()
            synchronize(device)
            times[name].append(clock() - begin)
    return {name: statistics.median(found) for name, found in times.items()}


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def forget_gradients(*modules: nn.Module) -> None:
    """Drop all gradients."""
    for module in modules:
        module.zero_grad(set_to_none=True)


def step_contenders(
    channels: int, hidden: int, state: Tensor, steps: int, *, training: bool, plain: bool
) -> dict[str, Callable[[], object]]:
    """Name everything that can take ``steps`` steps from ``state`` here."""
    device = state.device.type
    module = NotebookStep(channels, hidden).to(device)
    automaton = CellularAutomaton(channels, hidden).to(device)
    assert automaton.weight_out is not None
    nn.init.normal_(automaton.weight_out, std=0.01)

    def ours(precision: Precision = "float32") -> Callable[[], object]:
        def call() -> None:
            with torch.set_grad_enabled(training):
                end = automaton.grow(state, steps, precision=precision)
                if training:
                    end.backward(state)
            forget_gradients(automaton)

        return call

    def theirs() -> None:
        with torch.set_grad_enabled(training):
            end = notebook(module, state, steps)
            if training:
                end.backward(state)
        forget_gradients(module)

    contenders: dict[str, Callable[[], object]] = {"notebook": theirs} if plain else {}
    contenders[f"{automaton.kernel_for(state)}, float32"] = ours()
    with contextlib.suppress(ValueError):  # no kernel multiplies in bfloat16 here
        name = automaton.kernel_for(state, precision="bfloat16")
        contenders[f"{name}, bfloat16"] = ours("bfloat16")
    if device == "cpu" and plain:
        for shifts in (False, True):
            if (make := jax_steps(channels, hidden, shifts)) is not None:
                how = "shifts" if shifts else "convolutions"
                contenders[f"JAX, jitted, {how}"] = make(state, steps, training)
    return contenders


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1e3:.3g} ms"


def steps_table(
    device: str, grids: list[tuple[int, int]], models: list[tuple[int, int]], largest: int
) -> str:
    """Time a step, forward and with its backward pass.

    The first model on all ``grids`` (batch, side), the others on the first of them; what is not
    ours on sides up to ``largest``.
    """
    rows = []
    for channels, hidden in models:
        for batch, size in grids if (channels, hidden) == models[0] else grids[:1]:
            state = torch.rand(batch, channels, size, size, device=device) - 0.5
            plain = size <= largest or device != "cpu"
            for training in (False, True):
                steps = max(4, min(64, 2**19 // (batch * size * size)))
                contenders = step_contenders(
                    channels, hidden, state, steps, training=training, plain=plain
                )
                times = take_turns(contenders, device)
                for name, seconds in times.items():
                    each = seconds / steps
                    ratio = f"{times['notebook'] / seconds:.1f}" if plain else ""
                    cells = batch * size * size / each
                    rows.append(
                        [
                            f"{channels}/{hidden}",
                            f"{batch} x {size} x {size}",
                            "forward and backward" if training else "forward",
                            name,
                            milliseconds(each),
                            f"{cells / 1e6:.3g} M",
                            ratio,
                        ]
                    )
                    print("  " + "  ".join(rows[-1]), flush=True)
            gc.collect()
    head = ["channels/hidden", "cells", "what", "who", "time a step", "cells/s", "times faster"]
    return table(head, rows)


def high_water() -> int:
    """Most bytes that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with that of the process that started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak(who: str, batch: int, size: int, steps: int, answer) -> None:
    """Report by how many bytes one training iteration raises this process's peak."""
    state = torch.rand(batch, 12, size, size) - 0.5
    small = state[:1, :, :16, :16].clone()
    for first in (True, False):
        given = small if first else state
        contenders = step_contenders(
            12, 96, given, 2 if first else steps, training=True, plain=True
        )
        name = "notebook" if who == "notebook" else next(n for n in contenders if n != "notebook")
        before = high_water()
        contenders[name]()
    answer.put(high_water() - before)


def memory_table(device: str) -> str:
    """Measure the peak memory of 64 steps, forward and backward."""
    batch, size, steps = 4, 128, 64
    found: dict[str, float] = {}
    for who in ("notebook", "ours"):
        if device == "cpu":
            context = multiprocessing.get_context("spawn")
            answer = context.Queue()
            process = context.Process(target=_peak, args=(who, batch, size, steps, answer))
            process.start()
            found[who] = answer.get()
            process.join()
        else:
            state = torch.rand(batch, 12, size, size, device=device) - 0.5
            contenders = step_contenders(12, 96, state, steps, training=True, plain=True)
            name = "notebook" if who == "notebook" else next(n for n in contenders if n != who)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            contenders[name]()
            found[who] = torch.cuda.max_memory_allocated() - before
    rows = [
        [who, f"{peak / 1e6:.0f} MB", f"{found['notebook'] / peak:.1f}"]
        for who, peak in found.items()
    ]
    return table(["who", f"peak of {steps} steps at {batch} x {size} x {size}", "times less"], rows)


class _PlainFeatures(nn.Module):
    """VGG16 to relu5_1 as the notebook calls it: float32, channels first."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg16

        layers = list(vgg16(weights=None).features.children())[:26]
        self.layers = nn.Sequential(*layers).requires_grad_(False)
        for layer in self.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False

    def forward(self, image: Tensor) -> list[Tensor]:
        mean = image.new_tensor([0.485, 0.456, 0.406])[:, None, None]
        deviation = image.new_tensor([0.229, 0.224, 0.225])[:, None, None]
        flow = (image - mean) / deviation
        found = [flow.flatten(2)]
        for index, layer in enumerate(self.layers):
            flow = layer(flow)
            if index in (1, 6, 11, 18, 25):
                found.append(flow.flatten(2))
        return found


def notebook_iteration(device: str, batch: int, size: int) -> Callable[[], None]:
    """Make the notebook's whole iteration: pool, 64 steps, VGG16, sliced transport, Adam."""
    step, features = NotebookStep(12, 96).to(device), _PlainFeatures().to(device)
    target = torch.rand(1, 3, size, size, device=device)
    optimizer = torch.optim.Adam(step.parameters(), 1e-3)
    pool = torch.zeros(256, 12, size, size, device=device)

    def project_sort(found: Tensor, directions: Tensor) -> Tensor:
        return torch.einsum("bcn,cp->bpn", found, directions).sort()[0]

    def iterate() -> None:
        with torch.no_grad():
            places = torch.randint(256, (batch,))
            state = pool[places]
            state[:1] = 0
            wanted = features(target)
        state = notebook(step, state, 64)
        image = state[:, :3] + 0.5
        loss = (image - image.clamp(0, 1)).abs().sum() + (state - state.clamp(-1, 1)).abs().sum()
        for ours, theirs in zip(features(image), wanted, strict=True):
            directions = F.normalize(torch.randn(ours.shape[1], 32, device=device), dim=0)
            mine = project_sort(ours, directions)
            goal = project_sort(theirs, directions)
            goal = F.interpolate(goal, mine.shape[-1], mode="nearest")
            loss = loss + (mine - goal).square().sum()
        loss.backward()
        with torch.no_grad():
            for parameter in step.parameters():
                assert parameter.grad is not None
                parameter.grad /= parameter.grad.norm() + 1e-8
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            pool[places] = state
        loss.item()

    return iterate


def our_iteration(device: str, batch: int, size: int, weights: Path) -> Callable[[], None]:
    """Make an iteration of the ``distill-2021`` recipe with 64 steps, as ``train`` runs it."""
    recipe = replace(
        PRESETS["distill-2021"].recipe,
        training=replace(
            PRESETS["distill-2021"].recipe.training,
            iterations=10**6,
            batch_size=batch,
            width=size,
            height=size,
            steps=(64, 64),
        ),
    )
    picture = torch.rand(1, 3, size, size)
    exemplar = Exemplar(picture, "noise", "noise", "", (size, size), 1.0)
    automaton = recipe.build_automaton().to(device)
    loss = recipe.build_loss(exemplar, str(weights)).to(device)
    reports = train(automaton, loss, recipe.training)

    def iterate() -> None:
        next(reports)

    return iterate


def iteration_table(device: str) -> str:
    """Time a whole iteration of the published recipe; random weights of VGG16 cost the same."""
    from torchvision.models import vgg16

    batch, size = 4, 128
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "vgg16.safetensors"
        save_file(vgg16(weights=None).features.state_dict(prefix="features."), weights)
        contenders: dict[str, Callable[[], object]] = {
            "notebook": notebook_iteration(device, batch, size),
            "ours": our_iteration(device, batch, size, weights),
        }
        times = take_turns(contenders, device)
    rows = [
        [who, milliseconds(seconds), f"{times['notebook'] / seconds:.1f}"]
        for who, seconds in times.items()
    ]
    what = f"distill-2021, 64 steps, {batch} x {size} x {size}, VGG16"
    return table(["who", what, "times faster"], rows)


def loss_table(device: str) -> str:
    """Time losses of `draft`, with gradient; random weights of VGG19 cost the same."""
    from torchvision.models import vgg19

    hold_memory()  # as a training does; a notebook, which others are timed as, does not
    batch, size = 4, 128
    picture = torch.rand(1, 3, size, size)
    exemplar = Exemplar(picture, "noise", "noise", "", (size, size), 1.0)
    image = torch.rand(batch, 3, size, size, device=device, requires_grad=True)
    draft = PRESETS["draft"].recipe
    plans = {"VGG19, sliced": (loss_plan("sliced", "vgg19"),), "draft's": draft.losses[:-1]}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "vgg19.safetensors"
        save_file(vgg19(weights=None).features.state_dict(prefix="features."), weights)
        contenders = {}
        for who, losses in plans.items():
            given = str(weights) if who.startswith("VGG19") else None
            loss = replace(draft, losses=losses).build_loss(exemplar, given).to(device)

            def call(loss: Loss = loss) -> None:
                image.grad = None
                loss(Grown(image, image), torch.Generator().manual_seed(0)).sum().backward()

            contenders[who] = call
        times = take_turns(contenders, device)
    slow = times["VGG19, sliced"]
    rows = [[who, milliseconds(seconds), f"{slow / seconds:.1f}"] for who, seconds in times.items()]
    return table(["losses", f"with gradient, {batch} x {size} x {size}", "times faster"], rows)


def about(device: str) -> str:
    """Say what ran where."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if device == "cpu":
        threads = "1 thread, processor time," if alone() else f"{torch.get_num_threads()} threads"
        hardware = f"{threads} on {processor()}"
        hardware += f", compiled steps for {cpu.instruction_set() or 'nothing'}"
    else:
        hardware = torch.cuda.get_device_name()
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    for module in ("triton", "jax"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{module} {metadata.version(module)}")
    today = datetime.date.today().isoformat()
    return f"{today}, commit {commit}; {hardware}; {', '.join(versions)}."


def processor() -> str:
    """Name the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    known = names and names[0] not in ("", "unknown")
    return names[0] if known else platform.machine()


def main() -> int:
    """Run the kernels' tests, then print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--append", action="store_true", help="also append to docs/benchmarks/")
    parser.add_argument("--no-tests", action="store_true", help="skip the kernels' tests")
    parser.add_argument(
        "--only",
        choices=["steps", "memory", "iteration", "losses"],
        help="one table instead of all",
    )
    parser.add_argument(
        "--models", nargs="*", default=["12/96", "12/64", "16/128"], help="channels/hidden units"
    )
    parser.add_argument(
        "--grids",
        nargs="*",
        default=["4x128", "1x64", "1x256", "1x1024", "1x2048"],
        help="batch and side of the grids; models but the first are timed on the first grid only",
    )
    parser.add_argument(
        "--largest", type=int, default=1024, help="side up to which others are timed on a CPU"
    )
    choice = parser.parse_args()
    device: str = choice.device
    if not choice.no_tests:
        marker = "not gpu" if device == "cpu" else "gpu"
        tests = ["-m", "pytest", "-q", "-m", marker, str(ROOT / "tests" / "test_kernels.py")]
        if subprocess.run([sys.executable, *tests], check=False, cwd=ROOT).returncode:
            print("the kernels' tests failed: no figures")
            return 1
    models = [(int(c), int(h)) for c, _, h in (model.partition("/") for model in choice.models)]
    grids = [(int(b), int(n)) for b, _, n in (grid.partition("x") for grid in choice.grids)]
    tables = {
        "steps": lambda: steps_table(device, grids, models, choice.largest),
        "memory": lambda: memory_table(device),
        "iteration": lambda: iteration_table(device),
        "losses": lambda: loss_table(device),
    }
    heading = f"## {about(device)}\n"
    print(heading)
    path = ROOT / "docs" / "benchmarks" / f"{torch.device(device).type}.md"
    if choice.append:
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, heading)
    for name, make in tables.items():
        if choice.only in (None, name):
            text = make()
            print(f"{text}\n")
            if choice.append:
                append(path, f"\n{text}\n")
    return 0


def append(path: Path, text: str) -> None:
    """Write ``text`` behind what stands in ``path``, with an empty line between."""
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if file.tell() and text.startswith("##") else "") + text)


if __name__ == "__main__":
    sys.exit(main())
