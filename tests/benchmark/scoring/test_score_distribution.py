"""Scores against a known distribution, from the histogram to the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.terminal import describe_comparison
from shapeshd.benchmark.leaderboard.writers import write_comparison
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.report.figures.factors import dependence, expected_shares
from shapeshd.benchmark.report.html import write_report
from shapeshd.benchmark.report.terminal import WIDTH, describe
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring import counting
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.examples import choose_examples
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.benchmark.sources.registry import open_source
from shapeshd.benchmark.statistics.chi_square import (
    chi_square,
    divergence_statistic,
    goodness_of_fit,
    predict,
)
from shapeshd.benchmark.statistics.coupled import decompose_under
from shapeshd.benchmark.statistics.histogram import min_samples, read_histogram
from shapeshd.benchmark.statistics.measurement_error import (
    MeasurementError,
    Outside,
    split_outside,
)
from shapeshd.cli import score_run
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, FACTORS, NAMES, NUM_BINS, IntArray, joint_bins
from shapeshd.scene.sampling import DistributionSampling, UniformSampling
from tests.conftest import render_small
from tests.experiments.truth.known_distributions import DISTRIBUTIONS, faults, with_fault
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.html_check import Page
from tests.support.simulated_results import (
    FakeRecognizer,
    Sampled,
    accuracy,
    noise_floor,
    simulated,
)

Run = Callable[..., tuple[int, str, str]]
FEW = 6_000


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages take seconds to draw; those that matter here are written by themselves."""
    monkeypatch.setattr(scoring, "write_report", lambda result, out: out)


class Drawn(Written):
    """A source of a distribution, which may put every so-many-th sample elsewhere."""

    def __init__(self, distribution: Distribution, *, stray: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.drawn, self.stray = distribution, stray

    def bins(self, start: int, stop: int) -> IntArray:
        found = joint_bins(self.drawn.factors(self.seed, start, stop))
        if self.stray:
            elsewhere = int(np.flatnonzero(self.drawn.expected() == 0)[5])
            found = np.where(np.arange(start, stop) % self.stray, found, elsewhere)
        return found


def no_spheres() -> Distribution:
    return Distribution.from_json(
        {"shape": {"weights": [1, 2, 0, 1]}, "scale": {"weights": [1, 1, 2, 4]}}
    )


def perfect_confusions() -> dict[str, Any]:
    return {name: np.eye(bins) * 50 for name, bins in zip(NAMES, BIN_SHAPE, strict=True)}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_chi_square_is_scipys(name: str) -> None:
    distribution = DISTRIBUTIONS[name]()
    q = distribution.expected()
    counts = np.random.default_rng(0).multinomial(
        400_000, with_fault(distribution, faults(distribution)[1])
    )
    fit = goodness_of_fit(counts, q)
    possible = q > 0
    expected = stats.chisquare(counts[possible], 400_000 * q[possible])
    assert fit.chi_square == pytest.approx(expected.statistic, rel=1e-9)
    assert fit.bins == distribution.bins == possible.sum()
    assert fit.degrees_of_freedom == distribution.bins - 1
    n, d = fit.samples, fit.divergence.value
    inverse = (counts[possible] / q[possible]).sum() / n
    assert fit.chi_square == pytest.approx((n - 1) * d + inverse - 1)


def test_the_p_value_is_scipys_where_no_bin_is_rare() -> None:
    q = no_spheres().marginal("shape", "scale").ravel()
    counts = np.random.default_rng(1).multinomial(5_000, q)
    fit = goodness_of_fit(counts, q)
    found = stats.chisquare(counts[q > 0], 5_000 * q[q > 0])
    assert fit.p_value == pytest.approx(found.pvalue, rel=0.02)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_reduced_chi_square_of_an_ideal_sampler_is_1(name: str) -> None:
    distribution, rng = DISTRIBUTIONS[name](), np.random.default_rng(2)
    q = distribution.expected()
    histograms = [read_histogram(counts, q) for counts in rng.multinomial(8_000, q, 40)]
    reduced = np.array([chi_square(one) / (distribution.bins - 1) for one in histograms])
    estimates = [divergence_statistic(h.counts, h.weights).estimate() for h in histograms]
    predictions = [predict(*pair) for pair in zip(histograms, estimates, strict=True)]
    predicted = np.array([found.reduced_chi_square.value for found in predictions])
    for values in (reduced, predicted):
        assert abs(values.mean() - 1) < 4 * values.std() / math.sqrt(len(values))
    # One run at 20 per bin scatters as X^2 does: its exact variance, not that of the uniform
    # distribution.
    m, k = 20 * distribution.bins, distribution.bins
    spread = (2 * (k - 1) + ((1 / q[q > 0]).sum() - k**2 - 2 * k + 2) / m) / (k - 1) ** 2
    assert predictions[0].run_deviation == pytest.approx(math.sqrt(spread), rel=1e-9)


def test_the_fewest_samples_scatter_alike_under_every_distribution() -> None:
    """Var D_hat is 2 (k - 1) / (n (n - 1)), whatever the distribution: the rule counts bins."""
    q = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    rng = np.random.default_rng(3)
    counts = rng.multinomial(50, q, 40_000)
    found = (counts * (counts - 1) / q).sum(1) / (50 * 49) - 1
    assert found.mean() == pytest.approx(0, abs=4 * found.std() / 200)
    assert found.var() == pytest.approx(2 * 4 / (50 * 49), rel=0.05)


def test_what_lies_outside_is_counted_and_left_out() -> None:
    distribution = no_spheres()
    counts = np.random.default_rng(4).multinomial(9_000, distribution.expected())
    clean, none = split_outside(counts, distribution)
    np.testing.assert_array_equal(clean, counts)
    assert (none.samples, none.share, none.surely, none.wrong) == (0, 0.0, 0.0, False)
    dirty = counts.copy()
    for place, extra in zip(
        np.flatnonzero(distribution.expected() == 0)[[7, 900]], (5, 7), strict=True
    ):
        dirty[place] += extra
    clean, some = split_outside(dirty, distribution)
    np.testing.assert_array_equal(clean, counts)
    assert (some.samples, some.bins, some.share) == (12, 2, 12 / 9_012)
    low = stats.binomtest(12, 9_012).proportion_ci(0.95, "exact").low
    assert some.surely == pytest.approx(low)
    assert some.wrong  # nothing explains them
    assert not Outside(12, 2, 12 / 9_012, explained=0.001, surely=low).wrong
    with pytest.raises(UsageError, match=r"but its probability under the distribution is 0"):
        goodness_of_fit(dirty, distribution.expected())


def test_a_misread_distribution_is_that_of_misread_images() -> None:
    """The factors of many images, each moved by the confusions at random, fill the same bins."""
    distribution, found = no_spheres(), json.loads(json.dumps(accuracy()))
    found["factors"]["shape"]["confusion"] = [
        [90, 5, 5, 0],
        [0, 95, 5, 0],
        [0, 0, 9, 0],
        [0, 9, 0, 91],
    ]
    confusions = {name: found["factors"][name]["confusion"] for name in NAMES}
    measurement_error = MeasurementError.of(distribution, confusions)
    assert math.fsum(measurement_error.read) == pytest.approx(1)
    assert measurement_error.outside == pytest.approx(0.25 * 0.05 + 0.5 * 0.05)
    shape = distribution.marginal("shape") @ np.array([[0.9, 0.05, 0.05, 0], [0, 0.95, 0.05, 0],
                                              [0, 0, 1, 0], [0, 0.09, 0, 0.91]])  # fmt: skip
    inside = shape[[0, 1, 3]] / shape[[0, 1, 3]].sum()
    expected = (inside**2 / [0.25, 0.5, 0.25]).sum() - 1
    assert measurement_error.divergence("shape") == pytest.approx(expected)
    assert measurement_error.divergence() >= measurement_error.divergence("shape")
    perfect = MeasurementError.of(distribution, perfect_confusions())
    assert (perfect.outside, perfect.divergence()) == (0.0, pytest.approx(0, abs=1e-9))


def test_a_good_source_passes_and_its_distribution_is_recorded(tmp_path: Path) -> None:
    distribution = no_spheres()
    reader = ReadsWritten(accuracy=accuracy(), noise_floor=noise_floor())
    result = score_source(
        Drawn(distribution),
        reader,
        tmp_path / "out",
        ScoreSettings(samples=FEW, distribution=distribution),
    )
    assert result is not None
    stored = json.loads((tmp_path / "out" / "result.json").read_text(), parse_constant=pytest.fail)
    assert stored == result.to_json()
    assert result.expected_distribution == distribution
    assert stored["distribution"]["digest"] == distribution.digest
    assert stored["distribution"]["measurement_error"]["divergence"] < 0.01
    counts = np.load(tmp_path / "out" / "histogram.npy")
    fit = goodness_of_fit(counts, distribution.expected())
    assert stored["fit"] == json.loads(json.dumps(fit.to_json()))
    parts = decompose_under(counts, distribution)
    assert stored["decomposition"] == json.loads(json.dumps(parts.to_json()))
    assert stored["verdict"]["passed"]
    assert "No deviation from the distribution is seen" in stored["verdict"]["text"]
    names = [row["name"] for row in stored["references"]]
    assert names == [
        "ideal sampler",
        "the distribution as it is read",
        "memorizer of 500,000 images",
    ]
    assert stored["references"][2]["divergence"] == pytest.approx((distribution.bins - 1) / 500_000)
    assert stored["attenuation"] is None  # its formula is that of the uniform distribution
    text = describe(result)
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert str(distribution) in text
    page = Page(write_report(result, tmp_path / "out").read_text())
    assert page.problems == []
    assert (
        f"compared with the distribution {distribution} on {distribution.bins:,} bins" in page.text
    )
    assert distribution.digest in page.text
    assert "nan" not in page.text.lower().split()
    assert read_result(tmp_path / "out") == result


def test_the_uniform_distribution_tests_what_no_distribution_tests(tmp_path: Path) -> None:
    flat = Distribution.from_json({"scale": {"weights": [2, 2, 2, 2]}})
    one = score_source(
        Written(), ReadsWritten(), tmp_path / "a", ScoreSettings(samples=FEW, distribution=flat)
    )
    other = score_source(Written(), ReadsWritten(), tmp_path / "b", ScoreSettings(samples=FEW))
    assert one is not None and other is not None
    same = {"created": one.created, "run": one.run}
    assert one == other.model_copy(update=same)
    assert (one.distribution, one.outside) == (None, None)
    again = score_source(
        Written(), ReadsWritten(), tmp_path / "b", ScoreSettings(samples=FEW, distribution=flat)
    )
    assert again is not None
    assert again.fit == one.fit


def test_a_source_of_another_distribution_fails_and_the_factor_is_named(tmp_path: Path) -> None:
    distribution = DISTRIBUTIONS["coupled"]()
    tilted = Distribution.from_json({**distribution.to_json(), "scale": {"weights": [1, 1, 1, 4]}})
    result = score_source(
        Drawn(tilted),
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(samples=FEW, distribution=distribution),
    )
    assert result is not None
    assert not result.verdict.passed
    assert "What is wrong: scale" in result.verdict.text
    assert [part.name for part in result.decomposition.significant] == ["scale"]
    exact = 4 * (3 * 1 + 16) / 49 - 1
    assert result.fit.divergence.low <= exact <= result.fit.divergence.high


def test_samples_where_the_distribution_has_none_fail_a_source(tmp_path: Path) -> None:
    distribution = no_spheres()
    source = Drawn(distribution, stray=50)
    result = score_source(
        source,
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(samples=FEW, distribution=distribution),
    )
    assert result is not None
    assert result.outside.samples == 120
    assert (result.samples, result.fit.samples) == (FEW, FEW - 120)
    assert not result.verdict.passed
    text = "120 samples (2.0%) lie where the distribution has none, so that D is infinite"
    assert text in result.verdict.text
    assert "120 of 6,000 samples lie where the distribution has none: D is infinite" in describe(
        result
    )
    page = write_report(result, tmp_path / "out").read_text()
    assert "120 of 6,000 samples lie where the distribution has none: D is infinite" in page
    comparison = compare([tmp_path / "out"])
    assert any("D is infinite" in warning for warning in comparison.warnings)


def test_what_errors_explain_is_no_fault(tmp_path: Path) -> None:
    distribution, found = no_spheres(), json.loads(json.dumps(accuracy()))
    found["factors"]["shape"]["confusion"][0] = [92, 0, 8, 0]  # some cubes are read as spheres
    result = score_source(
        Drawn(distribution, stray=50),
        ReadsWritten(accuracy=found),
        tmp_path / "out",
        ScoreSettings(samples=FEW, distribution=distribution),
    )
    assert result is not None
    assert result.outside.explained == pytest.approx(0.02)
    assert result.verdict.passed
    assert "Left out: 120 samples where the distribution has none" in result.verdict.text


def test_too_few_inside_of_the_distribution_is_one_line(tmp_path: Path) -> None:
    spheres = Distribution.from_json({"shape": {"weights": [0, 0, 1, 0]}})
    cubes = Distribution.from_json({"shape": {"weights": [1, 0, 0, 0]}})
    with pytest.raises(
        UsageError, match=r"^6,000 of 6,000 samples lie where the distribution has none"
    ):
        score_source(
            Drawn(cubes),
            ReadsWritten(),
            tmp_path / "out",
            ScoreSettings(samples=FEW, distribution=spheres),
        )


def test_a_narrow_distribution_takes_fewer_samples(tmp_path: Path) -> None:
    distribution = Distribution.from_json(
        {"shape": {"weights": [0, 0, 1, 0]}, "scale": {"weights": [1, 3, 0, 0]}}
    )
    needed = min_samples(distribution.bins)
    assert distribution.bins == NUM_BINS // 8
    assert needed < 2_100
    result = score_source(
        Drawn(distribution),
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(samples=needed, distribution=distribution),
    )
    assert result is not None
    assert "shape" not in {part.name for part in result.decomposition.parts}
    with pytest.raises(
        UsageError, match=rf"{needed - 1} samples are too few for {distribution.bins} bins"
    ):
        score_source(
            Drawn(distribution),
            ReadsWritten(),
            tmp_path / "x",
            ScoreSettings(samples=needed - 1, distribution=distribution),
        )
    few = Written(count=100)
    with pytest.raises(UsageError, match=r"has 100 images, too few to test 20,736 bins"):
        score_source(few, ReadsWritten(), tmp_path / "y", ScoreSettings(distribution=distribution))


def test_the_protocol_follows_the_number_of_bins(tmp_path: Path) -> None:
    one = {
        name: {"weights": [1] + [0] * (bins - 1)}
        for name, bins in zip(NAMES, BIN_SHAPE, strict=True)
    }
    distribution = Distribution.from_json(
        {**one, "wall_hue": {"weights": [1] * 12}, "scale": {"weights": [1, 1, 2, 4]}}
    )
    result = score_source(
        Drawn(distribution),
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(protocol="chi2-20k", distribution=distribution),
    )
    assert result is not None
    assert (result.samples, result.protocol) == (20 * 48, "chi2-20k")
    with pytest.raises(UsageError, match="everything into one bin"):
        score_source(
            Drawn(distribution),
            ReadsWritten(),
            tmp_path / "x",
            ScoreSettings(distribution=Distribution.from_json(one)),
        )


def test_the_bar_estimates_under_the_distribution() -> None:
    distribution, tally = no_spheres(), Tally()
    assert counting._estimate(tally, distribution) == ""
    tally.add(0, Drawn(distribution, stray=100).bins(0, FEW))
    inside, outside = split_outside(tally.counts, distribution)
    value = goodness_of_fit(inside, distribution.expected()).prediction.reduced_chi_square
    assert outside.samples == FEW // 100
    assert counting._estimate(tally, distribution).startswith(
        f"chi2_nu(20k) {value.reported:.3g} ["
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_prediction_holds_what_the_protocol_gives(name: str) -> None:
    """Of an ideal sampler that is 1, though the weights make its offset uncertain."""
    distribution, rng = DISTRIBUTIONS[name](), np.random.default_rng(6)
    q, held = distribution.expected(), 0
    for counts in rng.multinomial(8_000, q, 40):
        histogram = read_histogram(counts, q)
        divergence = divergence_statistic(histogram.counts, histogram.weights).estimate()
        predicted = predict(histogram, divergence).reduced_chi_square
        assert predicted.floor <= predicted.low <= predicted.high
        assert predicted.floor <= 1
        held += predicted.low <= 1 <= predicted.high
    assert held >= 35


def test_a_run_with_another_distribution_is_refused(tmp_path: Path) -> None:
    distribution, other = no_spheres(), DISTRIBUTIONS["coupled"]()
    score_source(
        Drawn(distribution),
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(samples=FEW, distribution=distribution),
    )
    for wrong in (other, None):
        with pytest.raises(
            UsageError, match=rf"another score, with distribution \"{distribution.digest[:8]}"
        ):
            score_source(
                Drawn(distribution),
                ReadsWritten(),
                tmp_path / "out",
                ScoreSettings(samples=7_000, distribution=wrong),
            )
    more = score_source(
        Drawn(distribution),
        ReadsWritten(),
        tmp_path / "out",
        ScoreSettings(samples=7_000, distribution=distribution),
    )
    assert more is not None
    assert more.samples == 7_000


def test_the_command_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = no_spheres()
    path = tmp_path / "distribution.toml"
    path.write_text("shape.weights = [1, 2, 0, 1]\nscale.weights = [1, 1, 2, 4]\n")
    monkeypatch.setattr(score_run, "open_source", lambda *_, **__: Drawn(distribution))
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten())
    more = ("--samples", FEW, "--device", "cpu", "--out", tmp_path / "out")
    status, out, _ = run("score", "drawn", "--distribution", path, *more, "--json")
    assert status == 0
    assert json.loads(out)["distribution"]["digest"] == distribution.digest
    status, out, err = run("score", "drawn", *more)
    assert (status, out, err.count("\n")) == (2, "", 2)  # the recognizer is noted first
    assert f'another score, with distribution "{distribution.digest[:8]}' in err


def test_distributions_are_named_side_by_side(tmp_path: Path) -> None:
    distribution = no_spheres()
    for name, source, tested in (("a", Drawn(distribution), distribution), ("b", Written(), None)):
        score_source(
            source, ReadsWritten(), tmp_path / name, ScoreSettings(samples=FEW, distribution=tested)
        )
    both = compare([tmp_path / "a", tmp_path / "b"])
    known, other = f"the distribution {distribution}", "the uniform distribution"
    warning = f"they were tested against different distributions: {known}, {other}"
    swapped = f"they were tested against different distributions: {other}, {known}"
    assert {warning, swapped} & set(both.warnings)
    assert {row["distribution"] for row in both.to_json()["results"]} == {distribution.digest, None}
    names = [row.name for row in both.rows() if not row.own]
    assert len(names) == len(set(names)) == 4  # each distribution has its own references
    assert write_comparison(both, tmp_path / "both.html").is_file()
    alone = describe_comparison(compare([tmp_path / "a"]))
    assert f"tested against the distribution {distribution}" in alone
    assert "distribution" not in describe_comparison(compare([tmp_path / "b"]))


def test_results_without_a_distribution_are_read_as_before(tmp_path: Path) -> None:
    content = simulated("tilted")
    assert "distribution" not in content
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert compare([tmp_path / "result.json"]).warnings == ()
    old = read_result(tmp_path)
    assert isinstance(old, Result)
    assert describe(old)
    assert old.expected_distribution is None


def test_examples_follow_the_distribution() -> None:
    distribution = Distribution.from_json(
        {"scale": {"weights": [1, 1, 1, 7]}, "shape": {"weights": [1, 1, 0, 1]}}
    )
    tilted = distribution.expected().reshape(BIN_SHAPE) * np.array([1, 1, 3, 1]).reshape(
        1, 1, 1, 4, 1, 1
    )
    counts = np.random.default_rng(5).multinomial(20_000, (tilted / tilted.sum()).ravel())
    source, parts = Sampled(counts), decompose_under(counts, distribution)
    found = choose_examples(
        counts, source.first_seen, parts, source, FakeRecognizer(), distribution
    )  # type: ignore[arg-type]
    assert str(found["part"]) == "scale"
    full = found["bins"][found["kind"] == "part-full"]
    assert full[0, 3] == 2  # the third is too full, though the fourth holds more
    np.testing.assert_allclose(found["expected"][found["kind"] == "part-full"][0], 20_000 * 0.1)
    joint = found["bins"][np.isin(found["kind"], ["joint-full", "joint-empty"])]
    assert (joint[:, 4] != 2).all()  # spheres are not missing


def test_figures_know_the_distribution() -> None:
    distribution = DISTRIBUTIONS["coupled"]()
    joint = distribution.marginal("wall_hue", "object_hue")
    counts = np.rint(1e6 * joint)
    np.testing.assert_allclose(dependence(counts, joint), 1, rtol=1e-3)
    assert dependence(counts).max() > 2
    for axis, name in enumerate(NAMES):
        np.testing.assert_allclose(
            expected_shares(distribution, FACTORS[axis]), distribution.marginal(name)
        )


@pytest.fixture(scope="module")
def narrow() -> Distribution:
    """Large spheres and cubes, whose walls like the colour of their floors."""
    table = (1 + 4 * np.eye(12)).tolist()
    return Distribution.from_json(
        {"shape": {"weights": [1, 0, 2, 0]}, "scale": {"weights": [0, 0, 0, 1]},
         "orientation": {"weights": [0, 1, 1, 1, 1, 0]},
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
    assert "give it with --distribution" in err
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
