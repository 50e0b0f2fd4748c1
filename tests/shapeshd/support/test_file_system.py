"""File systems that lack locks, flushes, access rights or renaming, as Lustre and CIFS do."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shapeshd.errors import ShapesHDError
from shapeshd.support import file_system
from shapeshd.support.file_system import FileLock, flush, rename, set_mode

NOT_OFFERED = [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL]
HOLD = """
import sys, time
from pathlib import Path
from shapeshd.support.file_system import FileLock
assert FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""

FORK = """
import os, sys, time
from pathlib import Path
from shapeshd.support.file_system import FileLock
lock = FileLock(Path(sys.argv[1]))
assert lock.acquire()
if child := os.fork():
    print(child, flush=True)
time.sleep(600)
"""


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(autouse=True)
def _warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "_warned", set())


def test_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire()
    assert not other.acquire()
    one.release()
    assert other.acquire(sure=True)
    other.release()
    other.release()


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        ours = FileLock(tmp_path / "lock")
        assert not ours.acquire()
        process.kill()
        process.wait()
    assert ours.acquire()
    ours.release()


def test_what_a_killed_process_has_forked_does_not_hold_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tmp_path / "lock")]
    ours = FileLock(tmp_path / "lock")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            time.sleep(0.1)  # the child has begun
            assert not ours.acquire()
            process.kill()
            process.wait()
            os.kill(child, 0)
            assert ours.acquire()
            ours.release()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_file_that_its_owner_removes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, locked = tmp_path / "lock", fcntl.flock

    def remove_first(descriptor: int, how: int) -> None:
        locked(descriptor, how)
        monkeypatch.setattr(fcntl, "flock", locked)
        path.unlink()  # by its last owner, between the opening and the locking

    monkeypatch.setattr(fcntl, "flock", remove_first)
    ours = FileLock(path)
    assert ours.acquire()
    assert not FileLock(path).acquire()


@pytest.mark.parametrize("number", [*NOT_OFFERED, errno.ENOLCK])
def test_without_locks_all_go_on_with_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert not one.acquire(sure=True)
    assert capfd.readouterr().err == ""
    assert one.acquire() and other.acquire()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}: its file system has no locks")


def test_other_errors_of_locks_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        FileLock(tmp_path / "lock").acquire()


def test_what_cannot_be_flushed_really(capfd: pytest.CaptureFixture[str]) -> None:
    flush(Path("/dev/null"))  # fsync says EINVAL of a device
    flush(Path("/dev/null"))
    (line,) = capfd.readouterr().err.splitlines()
    assert "/dev: its file system cannot be told to write at once (invalid argument)" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_flush_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        flush(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="not Linux")
def test_access_rights_that_cannot_be_set_really() -> None:
    with pytest.raises(PermissionError):
        Path("/proc/self/comm").chmod(0o600)
    set_mode(Path("/proc/self/comm"), 0o600)


def test_a_rename_that_is_not_offered_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_text("x")
    for number in (*NOT_OFFERED, errno.EXDEV, errno.EPERM):
        monkeypatch.setattr(Path, "replace", refusing(number))
        with pytest.raises(ShapesHDError, match="folder of another") as caught:
            rename(tmp_path / "old", tmp_path / "new")
        assert str(tmp_path / "new") in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(Path, "replace", refusing(errno.EACCES))
    with pytest.raises(PermissionError):
        rename(tmp_path / "old", tmp_path / "new")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system")
def test_a_rename_across_file_systems_really(tmp_path: Path) -> None:
    target = Path("/dev/shm") / f"shapeshd-{time.time_ns()}"
    if tmp_path.stat().st_dev == target.parent.stat().st_dev:
        pytest.skip("one file system")
    (tmp_path / "old").write_text("x")
    with pytest.raises(ShapesHDError, match="cross-device"):
        rename(tmp_path / "old", target)
