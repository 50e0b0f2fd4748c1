"""What the tests of scores share."""

from __future__ import annotations

import pytest

from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.scoring import score


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores leave out their page, which takes seconds to draw and has tests of its own."""
    monkeypatch.setattr(score, "write_report", lambda result, out: out / REPORT)


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of scores have no figures, which take seconds; tests of the page look at them."""
    empty = dict.fromkeys(("wide", "narrow"), "data:image/svg+xml;base64,")
    monkeypatch.setattr("shapeshd.benchmark.report.sections.both_widths", lambda _: empty)
