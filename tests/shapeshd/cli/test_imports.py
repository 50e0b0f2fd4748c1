"""What commands do not import: a refusal needs no network library, a table no figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LEADERBOARD = Path(__file__).parents[3] / "benchmark" / "results" / "leaderboard"
HEAVY = ("torch", "torchvision", "scipy.stats", "matplotlib", "pandas", "h5py", "jinja2")


def run_and_list(arguments: Sequence[str], folder: Path) -> tuple[int, str, list[str]]:
    """Run a command in a process of its own; return status, stderr, and what it imported."""
    script = (
        "import json, sys\nfrom shapeshd.cli.main import main\nstatus = 0\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    status = stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('\\n' + json.dumps([status, found]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, found = json.loads(done.stdout.splitlines()[-1])
    return status, done.stderr, found


def test_compare_imports_neither_figures_nor_torch(tmp_path: Path) -> None:
    status, _, found = run_and_list(["compare", str(LEADERBOARD)], tmp_path)
    assert status == 0
    assert found == []


def test_scoring_does_not_import_torchvision() -> None:
    code = (
        "import sys, shapeshd.cli.score_run\n"
        "assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
