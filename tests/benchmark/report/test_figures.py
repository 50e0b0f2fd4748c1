"""What figures say of an infinite divergence, and of distribution beside image fidelity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.report.figures.fidelity import fidelity_figure
from shapeshd.benchmark.report.figures.score import score_figure
from shapeshd.benchmark.report.figures.style import NARROW, WIDE
from shapeshd.benchmark.report.figures.sweep import sweep_figure, trade_figure
from shapeshd.benchmark.report.html import report_page
from shapeshd.benchmark.report.sweep import sweep_page
from shapeshd.benchmark.report.tables import score_rows, source_row
from shapeshd.benchmark.result.sweep import SweepRecord, build_sweep
from tests.support.html_check import Page
from tests.support.simulated_results import fidelity, simulated_result, write_result

OUTSIDE = {"samples": 2_000, "bins": 7, "share": 0.1, "explained": 0.0, "surely": 0.09,
           "wrong": True}  # fmt: skip
"""A tenth of the samples lies where the distribution has none; the others are perfect."""


def drawn(figure: Figure, marker: str, axes: int = 0) -> list[tuple[float, float]]:
    """Return where markers stand on the axes, as shares of its length and height."""
    found = figure.axes[axes]
    figure.canvas.draw()
    return [
        tuple(found.transAxes.inverted().transform(line.get_transform().transform(point)))
        for line in found.lines
        if line.get_marker() == marker
        for point in np.atleast_2d(line.get_xydata())
        if np.isfinite(point).all()
    ]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_an_infinite_value_stands_at_the_end_of_the_axis(width: float) -> None:
    rows = score_rows(simulated_result("unbiased", outside=OUTSIDE))
    assert (rows[0].value, rows[0].low, rows[0].high) == (np.inf, None, None)
    figure = score_figure(rows, width)
    ((x, _),) = drawn(figure, ">")
    assert x > 0.97
    points = drawn(figure, "o")
    assert len(points) == len(rows) - 1
    assert max(point[0] for point in points) < 0.97
    result = simulated_result("unbiased", outside=OUTSIDE, fidelity=fidelity())
    ((x, y),) = drawn(fidelity_figure(result, width), ">")
    assert x == pytest.approx(1) and 0 < y < 1
    assert len(drawn(fidelity_figure(result, width), "o")) == 1  # real images


def test_real_images_of_a_distribution_stand_where_they_are_read() -> None:
    read = {"name": "the distribution as it is read", "divergence": 0.1, "deviation": 0.1,
            "reduced_chi_square": 1.5}  # fmt: skip
    result = simulated_result("tilted", fidelity=fidelity(), references=[read])
    lines = {line.get_label(): line for line in fidelity_figure(result, WIDE).axes[0].lines}
    assert lines["real images"].get_xdata() == [1.5]


def test_a_comparison_draws_it_last(tmp_path: Path) -> None:
    found = compare([
        write_result(tmp_path / "a", "tilted", images=False),
        write_result(tmp_path / "b", "unbiased", images=False, outside=OUTSIDE),
    ])  # fmt: skip
    rows = found.rows()
    assert [row.infinite for row in rows if row.own] == [False, True]
    assert len(drawn(score_figure(rows, WIDE), ">")) == 1
    assert np.isfinite([reference["value"] for reference in found.to_json()["references"]]).all()


@pytest.mark.usefixtures("no_figures")
def test_the_key_numbers_have_no_interval_of_the_other_samples() -> None:
    finite = Page(report_page(simulated_result("unbiased"))).text
    text = Page(report_page(simulated_result("unbiased", outside=OUTSIDE))).text
    assert finite.count("95% interval 0") == 1 and finite.count("95% interval 1") == 1
    assert "95% interval 0" not in text and "95% interval 1" not in text
    assert text.count("infinite samples lie where the distribution has none") == 2


def sweep_of(*kinds: tuple[str, bool]) -> SweepRecord:
    """Return a sweep over kinds of sources, each with a finite or an infinite divergence."""
    return build_sweep("truncation", [
        (float(place), kind, simulated_result(
            kind, outside=OUTSIDE if infinite else None, fidelity=fidelity()))
        for place, (kind, infinite) in enumerate(kinds, 1)
    ])  # fmt: skip


@pytest.mark.parametrize("draw", [sweep_figure, trade_figure])
def test_no_sweep_draws_an_infinite_divergence_as_a_finite_one(
    draw: Callable[[SweepRecord, float], Figure],
) -> None:
    sweep = sweep_of(("unbiased", True), ("tilted", False), ("coupled", False), ("full", True))
    figure = draw(sweep, WIDE)
    along, marker = (1, "^") if draw is sweep_figure else (0, ">")
    assert [point[along] for point in drawn(figure, marker)] == pytest.approx([1, 1])
    points = drawn(figure, "o")
    assert len(points) == 2  # also of the line, which ends where D is infinite
    assert max(point[along] for point in points) < 0.99
    assert drawn(draw(sweep_of(("unbiased", True), ("full", True)), NARROW), "o") == []


def test_a_sweep_explains_its_triangles() -> None:
    infinite = sweep_page(sweep_of(("unbiased", True), ("tilted", False)))
    assert infinite.count("triangle") == 2
    assert "triangle" not in sweep_page(sweep_of(("unbiased", False), ("tilted", False)))


def test_points_at_the_top_of_a_linear_axis_are_whole() -> None:
    figure = sweep_figure(sweep_of(("unbiased", False), ("tilted", False)), WIDE)
    shares: Any = [point[1] for point in drawn(figure, "o", axes=2)]  # 100% of the images
    assert max(shares) < 0.95


def test_no_field_of_the_figure_contradicts_the_verdict() -> None:
    """A source fails below the deviation that most runs find, and may by a part alone."""
    measured = fidelity()
    measured["verdict"] |= {"distribution": False, "name": "pretty but biased"}
    result = simulated_result("coupled", fidelity=measured)
    assert not result.verdict.passed
    assert source_row(result).value < result.detection_limit.reduced_chi_square
    for width in (WIDE, NARROW):
        figure = fidelity_figure(result, width)
        assert [text.get_text() for text in figure.axes[0].texts] == []
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["this source: pretty but biased", "real images"]
