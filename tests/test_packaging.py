"""What a user installs is what is in the checkout."""

import importlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = SETTINGS["project"], SETTINGS["tool"]["setuptools"]

FOLDERS = {"nca_texture": "nca_texture", "losses": "nca_texture/losses"}
FOLDERS |= {"targets": "nca_texture/targets"}
DATA = {"py.typed", "compact.safetensors"}
ASSETS = {".css", ".html", ".js"}  # of exported pages


def installed() -> dict[str, Path]:
    """Map each file that has to be installed, by its path in the wheel, to its place here."""
    found = {}
    for folder, place in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT / folder)
            linked = folder == "nca_texture" and inside.parts[0] in ("losses", "targets")
            wanted = path.suffix == ".py" or path.suffix in ASSETS or path.name in DATA
            if wanted and not linked:
                found[f"{place}/{inside.as_posix()}"] = path
    return found


def test_every_folder_with_code_is_declared() -> None:
    folders = {Path(name).parent.as_posix().replace("/", ".") for name in installed()}
    assert sorted(folders) == sorted(SETUPTOOLS["packages"])


def test_every_declared_folder_has_an_init() -> None:
    names = installed()
    for package in SETUPTOOLS["packages"]:
        assert f"{package.replace('.', '/')}/__init__.py" in names


def test_data_files_are_declared() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = ROOT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: nothing is called {pattern}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy of the sources, and the wheel from the sdist."""
    source = tmp_path_factory.mktemp("source")
    out = tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source / name)
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "_cpu.*")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    call = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(call, cwd=out, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


@pytest.mark.slow
def test_the_wheel_holds_every_file_as_it_is(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    expected = installed()
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        compiled = names - set(expected)
        assert names - compiled == set(expected)
        stems = {Path(name).name.partition(".")[0] for name in compiled}
        assert stems <= {"_cpu"}
        assert stems or not shutil.which("cc"), "there is a C compiler, but nothing was compiled"
        for name, path in expected.items():
            assert archive.read(name) == path.read_bytes(), name


@pytest.mark.slow
def test_the_sdist_holds_every_file_as_it_is(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        top = sdist.name.removesuffix(".tar.gz")
        for path in installed().values():
            inside = path.relative_to(ROOT).as_posix()
            file = archive.extractfile(f"{top}/{inside}")
            assert file is not None, inside
            assert file.read() == path.read_bytes(), inside
        sources = [
            path.relative_to(ROOT).as_posix() for path in (ROOT / "nca_texture").rglob("*.[ch]")
        ]
        assert sources
        for name in (PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", *sources):
            assert f"{top}/{name}" in archive.getnames()


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import nca_texture, nca_texture.recipe, nca_texture.cli\n"
        "from nca_texture.losses import LOSSES, pick_loss_class\n"
        "from nca_texture.targets import SAMPLES\n"
        "assert all(map(pick_loss_class, LOSSES)) and SAMPLES\n"
        "print(nca_texture.__version__, nca_texture.losses.__file__)"
    )
    call = [sys.executable, "-c", code]
    result = subprocess.run(
        call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    version, place = result.stdout.split()
    assert version == PROJECT["version"]
    assert (tmp_path / place).resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("name", ["losses", "targets"])
def test_the_folders_beside_the_package_cannot_be_imported_by_their_own_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(ImportError, match=f"import nca_texture.{name}, not {name}"):
        importlib.import_module(name)


@pytest.mark.parametrize("name", ["losses", "targets"])
def test_links_show_editors_the_installed_view(name: str) -> None:
    link = ROOT / "nca_texture" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
