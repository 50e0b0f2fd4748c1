"""Numbers for people: as many digits as mean something."""

from __future__ import annotations

import pytest

from shapeshd.benchmark.result import formatting
from shapeshd.benchmark.statistics.intervals import Estimate
from shapeshd.factors import FACTORS


def test_bins_have_their_own_names() -> None:
    for factor in FACTORS:
        assert len({formatting.bin_name(factor, i) for i in range(factor.bins)}) == factor.bins
    assert formatting.bin_name(FACTORS[0], 3) == "90–120°"
    assert formatting.bin_name(FACTORS[3], 1) == "1.25–1.50"
    assert formatting.bin_name(FACTORS[5], 0) == "−30 to −20°"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.0331, 0.0276, 0.0391), "0.0331 [0.0276, 0.0391]"),
        ((1.6638, 1.5512, 1.7781), "1.66 [1.55, 1.78]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((3317760.0, 3317759.997, 3317760.00002), "3,317,760 [3,317,760, 3,317,760]"),
        ((0.0, 0.0, 2e-9), "0 [0, 2.0e−09]"),
    ],
)
def test_digits_follow_the_interval(values: tuple[float, ...], text: str) -> None:
    value, low, high = values
    assert formatting.with_interval(Estimate(value, 0.0, low, high)) == text


def test_whole_is_written_only_for_the_whole() -> None:
    shares = [1.0, 0.9999, 0.984, 0.5, 0.0001]
    assert [formatting.percent(s) for s in shares] == ["100%", "99.990%", "98.4%", "50%", "0.010%"]
    assert formatting.percent(0.001, 0) == "< 1%"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((31.4, 22.3, 41.0), "31.40 [22.30, 41.00]"),
        ((31.4146, 31.4129, 31.4161), "31.4146 [31.4129, 31.4161]"),
        ((31.4, 31.4, 31.4), "31.40 [31.40, 31.40]"),
    ],
)
def test_what_is_compared_has_as_many_decimals(values: tuple[float, ...], text: str) -> None:
    value, low, high = values
    found = Estimate(value, 0.0, low, high)
    assert formatting.interval(found, Estimate(27.1234, 0.0, 26.8, 27.5)) == text
