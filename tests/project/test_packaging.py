"""The wheel and the editable install hold what the program needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

TEMPLATES = sorted(
    path.name for path in (ROOT / "povray_templates").iterdir() if path.suffix in (".pov", ".inc")
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_template(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert len(TEMPLATES) >= 7
    for template in TEMPLATES:
        assert f"shapeshd/povray_templates/{template}" in names
    for module in (ROOT / "shapeshd").rglob("*.py"):
        assert str(module.relative_to(ROOT)) in names
    for folder in ("benchmark", "models"):
        for module in (ROOT / folder).rglob("*.py"):
            assert f"shapeshd/{module.relative_to(ROOT)}" in names
    configs = list((ROOT / "models" / "configs").rglob("*.toml"))
    assert len(configs) >= 13
    for config in configs:
        assert f"shapeshd/{config.relative_to(ROOT)}" in names
    assert "shapeshd/py.typed" in names


def test_the_wheel_installs_no_other_top_level_name(wheel: Path) -> None:
    """A global `models` or `benchmark` would hide the packages of the generators' authors."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"shapeshd"}


def test_the_wheel_renders(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    script = (
        "import shapeshd, shapeshd.povray_templates as t\n"
        f"assert shapeshd.__file__.startswith({str(target)!r}), shapeshd.__file__\n"
        f"assert t.__file__.startswith({str(target)!r}), t.__file__\n"
        "print(shapeshd.render_images([[0, 0.3, 0.6, 1.5, 2, 10]], 8).mean())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 20 < float(done.stdout) < 235


@pytest.mark.parametrize("folder", ["povray_templates", "benchmark", "models"])
def test_the_editable_install_finds_the_mapped_folders(folder: str) -> None:
    """The folders stand at the top of the repository under another import name."""
    script = f"import shapeshd.{folder} as t; print(t.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parent == ROOT / folder


def test_the_benchmark_hands_on_its_names_and_imports_little() -> None:
    code = (
        "import sys, shapeshd.benchmark as b; assert 'torch' not in sys.modules; "
        "assert all(hasattr(b, name) for name in b.__all__); "
        "from shapeshd.benchmark import score; assert callable(score), score"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
