"""The recorded simulation of the statistic's levels: every promise is kept in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.experiments.truth import levels

RECORDED: dict[str, list[dict[str, Any]]] = json.loads(levels.OUT.read_text())
AT_LEAST = 300  # runs


def within(share: dict[str, Any], low: float, high: float) -> bool:
    """Whether a share agrees with an interval: its own 95% interval meets it."""
    assert share["runs"] >= AT_LEAST
    return bool(share["high"] >= low and share["low"] <= high)


def test_it_is_whole() -> None:
    found = {section: len(rows) for section, rows in RECORDED.items()}
    assert found == {
        "ideal": 3,
        "interval": len(levels.SPIKES),
        "rare": 2 * len(levels.RARE),
        "collapsed": len(levels.COLLAPSED),
        "triple": len(levels.TRIPLES),
        "limit": len(levels.LIMITS),
        "copies": 2,
    }


def test_an_ideal_source_fails_in_five_percent_at_most() -> None:
    for row in RECORDED["ideal"]:
        assert within(row["fails"], 0.0, 0.05)
        assert within(row["fails_by_divergence"], 0.0, 0.025)
        assert within(row["fails_by_a_part"], 0.0, 0.025)


@pytest.mark.parametrize(("section", "low"), [("interval", 0.94), ("rare", 0.94)])
def test_the_interval_holds_the_truth(section: str, low: float) -> None:
    for row in RECORDED[section]:
        assert within(row["held"], low, 1.0)
        assert row["held"]["share"] >= low - 0.01


def test_independent_factors_are_named_alone() -> None:
    for row in RECORDED["collapsed"]:
        assert within(row["sets_accused"], 0.0, 0.025)
        assert row["factors_named"]["share"] == 1


def test_three_factors_are_named_where_no_pair_shows_it() -> None:
    for row in RECORDED["triple"]:
        assert row["named"]["share"] >= 0.99
        assert within(row["others_named"], 0.0, 0.025)


def test_the_detection_limit_is_found_in_four_of_five_runs() -> None:
    for row in RECORDED["limit"]:
        assert within(row["fails"], 0.78, 0.82)
        assert row["limit"] > row["margin"]


def test_near_copies_are_not_named_where_nothing_is_repeated() -> None:
    for row in RECORDED["copies"]:
        assert row["near_copies_named"]["runs"] >= 200
        assert row["near_copies_named"]["high"] <= 0.02


def test_a_section_can_be_run_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "levels.json"
    arguments = ["levels", "--sections", "triple", "--slow-runs", "2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    levels.main()
    (first, *_) = json.loads(out.read_text())["triple"]
    assert first["named"] == levels.share(2, 2)
