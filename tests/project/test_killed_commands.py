"""Commands that write, killed at any moment and run again, leaves what a whole run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT
from tests.support.killed_commands import COMMANDS


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("killed")
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_commands", str(folder)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2_000:]
    problems: dict[str, list[str]] = json.loads(run.stdout.splitlines()[-1])
    return problems


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_nothing_and_can_be_run_again(
    name: str, found: dict[str, list[str]]
) -> None:
    assert found[name] == []
