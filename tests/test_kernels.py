"""Every kernel is the reference: values, gradients, chance, and it runs only when it can."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from ctypes import c_int
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from learning import scramble
from torch import Tensor

from nca_texture import kernels
from nca_texture.automaton import CellularAutomaton, grow_together
from nca_texture.grid import Grid
from nca_texture.kernels import cpu
from nca_texture.kernels.rule import Limits, Rule, World

KERNELS_UNDER_TEST = ["cpu", "triton"]
DEVICES = {"cpu": ["cpu"], "triton": ["cpu", "cuda"]}  # on a CPU in Triton's interpreter

# In float32 results differ by the order of sums: by this share of the greatest number.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Place:
    """A kernel and the device it runs on."""

    kernel: str
    device: str


def places(*devices: str) -> list:
    return [
        pytest.param(
            Place(kernel, device),
            id=f"{kernel}-{device}",
            marks=[pytest.mark.gpu] if device == "cuda" else [],
        )
        for kernel in KERNELS_UNDER_TEST
        for device in DEVICES[kernel]
        if device in devices
    ]


def multiply_in_order(a: np.ndarray, b: np.ndarray, dtype: object = None) -> np.ndarray:
    """Multiply matrices so that each sum is taken in one order, wherever it stands among others."""
    sums = np.zeros((a.shape[0], b.shape[1]), dtype or np.result_type(a, b))
    for column, row in zip(a.T, b, strict=True):
        sums += column[:, None] * row
    return sums


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Skip where a kernel has nothing to run on."""
    asked: Place = request.param
    if asked.device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if asked.kernel == "cpu" and cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    if asked.kernel == "triton":
        pytest.importorskip("triton")
        if asked.device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("set TRITON_INTERPRET=1 to test Triton's kernels on a CPU")
        if asked.device == "cpu":
            # A GPU adds up every row of a product alike; NumPy, with some instruction sets, does
            # not, and it is what multiplies in the interpreter.
            monkeypatch.setattr(np, "matmul", multiply_in_order)
    return asked


everywhere = pytest.mark.parametrize("place", places("cpu", "cuda"), indirect=True)
on_cpu = pytest.mark.parametrize("place", places("cpu"), indirect=True)
on_cuda = pytest.mark.parametrize("place", places("cuda"), indirect=True)


def awake(**settings: object) -> CellularAutomaton:
    """Make a small automaton whose last layer is not zero, so that something happens."""
    return scramble(CellularAutomaton(**{"channels": 6, "hidden": 20} | settings), 3, 0.2)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def grown(
    automaton: CellularAutomaton, state: Tensor, place: Place, **call: object
) -> dict[str, Tensor]:
    """Grow ``state``; return what came out and the gradients of everything that went in."""
    automaton = copy.deepcopy(automaton).to(place.device)
    start = state.clone().to(place.device).requires_grad_()
    end = automaton.grow(start, **{"steps": 2, "seed": 8, "kernel": place.kernel} | call)
    (end * noise(*end.shape, seed=1).to(end)).sum().backward()
    found = {"state after": end.detach(), "gradient of state": start.grad}
    found |= {f"gradient of {name}": p.grad for name, p in automaton.named_parameters()}
    return {name: tensor.cpu() for name, tensor in found.items() if tensor is not None}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        most = tensor.abs().max().item()
        assert most > 0, f"{name}: nothing is compared"
        torch.testing.assert_close(
            got[name],
            tensor,
            atol=TOLERANCE * most,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def distance(got: Tensor, want: Tensor) -> float:
    return ((got - want).norm() / want.norm()).item()


REFERENCE = Place("reference", "cpu")


@dataclass(frozen=True)
class Case:
    """One automaton, the size of its grid and how it is asked to grow."""

    settings: dict = field(default_factory=dict)
    size: tuple[int, int] = (5, 4)
    call: dict = field(default_factory=dict)


HEX, MU = {"grid": Grid("hex")}, {"channels": 8, "rule": "abs", "bank": "munca-264"}
CASES = {
    "square": Case(size=(7, 5)),
    "hex": Case(HEX, (6, 5)),
    "abs": Case(MU, (7, 5)),
    "abs of all filters": Case({"rule": "abs", "bank": "distill-tf"}),
    "abs on hexagons": Case(MU | HEX, (6, 3)),
    "many blocks": Case({"hidden": 4}, (19, 33), {"steps": 1}),
    "one row": Case(size=(1, 9)),
    "one cell": Case(size=(1, 1)),
    "three filters": Case({"channels": 16, "bank": "growing-2020", "output_bias": True}),
    "many channels": Case({"channels": 17, "hidden": 70, "bank": "laplacian"}, (3, 3)),
    "learned": Case({"bank": "learned"}),
    "learned on hexagons": Case({"bank": "learned", "grid": Grid("hex", "reflect")}),
    "turned and scaled": Case(call={"angle": 0.4, "dx": (1.2, 0.9), "dt": 0.5}),
    "slow": Case(call={"fire_rate": 0.1}),
    "two speeds": Case(call={"fire_rate": noise(5, 4).add(0.5)}),
    "percept limit": Case({"limits": Limits(percept=0.4)}),
    "hidden limit": Case({"limits": Limits(hidden=0.3)}),
    "update limit": Case({"limits": Limits(update=0.2)}),
    "state limit": Case({"limits": Limits(state=0.45)}, call={"fire_rate": 0.6}),
    "all limits": Case({"limits": Limits(0.8, 0.7, 0.5, 0.6)}, call={"dt": 0.7}),
    "abs with limits": Case(MU | {"limits": Limits(0.3, None, 0.5, 0.6)}),
    "living": Case({"living": True}, (7, 6)),
    "living at zero": Case({"living": True, "grid": Grid("square", "zero")}, (7, 6)),
    "living within limits": Case({"living": True, "limits": Limits(state=0.4)}, (7, 6)),
    "living hexagons": Case({"living": True, "grid": Grid("hex", ("torus", "reflect"))}, (6, 7)),
    "held": Case({"condition": "one-hot", "classes": 3}),
    "held abs": Case({"condition": "embedding", "classes": 2, "rule": "abs"}),
    "held and living": Case(
        {"condition": "genome", "classes": 4, "living": True, "grid": Grid("square", "zero")},
        (7, 6),
    ),
    "held within limits": Case(
        {"condition": "one-hot", "classes": 2, "living": True, "limits": Limits(state=0.4)}, (7, 6)
    ),
    "several seeds": Case(call={"seed": [2**32 - 1, 7], "start": 2**31 - 1}),
    "block on a torus": Case(call={"origin": (-3, 21), "extent": (20, 22)}),
    "block on hexagons": Case(HEX, call={"origin": (-3, 5), "extent": (20, 22)}),
    "block on a plane": Case(
        {"grid": Grid("square", ("zero", "replicate"))},
        call={"origin": (-2, 3), "extent": (8, 9), "fire_rate": noise(8, 9).add(0.5)},
    ),
}
for edges in ["zero", "reflect", "replicate", ("zero", "torus"), ("torus", "reflect")]:
    CASES[f"edges {edges}"] = Case({"grid": Grid("square", edges)}, (4, 3), {"steps": 1})
CASES["edges of hexagons"] = Case({"grid": Grid("hex", ("replicate", "reflect"))}, (5, 2))
CASES["smallest mirror"] = Case({"grid": Grid("square", "reflect")}, (2, 2))
CASES["one replicated cell"] = Case({"grid": Grid("square", "replicate")}, (1, 1))


@pytest.mark.parametrize("case", CASES)
@everywhere
def test_values_and_gradients_are_those_of_the_reference(place: Place, case: str) -> None:
    assert_like_the_reference(place, CASES[case])


def assert_like_the_reference(place: Place, case: Case) -> None:
    automaton = awake(**case.settings)
    state = noise(2, automaton.channels, *case.size)
    results = [grown(automaton, state, each, **case.call) for each in (place, REFERENCE)]
    assert_same(*results)


COMBINED = {
    "norm": Case({"bank": "isotropic"}, (7, 5)),
    "steer": Case({"bank": "steerable"}, (7, 5)),
    "norm on hexagons": Case({"bank": "isotropic", "grid": Grid("hex", "reflect")}, (6, 3)),
    "steer on hexagons": Case({"bank": "steerable"} | HEX, (6, 5)),
    "abs norm": Case({"bank": "isotropic", "rule": "abs"}),
    "abs steer": Case({"bank": "steerable", "rule": "abs", "grid": Grid("square", "zero")}),
    "norm, many channels": Case({"channels": 17, "bank": "isotropic"}, (3, 3)),
    "steer, many channels": Case({"channels": 17, "bank": "steerable"}, (3, 3)),
    "norm within limits": Case({"bank": "isotropic", "limits": Limits(0.5, 0.7, 0.5, 0.6)}),
    "steer within limits": Case({"bank": "steerable", "limits": Limits(0.5, 0.7, 0.5, 0.6)}),
    "steer, held and living": Case(
        {"bank": "steerable", "condition": "one-hot", "classes": 2, "living": True}, (7, 6)
    ),
    "steer, many steps": Case({"bank": "steerable"}, (9, 40), {"steps": 6}),
}


@pytest.mark.parametrize("case", COMBINED)
@everywhere
def test_gradients_that_are_combined_are_those_of_the_reference(place: Place, case: str) -> None:
    assert_like_the_reference(place, COMBINED[case])


@pytest.mark.parametrize("layout", ["square", "hex"])
@pytest.mark.parametrize("corner", [(0, 0), (6, 5)])
@everywhere
def test_a_patch_of_life_among_the_dead(place: Place, layout: str, corner: tuple[int, int]) -> None:
    grid = Grid(layout, "torus" if corner == (0, 0) else "zero")
    settings = {"living": True, "grid": grid, "condition": "one-hot", "classes": 2}
    automaton = awake(**settings)
    # Far from life nothing is computed; the interpreter, which is slow, has no such place.
    size = (10, 8) if (place.kernel, place.device) == ("triton", "cpu") else (16, 13)
    state = torch.zeros(2, automaton.channels, *size)
    y, x = corner
    state[:, :, y : y + 3, x : x + 3] = noise(2, automaton.channels, 3, 3) + 0.3
    state = automaton.tell(state, torch.tensor([0, 1])).detach()
    call = {"steps": 4}
    assert_same(grown(automaton, state, place, **call), grown(automaton, state, REFERENCE, **call))


@pytest.mark.parametrize("edges", [("torus", "reflect"), ("replicate", "zero")])
@everywhere
def test_a_bank_may_reach_further(place: Place, edges: tuple[str, str]) -> None:
    automaton = awake()
    size = (2, 2)  # smaller than the window, which goes round or is mirrored more than once
    like = automaton._rule(noise(1, 6, *size), size, None, 1.0, 1.0, 0.0)
    found = []
    for kernel, device in ((place.kernel, place.device), ("reference", "cpu")):
        filters = noise(1, 6, 4, 5, 5, seed=4).to(device).requires_grad_()
        rule = move(replace(like, edges=edges), device, filters)
        state = noise(1, 6, *size).to(device).requires_grad_()
        _, grow = kernels.choose(kernel, rule, state)
        end = grow(rule, state, 1, [3], 0, World((0, 0), size))
        end.square().sum().backward()
        inputs = {"state after": end, "gradient of state": state.grad, "filters": filters.grad}
        found.append({name: each.detach().cpu() for name, each in inputs.items()})
    assert_same(*found)


STACKED = {
    "square": Case(size=(7, 5)),
    "hex": Case(HEX, (6, 5)),
    "abs": Case(MU, (7, 5)),
    "learned": Case({"bank": "learned", "grid": Grid("hex", "reflect")}, (4, 3)),
    "living": Case({"living": True, "grid": Grid("square", ("torus", "replicate"))}, (5, 4)),
    "all limits": Case({"limits": Limits(0.8, 0.7, 0.5, 0.6), "output_bias": True}),
    "norm": Case({"bank": "isotropic"}),
    "abs steer": Case({"bank": "steerable", "rule": "abs"}),
}


@pytest.mark.parametrize("case", STACKED)
@pytest.mark.parametrize("place", [REFERENCE, *places("cpu", "cuda")], indirect=True, ids=str)
def test_models_that_grow_together_are_each_model_alone(
    place: Place, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the interpreter, where there is one processor: two programs for each of three models.
    monkeypatch.setattr(kernels.triton, "_PROGRAMS_PER_PROCESSOR", 6)
    automata = [awake(**STACKED[case].settings).to(place.device) for _ in range(3)]
    for factor, automaton in enumerate(automata, 1):
        for parameter in automaton.parameters():
            parameter.data *= 1.5 / factor
    together = copy.deepcopy(automata)
    state = noise(6, automata[0].channels, *STACKED[case].size).to(place.device)
    goal = noise(*state.shape, seed=1).to(place.device)
    starts = [part.clone().requires_grad_() for part in state.split(2)]
    call = {"start": 4, "kernel": place.kernel}
    seeds = [5, 6, 7, 8, 9, 2**32 - 1]
    alone = [
        automaton.grow(start, 2, seed=seeds[2 * i : 2 * i + 2], **call)
        for i, (automaton, start) in enumerate(zip(automata, starts, strict=True))
    ]
    torch.autograd.backward([(torch.cat(alone) * goal).sum()])

    start = state.clone().requires_grad_()
    end = grow_together(together, start, 2, seed=seeds, **call)
    (end * goal).sum().backward()
    assert torch.equal(end, torch.cat(alone))
    assert start.grad is not None
    assert torch.equal(start.grad, torch.cat([part.grad for part in starts]))
    for one, other in zip(automata, together, strict=True):
        gradients = [
            {name: p.grad.cpu() for name, p in each.named_parameters() if p.grad is not None}
            for each in (other, one)
        ]
        assert_same(*gradients)
        if place.kernel != "triton":  # which shares its sums out otherwise
            assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    with torch.no_grad():
        assert torch.equal(grow_together(together, state, 2, seed=seeds, **call), end)


@everywhere
def test_a_model_that_runs_away_leaves_the_others_alone(place: Place) -> None:
    automata = [awake().to(place.device) for _ in range(3)]
    state = noise(3, 6, 3, 3).to(place.device)
    plain = grow_together(automata, state, 2, kernel=place.kernel)
    automata[1].weight_in.data.fill_(torch.nan)
    broken = grow_together(automata, state, 2, kernel=place.kernel)
    assert torch.equal(broken[[0, 2]], plain[[0, 2]])
    assert broken[1].isnan().any()


def test_automata_that_grow_together_are_alike() -> None:
    with pytest.raises(ValueError, match="nothing but their weights"):
        grow_together([awake(), awake(fire_rate=0.7)], noise(2, 6, 4, 3))
    with pytest.raises(ValueError, match="got 3 samples for 2 automata"):
        grow_together([awake(), awake()], noise(3, 6, 4, 3))


def move(rule: Rule, device: str, filters: Tensor) -> Rule:
    tensors = {name: value for name, value in vars(rule).items() if isinstance(value, Tensor)}
    moved = {name: tensor.detach().to(device) for name, tensor in tensors.items()}
    return replace(rule, **moved | {"filters": filters})


LAWS = {
    "square": {},
    "living hexagons": HEX | {"living": True},
    "abs": MU,
}


@pytest.mark.parametrize("kind", LAWS)
@everywhere
def test_bits_do_not_depend_on_batch_place_or_interruption(place: Place, kind: str) -> None:
    automaton = awake(**LAWS[kind]).to(place.device)
    state = noise(2, automaton.channels, 6, 11).to(place.device)

    def grow(state: Tensor, steps: int, **call: object) -> Tensor:
        with torch.no_grad():
            return automaton.grow(state, steps, kernel=place.kernel, **call)

    whole = grow(state, 2, seed=[5, 6], start=10)
    assert torch.equal(grow(state[1:], 2, seed=6, start=10), whole[1:])
    later = grow(grow(state, 1, seed=[5, 6], start=10), 1, seed=[5, 6], start=11)
    assert torch.equal(later, whole)
    rolled = grow(state.roll((2, -5), (2, 3)), 2, seed=[5, 6], start=10, origin=(-2, 5))
    assert torch.equal(rolled.roll((-2, 5), (2, 3)), whole)
    assert torch.equal(grow(state, 0), state)


@everywhere
def test_gradients_can_be_repeated_to_the_bit(place: Place) -> None:
    automaton = awake(bank="learned", hidden=8)
    state = noise(2, 6, 11, 13)
    once, again = (grown(automaton, state, place, steps=1) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("kind", LAWS)
@everywhere
def test_states_that_were_not_kept_are_made_again(place: Place, kind: str) -> None:
    automaton = awake(**LAWS[kind])
    state = noise(2, automaton.channels, 4, 3)
    want = grown(automaton, state, place, steps=5)
    for keep_every in (2, 5, 9):
        got = grown(automaton, state, place, steps=5, keep_every=keep_every)
        assert torch.equal(got["state after"], want["state after"])
        assert_same(got, want)


@pytest.mark.parametrize("case", ["hex", "abs", "living", "learned", "all limits", "three filters"])
@everywhere
def test_nothing_is_read_that_was_not_written(
    place: Place, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    automaton = awake(**CASES[case].settings)
    state = noise(2, automaton.channels, 6, 3)
    want = grown(automaton, state, place)

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def empty(*args: object, **settings: object) -> Tensor:
            made = make(*args, **settings)
            return made.detach().fill_(torch.nan) if made.is_floating_point() else made

        return empty

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    assert noise(1).new_empty(3).isnan().all()
    got = grown(automaton, state, place)
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@everywhere
def test_fewer_digits_are_close(
    place: Place, precision: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    automaton = awake(**LAWS[kind])
    state = noise(2, automaton.channels, 6, 5)
    rule = automaton._rule(state, (6, 5), None, 1.0, 1.0, 0.0, precision)
    if place.kernel == "cpu" and cpu.instruction_set("avx512bf16") is None:
        monkeypatch.setenv("NCA_TEXTURE_EMULATE_BFLOAT16", "1")
    if place.device == "cpu" and kernels.KERNELS[place.kernel][1](rule, state):
        pytest.skip(f"the {place.kernel} kernel has no {precision} here")
    got = grown(automaton, state, place, precision=precision)
    want = grown(automaton, state, REFERENCE)
    most = {"float16": 0.005, "bfloat16": 0.04}[precision]
    assert got["state after"].dtype == torch.float32
    assert 0 < distance(got["state after"], want["state after"]) < most
    for name in want:  # rounding switches some hidden units on or off
        assert distance(got[name], want[name]) < 0.15, name


@everywhere
def test_small_gradients_do_not_vanish(place: Place) -> None:
    automaton, state = awake(), noise(1, 6, 5, 4)
    if kernels.KERNELS[place.kernel][1](
        automaton._rule(state, (5, 4), None, 1.0, 1.0, 0.0, "float16"), state.to(place.device)
    ):
        pytest.skip(f"the {place.kernel} kernel has no float16 here")
    gradients = []
    for scale in (1.0, 1e-9):
        moved = copy.deepcopy(automaton).to(place.device)
        call = {"kernel": place.kernel, "precision": "float16"}
        (moved.grow(state.to(place.device), 2, **call).sum() * scale).backward()
        assert moved.weight_in.grad is not None
        gradients.append(moved.weight_in.grad / scale)
    assert distance(gradients[1], gradients[0]) < 0.005


@everywhere
def test_a_kernel_asked_for_is_the_one_that_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name, (grow, reasons) in kernels.KERNELS.items():

        def spy(*given: object, name: str = name, grow: kernels.Grow = grow) -> Tensor:
            calls.append(name)
            return grow(*given)

        monkeypatch.setitem(kernels.KERNELS, name, (spy, reasons))
    automaton, state = awake().to(place.device), noise(1, 6, 4, 3).to(place.device)
    automaton.grow(state, kernel=place.kernel)
    assert calls == [place.kernel]
    assert automaton.kernel_for(state, place.kernel) == place.kernel


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("whose", ["torch's", "its own"])
def test_threads_change_no_bit(whose: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    if whose == "torch's" and cpu.share_team() is None:
        pytest.skip("torch runs its loops without OpenMP's GOMP_parallel here")
    if whose == "its own":
        monkeypatch.setattr(cpu, "share_team", lambda: None)
    monkeypatch.setattr(cpu, "_SHARE", 1)
    automaton = awake(**LAWS[kind])
    state = noise(2, automaton.channels, 30, 9)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(grown(automaton, state, Place("cpu", "cpu"), steps=3))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], found[0][name]) for name in found[0])


def test_memory_that_served_before_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    if cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    automaton, state = awake(living=True, bank="learned"), noise(2, 6, 9, 7)
    want = grown(automaton, state, Place("cpu", "cpu"))
    store = cpu._Store(10**6)
    monkeypatch.setattr(cpu, "_STORE", store)
    monkeypatch.setattr(cpu, "_LARGE", 0)
    for _ in range(2):
        got = grown(automaton, state, Place("cpu", "cpu"))
        assert all(torch.equal(got[name], want[name]) for name in want)
        assert len(store.held) == 3  # states, a gradient and what strips add to it
        for memory in store.held.values():
            memory.fill(torch.nan)


def test_memory_is_lent_once_and_little_is_held() -> None:
    store = cpu._Store(4 * 250)
    first, second = store.take(100), store.take(100)
    first.fill_(1)
    second.fill_(2)
    assert (first == 1).all()
    del first
    third = store.take(90)
    assert (third == 1).all()  # it serves again,
    assert not store.held
    view = third[5:9]
    del third
    assert not store.held  # not while anybody looks at it,
    assert (view == 1).all()
    del view, second
    assert sorted(map(len, store.held.values())) == [100, 100]
    small = store.take(20)
    assert len(store.held) == 2  # not for what is far smaller,
    del small
    store.take(200)  # and not more than was agreed
    assert sum(each.nbytes for each in store.held.values()) <= 1000


FORKED = """
import os
import torch
from nca_texture.automaton import CellularAutomaton
from nca_texture.kernels import cpu

torch.set_num_threads(4)
cpu._SHARE = 1
automaton = CellularAutomaton(channels=4, hidden=8)
state = automaton.seed(4, (32, 16))
with torch.no_grad():
    want = automaton.grow(state, 3, kernel="cpu")
    child = os.fork()
    got = automaton.grow(state, 3, kernel="cpu")
if not child:
    os._exit(0 if torch.equal(got, want) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_grows_the_same() -> None:
    if cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


@pytest.mark.parametrize("instructions", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("kind", LAWS)
def test_every_instruction_set_is_the_reference(
    instructions: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpu.instruction_set(instructions) is None:
        pytest.skip(f"there is no {instructions} here, or the cpu kernel was not compiled")
    monkeypatch.setitem(cpu._SETS, "float32", instructions)
    automaton = awake(**LAWS[kind])
    state = noise(2, automaton.channels, 10, 9)
    got = grown(automaton, state, Place("cpu", "cpu"))
    assert_same(got, grown(automaton, state, REFERENCE))


@pytest.mark.parametrize("hidden", [1, 17, 33, 64, 96, 100, 130])
def test_any_width_of_the_hidden_layer(hidden: int) -> None:
    """The products are cut into blocks of one to six vectors: each of them comes up here."""
    if cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    automaton, state = awake(hidden=hidden), noise(1, 6, 5, 7)
    for parameter in automaton.parameters():
        parameter.data *= 0.5
    got = grown(automaton, state, Place("cpu", "cpu"))
    assert_same(got, grown(automaton, state, REFERENCE))


def test_auto_takes_the_compiled_kernel_on_a_cpu() -> None:
    if cpu.instruction_set() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    state = noise(1, 6, 4, 3)
    assert awake().kernel_for(state) == "cpu"
    assert awake().double().kernel_for(state.double()) == "reference"


def test_another_activation_is_the_reference_kernels() -> None:
    automaton, state = awake(activation="atan"), noise(1, 6, 4, 3)
    assert automaton.kernel_for(state) == "reference"
    for kernel in ("cpu", "triton"):
        with pytest.raises(ValueError, match="the activation atan is"):
            automaton.grow(state, kernel=kernel)


def test_without_a_compiler_the_reference_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "load_library", lambda: None)
    automaton, state = awake(), noise(1, 6, 4, 3)
    assert automaton.kernel_for(state) == "reference"
    with pytest.raises(ValueError, match="it was not compiled when this version was installed"):
        automaton.grow(state, kernel="cpu")


def test_steps_compiled_from_other_sources_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if cpu.load_library() is None:
        pytest.skip("the cpu kernel was not compiled: no C compiler at installation")
    monkeypatch.setattr(cpu, "_Job", type("_Job", (cpu._Job,), {"_fields_": [("new", c_int)]}))
    assert cpu.load_library.__wrapped__() is None


@on_cuda
def test_auto_takes_the_fused_kernel_on_a_gpu(place: Place) -> None:
    state = noise(1, 6, 4, 3).to(place.device)
    assert awake().to(place.device).kernel_for(state) == "triton"


@on_cuda
def test_a_grid_as_large_as_in_training(place: Place) -> None:
    """Sums of many cells, by programs that take several blocks each."""
    automaton = awake(channels=12, hidden=96)
    with torch.no_grad():
        for parameter in automaton.parameters():
            parameter.mul_(0.3)
    state = noise(4, 12, 128, 120)
    want = grown(automaton, state, REFERENCE, steps=4)
    got = grown(automaton, state, place, steps=4)
    most = want["state after"].abs().max().item()
    assert (got["state after"] - want["state after"]).abs().max() < TOLERANCE * most
    for name in want:  # among so many units some stand so near to zero that they fire in one only
        assert distance(got[name], want[name]) < 5e-3, name
    rounded = grown(automaton, state, place, steps=4, precision="bfloat16")
    assert 0 < distance(rounded["state after"], want["state after"]) < 0.04
    for name in want:
        assert distance(rounded[name], want[name]) < 0.15, name


def test_auto_leaves_the_interpreter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    automaton, state = awake(), noise(1, 6, 4, 3)
    assert automaton.kernel_for(state) != "triton"
    with pytest.raises(ValueError, match=r"no kernel can run here: triton \(it runs in an int"):
        automaton.grow(state, precision="float16")


def test_without_a_gpu_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    automaton, state = awake(), noise(1, 6, 4, 3)
    with pytest.raises(ValueError, match="triton kernel cannot run here: the state is on cpu"):
        automaton.grow(state, kernel="triton")
    with pytest.raises(ValueError, match=r"on cpu, not cuda.*reference .*not in float16"):
        automaton.grow(state, precision="float16")
    with pytest.raises(ValueError, match=r"the reference kernel .* not in float16"):
        automaton.grow(state, kernel="reference", precision="float16")
    with pytest.raises(ValueError, match="precision is 'half'; choose from float32, bfloat16"):
        automaton.grow(state, precision="half")
    with pytest.raises(ValueError, match="keep_every is 0; give 1 to keep every state, or more"):
        automaton.grow(state, keep_every=0)


def test_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(kernels.triton, "_installed", lambda: False)
    automaton = awake(channels=80, hidden=4)
    state = noise(1, 80, 4, 3).double()
    with pytest.raises(ValueError, match="triton kernel") as caught:
        automaton.grow(state, kernel="triton", precision="bfloat16", angle=torch.zeros(4, 3))
    for reason in (
        "triton is not installed",
        "cannot multiply in bfloat16",
        "the state is float64, not float32",
        "filters that differ from cell to cell",
        "1024 percepts (padded), more than 256",
    ):
        assert reason in str(caught.value)


def test_triton_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "from nca_texture.automaton import CellularAutomaton\n"
        "automaton = CellularAutomaton()\n"
        "automaton.grow(automaton.seed(1, (4, 4)), 2)\n"
        "assert 'triton' not in sys.modules\n"
        "sys.modules['triton'] = None\n"
        "try:\n"
        "    automaton.grow(automaton.seed(1, (4, 4)), kernel='triton')\n"
        "except ValueError as error:\n"
        "    assert 'triton is not installed' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


COMPILE = """
import inspect
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nca_texture.kernels import _triton_step

pointers = {"alive": "*i1"} | dict.fromkeys(("rows", "columns", "seeds", "limits"), "*i32")
scalars = {"dt": "fp32", "threshold": "fp32"} | dict.fromkeys(_triton_step._ANY, "i32")
constants = {
    "EDGE_Y": "torus", "EDGE_X": "reflect", "C": 12, "CP": 16, "F": 4, "FP": 4, "K": 3, "R": 2,
    "PERCEPT_LIMIT": 2.0, "HIDDEN_LIMIT": 2.0, "UPDATE_LIMIT": 2.0, "STATE_LIMIT": 2.0,
    "UNITS": 16, "LIVING": True, "MORTAL": 10, "LEARNED": True, "PRECISION": "float32", "N": 32,
}
for name in ("step_forward", "step_backward", "keep_living", "gather_percepts"):
    kernel = getattr(_triton_step, name)
    names = list(inspect.signature(kernel.fn).parameters)
    for kind in (
        {"ABS": False, "HIDDEN": 32, "COMBINE": "plain"},
        {"ABS": True, "HIDDEN": 1, "COMBINE": "plain"},
        {"ABS": False, "HIDDEN": 32, "COMBINE": "norm"},
        {"ABS": True, "HIDDEN": 1, "COMBINE": "steer"},
    ):
        if name in ("keep_living", "gather_percepts") and kind["COMBINE"] != "plain":
            continue  # they know nothing of it
        fixed = {n: v for n, v in (constants | kind).items() if n in names}
        kinds = dict.fromkeys(names, "*fp32") | pointers | scalars
        kinds |= dict.fromkeys(fixed, "constexpr")
        source = ASTSource(
            fn=kernel,
            signature={n: kinds[n] for n in names},
            constexprs={(names.index(n),): value for n, value in fixed.items()},
        )
        triton.compile(source, GPUTarget("cuda", 80, 32), {"enable_fp_fusion": True})
"""


@pytest.mark.slow
def test_triton_kernels_compile_for_a_gpu() -> None:
    """The interpreter takes what the compiler does not; compiling needs no GPU."""
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True, timeout=240)
