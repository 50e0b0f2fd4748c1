"""What the tests of scores share."""

from __future__ import annotations

import pytest

from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.scoring import score


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores leave out their page, which takes seconds to draw and has tests of its own."""
    monkeypatch.setattr(score, "write_report", lambda result, out: out / REPORT)
