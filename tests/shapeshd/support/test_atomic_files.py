"""Files that appear whole, and what is left of processes that were killed while they wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shapeshd.errors import UsageError
from shapeshd.support import atomic_files
from shapeshd.support.atomic_files import publish, replace_file

WRITER = """
import sys, time
from pathlib import Path
from shapeshd.support.atomic_files import publish, replace_file

def write(path):
    path.mkdir() if sys.argv[2] == "publish" else None
    target = path / "part" if sys.argv[2] == "publish" else path
    target.write_text("half")
    print("writing", flush=True)
    time.sleep(600)

{"publish": publish, "replace": replace_file}[sys.argv[2]](Path(sys.argv[1]), write)
"""


def writing(path: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def write_whole(path: Path) -> None:
    path.write_text("whole")


@pytest.fixture(autouse=True)
def _another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_files, "_swept", set())


@pytest.mark.parametrize("how", ["publish", "replace"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, how: str) -> None:
    killed, alive = writing(tmp_path / "x", how), writing(tmp_path / "y", how)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(hidden(tmp_path)) == 2
        (kept,) = [name for name in hidden(tmp_path) if name.startswith(".y-")]
        replace_file(tmp_path / "z", write_whole)
        assert hidden(tmp_path) == [kept]  # its writer lives
    finally:
        for process in (killed, alive):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    atomic_files._swept.clear()
    publish(tmp_path / "w", write_whole)
    assert sorted(os.listdir(tmp_path)) == ["w", "z"]  # noqa: PTH208


def test_of_another_machine_only_what_is_old_is_removed(tmp_path: Path) -> None:
    fresh, old = (tmp_path / f".x-aside-{'0' * 8}-{n * 12}" for n in "ab")
    others = [tmp_path / ".x-aside-mine", tmp_path / ".hidden"]
    for path in (fresh, old, *others):
        path.mkdir()
    os.utime(old, (0, 0))
    replace_file(tmp_path / "x", write_whole)
    assert not old.exists()
    assert all(path.exists() for path in (fresh, *others))


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("full")

    for put in (publish, replace_file):
        with pytest.raises(OSError, match="full"):
            put(tmp_path / "x", fail)
        assert not list(tmp_path.iterdir())
    (tmp_path / "x").write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        publish(tmp_path / "x", write_whole)
    replace_file(tmp_path / "x", write_whole)
    assert (tmp_path / "x").read_text() == "whole"
    assert hidden(tmp_path) == []


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    replace_file(tmp_path / ("n" * 250), write_whole)
    assert (tmp_path / ("n" * 250)).read_text() == "whole"


def test_what_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match=f"cannot be made: {file} is no folder"):
        publish(file / "deep" / "out", lambda _: pytest.fail("it was begun"))
    assert not (tmp_path / "deep").exists()


def test_a_folder_that_may_not_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that is mounted read-only; the superuser may write everywhere else."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match=f"{tmp_path} may not be written to"):
        publish(tmp_path / "deep" / "out", lambda _: pytest.fail("it was begun"))
