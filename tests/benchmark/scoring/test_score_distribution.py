"""Scores against a known distribution, from the histogram to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.leaderboard.terminal import describe_comparison
from shapeshd.benchmark.leaderboard.writers import write_comparison
from shapeshd.benchmark.report.figures.factors import dependence, expected_shares
from shapeshd.benchmark.report.html import write_report
from shapeshd.benchmark.report.terminal import WIDTH, describe
from shapeshd.benchmark.result.formatting import number
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring import counting
from shapeshd.benchmark.scoring.examples import choose_examples
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.benchmark.statistics.chi_square import (
    chi_square_variance,
    goodness_of_fit,
    rarity,
)
from shapeshd.benchmark.statistics.coupled import decompose_under
from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.benchmark.statistics.measurement_error import (
    split_outside,
)
from shapeshd.benchmark.statistics.references import memorizer
from shapeshd.cli import score_run
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, FACTORS, NAMES, NUM_BINS
from tests.experiments.truth.known_distributions import DISTRIBUTIONS
from tests.support.drawn import Drawn, no_spheres
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


pytestmark = pytest.mark.usefixtures("no_page")


def perfect_confusions() -> dict[str, Any]:
    return {name: np.eye(bins) * 50 for name, bins in zip(NAMES, BIN_SHAPE, strict=True)}


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
    rare = rarity(1 / distribution.expected()[distribution.expected() > 0])
    assert [stored["references"][row]["deviation"] for row in (0, 2)] == [
        fit.prediction.run_deviation,
        memorizer(500_000, distribution.bins, rare).deviation,
    ]
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
    scatter = np.sqrt(chi_square_variance(FEW, fit.bins, rare)) / fit.degrees_of_freedom
    assert scatter > 1.4 * np.sqrt(2 / fit.degrees_of_freedom)
    assert f"1 ± {number(scatter, 2)}" in page.text
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
    with pytest.raises(UsageError, match=r"^6,000 of 6,000 "):
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
    with pytest.raises(UsageError, match=rf"{needed - 1:,} .* {distribution.bins:,}"):
        score_source(
            Drawn(distribution),
            ReadsWritten(),
            tmp_path / "x",
            ScoreSettings(samples=needed - 1, distribution=distribution),
        )
    few = Written(count=100)
    with pytest.raises(UsageError, match=r"100 images.*20,736"):
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
            UsageError, match=rf"another score, .*distribution \"{distribution.digest[:8]}"
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
    status, out, _ = run("score", "render:0:9", "--distribution", path, *more, "--json")
    assert status == 0
    assert json.loads(out)["distribution"]["digest"] == distribution.digest
    status, out, err = run("score", "render:0:9", *more)
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
