import os
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models

from nca_texture.errors import InputError, MissingError
from nca_texture.losses import compact
from nca_texture.losses.features import FeatureNetwork
from nca_texture.losses.networks import NETWORKS, STYLE_LAYERS, before_relu, layer_names
from nca_texture.losses.weights import fetch_weights, find_weights, have_weights, weights_status
from nca_texture.targets import read_target

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def random_model(network: str, **options: bool) -> nn.Module:
    """Build torchvision's network with made-up numbers that half precision holds exactly."""
    torch.manual_seed(0)
    model = models.get_model(network, weights=None, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.half().float()


def tensors_of(model: nn.Module, *unwanted: str) -> dict[str, Tensor]:
    kept = {key: t for key, t in model.state_dict().items() if not key.startswith(unwanted)}
    return {key: t.half().contiguous() for key, t in kept.items() if t.is_floating_point()}


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide this machine's weights and its network from every test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NCA_TEXTURE_OFFLINE", "1")
    monkeypatch.delenv("NCA_TEXTURE_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def squeezenet() -> nn.Module:
    return random_model("squeezenet1_1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, squeezenet: nn.Module) -> Path:
    path = tmp_path_factory.mktemp("weights")
    save_file(tensors_of(squeezenet), path / "squeezenet1_1.safetensors")
    return path


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    return folder / "squeezenet1_1.safetensors"


def cache_file(network: str) -> Path:
    name = next(row.url for row in weights_status() if row.network == network).rpartition("/")[2]
    return Path(torch.hub.get_dir()) / "checkpoints" / name


# What the features are


def test_squeezenet_answers_as_torchvision_does(squeezenet: nn.Module, weights: Path) -> None:
    image = torch.rand(2, 3, 40, 33)
    features = FeatureNetwork("squeezenet1_1", weights=weights)(image)
    flow, by_index = (image - MEAN) / STD, {1: "relu1", 4: "fire3", 7: "fire5", 10: "fire7"}
    with torch.no_grad():
        for index, module in enumerate(squeezenet.get_submodule("features")):  # pyright: ignore[reportArgumentType]
            flow = module(flow.clone())
            if index in by_index:
                torch.testing.assert_close(features[by_index[index]], flow)
    torch.testing.assert_close(features["fire9"], flow)


@pytest.mark.parametrize(
    ("network", "layers", "side"),
    [
        ("googlenet", "conv1 conv3 maxpool2 inception3a inception4a inception5a", 64),
        (
            "inception_v3",
            "Conv2d_1a_3x3 Conv2d_4a_3x3 Mixed_5b Mixed_6a Mixed_6b Mixed_7a Mixed_7b",
            96,
        ),
    ],
    ids=["googlenet", "inception_v3"],
)
def test_inception_without_batch_norm_answers_as_with_it(
    network: str, layers: str, side: int, tmp_path: Path
) -> None:
    model = random_model(network, init_weights=False, aux_logits=False, transform_input=True)
    last = ("inception5b", "fc") if network == "googlenet" else ("Mixed_7c", "fc")
    save_file(tensors_of(model, *last), tmp_path / "weights.safetensors")
    image = torch.rand(1, 3, side, side)
    net = FeatureNetwork(network, layers.split(), tmp_path / "weights.safetensors")
    features = net(image)

    flow = model._transform_input((image - MEAN) / STD)  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        for name, module in model.named_children():
            if name.startswith(last):
                break
            flow = module(flow)
            if name in features:
                scale = flow.abs().max()
                torch.testing.assert_close(features[name] / scale, flow / scale)
    assert list(features) == layers.split()


def test_a_file_with_folded_batch_norm_is_the_same_network(tmp_path: Path) -> None:
    model = random_model("googlenet", init_weights=False, aux_logits=False)
    plain = {k: t.float() for k, t in tensors_of(model).items() if k.startswith(("conv", "inc"))}
    folded = {}
    for key, weight in plain.items():
        if key.endswith(".conv.weight"):
            name = key.removesuffix(".conv.weight")
            scale = plain[f"{name}.bn.weight"] / (plain[f"{name}.bn.running_var"] + 1e-3).sqrt()
            folded[key] = weight * scale[:, None, None, None]
            shift = plain[f"{name}.bn.running_mean"] * scale
            folded[f"{name}.conv.bias"] = plain[f"{name}.bn.bias"] - shift
    save_file(plain, tmp_path / "plain.safetensors")
    save_file(folded, tmp_path / "folded.safetensors")
    image, layers = torch.rand(1, 3, 48, 48), ["conv1_pre_relu", "inception4b"]
    one, other = (
        FeatureNetwork("googlenet", layers, tmp_path / f"{kind}.safetensors")(image)
        for kind in ("plain", "folded")
    )
    torch.testing.assert_close(one, other)


def test_what_comes_before_a_relu_is_not_overwritten_by_it(weights: Path) -> None:
    layers = ["conv1", "relu1", "fire2_pre_relu", "fire2", "fire3"]
    features = FeatureNetwork("squeezenet1_1", layers, weights)(torch.rand(1, 3, 40, 40))
    for before, after in (("conv1", "relu1"), ("fire2_pre_relu", "fire2")):
        assert features[before].min() < 0
        torch.testing.assert_close(features[before].relu(), features[after], rtol=0, atol=0)


def test_the_layer_before_a_relu_has_a_name() -> None:
    assert before_relu("vgg19", "relu4_1") == "conv4_1"
    assert before_relu("inception_v3", "Mixed_6b") == "Mixed_6b_pre_relu"
    assert before_relu("vgg16", "pool2") == "pool2"
    assert before_relu("vgg16", "conv1_1") == "conv1_1"
    assert before_relu("vgg16", "image") == "image"


def test_vgg_layers_are_those_of_the_published_recipes() -> None:
    for network, indices in (("vgg16", [1, 6, 11, 18, 25]), ("vgg19", [1, 6, 11, 20, 29])):
        assert [layer_names(network)[i + 1] for i in indices] == list(STYLE_LAYERS[network])


def test_google_s_networks_take_the_normalisation_their_file_names(tmp_path: Path) -> None:
    tensors = tensors_of(random_model("googlenet", init_weights=False, aux_logits=False))
    save_file(tensors, tmp_path / "theirs.safetensors")
    ours = {"input": "RGB 0..1, ImageNet mean/std"}
    save_file(tensors, tmp_path / "ours.safetensors", ours)
    image = torch.rand(1, 3, 20, 20)
    theirs = FeatureNetwork("googlenet", ["image", "conv1"], tmp_path / "theirs.safetensors")(image)
    torch.testing.assert_close(theirs["image"], image * 2 - 1)
    named = FeatureNetwork("googlenet", ["image", "conv1"], tmp_path / "ours.safetensors")(image)
    torch.testing.assert_close(named["image"], (image - MEAN) / STD)


def test_transparency_is_white(weights: Path) -> None:
    net = FeatureNetwork("squeezenet1_1", ["relu1"], weights)
    image, alpha = torch.rand(1, 3, 24, 24), torch.rand(1, 1, 24, 24)
    seen = net(torch.cat([image * alpha, alpha], 1))["relu1"]
    torch.testing.assert_close(seen, net(image * alpha + 1 - alpha)["relu1"])


def test_only_the_picture_has_a_gradient_and_all_is_float32(weights: Path) -> None:
    net = FeatureNetwork("squeezenet1_1", weights=weights)
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        features = net(image)
    assert {f.dtype for f in features.values()} == {torch.float32}
    features["fire9"].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in net.parameters())
    assert not any(m.training for m in net.modules())


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        ("compact", "image relu1_1 relu2_1 relu4_1"),
        ("compact", "conv1_1 relu1_1 pool3"),
        ("squeezenet1_1", "relu1 fire2_pre_relu fire2 fire9"),
    ],
)
def test_features_at_places_are_those_of_the_whole_layer(
    network: str, layers: str, weights: Path
) -> None:
    net = FeatureNetwork(network, layers.split(), weights if network == "squeezenet1_1" else None)
    places = {name: torch.tensor([3, 0, 3, 1]) for name in net.layers[:-1]}  # and of one layer: all
    image = torch.rand(2, 3, 40, 48, requires_grad=True)
    whole = {name: each.flatten(2).mT for name, each in net(image).items()}
    expected = {name: rows[:, places.get(name, slice(None))] for name, rows in whole.items()}
    counts = {}

    def choose(name: str, count: int) -> Tensor | None:
        counts[name] = count
        return places.get(name)

    rows = net.at_places(image, choose)
    assert counts == {name: each.shape[1] for name, each in whole.items()}
    gradients = []
    for found in (expected, rows):
        score = sum((each * each.detach().cos()).square().mean() for each in found.values())
        gradients.append(torch.autograd.grad(score, image)[0])
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(*gradients)


def test_the_smallest_picture_passes_and_a_smaller_one_is_refused(weights: Path) -> None:
    net = FeatureNetwork("squeezenet1_1", weights=weights)
    side = net.smallest
    assert min(net(torch.rand(1, 3, side, 40))["fire9"].shape) > 0
    with pytest.raises(ValueError, match=f"at least {side}x{side} pixels .* got 40x{side - 1}"):
        net(torch.rand(1, 3, side - 1, 40))
    with pytest.raises(ValueError, match=r"expected images \[B, 3 or 4, H, W\]"):
        net(torch.rand(1, 2, 40, 40))


def test_building_a_network_draws_no_random_number(weights: Path) -> None:
    before = torch.get_rng_state()
    FeatureNetwork("squeezenet1_1", weights=weights)
    layer_names("inception_v3")
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_names_are_answered_with_the_known_ones(weights: Path) -> None:
    with pytest.raises(ValueError, match="no network is called 'vgg11'; there are compact"):
        FeatureNetwork("vgg11")
    with pytest.raises(ValueError, match="no layer called 'relu9'; choose from image, conv1"):
        FeatureNetwork("squeezenet1_1", ["relu9"], weights)
    with pytest.raises(ValueError, match="different layers, got none"):
        FeatureNetwork("squeezenet1_1", [], weights)
    with pytest.raises(ValueError, match="different layers, got fire3, fire3"):
        FeatureNetwork("squeezenet1_1", ["fire3", "fire3"], weights)


# Where weights come from


def test_only_the_layers_that_are_used_are_needed(weights: Path, tmp_path: Path) -> None:
    short = {k: t for k, t in load_file(weights).items() if int(k.split(".")[1]) <= 4}
    save_file(short, tmp_path / "short.safetensors")
    FeatureNetwork("squeezenet1_1", ["fire3"], tmp_path / "short.safetensors")
    with pytest.raises(InputError, match=r"6 of the 20 .* missing, such as features\.6\.squeeze"):
        FeatureNetwork("squeezenet1_1", ["fire4"], tmp_path / "short.safetensors")


def test_half_a_batch_norm_is_not_enough(tmp_path: Path) -> None:
    tensors = tensors_of(random_model("googlenet", init_weights=False, aux_logits=False))
    del tensors["conv1.bn.running_var"]
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"1 of the 5 .* such as conv1\.bn\.running_var;"):
        FeatureNetwork("googlenet", ["conv1"], tmp_path / "weights.safetensors")


def test_a_wrong_shape_is_named(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    tensors["features.0.weight"] = tensors["features.0.weight"].mT[:, :1].contiguous()
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match=r"features\.0\.weight is \[64, 1, 3, 3\], expected \[64,"):
        FeatureNetwork("squeezenet1_1", weights=tmp_path / "odd.safetensors")


def test_a_file_of_other_names_is_refused(tmp_path: Path) -> None:
    save_file({"conv1_7x7_s2.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "caffe.safetensors")
    with pytest.raises(
        InputError, match=r"googlenet: .*conv1\.bn\.weight.* begins with conv1_7x7_s2"
    ):
        FeatureNetwork("googlenet", weights=tmp_path / "caffe.safetensors")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(InputError, match="cannot be read"):
        FeatureNetwork("squeezenet1_1", weights=tmp_path / name)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Path("x")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot be read"):
        FeatureNetwork("squeezenet1_1", weights=tmp_path / "weights.pth")


def test_a_named_file_comes_first_then_the_folder_then_the_cache(
    weights: Path, folder: Path, squeezenet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not have_weights("squeezenet1_1")
    cached = cache_file("squeezenet1_1")
    cached.parent.mkdir(parents=True)
    torch.save(squeezenet.state_dict(), cached)
    assert find_weights("squeezenet1_1") == (cached, "torchvision's cache")
    from_cache = FeatureNetwork("squeezenet1_1", ["relu1"])
    assert from_cache.source == str(cached)

    monkeypatch.setenv("NCA_TEXTURE_WEIGHTS", str(folder))
    assert find_weights("squeezenet1_1") == (weights, "NCA_TEXTURE_WEIGHTS")
    from_folder = FeatureNetwork("squeezenet1_1", ["relu1"])
    image = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(from_cache(image), from_folder(image))

    assert find_weights("squeezenet1_1", str(cached))[0] == cached
    assert have_weights("squeezenet1_1")
    assert not have_weights("vgg16")
    with pytest.raises(InputError, match="no weights file"):
        find_weights("squeezenet1_1", folder / "absent.safetensors")


def test_absent_weights_offline_say_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCA_TEXTURE_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        FeatureNetwork("vgg16")
    sentence = str(caught.value)
    assert str(tmp_path / "vgg16.safetensors") in sentence
    assert str(cache_file("vgg16")) in sentence
    assert "weights fetch vgg16" in sentence
    assert "--weights" in sentence
    with pytest.raises(MissingError, match="OFFLINE"):
        fetch_weights("vgg16")


def test_a_download_ends_in_torchvision_s_cache(
    squeezenet: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, path: str, **options: object) -> None:
        assert url.endswith("squeezenet1_1-b8a52dc0.pth")
        assert options["hash_prefix"] == "b8a52dc0"
        torch.save(squeezenet.state_dict(), path)

    monkeypatch.setenv("NCA_TEXTURE_OFFLINE", "0")
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    net = FeatureNetwork("squeezenet1_1", ["relu1"])
    assert net.source == str(cache_file("squeezenet1_1"))
    assert fetch_weights("squeezenet1_1") == cache_file("squeezenet1_1")


def test_a_failed_download_says_why_and_where_else_was_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(url: str, path: str, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.delenv("NCA_TEXTURE_OFFLINE")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(MissingError, match=r"looked at NCA_TEXTURE_WEIGHTS, which is.*no route"):
        FeatureNetwork("vgg16")


def test_the_listing_has_every_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCA_TEXTURE_WEIGHTS", str(folder))
    rows = {row.network: row for row in weights_status()}
    assert tuple(rows) == NETWORKS
    assert rows["squeezenet1_1"].path == folder / "squeezenet1_1.safetensors"
    assert rows["vgg16"].path is None
    assert rows["vgg16"].megabytes > 500


# Pretrained networks

PRETRAINED = os.environ.get("NCA_TEXTURE_WEIGHTS", "")


@pytest.mark.parametrize("network", ["vgg19", "inception_v3", "squeezenet1_1"])
def test_one_texture_s_features_are_nearer_than_another_s(network: str) -> None:
    path = Path(PRETRAINED) / f"{network}.safetensors"
    if not PRETRAINED or not path.is_file():
        pytest.skip(f"needs {network}.safetensors in the folder NCA_TEXTURE_WEIGHTS")
    net = FeatureNetwork(network, weights=path)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 80, 160, generator=generator)
    along = F.avg_pool2d(noise, (9, 1), 1, (4, 0)), F.avg_pool2d(noise, (1, 9), 1, (0, 4))
    upright, lying = (0.5 + 0.4 * texture[k : k + 1] for k, texture in enumerate(along))
    means = [
        {name: f.flatten(2).mean(-1) for name, f in net(crop).items()}
        for crop in (upright[..., :80], upright[..., 80:], lying[..., :80])
    ]
    deepest = net.layers[-1]
    same, other = (F.mse_loss(means[0][deepest], m[deepest]) for m in means[1:])
    assert same < other / 2
    # The numbers are those of a trained network: neither dead nor exploded at any depth.
    assert all(0.01 < f.mean() < 100 for f in net(upright).values())


def test_pretrained_inception_loads_to_the_end_of_its_file() -> None:
    path = Path(PRETRAINED) / "inception_v3.safetensors"
    if not PRETRAINED or not path.is_file():
        pytest.skip("needs inception_v3.safetensors in the folder NCA_TEXTURE_WEIGHTS")
    net = FeatureNetwork("inception_v3", ["Mixed_6b", "Mixed_7a"], path)
    assert net.channels["Mixed_7a"] == 1280
    used = {k for k in load_file(path) if k.endswith(".conv.weight")}
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == len(used)


# The network of the package


def test_the_network_of_the_package_is_there_with_nothing_else_at_hand() -> None:
    net = FeatureNetwork("compact")
    assert net.source == str(compact.WEIGHTS)
    assert compact.WEIGHTS.stat().st_size <= 2e6
    assert [net.channels[layer] for layer in net.layers] == [64, 128, 256, 512]
    assert have_weights("compact")
    assert fetch_weights("compact") == compact.WEIGHTS
    with safe_open(compact.WEIGHTS, framework="pt") as file:
        origin = file.metadata()
    assert {"teacher", "licence", "pictures", "recipe", "date", "commit"} <= origin.keys()


def test_the_network_of_the_package_sees_nothing_beyond_a_picture_s_border() -> None:
    # The zeros around a picture have to stay zeros between its narrow layers, as in VGG19.
    for _, parts in compact.compact_stages():
        if isinstance(parts, nn.Sequential):
            for name in ("enter", "mix"):
                assert parts.get_submodule(name).bias is None


def test_with_a_circular_border_features_are_those_of_the_endless_tiling() -> None:
    net = FeatureNetwork("compact")
    tile = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    once, tiled = net(tile, "circular"), net(tile.repeat(1, 1, 3, 3), "zeros")
    for layer, features in once.items():
        height, width = features.shape[-2:]
        middle = tiled[layer][..., height : 2 * height, width : 2 * width]
        torch.testing.assert_close(features, middle, rtol=1e-4, atol=1e-4)
    turned = net(tile.roll((8, 16), (2, 3)), "circular")["relu4_1"]
    torch.testing.assert_close(turned, once["relu4_1"].roll((1, 2), (2, 3)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(net(tile)["relu4_1"], once["relu4_1"])


def test_gradients_on_a_torus_are_those_of_the_endless_tiling() -> None:
    net = FeatureNetwork("compact", ["relu1_1", "relu3_1"])
    tile = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    once, tiled = net(tile, "circular"), net(tile.repeat(1, 1, 3, 3), "zeros")
    gradients = []
    for middle in (False, True):
        score = tile.new_zeros(())
        for layer, features in once.items():
            height, width = features.shape[-2:]
            each = tiled[layer][..., height : 2 * height, width : 2 * width] if middle else features
            score = score + (each * torch.arange(each.numel()).view_as(each).cos()).mean()
        gradients.append(torch.autograd.grad(score, tile)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_the_network_of_the_package_comes_close_to_vgg19() -> None:
    path = Path(PRETRAINED) / "vgg19.safetensors"
    if not PRETRAINED or not path.is_file():
        pytest.skip("needs vgg19.safetensors in the folder NCA_TEXTURE_WEIGHTS")
    near, full = FeatureNetwork("compact"), FeatureNetwork("vgg19", STYLE_LAYERS["compact"], path)
    # Neither was the network taught with; in [0, 1] and beyond.
    pictures = [read_target(f"skimage:{name}").image for name in ("retina", "hubble_deep_field")]
    pictures.append(torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) / 3)
    for picture in pictures:
        ours, theirs = near(picture[:, :3]), full(picture[:, :3])
        for layer, most in zip(STYLE_LAYERS["compact"], (1e-5, 0.05, 0.15, 0.35), strict=True):
            error = (ours[layer] - theirs[layer]).square().mean() / theirs[layer].var()
            assert error < most, layer
