"""Standard streams that are closed, cut off, or cannot hold a sign."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shapeshd

PROGRAM = "from shapeshd.cli.main import main; main()"


def shell(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in which ``$RUN`` is shapeshd."""
    command = f'RUN() {{ "{sys.executable}" -c "{PROGRAM}" "$@"; }}; {script}'
    return subprocess.run(
        ["bash", "-c", command, "bash", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    done = shell(f"RUN --version {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (shapeshd.__version__ in done.stdout) is ("1" not in closed and closed[0] != ">")


def test_an_error_keeps_its_status_without_streams() -> None:
    assert shell("RUN nothing >&- 2>&-").returncode == 2


def test_a_dataset_is_described_and_drawn_without_streams(traced: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    script = 'RUN info "$1" --json >&- 2>&- <&- && RUN preview "$1" "$2" >&- 2>&- <&-'
    assert shell(script, traced, out).returncode == 0
    assert out.read_bytes().endswith(b"IEND\xaeB`\x82")  # nothing was written into it


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys; from shapeshd.cli.main import _ready_streams; _ready_streams(); "
        "file = open(sys.argv[1], 'w'); os.write(1, b'x'); os.write(2, b'x'); print('y'); "
        "assert os.read(0, 1) == b'' and all(map(os.get_inheritable, range(3))); "
        "file.write(str(file.fileno()))"
    )
    script = f'"{sys.executable}" -c "{code}" "$1" >&- 2>&- <&-'
    assert shell(script, tmp_path / "file").returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_a_reader_that_has_gone_is_told_nothing() -> None:
    done = shell("set -o pipefail; RUN --help | true; exit ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.returncode in (0, 1)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_is_one_line(unbuffered: str) -> None:
    done = shell("RUN --version >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.startswith("shapeshd: error: no space left on device")
    assert done.stderr.count("\n") == 1


def test_signs_that_the_terminal_does_not_have_are_escaped() -> None:
    code = (
        "import sys; from shapeshd.cli.main import _ready_streams; _ready_streams(); "
        "print('\\u00b1 \\udcff')"
    )
    script = f"\"{sys.executable}\" -c '{code}'".replace("'\\u", '"\\u').replace("ff')", 'ff")')
    done = shell(script, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "\\xb1 \\udcff\n"), done.stderr
