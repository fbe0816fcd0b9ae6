"""Laws of the transport between patches, and of the loss built on it."""

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nca_texture.kernels import cpu
from nca_texture.kernels.plans import sinkhorn_plan, squared_distances, transport
from nca_texture.kernels.smooth import blur
from nca_texture.losses.base import Grown, draw_places
from nca_texture.losses.patch import (
    PatchLoss,
    count_patches,
    leading_directions,
    patches_at,
    pyramid,
)
from nca_texture.losses.slices import sliced_distances


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def waves(height: int, width: int, count: int, channels: int = 3) -> Tensor:
    """Diagonal stripes [1, C, H, W] that close on a torus."""
    y = torch.arange(height)[:, None] / height
    x = torch.arange(width)[None, :] / width
    phase = torch.arange(channels)[:, None, None] * 0.7
    return (0.5 + 0.4 * torch.sin(2 * torch.pi * count * (x + y) + phase))[None]


def score(loss: PatchLoss, image: Tensor, seed: int = 0) -> Tensor:
    return loss(Grown(image, image), source(seed))


def test_a_plan_moves_everything_from_everywhere() -> None:
    cost = squared_distances(
        torch.randn(2, 40, 6, generator=source(1)), torch.randn(2, 60, 6, generator=source(2))
    )
    plan = sinkhorn_plan(cost, 0.1, 200)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(2), torch.full((2, 40), 1 / 40))
    torch.testing.assert_close(plan.sum(1), torch.full((2, 60), 1 / 60), rtol=1e-2, atol=0)


def test_rows_of_a_plan_are_exact_after_few_iterations() -> None:
    cost = torch.rand(3, 20, 30, generator=source(1)) ** 4
    plan = sinkhorn_plan(cost, 0.02, 4)
    torch.testing.assert_close(plan.sum(2), torch.full((3, 20), 1 / 20))


@pytest.mark.parametrize("size", [(40, 60), (16, 16), (1, 7), (5, 1), (33, 19)])
@pytest.mark.parametrize("iterations", [0, 3, 20])
def test_compiled_plans_are_those_of_double_precision(
    size: tuple[int, int], iterations: int
) -> None:
    if cpu.load_library() is None:
        pytest.skip("the package was installed without a compiler")
    cost = torch.rand(3, *size, generator=source(1)) ** 4
    expected = sinkhorn_plan(cost.double(), 0.02, iterations)
    torch.testing.assert_close(
        sinkhorn_plan(cost, 0.02, iterations).double(), expected, rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("size", [(40, 60, 75), (16, 16, 16), (1, 7, 3), (5, 1, 33), (33, 19, 1)])
def test_compiled_transport_is_that_of_double_precision(size: tuple[int, int, int]) -> None:
    if cpu.load_library() is None:
        pytest.skip("the package was installed without a compiler")
    rows, columns, width = size
    left = torch.randn(3, rows, width, generator=source(1)).requires_grad_()
    right = torch.randn(3, columns, width, generator=source(2)).requires_grad_()
    share = torch.tensor([1.0, -2.0, 0.5])
    found, expected = (
        [value, *torch.autograd.grad(value @ share.to(value.dtype), sides)]
        for sides in ((left, right), (left.double(), right.double()))
        for value in (transport(*sides, 0.05, 12),)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)
    alone = torch.autograd.grad(transport(left, right.detach(), 0.05, 12) @ share, left)[0]
    assert torch.equal(alone, found[1])
    alone = torch.autograd.grad(transport(left.detach(), right, 0.05, 12) @ share, right)[0]
    assert torch.equal(alone, found[2])


def test_plans_do_not_depend_on_the_number_of_threads() -> None:
    cost = torch.rand(5, 70, 50, generator=source(1))
    before = torch.get_num_threads()
    plans = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            plans.append(sinkhorn_plan(cost, 0.01, 12))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(plans[0], plans[1])
    assert torch.equal(plans[0], plans[2])


def test_plans_without_a_compiler_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = torch.rand(2, 30, 50, generator=source(1))
    compiled = sinkhorn_plan(cost, 0.02, 20)
    monkeypatch.setattr(cpu, "load_library", lambda: None)
    torch.testing.assert_close(sinkhorn_plan(cost, 0.02, 20), compiled, rtol=1e-3, atol=1e-8)


def test_a_plan_approaches_the_best_assignment() -> None:
    left = torch.randn(1, 30, 3, generator=source(1), dtype=torch.float64)
    right = torch.randn(1, 30, 3, generator=source(2), dtype=torch.float64)
    cost = squared_distances(left, right)
    rows, columns = linear_sum_assignment(cost[0].numpy())
    best = cost[0, rows, columns].mean().item()
    costs = [
        (sinkhorn_plan(cost, epsilon, 4000) * cost).sum().item() for epsilon in (0.3, 0.05, 0.005)
    ]
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] == pytest.approx(best, rel=0.02)


def test_a_plan_survives_equal_points_and_far_outliers() -> None:
    points = torch.zeros(1, 8, 4)
    outlier = points.clone()
    outlier[0, 0] = 1e4
    for left, right in ((points, points), (outlier, points), (points, outlier)):
        assert sinkhorn_plan(squared_distances(left, right), 0.05, 12).isfinite().all()


def test_the_transport_cost_is_the_plan_times_the_cost() -> None:
    left = torch.randn(2, 25, 5, generator=source(1))
    right = torch.randn(2, 35, 5, generator=source(2))
    cost = squared_distances(left, right)
    expected = (sinkhorn_plan(cost, 0.1, 400) * cost).sum((1, 2))
    torch.testing.assert_close(transport(left, right, 0.1, 400), expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_exact_where_the_plan_does_not_move() -> None:
    # A single goal leaves no choice, so the plan is constant and so is its derivative.
    left = torch.randn(2, 4, 3, generator=source(1), dtype=torch.float64, requires_grad=True)
    goal = torch.randn(2, 1, 3, generator=source(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda points: transport(points, goal, 0.1, 8), (left,))


def test_the_gradient_of_an_assignment_is_exact() -> None:
    # Well separated pairs: the plan is a permutation and stays one under small changes.
    right = 10 * torch.eye(5, dtype=torch.float64)[None]
    left = right[:, [3, 1, 4, 0, 2]] + 0.1 * torch.randn(
        1, 5, 5, generator=source(3), dtype=torch.float64
    )
    left.requires_grad_()
    assert torch.autograd.gradcheck(lambda points: transport(points, right, 1e-3, 40), (left,))


def test_sorting_solves_transport_on_a_line() -> None:
    left = torch.randn(1, 50, 1, generator=source(1))
    right = torch.randn(1, 50, 1, generator=source(2))
    cost = squared_distances(left, right)[0]
    best = cost[linear_sum_assignment(cost.numpy())].mean()
    torch.testing.assert_close(sliced_distances(left, right, torch.ones(1, 1)).mean(), best)


def test_places_are_spread_and_complete() -> None:
    assert draw_places(7, 10, source()).tolist() == list(range(7))
    places = draw_places(1000, 100, source())
    assert (places // 10).tolist() == list(range(100))


def test_patches_are_those_of_unfold() -> None:
    image = torch.rand(2, 3, 9, 11, generator=source())
    total = count_patches(image[:, None], 5, wrap=False)
    ours = patches_at(image[:, None], torch.arange(total), 5, wrap=False)
    torch.testing.assert_close(ours.mT, F.unfold(image, 5))


def test_every_pixel_of_a_torus_is_in_as_many_patches() -> None:
    image = torch.zeros(1, 1, 1, 6, 7, requires_grad=True)
    total = count_patches(image, 5, wrap=True)
    patches_at(image, torch.arange(total), 5, wrap=True).sum().backward()
    torch.testing.assert_close(image.grad, torch.full_like(image, 25))


def test_a_pyramid_keeps_all_phases() -> None:
    image = torch.rand(1, 3, 16, 24, generator=source())
    for moved in (image, image.roll((3, 5), (2, 3))):
        level = pyramid(moved, 3, wrap=True)[2][0]
        assert level.shape == (1, 16, 3, 4, 6)
        torch.testing.assert_close(
            level.flatten().sort().values,
            pyramid(image, 3, wrap=True)[2][0].flatten().sort().values,
        )


def test_blur_keeps_a_constant() -> None:
    image = torch.full((1, 3, 4, 3), 0.7)
    for wrap in (True, False):
        torch.testing.assert_close(blur(image, wrap=wrap), image)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 2), (16, 24), (31, 41)])
def test_compiled_blur_is_that_of_double_precision(size: tuple[int, int]) -> None:
    if cpu.load_library() is None:
        pytest.skip("the package was installed without a compiler")
    image = torch.rand(2, 3, *size, generator=source()).requires_grad_()
    share = torch.rand(2, 3, *size, generator=source(1))
    # A transposed view: what is given need not be laid out in order.
    found, expected = (
        [value, torch.autograd.grad((value * share.to(value.dtype)).sum(), given)[0]]
        for given in (image, image.double())
        for value in (blur(given.mT, wrap=True).mT,)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["sinkhorn", "sliced"])
def test_the_exemplar_is_closer_to_itself_than_others_are(method: str) -> None:
    exemplar = waves(64, 64, 5)
    loss = PatchLoss(exemplar, method=method, levels=3)
    own = score(loss, exemplar).item()
    other = score(loss, waves(64, 64, 9)).item()
    noise = score(loss, torch.rand(1, 3, 64, 64, generator=source(1))).item()
    assert own < 0.3 * other
    assert own < 0.3 * noise


def test_a_torus_has_no_origin() -> None:
    exemplar = waves(48, 48, 5)
    grown = torch.rand(1, 3, 32, 32, generator=source(1))
    # All places are taken when there are no more of them than samples, so nothing is left to chance
    # but the order, of which transport knows nothing.
    loss = PatchLoss(exemplar, levels=3, samples=2 * 32 * 32)
    torch.testing.assert_close(
        score(loss, grown.roll((5, 11), (2, 3))), score(loss, grown), rtol=1e-3, atol=0
    )


def test_samples_do_not_meet() -> None:
    loss = PatchLoss(waves(32, 32, 3), samples=64, exemplar_samples=64)
    first, second = torch.rand(2, 1, 3, 32, 32, generator=source(1))
    both = score(loss, torch.cat([first, second]))
    torch.testing.assert_close(both, torch.cat([score(loss, first), score(loss, second)]))


@pytest.mark.parametrize("method", ["sinkhorn", "sliced"])
def test_one_generator_one_value(method: str) -> None:
    loss = PatchLoss(waves(32, 32, 3), method=method, samples=64, exemplar_samples=64)
    grown = torch.rand(1, 3, 32, 32, generator=source(1))
    assert torch.equal(score(loss, grown, 7), score(loss, grown, 7))
    assert not torch.equal(score(loss, grown, 7), score(loss, grown, 8))


@pytest.mark.parametrize("channels", [3, 4])
def test_following_the_gradient_leads_to_the_texture(channels: int) -> None:
    loss = PatchLoss(waves(32, 32, 4, channels), levels=2, samples=128, exemplar_samples=256)
    image = torch.rand(2, channels, 32, 32, generator=source(1)).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    before = score(loss, image).detach()
    for step in range(40):
        optimizer.zero_grad()
        score(loss, image, step).sum().backward()
        optimizer.step()
    assert (score(loss, image) < 0.2 * before).all()


def test_debiasing_tells_the_exemplar_from_its_blur() -> None:
    exemplar = torch.rand(1, 3, 48, 48, generator=source(1))
    blurred = blur(exemplar, wrap=True)

    def advantage(debias: float) -> float:
        loss = PatchLoss(exemplar, levels=2, samples=256, exemplar_samples=256, debias=debias)
        return (score(loss, blurred) - score(loss, exemplar)).item()

    assert advantage(0.0) < 0 < advantage(1.0)


def test_debiasing_does_not_pay_for_noise() -> None:
    exemplar = waves(48, 48, 4, 3)
    noisy = exemplar + 0.1 * torch.randn(exemplar.shape, generator=source(1))

    def penalty(variance: float) -> float:
        loss = PatchLoss(exemplar, levels=1, samples=256, exemplar_samples=256, variance=variance)
        return (score(loss, noisy) - score(loss, exemplar)).item()

    assert penalty(0.9) > 3 * abs(penalty(1.0))


def test_leading_directions_hold_their_share_of_the_variance() -> None:
    spread = torch.tensor([3.0, 2.0, 1.0, 0.1])
    patches = torch.randn(4000, 4, generator=source(2)) * spread
    found = leading_directions(patches, 0.9)  # 9 of 14.01 and 13 of 14.01
    assert found.shape == (4, 2)
    torch.testing.assert_close(found.abs(), torch.eye(4)[:, :2], atol=0.1, rtol=0)
    assert leading_directions(patches, 1.0).shape == (4, 4)


def test_pictures_of_a_set_are_pooled() -> None:
    # Half of the weight then has nowhere near to go, instead of all of it.
    first, second = waves(32, 32, 3), waves(32, 32, 6)
    loss = PatchLoss(torch.cat([first, second]), levels=2)
    alone = PatchLoss(first, levels=2)
    assert score(loss, second) < 0.6 * score(alone, second)


def test_levels_stop_where_a_patch_no_longer_fits() -> None:
    loss = PatchLoss(waves(21, 30, 2), levels=5, samples=16, exemplar_samples=16)
    assert loss.levels == 3
    for size in ((5, 5), (13, 40), (80, 23)):
        image = torch.rand(1, 3, *size, generator=source()).requires_grad_()
        value = score(loss, image).sum()
        value.backward()
        assert image.grad is not None
        assert value.isfinite()
        assert image.grad.isfinite().all()


def test_by_default_a_patch_spans_a_third_of_what_was_grown_at_most() -> None:
    exemplar = torch.rand(1, 3, 128, 128, generator=source(1))
    grown = torch.rand(1, 3, 64, 64, generator=source(2))
    automatic = score(PatchLoss(exemplar), grown)
    by_levels = [score(PatchLoss(exemplar, levels=count), grown) for count in (2, 3, 4)]
    assert [torch.equal(automatic, each) for each in by_levels] == [False, True, False]


def test_a_flat_image_has_a_finite_loss() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    value = score(PatchLoss(torch.full((1, 3, 16, 16), 0.5)), grey).sum()
    value.backward()
    assert grey.grad is not None
    assert grey.grad.isfinite().all()
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    exemplar = waves(16, 16, 2)
    with pytest.raises(ValueError, match="smaller than one patch"):
        PatchLoss(exemplar[..., :4])
    with pytest.raises(ValueError, match="smaller than one patch"):
        score(PatchLoss(exemplar), exemplar[..., :4, :])
    with pytest.raises(ValueError, match="like the exemplar"):
        score(PatchLoss(exemplar), waves(16, 16, 2, channels=4))
    with pytest.raises(ValueError, match="choose from sinkhorn, sliced"):
        PatchLoss(exemplar, method="exact")
    with pytest.raises(ValueError, match="between 0 and 1"):
        PatchLoss(exemplar, debias=2.0)
    with pytest.raises(ValueError, match="variance has to be above 0 and at most 1"):
        PatchLoss(exemplar, variance=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        PatchLoss(exemplar, samples=0)
