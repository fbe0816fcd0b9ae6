"""Laws of a step: who sees whom, who fires, and what stays the same to the bit."""

import itertools
import math
import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from learning import scramble
from torch import Tensor

from nca_texture.automaton import CellularAutomaton, Init, RuleKind
from nca_texture.grid import Grid
from nca_texture.kernels.rule import Limits
from nca_texture.noise import cell_hash, fires, seed_number, stream
from nca_texture.perception import BANKS, Bank, Perception

EDGES = ["torus", "zero", "reflect", "replicate"]


def awake(**settings: object) -> CellularAutomaton:
    """Make an automaton whose last layer is not zero, so that something happens."""
    return scramble(CellularAutomaton(**settings), 5, 0.1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


KINDS = {
    "square": {},
    "hex": {"grid": Grid("hex")},
    "abs": {"channels": 8, "rule": "abs", "bank": "munca-264"},
    "odd widths": {"channels": 5, "hidden": 37},
    "living": {"living": True, "grid": Grid("square", "torus")},
    "hex living": {"living": True, "grid": Grid("hex")},
    "learned": {"bank": "learned", "hidden": 20},
    "atan": {"activation": "atan", "hidden": 20},
    "quantised": {"limits": Limits(2.0, 2.0, 2.0, 2.0), "bank": "distill-tf"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_torus_has_no_origin(kind: str, threads: int) -> None:
    automaton = awake(**KINDS[kind])
    state = noise(2, automaton.channels, 34, 51)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain = automaton.grow(state, 5, seed=3)
        for shift in [(4, 7), (-11, 30), (1, 0)]:
            rolled = automaton.grow(
                state.roll(shift, (2, 3)), 5, seed=3, origin=(-shift[0], -shift[1])
            )
            assert torch.equal(rolled.roll((-shift[0], -shift[1]), (2, 3)), plain)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_batch_do_not_change_a_bit(kind: str) -> None:
    automaton = awake(**KINDS[kind])
    state = noise(3, automaton.channels, 40, 33)
    before = torch.get_num_threads()
    grown = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            grown.append(automaton.grow(state, 6, seed=[9, 8, 7]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*grown)
    for sample, seed in enumerate([9, 8, 7]):
        alone = automaton.grow(state[sample : sample + 1], 6, seed=seed)
        assert torch.equal(alone[0], grown[0][sample])


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_with_its_halo_gives_the_cells_of_the_world(kind: str, edge: str) -> None:
    settings = KINDS[kind]
    layout = settings.get("grid", Grid()).layout
    automaton = awake(**settings | {"grid": Grid(layout, edge)})
    world, steps = (38, 44), 3
    state = noise(2, automaton.channels, *world)
    whole = automaton.grow(state, steps, seed=11, start=4)
    halo = automaton.reach * steps
    block, at = (9, 13), (14, 15)
    top, left = at[0] - halo, at[1] - halo
    rows = torch.arange(top, top + block[0] + 2 * halo)
    columns = torch.arange(left, left + block[1] + 2 * halo)
    inner = state[:, :, rows % world[0]][..., columns % world[1]]
    part = automaton.grow(inner, steps, seed=11, start=4, origin=(top, left), extent=world)
    assert torch.equal(
        part[..., halo:-halo, halo:-halo],
        whole[..., at[0] : at[0] + block[0], at[1] : at[1] + block[1]],
    )
    if edge != "torus":  # a block at the border of the world has the world's own edge there
        corner = state[..., : block[0] + halo, : block[1] + halo]
        part = automaton.grow(corner, steps, seed=11, start=4, extent=world)
        assert torch.equal(part[..., : block[0], : block[1]], whole[..., : block[0], : block[1]])


def test_a_block_may_cross_the_seam_of_a_torus() -> None:
    automaton = awake()
    state = noise(1, 12, 20, 24)
    whole = automaton.grow(state, 2, seed=1)
    rows, columns = torch.arange(-6, 8) % 20, torch.arange(-7, 9) % 24
    block = state[:, :, rows][..., columns]
    part = automaton.grow(block, 2, seed=1, origin=(-6, -7), extent=(20, 24))
    assert torch.equal(part[..., 2:-2, 2:-2], whole[:, :, rows][..., columns][..., 2:-2, 2:-2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_plus_b_steps_are_a_steps_and_then_b(kind: str) -> None:
    automaton = awake(**KINDS[kind])
    state = noise(2, automaton.channels, 18, 21)
    once = automaton.grow(state, 9, seed=2, start=100)
    twice = automaton.grow(automaton.grow(state, 4, seed=2, start=100), 5, seed=2, start=104)
    assert torch.equal(once, twice)


def test_the_hash_is_pcg4d_of_unsigned_integers() -> None:
    rows, columns = torch.tensor([0, 1, 70000]), torch.tensor([0, 5, 2**31 - 1])
    for seed, step in [(0, 0), (2**32 - 1, 7), (123456789, 2**32 - 1)]:
        got = cell_hash([seed], step, rows, columns)
        for i, j in itertools.product(range(3), range(3)):
            v = np.array([columns[j], rows[i], step, seed], dtype=np.uint32)
            with np.errstate(over="ignore"):
                v = v * np.uint32(1664525) + np.uint32(1013904223)
                for _ in range(2):
                    v[0] += v[1] * v[3]
                    v[1] += v[2] * v[0]
                    v[2] += v[0] * v[1]
                    v[3] += v[1] * v[2]
                    if _ == 0:
                        v ^= v >> np.uint32(16)
            assert [int(word[0, i, j]) & 0xFFFFFFFF for word in got] == v.tolist()


def test_the_share_of_cells_that_fire_is_the_rate_and_steps_are_independent() -> None:
    rows, columns = torch.arange(256), torch.arange(256)
    limit = torch.tensor(round(0.3 * 2**24), dtype=torch.int32)
    masks = torch.stack([fires([77], step, rows, columns, limit)[0] for step in range(20)]).double()
    deviation = math.sqrt(0.3 * 0.7 / masks.numel())
    assert abs(masks.mean().item() - 0.3) < 5 * deviation
    flat = (masks - 0.3).flatten(1)
    correlation = (flat @ flat.T) / flat.square().sum(1).mean()
    off_diagonal = correlation[~torch.eye(20, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 5 / 256
    neighbours = ((masks - 0.3) * (masks.roll(1, 2) - 0.3)).mean() / 0.21
    assert abs(neighbours.item()) < 5 / math.sqrt(masks.numel())


def test_every_sample_of_a_batch_has_its_own_chance() -> None:
    automaton = awake()
    state = noise(1, 12, 16, 16).expand(2, -1, -1, -1)
    grown = automaton.grow(state, 3, seed=4)
    assert not torch.equal(grown[0], grown[1])
    assert stream(1, 1, 0) != stream(1, 1, 1) != stream(2, 1, 0)
    assert seed_number("zebra") == seed_number("zebra") != seed_number("zebras")


def test_two_halves_of_a_grid_can_run_at_different_speeds() -> None:
    automaton = awake()
    rate = torch.full((20, 20), 0.5)
    rate[:, :10] = 0
    state = noise(1, 12, 20, 20)
    grown = automaton.grow(state, 1, fire_rate=rate)
    assert torch.equal(grown[..., :10], state[..., :10])
    assert torch.equal(grown[..., 10:], automaton.grow(state, 1)[..., 10:])


@pytest.mark.parametrize("kind", ["square", "abs", "hex", "learned", "living", "atan"])
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    automaton = awake(**KINDS[kind]).double()
    names, parameters = zip(*automaton.named_parameters(), strict=True)
    state = noise(1, automaton.channels, 4, 5).double()
    if automaton.living:
        state[:, 3] += 1.0  # far from the threshold, where the mask would jump

    def run(state: Tensor, *values: Tensor) -> Tensor:
        call = {"steps": 2, "seed": 3, "fire_rate": 0.7}
        weights = dict(zip(names, values, strict=True))
        return torch.func.functional_call(_Grow(automaton), prefixed(weights), (state,), call)

    def prefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"automaton.{name}": value for name, value in weights.items()}

    inputs = [state.requires_grad_(), *(p.detach().requires_grad_() for p in parameters)]
    torch.autograd.gradcheck(run, inputs, fast_mode=True)


class _Grow(torch.nn.Module):
    def __init__(self, automaton: CellularAutomaton) -> None:
        super().__init__()
        self.automaton = automaton

    def forward(self, state: Tensor, **call: object) -> Tensor:
        return self.automaton.grow(state, **call)


def response(bank: str | Bank, layout: str, function: str) -> dict[str, float]:
    """Measure what each filter answers, in the middle, to a function on the true lattice."""
    channels = 1 if not isinstance(bank, str) or not BANKS[bank].per_channel else 0
    resolved = BANKS[bank] if isinstance(bank, str) else bank
    channels = channels or len(resolved.filters)
    perception = Perception(bank, layout, channels)
    kernels = perception.filters()
    answers = {}
    for parity in range(kernels.shape[0]):
        j, i = torch.meshgrid(torch.arange(-1.0, 2), torch.arange(-1.0, 2), indexing="ij")
        x, y = i, j
        if layout == "hex":  # neighbours in odd and even rows lie half a cell to either side
            x = i + (0.5 if parity == 0 else -0.5) * (j.abs())
            y = j * math.sqrt(3) / 2
        values = {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "one": torch.ones(3, 3)}
        for index, name in enumerate(resolved.filters):
            channel, f = (index, 0) if resolved.per_channel else (0, index)
            answer = (kernels[parity, channel, f] * values[function]).sum().item()
            assert answers.setdefault(name, answer) == pytest.approx(answer, abs=1e-5)
    return answers


@pytest.mark.parametrize(
    ("bank", "layout", "x", "y", "xx"),
    [
        ("growing-2020", "square", 1, 1, None),
        ("distill-tf", "square", 1, 1, 1),
        ("distill-2021-02", "square", 1, 1, 0.5),
        ("distill-2021", "square", 8, 8, 8),
        ("munca-588", "square", 8, 8, 8),
        ("distill-hex", "hex", 0.75, 0.8660254, 0.75),
        ("distill-tf", "hex", 1, 1, 1),
        ("distill-2021", "hex", 8, 8, 8),
    ],
)
def test_gains_of_the_banks(bank: str, layout: str, x: float, y: float, xx: float | None) -> None:
    close = lambda value: pytest.approx(value, abs=1e-5)  # noqa: E731
    answers = {f: response(bank, layout, f) for f in ("x", "y", "xx", "yy", "xy", "one")}
    assert answers["x"]["gradient_x"] == close(x)
    assert answers["y"]["gradient_y"] == close(y)
    assert answers["y"]["gradient_x"] == close(0) == answers["x"]["gradient_y"]
    if xx is not None:
        assert answers["xx"]["laplacian"] == close(xx) == answers["yy"]["laplacian"]
        assert answers["xy"]["laplacian"] == close(0) == answers["x"]["laplacian"]
    for name, value in answers["one"].items():
        assert value == close(1 if name == "identity" else 0)


def test_published_kernels_digit_by_digit() -> None:
    unscaled = Perception("distill-2021").filters()[0, 0]
    assert unscaled[1].tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert unscaled[3].tolist() == [[1, 2, 1], [2, -12, 2], [1, 2, 1]]
    first = Perception("distill-2021-02").filters()[0, 0]
    assert (first[3] * 16).tolist() == [[1, 2, 1], [2, -12, 2], [1, 2, 1]]
    axial = Perception("distill-hex", "hex").basis * 8
    torch.testing.assert_close(axial[1], torch.tensor([[0.0, -1, 1], [-2, 0, 2], [-1, 1, 0]]))
    torch.testing.assert_close(axial[2], torch.tensor([[0.0, -2, -2], [0, 0, 0], [2, 2, 0]]))
    lap = axial[3] + axial[4]
    torch.testing.assert_close(lap, torch.tensor([[0.0, 2, 2], [2, -12, 2], [2, 2, 0]]))


def test_turning_the_unit_hex_bank_by_60_degrees_turns_what_it_sees() -> None:
    """Turn a hexagonal picture by 60 degrees: the bank turned back sees it as before."""
    automaton = CellularAutomaton(channels=3, grid=Grid("hex", "zero"), bank="distill-tf")
    size, centre = 21, 10
    axial = {
        (row, column - (row // 2)): (row, column) for row in range(size) for column in range(size)
    }
    middle = (centre, centre - centre // 2)
    state, turned = noise(1, 3, size, size), torch.zeros(1, 3, size, size)
    pairs = []
    for (j, i), to in axial.items():
        q, r = i - middle[1], j - middle[0]
        source = axial.get((middle[0] - q, middle[1] + q + r))  # (q, r) -> (q + r, -q): -60 degrees
        if source is not None:
            turned[0, :, to[0], to[1]] = state[0, :, source[0], source[1]]
            pairs.append((to, source))
    inside = [
        (to, source) for to, source in pairs if all(abs(at - centre) <= 4 for at in (*to, *source))
    ]
    assert len(inside) > 40
    seen = automaton.perceive(state)
    # What is seen turns with the picture by +60 degrees; an angle of -60 turns it back.
    again = automaton.perceive(turned, angle=-math.pi / 3)
    for (y, x), (v, u) in inside:
        torch.testing.assert_close(again[0, :, y, x], seen[0, :, v, u], atol=1e-5, rtol=0)
    assert (automaton.perceive(turned) - again).abs().max() > 0.1


@pytest.mark.parametrize("layout", ["square", "hex"])
@pytest.mark.parametrize("bank", ["distill-2021", "munca-588"])
def test_a_field_of_one_angle_is_that_angle(layout: str, bank: str) -> None:
    automaton = awake(bank=bank, grid=Grid(layout))
    state = noise(1, 12, 10, 12)
    field = torch.full((10, 12), 0.7)
    torch.testing.assert_close(automaton.perceive(state, field), automaton.perceive(state, 0.7))
    whole = automaton.grow(state, 3, angle=field, dx=(torch.full((10, 12), 1.3), 0.8), dt=0.5)
    number = automaton.grow(state, 3, angle=0.7, dx=(1.3, 0.8), dt=0.5)
    torch.testing.assert_close(whole, number, atol=1e-5, rtol=1e-5)


def test_turning_a_square_bank_by_90_degrees_swaps_its_gradients() -> None:
    automaton = CellularAutomaton(channels=3)
    state = noise(1, 3, 8, 8)
    plain, turned = (
        automaton.perceive(state, angle).unflatten(1, (3, 4)) for angle in (0, math.pi / 2)
    )
    torch.testing.assert_close(turned[:, :, 1], -plain[:, :, 2], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[:, :, 2], plain[:, :, 1], atol=1e-5, rtol=0)


def test_finer_cells_and_smaller_steps_follow_the_same_equation() -> None:
    """Doubling dx quarters the second derivative; halving dt halves the update (NoiseNCA)."""
    automaton = CellularAutomaton(channels=3, fire_rate=1.0, seed_kind="noise")
    state = noise(1, 3, 8, 8)
    kernels = automaton.perception.filters(dx=2.0, dy=2.0)[0, 0]
    plain = automaton.perception.filters()[0, 0]
    torch.testing.assert_close(kernels[3], plain[3] / 4)
    torch.testing.assert_close(kernels[1], plain[1] / 2)
    lively = awake(fire_rate=1.0, channels=3, seed_kind="noise")
    full, half = (lively.grow(state, 1, dt=dt) - state for dt in (1.0, 0.5))
    torch.testing.assert_close(half, full / 2)


@pytest.mark.parametrize("edge", EDGES)
def test_edges_are_those_of_numpy(edge: str) -> None:
    modes = {"torus": "wrap", "zero": "constant", "reflect": "reflect", "replicate": "edge"}
    automaton = CellularAutomaton(channels=3, grid=Grid("square", edge))
    state = noise(1, 3, 6, 7)
    padded = np.pad(state.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode=modes[edge])
    kernels = automaton.perception.filters()[0, 0]
    want = torch.nn.functional.conv2d(
        torch.from_numpy(padded).reshape(3, 1, 8, 9), kernels[:, None]
    ).reshape(1, 12, 6, 7)
    torch.testing.assert_close(automaton.perceive(state), want, atol=1e-5, rtol=1e-5)


def test_each_axis_has_its_own_edge() -> None:
    automaton = awake(grid=Grid("square", ("reflect", "torus")))
    state = noise(1, 12, 12, 14)
    assert automaton.grid.wraps == "x"
    rolled = automaton.grow(state.roll(5, 3), 4, origin=(0, -5)).roll(-5, 3)
    assert torch.equal(rolled, automaton.grow(state, 4))
    assert not torch.equal(
        automaton.grow(state.roll(5, 2), 4, origin=(-5, 0)).roll(-5, 2), automaton.grow(state, 4)
    )


@pytest.mark.parametrize("layout", ["square", "hex"])
def test_a_cell_without_a_living_neighbour_dies(layout: str) -> None:
    automaton = awake(living=True, grid=Grid(layout, "zero"))
    state = noise(1, 12, 10, 10) + 0.5
    state[:, 3] = 0
    state[0, 3, 5, 5] = 1.0
    grown = automaton.grow(state, 1, fire_rate=0.0)
    alive = grown.abs().sum(1)[0] > 0
    assert alive.sum() == (9 if layout == "square" else 7)
    assert alive[5, 5]


def test_a_single_cell_stands_where_it_was_asked_for() -> None:
    automaton = CellularAutomaton(seed_kind="cell", seed_place=(0.75, 0.25), living=True)
    state = automaton.seed(2, (20, 40))
    assert state[:, 3:, 15, 10].eq(1).all()
    assert state.sum() == 2 * 9
    block = automaton.seed(2, (8, 8), origin=(10, 6), extent=(20, 40))
    assert torch.equal(block, state[..., 10:18, 6:14])


def test_noise_seeds_of_a_block_are_those_of_the_world() -> None:
    automaton = CellularAutomaton(seed_kind="noise", seed_amount=0.2, channels=6)
    world = automaton.seed(2, (30, 40), seed="moss")
    assert world.abs().max() <= 0.1
    assert world.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.02)
    block = automaton.seed(2, (9, 11), seed="moss", origin=(25, 35), extent=(30, 40))
    rolled = world.roll((-25, -35), (2, 3))[..., :9, :11]
    assert torch.equal(block, rolled)


def test_a_rule_without_anything_to_break_symmetry_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="break the symmetry"):
        CellularAutomaton(fire_rate=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CellularAutomaton(fire_rate=1.0, seed_kind="noise")
        CellularAutomaton(fire_rate=0.99)


def test_a_grid_may_be_enlarged_in_mid_run() -> None:
    for layout in ("square", "hex"):
        automaton = awake(grid=Grid(layout))
        state = automaton.grow(noise(1, 12, 12, 12), 3)
        larger = automaton.enlarge(state, (20, 24))
        top = 4
        assert torch.equal(larger[..., top : top + 12, 6:18], state)
        assert larger.count_nonzero() == state.count_nonzero()
        assert automaton.grow(larger, 2, start=3).shape == (1, 12, 20, 24)
    with pytest.raises(ValueError, match="smaller than the grid"):
        automaton.enlarge(state, (8, 24))


def test_a_rule_trained_on_squares_runs_on_hexagons_and_back() -> None:
    square = awake()
    hexagonal = square.with_grid(Grid("hex"))
    state = noise(1, 12, 16, 16)
    assert hexagonal.grow(state, 4).isfinite().all()
    assert not torch.equal(hexagonal.grow(state, 4), square.grow(state, 4))
    back = hexagonal.with_grid(Grid("square"))
    assert torch.equal(back.grow(state, 4), square.grow(state, 4))
    assert back.weight_in is square.weight_in


def test_parameter_counts_are_the_published_ones() -> None:
    assert CellularAutomaton(12, 96).num_parameters == 5856
    growing = CellularAutomaton(16, 128, bank="growing-2020", output_bias=True)
    assert growing.num_parameters == 8336
    for channels, count in ((4, 68), (6, 150), (8, 264), (12, 588)):
        mu = CellularAutomaton(channels, rule="abs", bank=f"munca-{count}")
        assert mu.num_parameters == count


def test_limits_hold() -> None:
    limits = Limits(percept=0.5, hidden=0.2, update=0.1, state=0.6)
    automaton = awake(limits=limits)
    with torch.no_grad():
        for parameter in automaton.parameters():
            parameter.mul_(30)
    state = noise(1, 12, 10, 10)
    grown = automaton.grow(state, 1, fire_rate=1.0)
    assert (grown - state).abs().max() <= 0.1 + 1e-6
    assert automaton.grow(state, 50).abs().max() <= 0.6
    assert automaton.perceive(state * 9).abs().max() <= 0.5


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Grid("triangle"), "layout is 'triangle'"),
        (lambda: Grid("square", "tours"), "edge is 'tours'"),
        (lambda: CellularAutomaton(bank="sobol"), "no filter bank is called 'sobol'"),
        (lambda: CellularAutomaton(channels=2), "at least 3"),
        (lambda: CellularAutomaton(channels=5, bank="munca-68"), "use 4"),
        (lambda: CellularAutomaton(fire_rate=0), "fire_rate is 0"),
        (lambda: CellularAutomaton(activation="tanh"), "choose from relu, atan"),
        (lambda: CellularAutomaton(activation="atan", rule="abs"), "set rule to 'mlp'"),
        (lambda: CellularAutomaton(activation="atan", limits=Limits(hidden=2.0)), "no limit"),
        (lambda: CellularAutomaton(grid=Grid("hex")).seed(1, (5, 6)), "even number of rows"),
        (lambda: CellularAutomaton().grow(torch.zeros(1, 3, 8, 8)), r"expected a state \[B, 12"),
        (lambda: CellularAutomaton().grow(torch.zeros(1, 12, 8, 8), -1), "steps is -1"),
        (
            lambda: CellularAutomaton().grow(torch.zeros(1, 12, 8, 8), kernel="warp"),
            "no kernel is called 'warp'",
        ),
        (
            lambda: CellularAutomaton().grow(torch.zeros(1, 12, 8, 8), fire_rate=torch.ones(4, 4)),
            "fire_rate is a map",
        ),
        (
            lambda: CellularAutomaton().grow(torch.zeros(2, 12, 8, 8), seed=[1, 2, 3]),
            "3 seeds for a batch of 2",
        ),
    ],
)
def test_mistakes_are_named(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_rows_of_a_hexagonal_picture_are_equally_sharp() -> None:
    grid = Grid("hex")
    rows = torch.zeros(1, 1, 64, 64)
    rows[..., ::2] = 1.0  # upright stripes in every stored row
    even, odd = rows.clone(), rows.clone()
    even[:, :, 1::2] = 0.5
    odd[:, :, 0::2] = 0.5
    contrast = [grid.to_picture(part).sub(0.5).square().mean() for part in (even, odd)]
    torch.testing.assert_close(contrast[0], contrast[1], rtol=1e-3, atol=0)
    assert contrast[0] > 0.01


def test_a_hexagonal_picture_is_undistorted_and_tiles() -> None:
    grid = Grid("hex")
    height, width = 128, 96
    j, i = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = i + 0.5 * (j % 2), j / height
    wave = torch.sin(2 * math.pi * (3 * x / width + 2 * y))[None, None].float()
    picture = grid.to_picture(wave)
    assert picture.shape[-2:] == (111, 96)
    v, u = torch.meshgrid(torch.arange(111), torch.arange(96), indexing="ij")
    # Pixel centres lie at (u + 1/4): half-way between the even and the odd rows' cells.
    want = torch.sin(2 * math.pi * (3 * (u + 0.25) / width + 2 * ((v + 0.5) / 111 - 0.5 / height)))
    assert (picture[0, 0] - want).abs().max() < 0.02
    rolled = grid.to_picture(wave.roll(7, 3))
    torch.testing.assert_close(rolled, picture.roll(7, 3), atol=1e-5, rtol=0)
    assert grid.to_picture(wave, (222, 192)).shape[-2:] == (222, 192)
    assert grid.to_picture(torch.full((1, 1, 8, 8), 0.3)).sub(0.3).abs().max() < 1e-6
    assert grid.picture_size(grid.cells_for((512, 512))) == (513, 512)


def test_a_rule_of_any_kind_starts_with_small_updates() -> None:
    for rule, init in itertools.product(get_args(RuleKind), get_args(Init)):
        automaton = CellularAutomaton(rule=rule, init=init)
        state = automaton.grow(automaton.seed(1, (16, 16), seed=0), 64, seed=0)
        assert state.abs().max() < 0.5
