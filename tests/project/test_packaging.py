"""Wheel, sdist and editable install hold what the program needs, and nothing global but it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import shapeshd.benchmark
from tests import ROOT
from tests.support.imports import MODULES
from tests.support.installs import build, copy_checkout, install, run_outside

TEMPLATES = sorted(
    path.name for path in (ROOT / "povray_templates").iterdir() if path.suffix in (".pov", ".inc")
)
WEIGHTS = sorted((ROOT / "benchmark" / "recognizer" / "weights").iterdir())
STATISTICS = sorted((ROOT / "benchmark" / "fidelity" / "shipped").iterdir())
MODELS = sorted((ROOT / "models" / "weights").rglob("*.safetensors"))
CONFIGS = sorted((ROOT / "models" / "configs").rglob("*.toml"))
PAGES = sorted((ROOT / "benchmark" / "report" / "templates").iterdir())

PACKED = [*WEIGHTS, *STATISTICS, *MODELS, *CONFIGS, *PAGES]


def expected_files() -> set[str]:
    """Return what an installation must hold, as paths below site-packages."""
    modules = {
        name.replace(".", "/") + ("/__init__.py" if file.name == "__init__.py" else ".py")
        for name, file in MODULES.items()
    }
    stubs = {
        name.replace(".", "/") + "/__init__.pyi"
        for name, file in MODULES.items()
        if file.with_suffix(".pyi").exists()
    }
    data = {f"shapeshd/{file.relative_to(ROOT)}" for file in PACKED}
    templates = {f"shapeshd/povray_templates/{name}" for name in TEMPLATES}
    return modules | stubs | data | templates | {"shapeshd/py.typed"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", project, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", project, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def sdist_wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the sdist alone."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked)
    (folder,) = unpacked.iterdir()
    return build("wheel", folder, tmp_path_factory.mktemp("sdist-wheel"))


@pytest.fixture(scope="module", params=["wheel", "sdist_wheel"])
def built(request: pytest.FixtureRequest) -> Path:
    """A wheel, built from the checkout or from the sdist."""
    found: Path = request.getfixturevalue(request.param)
    return found


def test_what_must_be_packed_is_there() -> None:
    assert len(TEMPLATES) >= 7
    assert len(CONFIGS) >= 13
    assert {file.suffix for file in WEIGHTS} >= {".safetensors"}
    assert len(PAGES) >= 3
    assert len(MODELS) >= 4
    assert [file.name for file in STATISTICS] == ["hd-256.safetensors", "lite-64.safetensors"]


def test_a_wheel_holds_every_file_once_and_no_other_module(built: Path) -> None:
    names = Counter(zipfile.ZipFile(built).namelist())
    assert set(names.values()) == {1}
    assert expected_files() <= set(names)
    assert {name for name in names if name.endswith(".py")} <= expected_files()


def test_a_wheel_installs_no_other_top_level_name(built: Path) -> None:
    """A global `models` or `benchmark` would hide the packages of the generators' authors."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(built).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shapeshd"}


def test_the_sdist_holds_every_file_once(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    assert all(member.isfile() for member in members)  # no link, which few unpack alike
    names = Counter(member.name.partition("/")[2] for member in members)
    assert set(names.values()) == {1}
    assert expected_files() <= set(names)
    modules = {name for name in names if name.endswith(".py") and not name.startswith("tests/")}
    assert modules <= expected_files()


def test_the_sdist_gives_the_same_wheel(wheel: Path, sdist_wheel: Path) -> None:
    ours, theirs = (
        {entry.filename: entry.CRC for entry in zipfile.ZipFile(built).infolist()}
        for built in (wheel, sdist_wheel)
    )
    assert ours == theirs


def test_a_wheel_renders_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "environment")
    code = (
        "import shapeshd, shapeshd.povray_templates as templates, shapeshd.benchmark.recognizer\n"
        "from shapeshd.benchmark import load_recognizer\n"
        "from importlib.util import find_spec\n"
        "for module in (shapeshd, templates, shapeshd.benchmark.recognizer):\n"
        f"    assert module.__file__.startswith({str(tmp_path)!r}), module.__file__\n"
        "assert find_spec('benchmark') is None and find_spec('models') is None\n"
        "from shapeshd.benchmark.fidelity.real_statistics import load_real_statistics\n"
        "lite = load_recognizer('lite', 'cpu')\n"
        "assert load_real_statistics(lite, lite.size).card.images == 10_000\n"
        "with shapeshd.benchmark.open_source('model:mini/vae') as source:\n"
        "    assert source.images(0, 2).shape == (2, 3, 32, 32)\n"
        "print(shapeshd.render_images([[0, 0.3, 0.6, 1.5, 2, 10]], 8).mean())\n"
    )
    assert 20 < float(run_outside(python, code, tmp_path)) < 235


def test_an_editable_install_finds_every_folder(project: Path, tmp_path: Path) -> None:
    editable = build("editable", project, tmp_path / "editable")
    python = install(editable, tmp_path / "environment")
    for folder in ("povray_templates", "benchmark", "models"):
        code = (
            "from importlib.util import find_spec\n"
            f"assert find_spec({folder!r}) is None\n"
            f"import shapeshd.{folder} as found; print(found.__file__)"
        )
        found = Path(run_outside(python, code, tmp_path).strip())
        assert found.parent.resolve() == (project / folder).resolve()


def test_the_benchmark_hands_on_its_names_and_imports_little() -> None:
    code = "import sys, shapeshd.benchmark; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(hasattr(shapeshd.benchmark, name) for name in vars(shapeshd.benchmark)["__all__"])
    assert callable(shapeshd.benchmark.score)  # and not the module of that name
