"""Notes and warnings go to a logger that a program can silence, redirect or set up itself."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from shapeshd.support.progress import LOGGER, note, warn


def test_notes_are_written_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("100% of it")
    warn("not {that}")
    captured = capsys.readouterr()
    assert captured.err == "100% of it\nnot {that}\n"
    assert captured.out == ""


def test_the_level_silences_them(capsys: pytest.CaptureFixture[str]) -> None:
    level = LOGGER.level
    try:
        LOGGER.setLevel(logging.WARNING)
        note("a note")
        warn("a warning")
        assert capsys.readouterr().err == "a warning\n"
        LOGGER.setLevel(logging.ERROR)
        warn("a warning")
        assert capsys.readouterr().err == ""
    finally:
        LOGGER.setLevel(level)


def test_they_are_records_of_the_logger_shapeshd() -> None:
    seen: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Keeping()
    logging.getLogger("shapeshd").addHandler(handler)
    try:
        note("a note")
        warn("a warning")
    finally:
        logging.getLogger("shapeshd").removeHandler(handler)
    assert [(one.levelname, one.getMessage()) for one in seen] == [
        ("INFO", "a note"), ("WARNING", "a warning"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "written"),
    [
        ("", "a note\na warning\n"),
        ("logging.getLogger('shapeshd').setLevel(logging.ERROR)", ""),
        (
            "logging.getLogger('shapeshd').addHandler(logging.FileHandler('/dev/stdout'))",
            "",
        ),
        ("logging.basicConfig()", "a note\na warning\n"),
    ],
)
def test_what_a_program_has_set_up_stays(before: str, written: str) -> None:
    code = (
        f"import logging\n{before}\nfrom shapeshd.support.progress import note, warn\n"
        "note('a note')\nwarn('a warning')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == written
