"""Filter, noise and cutout, against SciPy and the paper's distributions."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage, stats

from shapeshd.models.augment import operations
from shapeshd.models.augment.transforms import (
    AugmentConfig,
    apply,
    draw,
)
from tests.support.augmented import LEAST_P_VALUE, MANY, generator, noise, only


def test_octaves_sum_to_the_identity_and_each_passes_its_own() -> None:
    octaves = operations._OCTAVES.numpy()
    assert octaves.shape == (4, 43)
    np.testing.assert_allclose(octaves.sum(0), np.eye(1, 43, 21)[0], atol=1e-15)
    # By the definition: sym2 is db2, whose low-pass is ((1 +- sqrt 3), (3 +- sqrt 3)) / 4 sqrt 2.
    root = math.sqrt(3)
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * math.sqrt(2))
    frequencies = np.linspace(0, math.pi, 50)
    z = np.exp(1j * frequencies)

    def passed(line: np.ndarray, power: int) -> np.ndarray:
        return np.abs(np.polyval(line, z**power)) ** 2 / 2

    high = low * [1, -1, 1, -1]
    wanted = [
        passed(low, 1) * passed(low, 2) * passed(low, 4),
        passed(low, 1) * passed(low, 2) * passed(high, 4),
        passed(low, 1) * passed(high, 2),
        passed(high, 1),
    ]
    response = [
        (line * np.cos(np.arange(-21, 22) * w)).sum() for line in octaves for w in frequencies
    ]
    np.testing.assert_allclose(np.reshape(response, (4, 50)), wanted, atol=1e-12)


def test_filter_is_scipys_along_both_axes() -> None:
    x = noise(5, 3, 30, 26)
    parameters = only("filter", 5, (30, 26))
    y = apply(x, parameters)
    for before, after, gains in zip(x.numpy(), y.numpy(), parameters.gains.numpy(), strict=True):
        taps = gains @ operations._OCTAVES.numpy()
        wanted = ndimage.convolve1d(before, taps, axis=1, mode="mirror")
        wanted = ndimage.convolve1d(wanted, taps, axis=2, mode="mirror")
        np.testing.assert_allclose(after, wanted, atol=1e-10)


def test_gains_have_the_papers_distribution() -> None:
    """At a small p a single octave is changed, by 2^N(0, 1) before the power is kept."""
    gains = draw(20 * MANY, (32, 32), 0.02, AugmentConfig(("filter",)), generator()).gains.numpy()
    power = np.array([10, 1, 1, 1]) / 13
    np.testing.assert_allclose((gains**2 @ power)[(gains == 1).all(1)], 1)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        single = (gains[:, others[0]] == gains[:, others[1]]) & (gains[:, i] != gains[:, others[0]])
        single &= gains[:, others[1]] == gains[:, others[2]]
        np.testing.assert_allclose(gains[single] ** 2 @ power, 1)
        ratio = np.log2(gains[single, i] / gains[single, others[0]])
        assert len(ratio) > 1000 and stats.kstest(ratio, "norm").pvalue > LEAST_P_VALUE


def test_noise_is_normal_of_a_half_normal_strength() -> None:
    x = noise(400, 3, 24, 24)
    added = (apply(x, only("noise", 400, (24, 24))) - x).flatten(1).numpy()
    sigma = added.std(1)
    assert stats.kstest(sigma, "halfnorm", args=(0, 0.1)).pvalue > LEAST_P_VALUE
    scaled = (added / sigma[:, None]).ravel()[:5000]
    assert stats.kstest(scaled, "norm").pvalue > LEAST_P_VALUE
    assert abs(np.corrcoef(added[0], added[1])[0, 1]) < 0.1


def test_cutout_is_a_rectangle_of_half_the_size() -> None:
    x = noise(300, 3, 32, 48)
    parameters = only("cutout", 300, (32, 48))
    y, centres = apply(x, parameters), []
    for before, after, cut in zip(x, y, parameters.cut.tolist(), strict=True):
        left, right, top, bottom = cut
        assert abs(right - left - 24) <= 1 and abs(bottom - top - 16) <= 1
        centres.append(((left + right) / 96, (top + bottom) / 64))
        wanted = before.clone()
        wanted[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
        assert torch.equal(after, wanted)
    for axis in (0, 1):
        values = np.array(centres)[:, axis]
        assert stats.kstest(values, "uniform").pvalue > LEAST_P_VALUE
