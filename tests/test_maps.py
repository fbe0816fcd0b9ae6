"""Maps: no place on a torus is special, slopes are slopes, and files are what programs expect."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from nca_texture.errors import InputError
from nca_texture.images import write_png
from nca_texture.maps import Look, height_map, make_maps, normal_map, occlusion_map
from nca_texture.materials import PRESETS, SOURCES, MapFile, materialx, pack, preset


def colours(height: int = 40, width: int = 56) -> np.ndarray:
    """Make a picture that tiles."""
    y, x = np.mgrid[:height, :width] * 2 * np.pi / [[[height]], [[width]]]
    waves = [np.sin(x + k) * np.cos(2 * y + k) + 0.3 * np.sin(5 * x - 3 * y) for k in range(3)]
    return (np.stack(waves, -1) / 3 + 0.5).astype(np.float32)


def test_no_place_of_a_torus_is_special() -> None:
    given = make_maps(colours())
    rolled = make_maps(np.roll(colours(), (7, 13), (0, 1)))
    for name, values in given.items():
        assert_allclose(np.roll(values, (7, 13), (0, 1)), rolled[name], atol=2e-6, err_msg=name)
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1


def test_an_axis_that_does_not_wrap_has_borders() -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[:, None, None].repeat(30, 1).repeat(3, 2)
    normal = make_maps(ramp, "x")["normal"]
    assert_allclose(normal, normal[:, :1].repeat(30, 1), atol=1e-6)
    assert normal[0, 0, 1] >= 0.5  # no cliff at the top
    assert make_maps(ramp, "xy")["normal"][0, 0, 1] < 0.2


def test_normals_of_a_slope_are_those_of_geometry() -> None:
    # 1 pixel up for every 2 to the right, and 1 pixel up for every 4 downwards
    y, x = np.mgrid[:20, :20].astype(np.float32)
    height = (x / 2 + y / 4) / 10
    found = normal_map(height, "", Look(relief=10))[5:-5, 5:-5] * 2 - 1
    expected = np.array([-0.5, 0.25, 1]) / np.linalg.norm([0.5, 0.25, 1])
    assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-5)


def test_a_flat_picture_is_flat() -> None:
    made = make_maps(np.full((16, 16, 3), 0.3, np.float32))
    assert (made["height"] == 0.5).all()
    assert_allclose(made["normal"], np.broadcast_to([0.5, 0.5, 1], (16, 16, 3)), atol=1e-6)
    assert_allclose(made["occlusion"], 1, atol=1e-6)
    assert_allclose(made["roughness"], 0.7, atol=1e-6)
    assert (made["metal"] == 0).all()


def test_holes_are_dark_and_hills_are_not() -> None:
    height = np.full((40, 40), 0.5, np.float32)
    height[10:13, 10:13], height[30:33, 30:33] = 0, 1
    found = occlusion_map(height, "xy", Look())
    assert found[11, 11] < 0.7
    assert found[31, 31] == 1


def test_dark_can_be_high() -> None:
    one, other = (height_map(colours(), "xy", Look(invert=invert)) for invert in (False, True))
    assert_allclose(one, 1 - other, atol=1e-6)


@pytest.mark.parametrize("settings", [{"relief": -1}, {"roughness": 1.5}, {"spread": 2}])
def test_impossible_looks_are_said(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"; give 0 to"):
        Look(**settings)


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_channels_are_where_the_preset_says(name: str) -> None:
    image = colours()
    made = make_maps(image)
    for file in PRESETS[name]:
        packed = pack(file, image, made)
        for index, source in enumerate(file.channels):
            expected = {
                "red": image[..., 0],
                "normal_y": made["normal"][..., 1],
                "normal_y_down": 1 - made["normal"][..., 1],
                "smoothness": 1 - made["roughness"],
            }
            expected |= {key: made[key] for key in ("height", "occlusion", "roughness", "metal")}
            if source in expected:
                assert_array_equal(packed[..., index], expected[source])


def test_every_source_can_be_packed() -> None:
    image = colours()
    for source in SOURCES:
        file = MapFile("{name}_a.png", (source,))
        assert pack(file, image, make_maps(image)).shape == (40, 56, 1)


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[map]]\nname = "{name}_x.png"\nchannels = ["metal", "one", "smoothness"]\ndepth = "16"\n'
    )
    assert preset(str(path)) == (MapFile("{name}_x.png", ("metal", "one", "smoothness"), "16"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("map = 3", "no \\[\\[map\\]\\] tables"),
        ("[[map]\n", "not TOML"),
        ('[[map]]\nname = "a"', "a name, channels"),
        ('[[map]]\nname = "a.png"\nchannels = ["one"]', "no name of a map"),
        ('[[map]]\nname = "{name}/../a.png"\nchannels = ["one"]', "no name of a map"),
        ('[[map]]\nname = "{name}.png"\nchannels = ["one", "zero"]', "give 1, 3 or 4"),
        ('[[map]]\nname = "{name}.png"\nchannels = ["gloss"]', "no channel is called 'gloss'"),
        ('[[map]]\nname = "{name}.png"\nchannels = ["one"]\ndepth = "half"', "depth of half"),
    ],
)
def test_a_preset_that_is_none_is_said(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        preset(str(path))
    with pytest.raises(ValueError, match="choose from polyhaven"):
        preset("polyheaven")


@pytest.mark.parametrize("name", PRESETS)
def test_materialx_says_it_is_valid(name: str) -> None:
    text = materialx("moss & <stone>".replace(" & <", "_").strip(">"), PRESETS[name], "x")
    if name == "unreal":  # its normals are DirectX's
        assert text is None
        return
    assert text is not None
    mx = pytest.importorskip("MaterialX", reason="MaterialX is not installed here")
    document = mx.createDocument()
    mx.readFromXmlString(document, text)
    library = mx.createDocument()
    mx.loadLibraries(mx.getDefaultDataLibraryFolders(), mx.getDefaultDataSearchPath(), library)
    document.setDataLibrary(library)
    valid, message = document.validate()
    assert valid, message
    for node in document.getNodes():
        assert node.getNodeDef() is not None, node.getName()
    files = {node.getInputValue("file") for node in document.getNodes("image")}
    assert files <= {file.name.format(name="moss_stone") for file in PRESETS[name]}
    assert "periodic" in text
    assert "clamp" in text


# The command


def test_the_command_writes_a_material(command: Any, tmp_path: Path) -> None:
    write_png(tmp_path / "moss.png", colours(64, 64))
    for name, files in PRESETS.items():
        done = command(["maps", "moss.png", "-o", name, "--preset", name, "--json"], tmp_path)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        expected = {file.name.format(name="moss") for file in files}
        found = {path.name for path in (tmp_path / name).iterdir()}
        assert found == expected | (set() if name == "unreal" else {"moss.mtlx"})
        assert {Path(file).name for file in told["files"]} == found
        assert set(told["seams"]) == expected
    with Image.open(tmp_path / "gltf" / "moss_baseColor.png") as file:
        assert_array_equal(np.asarray(file), np.asarray(Image.open(tmp_path / "moss.png")))
    assert b"sRGB" in (tmp_path / "gltf" / "moss_baseColor.png").read_bytes()
    assert b"sRGB" not in (tmp_path / "gltf" / "moss_normal.png").read_bytes()
    gl, dx = (
        np.asarray(Image.open(tmp_path / "polyhaven" / f"moss_nor_{kind}.png")).astype(int)
        for kind in ("gl", "dx")
    )
    assert_array_equal(gl[..., [0, 2]], dx[..., [0, 2]])
    assert abs(gl[..., 1] + dx[..., 1] - 255).max() <= 1
    again = command(["maps", "moss.png", "-o", "gltf", "--preset", "gltf"], tmp_path)
    assert again.returncode == 1
    assert "moss_baseColor.png exists" in again.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["text.png", "-o", "new"], 1, "not an image"),
        (["none.png", "-o", "new"], 1, "none.png"),
        (["moss.png", "-o", "moss.png"], 1, "is a file; give the name of a folder"),
        (["moss.png", "-o", "new", "--preset", "unrael"], 2, "'unrael'"),
        (["moss.png", "-o", "new", "--preset", "no.toml"], 1, "cannot read no.toml"),
        (["moss.png", "-o", "new", "--edge", "z"], 2, "'z'"),
        (["moss.png", "-o", "new", "--name", "a/b"], 2, "plain word"),
        (["moss.png", "-o", "new", "--relief=-1"], 2, "relief is -1"),
    ],
)
def test_mistakes_are_one_sentence(
    args: list[str], code: int, words: str, command: Any, tmp_path: Path
) -> None:
    write_png(tmp_path / "moss.png", colours(16, 16))
    (tmp_path / "text.png").write_text("no picture")
    done = command(["maps", *args], tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"moss.png", "text.png"}
