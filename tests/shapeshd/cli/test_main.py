"""The face of the program: help, lazy imports, exit statuses, tracebacks only on demand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shapeshd
from shapeshd.cli import main as cli
from shapeshd.errors import ShapesHDError
from shapeshd.render import plan_render
from shapeshd.scene import UniformSampling

Run = Callable[..., tuple[int, str, str]]
COMMANDS = ["render", "verify", "info", "preview", "export"]


def test_help_lists_the_commands(run: Run) -> None:
    status, stdout, _ = run("--help")
    assert status == 0
    for command in COMMANDS:
        assert f"  {command} " in stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["render", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom shapeshd.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'h5py', 'numpy', 'pandas', 'joblib', 'scipy', 'vapory', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_rendering_does_not_import_torch() -> None:
    script = (
        "import sys, shapeshd.dataset, shapeshd.render, shapeshd.scene, shapeshd.verify\n"
        "from shapeshd.dataset import describe_dataset, load_manifest\n"
        "from shapeshd.render import plan_render, run_render\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_mistyped_command_is_told_what_it_is_like(run: Run) -> None:
    status, _, stderr = run("scroe", "x.npy")
    assert status == 2
    assert "score" in stderr
    assert "Did you mean" not in run("zzzzzz")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(run: Run, command: str) -> None:
    status, stdout, _ = run(command, "--help")
    assert status == 0
    assert "--json" in stdout


def test_python_m_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shapeshd", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == shapeshd.__version__


def test_all_public_names_are_there() -> None:
    for name in shapeshd.__all__:
        assert getattr(shapeshd, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = shapeshd.nonsense


@pytest.mark.parametrize("arguments", [["--version"], ["render", "out"]])
def test_windows_is_refused_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.delattr(os, "pread")
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (1, "")
    assert "Windows" in stderr and "WSL" in stderr and len(stderr.splitlines()) == 1


def test_reading_and_rendering_are_refused_on_windows(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")
    with pytest.raises(ShapesHDError, match="Windows"):
        shapeshd.ShapesHD(rendered)
    with pytest.raises(ShapesHDError, match="Windows"):
        plan_render(tmp_path / "out", UniformSampling())


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["render"], ["info"]])
def test_wrong_usage_is_status_2(run: Run, arguments: list[str]) -> None:
    status, stdout, stderr = run(*arguments)
    assert (status, stdout) == (2, "")
    assert "Error:" in stderr
    assert "Traceback" not in stderr


def test_a_fault_of_ours_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by\nsurprise")

    monkeypatch.setattr(cli.cli, "main", fail)
    status, _, stderr = run("info", "x")
    assert status == 1
    assert stderr.startswith("shapeshd: error: internal error: ZeroDivisionError: by surprise")
    assert len(stderr.splitlines()) == 1


def test_a_name_with_a_line_feed_is_one_line(run: Run) -> None:
    status, _, stderr = run("recognizer", "info", "lite\nx")
    assert status == 2
    assert len(stderr.splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """Before or after the command's name."""
    for arguments in (["--debug", "info", "none"], ["info", "none", "--debug"]):
        done = subprocess.run(
            [sys.executable, "-m", "shapeshd", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert "Traceback" in done.stderr


def test_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, stdout, _ = run("render", out, "--count", 90, "--size", 16, "--dry-run", "--json")
    plan = json.loads(stdout)
    assert status == 0
    assert (plan["images"], plan["images_missing"], plan["shards"]) == (90, 90, [0, 1])
    assert plan["estimated_bytes"] > 1000
    assert not out.exists()


def test_results_go_to_stdout_and_progress_to_stderr(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["render", out, "--count", 6, "--size", 16, "--backend", "threading", "--json"]
    status, stdout, stderr = run(*arguments)
    result = json.loads(stdout)
    assert status == 0
    assert result["rendered"] == result["available"] == 6
    assert result["complete"] is True
    assert result["bytes"] == sum(path.stat().st_size for path in (out / "shards").iterdir())
    assert "img/s" in stderr
    assert "6 images of 16x16" in stderr


def test_a_closed_pipe_is_no_error(rendered: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "shapeshd", "info", str(rendered)],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


def test_a_dry_run_counts_what_is_missing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["render", out, "--size", 8, "--shard-size", 4, "--backend", "threading", "--json"]
    assert run(*arguments, "--count", 6)[0] == 0
    _, stdout, _ = run(*arguments, "--count", 11, "--dry-run")
    assert json.loads(stdout)["images_missing"] == 5
