from __future__ import annotations

import functools

import numpy as np
import pytest

from shapeshd.benchmark.statistics.attenuation import attenuation_factor
from shapeshd.benchmark.statistics.decomposition import HIGHER_ORDER, decompose
from shapeshd.benchmark.statistics.source_attenuation import (
    Share,
    corrected_divergence,
    source_attenuation,
)
from shapeshd.errors import UsageError
from shapeshd.factors import (
    BIN_SHAPE,
    FACTORS,
    NAMES,
    NUM_BINS,
    bin_indices,
    from_unit,
    uniform_factors,
)

DEVIATIONS = (0.01, 0.02, 0.015, 0.05, 0.0, 2.0)


def pairs(count: int, seed: int = 3) -> np.ndarray:
    first = uniform_factors(seed, 0, count)
    places = np.random.default_rng(seed).random((count, 6))
    second = from_unit((bin_indices(first) + places) / np.array(BIN_SHAPE))
    return np.stack([first, second], axis=1).reshape(-1, 6)


def read(truth: np.ndarray, seed: int = 4, wrong_shape: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = truth + rng.normal(size=truth.shape) * DEVIATIONS
    found[:, 3] = found[:, 3].clip(1, 2)
    found[:, 5] = found[:, 5].clip(-30, 30)
    wrong = rng.random(len(truth)) < wrong_shape
    found[wrong, 4] = rng.integers(0, 4, int(wrong.sum()))
    return found


@functools.cache
def known() -> tuple[dict[str, float], float]:
    """The attenuation by confusions of 400,000 images, whose errors are independent."""
    truth = uniform_factors(9, 0, 400_000)
    true_bins, found_bins = bin_indices(truth), bin_indices(read(truth, 10))
    shares, joint = {}, 1.0
    for column, factor in enumerate(FACTORS):
        confusion = np.zeros((factor.bins, factor.bins))
        np.add.at(confusion, (true_bins[:, column], found_bins[:, column]), 1)
        shares[factor.name] = attenuation_factor(confusion)
        joint *= 1 + (factor.bins - 1) * shares[factor.name]
    return shares, (joint - 1) / (NUM_BINS - 1)


def test_it_is_that_of_the_confusions() -> None:
    truth = pairs(20_000)
    found = source_attenuation(truth, read(truth), method_error=0)
    shares, joint = known()
    for name in NAMES:
        assert abs(found.factors[name].value - shares[name]) < 0.01
    assert abs(found.joint.value - joint) < 4 * found.joint.standard_error
    assert found.joint.standard_error < 0.004
    assert abs(found.higher_order.value - joint) < 0.01


def test_the_interval_of_a_few_pairs_holds_it() -> None:
    _, joint = known()
    held = []
    for seed in range(40):
        truth = pairs(128, 100 + seed)
        found = source_attenuation(truth, read(truth, 500 + seed), method_error=0).joint
        held.append(found.low <= joint <= found.high)
    assert sum(held) >= 34


def test_without_errors_all_is_left_and_with_nothing_read_nothing() -> None:
    truth = pairs(300)
    perfect = source_attenuation(truth, truth)
    assert perfect.joint.value == perfect.joint.low == perfect.joint.high == 1
    anything = source_attenuation(truth, uniform_factors(77, 0, 600))
    assert anything.joint.value < 0.01


def test_errors_that_go_together_leave_more_than_independent_ones() -> None:
    truth = pairs(4_000)
    bad = np.random.default_rng(0).random(8_000) < 0.3
    found = truth.copy()
    for column in (0, 1):  # the same images have both hues wrong, by three bins
        found[bad, column] = (found[bad, column] + 0.25) % 1
    together = source_attenuation(truth, found, method_error=0).joint.value
    assert together == pytest.approx(0.7**2 + 0.3**2, abs=0.03)
    assert together > (0.7**2 + 0.3**2) ** 2 + 0.1


def test_rows_that_are_no_pairs_are_refused() -> None:
    truth = pairs(20)
    with pytest.raises(UsageError, match="joint bins"):
        source_attenuation(uniform_factors(0, 0, 40), truth)
    with pytest.raises(UsageError, match="pairs"):
        source_attenuation(truth[:-1], truth[:-1])
    with pytest.raises(UsageError, match="pairs"):
        source_attenuation(truth[:8], truth[:8])


def test_only_fine_structure_is_corrected() -> None:
    rng = np.random.default_rng(0)
    fine = np.exp(0.6 * rng.normal(size=BIN_SHAPE))
    coarse = np.broadcast_to(np.array([1.6, 1.2, 0.8, 0.4])[:, None, None], BIN_SHAPE)
    half = Share(0.5, 0.0, 0.5, 0.5)
    for density, factor in ((fine, 2.0), (coarse, 1.0)):
        p = (density / density.sum()).ravel()
        parts = decompose(rng.multinomial(400_000, p))
        found = corrected_divergence(parts, half)
        higher = parts.part(HIGHER_ORDER).delta
        assert found.value == pytest.approx(parts.total.value + higher.value)
        assert found.value == pytest.approx(factor * parts.total.value, rel=0.04)


def test_an_uncertain_share_widens_the_interval() -> None:
    p = np.exp(0.6 * np.random.default_rng(0).normal(size=NUM_BINS))
    parts = decompose(np.random.default_rng(1).multinomial(400_000, p / p.sum()))
    sure = corrected_divergence(parts, Share(0.6, 0.0, 0.6, 0.6))
    unsure = corrected_divergence(parts, Share(0.6, 0.05, 0.5, 0.7))
    assert unsure.value == sure.value
    assert unsure.high - unsure.low > 1.2 * (sure.high - sure.low)
    nothing = corrected_divergence(parts, Share(1.0, 0.0, 1.0, 1.0))
    assert (nothing.value, nothing.low, nothing.high) == pytest.approx(
        (parts.total.value, parts.total.low, parts.total.high)
    )
