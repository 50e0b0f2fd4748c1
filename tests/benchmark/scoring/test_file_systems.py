"""Scores on file systems that lack locks, flushes or access rights."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.support import file_system
from shapeshd.support.atomic_files import publish, replace_file
from tests.shapeshd.support.test_file_system import refusing
from tests.support.fake_scores import ReadsWritten, Written


@pytest.mark.usefixtures("no_page")
def test_a_score_on_a_file_system_that_lacks_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(file_system, "_warned", set())
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOSYS))
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    monkeypatch.setattr(Path, "chmod", refusing(errno.EPERM))
    out, settings = tmp_path / "out", ScoreSettings(samples=5_761)
    result = score_source(Written(), ReadsWritten(), out, settings)
    assert result is not None
    assert score_source(Written(), ReadsWritten(), out, settings) == result
    warnings = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 2  # of locks and of flushes, once each
    replace_file(tmp_path / "file", lambda path: path.write_text("x"))
    publish(tmp_path / "folder", Path.mkdir)
    assert (tmp_path / "file").read_text() == "x" and (tmp_path / "folder").is_dir()
