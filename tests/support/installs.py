"""Builds of the checkout, and environments that hold one of them and what it depends on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from tests import ROOT


def copy_checkout(to: Path) -> Path:
    """Copy the files that git tracks or would track, links as links, to a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)
    return to


def build(kind: str, project: Path, out: Path) -> Path:
    """Build "wheel", "sdist" or "editable" of a project's folder; return the file.

    Nothing is downloaded: what a build needs is what this environment has.
    """
    out.mkdir(parents=True, exist_ok=True)
    script = f"import setuptools.build_meta as b; b.build_{kind}({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


def install(wheel: Path, folder: Path, *, dependencies: bool = True) -> Path:
    """Make an environment that holds a wheel; return its Python.

    Args:
        wheel: it may also be that of an editable install.
        folder: of the environment.
        dependencies: whether what this session has installed can be imported there.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    zipfile.ZipFile(wheel).extractall(packages)
    if dependencies:
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return python


def run_outside(python: Path, code: str, folder: Path) -> str:
    """Run code by another Python, in a folder, without this session's paths; return its stdout."""
    done = subprocess.run(
        [python, "-c", code], cwd=folder, env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
