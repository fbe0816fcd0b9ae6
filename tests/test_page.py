"""Exported pages, opened from the disk in a headless browser."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser, Tab
from numpy.typing import NDArray
from PIL import Image

from nca_texture import CellularAutomaton, Grid, Recipe, save
from nca_texture.export.base import Trained, rounded
from nca_texture.export.html import HtmlExporter, page
from nca_texture.kernels.rule import Limits
from nca_texture.noise import seed_number

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"
)

HEIGHT, WIDTH = 14, 20
STEPS = 64
# States in float32 after STEPS steps, on random rules that amplify more than trained ones do.
TOLERANCE = 1e-3


def random_automaton(scale: float, **settings: object) -> CellularAutomaton:
    automaton = CellularAutomaton(**settings)
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in automaton.named_parameters():
            if "kernels" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * scale)
    return automaton.requires_grad_(False)


def fading(*colour: float) -> CellularAutomaton:
    """Make a rule that brings every cell to ``colour``, slowly."""
    automaton = CellularAutomaton(channels=4, rule="abs", bank="munca-68", seed_kind="noise")
    with torch.no_grad():
        automaton.weight_in.zero_()
        automaton.weight_in[:, :4] = -0.2 * torch.eye(4)
        automaton.bias_in.copy_(0.2 * torch.tensor([*colour, 0.0]))
    return automaton.requires_grad_(False)


def zoo() -> dict[str, CellularAutomaton]:
    """Make one automaton of every kind that a page has to run."""
    cell = {
        "living": True,
        "seed_kind": "cell",
        "bank": "growing-2020",
        "channels": 8,
        "hidden": 12,
    }
    return {
        "square": random_automaton(0.05, channels=6, hidden=20),
        "hex": random_automaton(0.05, channels=6, hidden=20, grid=Grid("hex")),
        "limits": random_automaton(
            0.3, channels=9, hidden=16, bank="distill-tf", output_bias=True,
            limits=Limits(2.0, 2.0, 2.0, 2.0), grid=Grid("square", ("reflect", "zero")),
        ),
        "abs": random_automaton(
            0.005, channels=4, rule="abs", bank="munca-68", seed_kind="noise", fire_rate=1.0,
            grid=Grid("square", ("replicate", "torus")),
        ),
        "living": random_automaton(
            0.25, limits=Limits(state=3.0), grid=Grid("square", "zero"), **cell
        ),
        "living-hex": random_automaton(
            0.25, limits=Limits(state=3.0), grid=Grid("hex", ("zero", "torus")), **cell
        ),
        "one-hot": random_automaton(
            0.25, limits=Limits(state=3.0), grid=Grid("square", "zero"), condition="one-hot",
            classes=3, **cell
        ),
        "elements": random_automaton(
            0.1, channels=5, hidden=9, fire_by="element", condition="trainable-seed", classes=2,
            limits=Limits(state=4.0),
        ),
        "genome": random_automaton(
            0.02, channels=4, rule="abs", bank="distill-tf", condition="genome", classes=3,
        ),
        "learned": random_automaton(
            0.06, channels=5, hidden=9, bank="learned", grid=Grid("hex", ("reflect", "replicate"))
        ),
    }  # fmt: skip


ZOO = zoo()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "many.html"
    file.write_text(page([Trained(name=name, automaton=each) for name, each in ZOO.items()]))
    return file


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "two.html"
    models = {"warm": fading(0.4, 0.1, -0.2), "cold": fading(-0.3, 0.0, 0.4)}
    file.write_text(page([Trained(name=name, automaton=each) for name, each in models.items()]))
    return file


def opened(browser: Browser, file: Path, settings: str, **window: object) -> Tab:
    tab = browser.tab(f"{file.as_uri()}#{settings}", **window)
    tab.wait("window.nca !== undefined")
    tab.run("nca.ready.then(() => 1)")
    return tab


def state_of(tab: Tab, channels: int, before: str = "") -> NDArray[np.float32]:
    """Return the page's state [C, H, W]."""
    numbers, (width, height) = tab.run(
        f"(async () => {{ {before}; const state = await nca.state();"
        "let text = ''; for (const byte of new Uint8Array(state.buffer))"
        "text += String.fromCharCode(byte);"
        "return [btoa(text), [nca.app.width, nca.app.height]] })()"
    )
    found = np.frombuffer(base64.b64decode(numbers), np.float32)
    found = found.reshape(-1, height, width, 4).transpose(0, 3, 1, 2)
    return found.reshape(-1, height, width)[:channels]


@pytest.mark.parametrize("engine", ["webgl", "webgpu"])
def test_a_page_from_the_disk_takes_the_steps_of_the_reference(
    browser: Browser, many: Path, engine: str
) -> None:
    tab = opened(browser, many, f"engine={engine}&paused=1&size=16x12&seed=7", size=(400, 300))
    kind, form = tab.run("[nca.app.engine.kind, nca.app.engine.format]")
    assert form == "float"
    if engine == "webgpu" and kind != "WebGPU":
        pytest.skip("this browser offers no WebGPU")
    for index, (name, automaton) in enumerate(ZOO.items()):
        script = f"nca.choose({index}, {WIDTH}, {HEIGHT}); nca.step({STEPS})"
        found = state_of(tab, automaton.channels, script)
        seed = automaton.seed(1, (HEIGHT, WIDTH), seed=7)
        expected = automaton.grow(seed, STEPS, seed=7, kernel="reference")[0].numpy()
        assert np.abs(expected - seed[0].numpy()).max() > 0.01, f"{name} does not grow"
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, err_msg=f"{name} {engine}")
    tab.run("new Promise(requestAnimationFrame)")
    assert tab.complaints() == []
    assert tab.requests() == [tab.run("location.href.split('#')[0]")]
    tab.close()


@pytest.mark.parametrize("channels", [6, 18])
@pytest.mark.parametrize("engine", ["webgl", "webgpu"])
def test_on_long_rows_the_cells_of_the_reference_act(
    browser: Browser, tmp_path: Path, engine: str, channels: int
) -> None:
    """Cells that act are packed by the word: rows have four, and the last is not full.

    With many channels a pass has no room for two cells at a time.
    """
    automaton = random_automaton(0.05, channels=channels, hidden=8, fire_rate=0.3)
    file = tmp_path / "long.html"
    file.write_text(page([Trained(name="long", automaton=automaton)]))
    tab = opened(browser, file, f"engine={engine}&paused=1&size=101x6&seed=7", size=(400, 300))
    found = state_of(tab, channels, "nca.step(12)")
    expected = automaton.grow(automaton.seed(1, (6, 101), seed=7), 12, seed=7)[0]
    assert expected.abs().max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)
    tab.close()


def test_no_more_is_written_at_once_than_a_device_can(browser: Browser, many: Path) -> None:
    """Some refuse targets that are too large together, though there are not too many."""
    tab = opened(browser, many, "engine=webgl&paused=1&size=16x12&seed=7", size=(400, 300))
    found = tab.run("""(() => {
        const { engine } = nca.app;
        const { gl } = engine;
        const before = engine.mostOutputs();
        let count = 0;
        const draw = gl.drawBuffers.bind(gl);
        gl.drawBuffers = (targets) => { count = targets.length; draw(targets); };
        gl.checkFramebufferStatus = () =>
            (count > 4 ? gl.FRAMEBUFFER_UNSUPPORTED : gl.FRAMEBUFFER_COMPLETE);
        return [before, engine.mostOutputs(), gl.getParameter(gl.MAX_DRAW_BUFFERS), gl.getError()];
    })()""")
    assert found == [found[2], 4, found[2], 0]
    assert found[2] > 4
    tab.close()


@pytest.mark.parametrize("engine", ["webgl", "webgpu"])
def test_rotation_scale_and_size_of_a_step_are_those_of_grow(
    browser: Browser, many: Path, engine: str
) -> None:
    tab = opened(browser, many, f"engine={engine}&paused=1&size=16x12&seed=moss", size=(400, 300))
    script = f"""nca.choose(1, {WIDTH}, {HEIGHT}); nca.set({{angle: 0.5, dt: 0.7, dx: 1.25}});
        nca.set({{fire: 0.3}}); nca.field('vortex'); nca.step(24)"""
    found = state_of(tab, 6, script)
    field = tab.run(
        f"Array.from({{length: {HEIGHT}}}, (_, y) => Array.from({{length: {WIDTH}}}, (_, x) =>"
        "nca.direction(y, x)))"
    )
    automaton = ZOO["hex"]
    expected = automaton.grow(
        automaton.seed(1, (HEIGHT, WIDTH)),
        24,
        seed=seed_number("moss"),
        kernel="reference",
        angle=torch.tensor(field),
        dt=0.7,
        dx=1.25,
        fire_rate=0.3,
    )
    np.testing.assert_allclose(found, expected[0], atol=TOLERANCE)
    tab.close()


@pytest.mark.parametrize("engine", ["webgl", "webgpu"])
def test_cells_are_told_classes_as_the_automaton_tells_them(
    browser: Browser, many: Path, engine: str
) -> None:
    tab = opened(browser, many, f"engine={engine}&paused=1&size=16x12&seed=7", size=(400, 300))
    index, automaton = list(ZOO).index("one-hot"), ZOO["one-hot"]
    script = f"nca.choose({index}, {WIDTH}, {HEIGHT}); nca.step(10)"
    state_of(tab, automaton.channels, script)
    shares = torch.tensor([[0.25, 0.0, 0.75]])
    found = state_of(tab, automaton.channels, "nca.classes([0.25, 0, 0.75]); nca.step(10)")
    state = automaton.grow(automaton.seed(1, (HEIGHT, WIDTH), seed=7), 10, seed=7)
    expected = automaton.grow(automaton.tell(state, shares), 10, seed=7, start=10)
    np.testing.assert_allclose(found, expected[0], atol=TOLERANCE)
    tab.close()


def test_words_are_the_seeds_that_the_command_makes_of_them(browser: Browser, two: Path) -> None:
    tab = opened(browser, two, "paused=1&size=8x8&engine=webgl", size=(400, 300))
    for text in ("moss", "", "żółw", "12", "-1", "a" * 200):
        tab.run(f"nca.set({{seedText: {json.dumps(text)}}}); nca.restart()")
        expected = seed_number(int(text) if text.lstrip("-").isdigit() else text)
        assert tab.run("nca.app.seed") == expected, text
    tab.close()


def test_tiles_are_the_pictures_of_the_command(browser: Browser, many: Path) -> None:
    tab = opened(browser, many, "paused=1&size=8x8&engine=webgl&seed=3", size=(400, 300))
    for index, name, tolerance in ((0, "square", 1), (1, "hex", 12)):
        automaton = ZOO[name]
        numbers, width = tab.run(
            f"(async () => {{ nca.choose({index}, 24, 16); nca.step(8); const image ="
            "await nca.tile(); return [Array.from(image.data), image.width] })()"
        )
        found = np.array(numbers).reshape(-1, width, 4)[..., :3]
        state = automaton.grow(automaton.seed(1, (16, 24)), 8, seed=3)
        expected = automaton.to_image(state)[0].permute(1, 2, 0).numpy() * 255
        assert found.shape == expected.shape
        # Pictures of hexagons widen the filter a little where rows are reduced; pages do not.
        assert np.abs(found - expected).max() <= tolerance
    tab.close()


@pytest.mark.parametrize("engine", ["webgl", "webgpu"])
def test_what_is_erased_grows_again(browser: Browser, two: Path, engine: str) -> None:
    tab = opened(browser, two, f"engine={engine}&paused=1&size=64x48&steps=80", size=(480, 480))
    target = np.array([[[0.4]], [[0.1]], [[-0.2]]], np.float32)
    assert np.abs(state_of(tab, 3) - target).max() < 0.01
    tab.run("nca.set({radius: 6})")
    tab.drag((150, 220), (225, 240), (330, 220))
    hurt = np.abs(state_of(tab, 3) - target).max(0) > 0.01
    assert 150 < hurt.sum() < hurt.size / 2
    assert hurt[22, 24]
    assert not hurt[44, 10]
    tab.click("#play")
    tab.wait("nca.app.steps > 130")
    assert np.abs(state_of(tab, 3) - target).max() < 0.05
    assert tab.complaints() == []
    tab.close()


def test_regions_run_another_model_or_stand_still(browser: Browser, two: Path) -> None:
    tab = opened(browser, two, "engine=webgl&paused=1&size=64x48", size=(640, 480))
    tab.run("nca.set({radius: 5})")
    tab.key("3", "Digit3")
    tab.drag((150, 350), (250, 350))
    tab.click("[data-tool=slow]")
    tab.drag((450, 350), (550, 350))
    state = state_of(tab, 3, "nca.step(80)")
    np.testing.assert_allclose(state[:, 35, 20], [-0.3, 0.0, 0.4], atol=0.01)
    np.testing.assert_allclose(state[:, 10, 20], [0.4, 0.1, -0.2], atol=0.01)
    start = fading(0, 0, 0).seed(1, (48, 64), seed=0)[0, :3, 35, 50]
    np.testing.assert_allclose(state[:, 35, 50], start, atol=1e-6)
    tab.click("#picker button:nth-child(2)")
    state = state_of(tab, 3, "nca.step(80)")
    np.testing.assert_allclose(state[:, 10, 20], [-0.3, 0.0, 0.4], atol=0.01)
    tab.close()


def test_a_seed_is_planted_in_the_cell_that_is_touched(browser: Browser, many: Path) -> None:
    settings = "engine=webgl&paused=1&size=16x12&model=one-hot"
    tab = opened(browser, many, settings, size=(640, 480))
    tab.key("2", "Digit2")
    x, y = tab.run(
        "(() => { const { view } = nca.app; const ratio = innerWidth / nca.app.engine.canvas.width;"
        "return [(3.4 - view.x) / view.pixel * ratio, (7.6 - view.y) / view.pixel * ratio] })()"
    )
    tab.drag((x, y))
    state = state_of(tab, ZOO["one-hot"].channels)
    assert np.argwhere(state[3]).tolist() == [[6, 8], [7, 3]]
    np.testing.assert_array_equal(state[:, 7, 3], [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    tab.close()


def test_combing_turns_the_field_along_the_stroke(browser: Browser, two: Path) -> None:
    tab = opened(browser, two, "engine=webgl&paused=1&size=64x48", size=(640, 480))
    tab.key("4", "Digit4")
    tab.drag(*[(320, 100 + 10 * i) for i in range(25)])
    assert tab.run("nca.direction(22, 32)") == pytest.approx(-np.pi / 2, abs=0.2)
    assert tab.run("nca.direction(22, 2)") == 0
    tab.click("#forget")
    assert tab.run("nca.direction(22, 32)") == 0
    tab.close()


def test_rounder_states_are_near(browser: Browser, many: Path) -> None:
    automaton = ZOO["limits"]
    seed = automaton.seed(1, (HEIGHT, WIDTH))
    expected = automaton.grow(seed, 6, seed=7, kernel="reference")[0].numpy()
    for form, most in (("half", 0.02), ("byte", 0.35)):
        settings = f"engine=webgl&state={form}&paused=1&size=16x12&seed=7"
        tab = opened(browser, many, settings, size=(400, 300))
        assert tab.run("nca.app.engine.format") == form
        found = state_of(tab, 9, f"nca.choose(2, {WIDTH}, {HEIGHT}); nca.step(6)")
        assert np.abs(found - expected).mean() < most, form
        tab.close()


def test_every_control_has_a_name_and_keys_work(browser: Browser, many: Path) -> None:
    tab = opened(browser, many, "engine=webgl&paused=1&size=32x24", size=(1200, 800))
    tab.key("s", "KeyS")
    assert tab.run("!document.getElementById('panel').hidden")
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button",
        "slider",
        "checkbox",
        "combobox",
        "textbox",
        "spinbutton",
        "radio",
        "toolbar",
    }
    controls = [n for n in nodes if n.get("role", {}).get("value") in roles and not n["ignored"]]
    assert len(controls) > 30
    unnamed = [n for n in controls if not n.get("name", {}).get("value")]
    assert unnamed == []
    tab.key("s", "KeyS")
    tab.key(".", "Period")
    assert tab.run("nca.app.steps") == 1
    tab.key(" ", "Space")
    tab.wait("nca.app.steps > 3")
    tab.key(" ", "Space")
    tab.key("h", "KeyH")
    assert tab.run("nca.app.hex") == 1
    tab.key("r", "KeyR")
    assert tab.run("nca.app.steps") == 0
    tab.run("document.getElementById('world').focus()")
    tab.key("ArrowRight")
    tab.key("Enter")
    assert tab.complaints() == []
    tab.close()


def test_a_phone_shows_all_of_it_and_is_touched(browser: Browser, two: Path) -> None:
    tab = opened(
        browser, two, "engine=webgl&paused=1&size=48x96&steps=80", size=(360, 720), phone=True
    )
    sides = tab.run(
        "[...document.querySelectorAll('.bar button:not([hidden]), #plate')].map((e) => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.right, b.width, b.height]; })"
    )
    for left, right, width, height in sides:
        assert 0 <= left < right <= 360
        assert min(width, height) >= 40
    before = state_of(tab, 3)
    for kind, points in (("touchStart", [{"x": 180, "y": 360}]), ("touchEnd", [])):
        tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert np.abs(state_of(tab, 3) - before).max() > 0.05
    zoom = tab.run("nca.app.view.pixel")
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", 0)):
        points = [{"x": 180 - apart, "y": 300, "id": 0}, {"x": 180 + apart, "y": 300, "id": 1}]
        tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=points if apart else [])
    assert tab.run("nca.app.view.pixel") < 0.6 * zoom
    tab.close()


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_rounded_weights_arrive_as_they_were_rounded(
    browser: Browser, tmp_path: Path, weights: str
) -> None:
    model = rounded(Trained(name="x", automaton=ZOO["limits"]), weights)
    file = tmp_path / "x.html"
    file.write_bytes(HtmlExporter().files([model])[""])
    tab = opened(browser, file, "engine=webgl&paused=1&size=16x12", size=(400, 300))
    automaton = model.automaton
    expected = automaton.grow(automaton.seed(1, (12, 16)), 8, seed=0, kernel="reference")
    np.testing.assert_allclose(state_of(tab, 9, "nca.step(8)"), expected[0], atol=TOLERANCE)
    tab.close()


def test_pages_hold_what_names_say(tmp_path: Path) -> None:
    model = Trained(name="</script><b>{{models}}", automaton=fading(0, 0, 0), source="<i>&")
    text = page([model])
    assert "</script><b>" not in text
    content = text.split('id="models">')[1].split("</script>")[0]
    (about,) = json.loads(content)
    assert about["name"] == model.name
    icon = base64.b64decode(about["thumbnail"].split(",")[1])
    assert Image.open(io.BytesIO(icon)).size == (64, 64)
    with pytest.raises(ValueError, match="holds 32 models"):
        page([model] * 33)


def test_what_a_page_cannot_step_is_refused() -> None:
    large = Trained(name="large", automaton=CellularAutomaton(channels=130, hidden=4))
    assert HtmlExporter().reasons(large) == ["it has 130 channels, more than 128"]
    norm = Trained(name="norm", automaton=CellularAutomaton(hidden=4, bank="isotropic"))
    assert HtmlExporter().reasons(norm) == ["its percepts are combined by norm"]


def test_the_command_writes_a_page_of_all_runs_in_a_folder(command, tmp_path: Path) -> None:
    for name in ("moss", "bark"):
        save(tmp_path / "runs" / name / "model.safetensors", Recipe().build_automaton(), Recipe())
    done = command(["export", "runs", "--to", "html", "-o", "all.html"], tmp_path)
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "all.html").read_text().split('id="models">')[1].split("</script>")[0]
    assert [model["name"] for model in json.loads(content)] == ["bark", "moss"]


def test_a_gallery_links_to_pages_that_are_there(command, browser: Browser, tmp_path: Path) -> None:
    for name in ("moss", "index"):
        save(tmp_path / "runs" / name / "model.safetensors", Recipe().build_automaton(), Recipe())
    done = command(["export", "runs", "--to", "gallery", "-o", "gallery", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    files = {Path(name).relative_to("gallery") for name in json.loads(done.stdout)["files"]}
    names = ("index", "moss", "index-2", "together")
    assert files >= {Path(f"{name}.html") for name in names}
    tab = browser.tab((tmp_path / "gallery" / "index.html").as_uri(), size=(400, 600))
    tab.wait("document.readyState === 'complete'")
    links = tab.run("[...document.links].map((link) => link.getAttribute('href'))")
    pictures = tab.run("[...document.images].map((image) => image.getAttribute('src'))")
    assert set(map(Path, links + pictures)) == files - {Path("index.html")}
    assert tab.run("[...document.images].every((image) => image.alt)")
    assert tab.complaints() == []
    tab.close()
    again = command(["export", "runs", "--to", "gallery", "-o", "gallery"], tmp_path)
    assert again.returncode == 1
    assert "pass --force" in again.stderr
