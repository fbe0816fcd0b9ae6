from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.autograd import gradcheck
from torchvision import models

from nca_texture.losses import LOSSES, build_loss, features, pick_loss_class
from nca_texture.losses.activation import ActivationLoss
from nca_texture.losses.base import Grown, Loss
from nca_texture.losses.emd import EmdLoss, moment_distance, relaxed_emd
from nca_texture.losses.features import FeatureNetwork
from nca_texture.losses.gram import GramLoss, gram, soft_root
from nca_texture.losses.overflow import OverflowLoss
from nca_texture.losses.pixel import PixelLoss
from nca_texture.losses.sliced import SlicedLoss
from nca_texture.losses.slices import draw_directions, sliced_distances
from nca_texture.losses.total import TotalLoss
from nca_texture.recipe import LossPlan, Recipe
from nca_texture.targets import Exemplar
from nca_texture.train_plan import TrainPlan

STYLE = {"gram": GramLoss, "sliced": SlicedLoss, "emd": EmdLoss}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def show(image: Tensor) -> Grown:
    """Make ``image`` [B, 3 or 4, H, W] look like something that was grown."""
    return Grown(image=image, state=torch.zeros(len(image), 8, 4, 4))


@pytest.fixture(scope="module")
def options(small_network: str) -> dict[str, str]:
    """Options of a style loss over a small network of made-up numbers."""
    return {"features": "squeezenet1_1", "weights": small_network}


@pytest.fixture(scope="module")
def target() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=rng(1))


@pytest.fixture(scope="module")
def other() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=rng(2)) ** 2


# Style


@pytest.mark.parametrize("name", STYLE)
def test_style_is_nothing_at_the_target_and_something_elsewhere(
    name: str, options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    # Sliced: whatever the directions are. Relaxed EMD: because every place is drawn.
    loss = build_loss(name, target, **options)
    here, there = loss(show(torch.cat([target, other])), rng()).tolist()
    assert abs(here) < 1e-4 * there
    assert there > 0


def made_up(network: str, place: Path) -> Path:
    """Write weights of the usual spread for the layers of ``network``, without its classifier."""
    with torch.device("meta"):
        model = models.get_model(network, weights=None, init_weights=False)
    source, tensors = rng(4), {}
    for name, like in model.state_dict().items():
        if like.ndim == 4:
            fan_in = like[0].numel()
            tensors[name] = torch.randn(like.shape, generator=source) * (2 / fan_in) ** 0.5
        elif like.ndim == 1 and not name.startswith(("classifier", "fc", "AuxLogits", "aux")):
            tensors[name] = torch.full(like.shape, float(name.endswith(("bn.weight", "var"))))
    path = place / f"{network}.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("network", ["vgg16", "vgg19", "googlenet", "inception_v3", "compact"])
def test_a_network_in_bfloat16_pulls_the_same_way(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(features, "multiplies_bfloat16", lambda device: not asked.append(device))
    across = torch.linspace(0, 50, 64)
    goal = (torch.stack([across, 2 * across, across.flip(0)]) + across[:, None, None]).sin() / 2
    goal = goal.permute(1, 0, 2)[None] + 0.5  # stripes
    shown = torch.rand(1, 3, 64, 64, generator=rng(3))
    own = network == "compact"  # whose numbers are there
    weights, gradients, values = None if own else str(made_up(network, tmp_path)), [], []
    for precision in ("float32", "bfloat16"):
        loss = build_loss(
            "sliced",
            goal,
            features=network,
            weights=weights,
            precision=precision,
            image=False,
            border="wrap" if own else "zeros",
        )
        image = shown.clone().requires_grad_()
        value = loss(show(image), rng())
        value.sum().backward()
        assert value.dtype == torch.float32
        if not own:  # whose target is not a torus
            assert loss(show(goal), rng()) < 1e-4 * value
        gradients.append(image.grad)
        values.append(value.item())
    assert asked
    assert values[0] != values[1]
    assert torch.cosine_similarity(*(each.flatten() for each in gradients), dim=0) > 0.99


def test_a_network_multiplies_in_float32_unless_asked(options: dict[str, str]) -> None:
    target = torch.rand(1, 3, 32, 32, generator=rng(1))
    network = build_loss("sliced", target, **options).get_submodule("network")
    assert isinstance(network, FeatureNetwork)
    assert network.precision == "float32"
    with pytest.raises(ValueError, match="networks have no precision 'half'; choose from float32"):
        build_loss("sliced", target, precision="half", **options)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_networks_follow_the_precision_of_a_recipe(options: dict[str, str], precision: str) -> None:
    losses = tuple(LossPlan(name=name, options=options) for name in ("sliced", "gram"))
    recipe = Recipe(losses=losses, training=TrainPlan(precision=precision))
    picture = torch.rand(1, 3, 32, 32, generator=rng(1))
    total = recipe.build_loss(Exemplar(picture, "noise", "noise", "", (32, 32), 1.0))
    wanted = "float32" if precision == "float32" else "bfloat16"
    networks = [loss.get_submodule("network") for loss in total.losses]
    found = [network.precision for network in networks if isinstance(network, FeatureNetwork)]
    assert found == [wanted, "float32"]


def test_emd_is_smallest_at_the_target_when_places_are_drawn(
    options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    loss = EmdLoss(target, samples=64, **options)
    for seed in range(5):
        here, there = loss(show(torch.cat([target, other])), rng(seed)).tolist()
        assert 0 < here < there / 2


@pytest.mark.parametrize("name", STYLE)
def test_a_sample_is_scored_alone(name: str, options: dict[str, str], target: Tensor) -> None:
    loss = build_loss(name, target, **options)
    batch = torch.rand(3, 3, 40, 24, generator=rng(3))
    together = loss(show(batch), rng())
    alone = torch.cat([loss(show(image), rng()) for image in batch.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", STYLE)
def test_the_seed_decides_what_is_drawn(
    name: str, options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    extra = {"samples": 64} if name == "emd" else {}
    loss = build_loss(name, target, **options, **extra)
    values = [loss(show(other), rng(seed)).item() for seed in (0, 0, 1)]
    assert values[0] == values[1]
    assert (values[0] != values[2]) == (name != "gram")


@pytest.mark.parametrize("name", STYLE)
def test_copies_of_a_picture_are_that_picture(
    name: str, options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    one = build_loss(name, target, **options)(show(other), rng())
    three = build_loss(name, target.repeat(3, 1, 1, 1), **options)(show(other), rng())
    # Relaxed EMD draws its places out of three times as many.
    torch.testing.assert_close(three, one, rtol=0.1 if name == "emd" else 1e-4, atol=0)


@pytest.mark.parametrize("name", STYLE)
def test_style_is_float32_under_autocast_and_has_a_gradient(
    name: str, options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    loss = build_loss(name, target, **options)
    image = other.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(show(image), rng())
    torch.testing.assert_close(value, loss(show(other), rng()), rtol=0, atol=0)
    value.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().amax() > 0
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("name", STYLE)
def test_too_small_a_picture_is_refused(name: str, options: dict[str, str], target: Tensor) -> None:
    with pytest.raises(ValueError, match="needs at least 17x17 pixels"):
        build_loss(name, target[..., :16], **options)
    with pytest.raises(ValueError, match="needs at least 17x17 pixels"):
        build_loss(name, target, **options)(show(target[..., :16]), rng())


@pytest.mark.parametrize("name", STYLE)
def test_transparent_targets_meet_premultiplied_growth(
    name: str, options: dict[str, str], target: Tensor
) -> None:
    alpha = torch.rand(1, 1, 32, 32, generator=rng(4))
    loss = build_loss(name, torch.cat([target, alpha], 1), **options)
    grown = torch.cat([target * alpha, alpha], 1)
    here, there = (loss(show(x), rng()).item() for x in (grown, grown.roll(1, 1)))
    assert abs(here) < 1e-4 * there


def test_gram_of_pixels_is_blind_to_where_they_are(target: Tensor, other: Tensor) -> None:
    shuffled = target.flatten(2)[..., torch.randperm(1024, generator=rng())].view_as(target)
    torch.testing.assert_close(gram(shuffled), gram(target))
    loss = GramLoss(target, layers=["image"])
    assert loss(show(shuffled), rng()).item() < 1e-9 < loss(show(other), rng()).item()


def test_sliced_pixels_are_blind_to_where_they_are(target: Tensor) -> None:
    shuffled = target.flatten(2)[..., torch.randperm(1024, generator=rng())].view_as(target)
    loss = SlicedLoss(target, layers=["image"], image=False)
    assert loss(show(shuffled), rng()).item() < 1e-6


@pytest.mark.parametrize("reduce", ["mean", "root"])
def test_the_mean_of_sliced_does_not_depend_on_size(
    reduce: str, options: dict[str, str], target: Tensor
) -> None:
    small = torch.full((1, 3, 32, 32), 0.3)
    large = torch.full((1, 3, 64, 64), 0.3)
    only = {"layers": ["image"], "image": False, "reduce": reduce, "projections": 256}
    loss = SlicedLoss(target, **options, **only)
    values = [loss(show(image), rng()).item() for image in (small, large)]
    assert values[1] == pytest.approx(values[0], rel=0.01)
    total = SlicedLoss(target, **options, **{**only, "reduce": "sum"})
    assert total(show(small), rng()).item() == pytest.approx(values[0] * 256 * 1024, rel=1e-4)


@pytest.mark.parametrize("loss_class", [GramLoss, SlicedLoss])
def test_layers_can_be_weighed(
    loss_class: type[Loss], options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    # So many directions that it matters little which are drawn.
    many = {"image": False, "projections": 4000} if loss_class is SlicedLoss else {}

    def score(layers: list[str], layer_weights: list[float] | None = None) -> float:
        chosen = {"layers": layers, "layer_weights": layer_weights}
        return loss_class(target, **chosen, **many, **options)(show(other), rng()).item()

    weighed = score(["relu1", "fire3"], [2.0, 0.5])
    by_hand = 2 * score(["relu1"]) + 0.5 * score(["fire3"])
    assert weighed == pytest.approx(by_hand, rel=0.02 if many else 1e-4)
    with pytest.raises(ValueError, match="got 1 layer_weights for 2 layers"):
        score(["relu1", "fire3"], [1.0])


def test_each_layer_has_its_own_number_of_directions(
    options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    def spread(projections: int | list[int]) -> float:
        chosen = {"layers": ["relu1", "fire3"], "image": False, "layer_weights": [0.0, 1.0]}
        loss = SlicedLoss(target, projections=projections, **chosen, **options)
        values = torch.stack([loss(show(other), rng(seed)) for seed in range(60)])
        return (values.std() / values.mean()).item()

    # Of the mean of so many random numbers.
    assert spread([8, 128]) == pytest.approx(spread(8) / 4, rel=0.3)
    assert spread([128, 8]) == pytest.approx(spread(8), rel=0.3)
    with pytest.raises(ValueError, match="got 3 projections for 2 layers"):
        spread([8, 8, 8])
    for wrong in (0, [8, 0]):
        with pytest.raises(ValueError, match="projections has to be at least 1"):
            SlicedLoss(target, **{**options, "projections": wrong})


def test_the_root_counts_a_layer_by_the_root_of_its_places(
    options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    def score(reduce: str) -> float:
        loss = SlicedLoss(target, layers=["fire3"], image=False, reduce=reduce, **options)
        return loss(show(other), rng()).item()

    places = FeatureNetwork("squeezenet1_1", ["fire3"], options["weights"])(other)["fire3"][0, 0]
    assert score("root") == pytest.approx(score("mean") * (places.numel() / 32**2) ** 0.5)


def test_a_torus_is_seen_without_its_border(target: Tensor) -> None:
    loss = SlicedLoss(target, features="compact", border="wrap", reduce="mean")
    tile = torch.rand(1, 3, 32, 40, generator=rng(3))
    turned = tile.roll((16, 8), (2, 3))
    assert loss(show(turned), rng()).item() == pytest.approx(loss(show(tile), rng()).item())
    black = SlicedLoss(target, features="compact", reduce="mean")
    assert black(show(turned), rng()).item() != pytest.approx(black(show(tile), rng()).item())
    with pytest.raises(ValueError, match="no border is called 'inside'"):
        SlicedLoss(target, features="compact", border="inside")


def test_a_sample_of_the_places_scores_as_all_of_them_do(
    options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    def score(samples: int | None) -> float:
        loss = SlicedLoss(target, projections=64, samples=samples, **options)
        return torch.stack([loss(show(other), rng(seed)) for seed in range(40)]).mean().item()

    assert score(500) == pytest.approx(score(None), rel=0.03)
    with pytest.raises(ValueError, match="samples has to be at least 1"):
        SlicedLoss(target, samples=0, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", STYLE)
def test_style_is_the_same_on_a_gpu(
    name: str, options: dict[str, str], target: Tensor, other: Tensor
) -> None:
    loss = build_loss(name, target, **options)
    expected = loss(show(other), rng())
    value = loss.cuda()(show(other.cuda()), rng())
    # The convolutions of a GPU round to TF32.
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-2, atol=0)


# The functions they are made of


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=rng(seed)).requires_grad_()


def test_gradients_are_finite_differences() -> None:
    right = double(2, 9, 4, seed=1).detach()
    directions = draw_directions(4, 3, rng()).double()
    goal = right[0]
    assert gradcheck(gram, double(2, 3, 4, 5))
    assert gradcheck(soft_root, double(2, 3, 4, 5).detach().abs().add(0.1).requires_grad_())
    assert gradcheck(lambda x: relaxed_emd(x, right), double(2, 7, 4))
    assert gradcheck(lambda x: moment_distance(x, right), double(2, 7, 4))
    assert gradcheck(lambda x: sliced_distances(x, goal, directions), double(2, 9, 4))
    assert gradcheck(lambda x: sliced_distances(x, goal, directions), double(2, 13, 4))


def test_sliced_distance_is_that_of_sorted_projections() -> None:
    ours, goal = double(2, 50, 4), double(50, 4, seed=1).detach()
    directions = draw_directions(4, 6, rng()).double()
    fast = sliced_distances(ours, goal, directions).sum((1, 2))
    projected = torch.einsum("bnd,dp->bpn", ours, directions).sort(-1).values
    slow = (projected - (goal @ directions).mT.sort(-1).values).square().sum((1, 2))
    torch.testing.assert_close(fast, slow)
    gradients = [torch.autograd.grad(value.sum(), ours)[0] for value in (fast, slow)]
    torch.testing.assert_close(*gradients)


def test_sliced_distance_of_a_shift_is_its_square() -> None:
    cloud = double(40, 3).detach()
    moved = cloud[None] + torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    distances = sliced_distances(moved, cloud, torch.eye(3, dtype=torch.float64))
    expected = torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64)[:, None].expand(3, 40)
    torch.testing.assert_close(distances[0], expected)


def test_directions_are_unit_vectors() -> None:
    torch.testing.assert_close(draw_directions(64, 5, rng()).norm(dim=0), torch.ones(5))


def test_relaxed_emd_is_the_dearer_mean_of_nearest_cosines() -> None:
    left, right = double(2, 7, 4), double(2, 11, 4, seed=1).detach()
    distance = 1 - nn.functional.cosine_similarity(left[:, :, None], right[:, None], dim=-1)
    slow = torch.maximum(distance.amin(2).mean(1), distance.amin(1).mean(1))
    fast = relaxed_emd(left, right)
    torch.testing.assert_close(fast, slow)
    gradients = [torch.autograd.grad(value.sum(), left)[0] for value in (fast, slow)]
    torch.testing.assert_close(*gradients)


def test_relaxed_emd_is_blind_to_length_and_moments_are_not() -> None:
    left = double(1, 9, 4).detach()
    torch.testing.assert_close(relaxed_emd(left, 3 * left), torch.zeros(1).double())
    expected = 2 * left.mean(1).abs().mean() + 8 * torch.cov(left[0].mT).abs().mean()
    torch.testing.assert_close(moment_distance(left, 3 * left), expected[None])


def test_features_of_nothing_have_a_gradient() -> None:
    left = torch.zeros(1, 5, 4, requires_grad=True)
    relaxed_emd(left, torch.rand(1, 5, 4)).sum().backward()
    assert left.grad is not None
    assert left.grad.isfinite().all()


# Pixels, states, channels, sums


def test_pixels_are_compared_premultiplied() -> None:
    target = torch.rand(1, 4, 6, 5)
    grown = torch.cat([target[:, :3] * target[:, 3:], target[:, 3:]], 1)
    loss = PixelLoss(target)
    assert loss(show(grown), rng()).item() == 0
    torch.testing.assert_close(loss(show(grown + 0.5), rng()), torch.tensor([0.25]))
    torch.testing.assert_close(
        PixelLoss(target, norm="l1")(show(grown - 0.5), rng()), torch.tensor([0.5])
    )


def test_labels_choose_the_picture() -> None:
    target = torch.rand(3, 3, 6, 5)
    loss = PixelLoss(target)
    labels = torch.tensor([2, 0])
    grown = Grown(target[labels], torch.zeros(2, 8, 6, 5), labels)
    assert loss(grown, rng()).tolist() == [0, 0]
    with pytest.raises(ValueError, match="3 target pictures and what was grown has no labels"):
        loss(show(target[:2]), rng())


def test_pixels_need_the_same_size_and_channels() -> None:
    loss = PixelLoss(torch.rand(1, 3, 6, 5))
    with pytest.raises(ValueError, match="the picture is 7x6 with 3 channels, the target 5x6"):
        loss(show(torch.rand(1, 3, 6, 7)), rng())
    with pytest.raises(ValueError, match="with 4 channels"):
        loss(show(torch.rand(1, 4, 6, 5)), rng())


@pytest.mark.parametrize(
    ("power", "reduce", "expected"),
    [(1, "sum", 1.5), (2, "sum", 1.25), (1, "mean", 0.375), (2, "mean", 0.3125)],
)
def test_overflow_prices_what_leaves_its_bounds(power: int, reduce: str, expected: float) -> None:
    state = torch.tensor([[0.5, -1.0, 2.0, -1.5], [0.1, 0.2, -0.3, 1.0]]).view(2, 4, 1, 1)
    loss = OverflowLoss(power=power, reduce=reduce)
    values = loss(Grown(torch.rand(2, 3, 1, 1), state), rng())
    torch.testing.assert_close(values, torch.tensor([expected, 0.0]))


def test_overflow_pulls_only_what_leaves_its_bounds() -> None:
    state = torch.tensor([0.5, -1.0, 2.0, -1.5]).view(1, 4, 1, 1).requires_grad_()
    OverflowLoss(reduce="sum")(Grown(torch.rand(1, 3, 1, 1), state), rng()).sum().backward()
    assert state.grad is not None
    assert state.grad.flatten().tolist() == [0, 0, 1, -1]


def test_activation_is_read_before_the_relu_and_colours_have_bounds(
    options: dict[str, str], target: Tensor
) -> None:
    loss = ActivationLoss(None, channel=5, layer="fire3", **options)
    before = FeatureNetwork("squeezenet1_1", ["fire3_pre_relu"], options["weights"])(target)
    expected = -before["fire3_pre_relu"][:, 5].mean((1, 2))
    torch.testing.assert_close(loss(show(target), rng()), expected)
    bright = loss(show(target + 1), rng()) + FeatureNetwork(
        "squeezenet1_1", ["fire3_pre_relu"], options["weights"]
    )(target + 1)["fire3_pre_relu"][:, 5].mean((1, 2))
    torch.testing.assert_close(bright, 1e4 * target.square().mean((1, 2, 3)), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="has the channels 0 to 127, got 128"):
        ActivationLoss(None, channel=128, layer="fire3", **options)


def test_a_total_is_the_weighted_sum_of_its_terms(target: Tensor) -> None:
    parts = [("pixel", 2.0, PixelLoss(target)), ("values", 0.5, OverflowLoss(limit=0.1))]
    total = TotalLoss(parts)
    grown = Grown(torch.rand(2, 3, 32, 32), torch.randn(2, 8, 32, 32))
    terms = total.terms(grown, rng())
    assert list(terms) == ["pixel", "values"]
    expected = 2 * terms["pixel"] + 0.5 * terms["values"]
    torch.testing.assert_close(total(grown, rng()), expected)
    with pytest.raises(ValueError, match="at least one loss"):
        TotalLoss([])
    with pytest.raises(ValueError, match="its own name, got pixel, pixel"):
        TotalLoss([parts[0], parts[0]])


# The table


@pytest.mark.parametrize("name", LOSSES)
def test_every_name_of_the_table_is_a_loss(name: str) -> None:
    assert issubclass(pick_loss_class(name), Loss)


def test_wrong_names_are_answered_with_the_nearest(target: Tensor) -> None:
    with pytest.raises(ValueError, match="no loss is called 'grams'; did you mean 'gram'"):
        build_loss("grams", target)
    with pytest.raises(ValueError, match="no option 'nrom'; did you mean 'norm'"):
        build_loss("pixel", target, nrom="l1")
    with pytest.raises(ValueError, match="needs the option 'channel'"):
        build_loss("activation", target)
    with pytest.raises(ValueError, match="no norm is called 'l3'; choose from l2, l1"):
        build_loss("pixel", target, norm="l3")


@pytest.mark.parametrize(
    ("name", "option", "wrong", "expected"),
    [
        ("sliced", "layer_weights", 3, "sliced.layer_weights is 3; expected a list"),
        ("sliced", "layer_weights", [1, "2"], r"layer_weights\[1\] is '2'; expected a number"),
        ("sliced", "projections", 1.5, "projections is 1.5; expected a whole number or a list"),
        ("sliced", "projections", [8, True], r"projections\[1\] is True; expected a whole number"),
        ("sliced", "image", 1, "sliced.image is 1; expected true or false"),
        ("gram", "layers", "relu1_1", "gram.layers is 'relu1_1'; expected a list"),
        ("patch", "levels", "many", "patch.levels is 'many'; expected a whole number"),
        ("overflow", "limit", None, "overflow.limit is None; expected a number"),
    ],
)
def test_options_of_another_type_are_named(
    name: str, option: str, wrong: Any, expected: str, target: Tensor
) -> None:
    with pytest.raises(ValueError, match=expected):
        build_loss(name, target, **{option: wrong})


def test_numbers_of_numpy_are_numbers(target: Tensor) -> None:
    plain = build_loss("patch", target, samples=64, unsharp=1.0, levels=2)
    alike = build_loss(
        "patch", target, samples=np.int64(64), unsharp=np.float32(1), levels=np.uint8(2)
    )
    grown = show(target.flip(-1))
    assert torch.equal(plain(grown, rng()), alike(grown, rng()))


def test_losses_come_from_outside_too(
    target: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_losses.py").write_text(
        "from nca_texture.losses.base import Loss\n"
        "class Brightness(Loss):\n"
        "    def __init__(self, target, *, weight: float = 1.0, unlike=None):\n"
        "        super().__init__()\n"
        "        self.weight = weight\n"
        "    def forward(self, grown, generator):\n"
        "        return self.weight * grown.image.mean((1, 2, 3))\n"
        "class Unreadable(Brightness):\n"
        "    def __init__(self, target, *, weight: 'NoSuchType', **options):\n"
        "        super().__init__(target, weight=weight, **options)\n"
        "class NoLoss: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loss = build_loss("outside_losses:Brightness", target, weight=2.0)
    torch.testing.assert_close(loss(show(target), rng())[0], 2 * target.mean())
    loss = build_loss("outside_losses:Unreadable", target, weight=2.0, unlike=3)
    torch.testing.assert_close(loss(show(target), rng())[0], 2 * target.mean())
    with pytest.raises(ValueError, match=r"Brightness\.weight is 'two'; expected a number"):
        build_loss("outside_losses:Brightness", target, weight="two", unlike="anything")
    with pytest.raises(ValueError, match="has no option 'wieght'; did you mean 'weight'"):
        build_loss("outside_losses:Brightness", target, wieght=2.0)
    with pytest.raises(ValueError, match="is no loss"):
        build_loss("outside_losses:NoLoss", target)
    with pytest.raises(ValueError, match="cannot be imported"):
        build_loss("outside_losses:Darkness", target)
    with pytest.raises(ValueError, match="cannot be imported"):
        build_loss("no_such_module:Loss", target)
