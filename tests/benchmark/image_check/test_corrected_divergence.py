"""D of degraded images of few joint bins comes back when it is corrected; the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapeshd.benchmark.image_check import check
from shapeshd.benchmark.image_check.kept_images import Kept
from shapeshd.benchmark.recognizer.degrade import KnownDegradation
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.statistics import decomposition
from shapeshd.benchmark.statistics.source_attenuation import Share, corrected_divergence
from shapeshd.factors import BIN_SHAPE, NUM_BINS, from_unit, joint_bins
from shapeshd.raytracer.tracer import trace_images

BINS, IMAGES, LOOKED_AT = 100, 160, 48


@pytest.mark.parametrize("text", ["jpeg=75", "noise=16", "blur=1"])
def test_the_corrected_interval_holds_the_truth_and_what_is_seen_does_not(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A score asks for more samples; so large a divergence shows in few.
    monkeypatch.setattr(decomposition, "require_samples", lambda *_: None)
    monkeypatch.setattr(check, "find_change", lambda *_: (None, []))  # which takes the longest
    rng = np.random.default_rng(41)
    occurring = rng.choice(NUM_BINS, BINS, replace=False)
    bins = np.stack(np.unravel_index(rng.choice(occurring, IMAGES), BIN_SHAPE), axis=1)
    factors = from_unit((bins + rng.random(bins.shape)) / np.array(BIN_SHAPE))
    true = NUM_BINS / BINS - 1  # k sum p^2 - 1
    generator = torch.Generator().manual_seed(41)
    images = KnownDegradation.parse(text)(trace_images(factors, 64), generator).contiguous()
    lite = load_recognizer("lite")
    read = lite(images)
    look = check.check_images(
        Kept(np.arange(LOOKED_AT), images[:LOOKED_AT], read[:LOOKED_AT]), lite, 64
    )
    assert look is not None and look.attenuation is not None
    left = look.attenuation.higher_order
    parts = decomposition.decompose(np.bincount(joint_bins(read), minlength=NUM_BINS))
    corrected = corrected_divergence(
        parts, Share(left.value, left.standard_error, left.low, left.high)
    )
    assert parts.total.high < true  # so it is the correction that finds it
    assert corrected.low <= true <= corrected.high
    assert corrected.high < 3 * true
