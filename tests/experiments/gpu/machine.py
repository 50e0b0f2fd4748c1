"""What the machine is and what it lacks: python -m tests.experiments.gpu.machine cuda

Nothing is imported here before it is known to be there, so that what is missing is one line.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import ROOT

_PACKAGES = {
    "click": "click", "h5py": "h5py", "jinja2": "jinja2", "joblib": "joblib",
    "lazy_loader": "lazy-loader", "matplotlib": "matplotlib", "numpy": "numpy",
    "pandas": "pandas", "PIL": "pillow", "pydantic": "pydantic", "safetensors": "safetensors",
    "scipy": "scipy", "torch": "torch", "torchvision": "torchvision", "tqdm": "tqdm",
    "typing_extensions": "typing-extensions", "vapory": "vapory",
}  # fmt: skip
_FOR_TESTS = ("pytest", "hypothesis", "psutil", "pytest_timeout")
_SOURCES = ("shapeshd", "benchmark", "models", "povray_templates", "tests")


def missing_packages() -> list[str]:
    """Return the packages that nothing runs without, as they are installed."""
    return [package for name, package in _PACKAGES.items() if not _is_there(name)]


def missing_for_tests() -> list[str]:
    """Return the packages that pytest's files need beside."""
    return [name.replace("_", "-") for name in _FOR_TESTS if not _is_there(name)]


def povray_is_there() -> bool:
    """Tell whether POV-Ray can be started."""
    return shutil.which(os.environ.get("SHAPESHD_POVRAY") or "povray") is not None


def commit() -> str:
    """Return the checkout's commit; "unknown" where there is no git or no history."""
    found = _git("rev-parse", "HEAD")
    if not found:
        return "unknown"
    return found + (" with changes" if _git("status", "--porcelain") else "")


def sources_sha256() -> str:
    """Return a digest of the program's files, which is there where the commit is not."""
    digest = hashlib.sha256()
    for room in _SOURCES:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".py", ".toml", ".inc", ".pov", ".safetensors") and path.is_file():
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def describe(name: str) -> dict[str, Any]:
    """Return what the machine and a device of it are.

    Raises:
        UsageError: if PyTorch cannot compute on the device.
        ImportError: if a package is there and cannot be loaded.
    """
    import pydantic  # noqa: F401  # its compiled part may be that of another Python
    import torch

    from shapeshd.benchmark.recognizer.precision import computes_bf16
    from shapeshd.support.device import usable_device

    device = usable_device(name)
    found: dict[str, Any] = {
        "device": device.type,
        "name": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bf16": computes_bf16(device),
    }
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        found |= {
            "name": known.name,
            "memory_bytes": known.total_memory,
            "capability": f"{known.major}.{known.minor}",
            "cuda": torch.version.cuda,
        }
    return found


if __name__ == "__main__":
    from shapeshd.errors import ShapesHDError

    try:
        print(json.dumps(describe(sys.argv[1])))
    except ShapesHDError as error:
        sys.exit(str(error))
    except ImportError as error:
        sys.exit(f"{error}: is that package there for Python {platform.python_version()}?")
