"""Scores of rendered images of a known distribution, and what datasets record of theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources.open import open_source
from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.distribution import Distribution
from shapeshd.factors import NUM_BINS, joint_bins
from shapeshd.scene.sampling import DistributionSampling, UniformSampling
from tests.conftest import render_small
from tests.support.drawn import Drawn, no_spheres
from tests.support.fake_scores import ReadsWritten, Written

Run = Callable[..., tuple[int, str, str]]


FEW = 6_000


pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture(scope="module")
def narrow() -> Distribution:
    """Large spheres and cubes of three colours, whose walls like the colour of their floors."""
    table = (1 + 4 * np.eye(12)).tolist()
    return Distribution.from_json(
        {"shape": {"weights": [1, 0, 2, 0]}, "scale": {"weights": [0, 0, 0, 1]},
         "orientation": {"weights": [0, 0, 1, 1, 0, 0]},
         "object_hue": {"weights": [1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]},
         "pair": [{"factors": ["floor_hue", "wall_hue"], "weights": table}]}
    )  # fmt: skip


@pytest.fixture(scope="module")
def narrow_set(narrow: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("narrow") / "data"
    count = min_samples(narrow.bins) + 500
    render_small(
        out,
        engine="torch",
        size=64,
        count=count,
        shard_size=1_000,
        sampling=DistributionSampling(narrow, 8),
    )
    return out


def test_rendered_images_of_a_distribution_pass_against_it(
    narrow: Distribution, narrow_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the distribution to pixels to the recognizer and back."""
    with open_source(str(narrow_set)) as source:
        assert source.describe()["distribution"] == str(narrow)
        count = source.count
        assert count is not None
        result = score_source(
            source, load_recognizer("lite"), tmp_path / "out", ScoreSettings(distribution=narrow)
        )
    assert result is not None
    assert "was rendered with" not in capsys.readouterr().err
    assert (result.samples, result.fit.bins) == (count, narrow.bins)
    assert result.verdict.passed, result.verdict.text
    assert result.fit.divergence.low == 0
    assert not result.outside.wrong
    assert result.outside.share <= 3 * result.outside.explained + 0.01
    seen = np.load(tmp_path / "out" / "histogram.npy")
    drawn = np.bincount(joint_bins(narrow.factors(8, 0, count)), minlength=NUM_BINS)
    assert np.abs(seen - drawn).sum() / 2 < 0.05 * count  # misread at borders


def test_a_set_of_another_distribution_is_remarked(
    narrow: Distribution, narrow_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_source(str(narrow_set)) as opened:
        recorded = opened.distribution  # type: ignore[attr-defined]
    assert recorded == narrow
    source = Written(name="set")
    source.distribution = recorded  # type: ignore[attr-defined]
    score_source(source, ReadsWritten(), tmp_path / "a", ScoreSettings(samples=FEW))
    err = capsys.readouterr().err
    assert (
        f"set: is tested against the uniform distribution, but was rendered with another "
        f"distribution, {narrow}" in err
    )
    assert "give it as distribution" in err
    source.distribution = Distribution.from_text("")  # type: ignore[attr-defined]
    score_source(source, ReadsWritten(), tmp_path / "b", ScoreSettings(samples=FEW))
    assert "was rendered with" not in capsys.readouterr().err
    distribution = no_spheres()
    drawn = Drawn(distribution)
    drawn.distribution = Distribution.from_text("")  # type: ignore[attr-defined]
    score_source(
        drawn, ReadsWritten(), tmp_path / "c", ScoreSettings(samples=FEW, distribution=distribution)
    )
    assert (
        f"against the distribution {distribution}, but was rendered with uniform factors"
        in capsys.readouterr().err
    )


def test_what_other_datasets_record(tmp_path: Path) -> None:
    render_small(tmp_path / "flat", engine="torch", size=16, count=3, sampling=UniformSampling(1))
    for text, uniform in ((str(tmp_path / "flat"), True), ("render:0:5,size=16", True)):
        with open_source(text) as source:
            assert source.distribution.uniform == uniform  # type: ignore[attr-defined]
            assert "distribution" not in source.describe()
