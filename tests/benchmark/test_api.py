"""`shapeshd.benchmark.score` in another program: what goes in, comes out, and stays as it was."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

from shapeshd.benchmark import Score
from shapeshd.benchmark.leaderboard.compare import compare
from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.sources.latents import sample_seeds
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.distribution import Distribution
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError
from shapeshd.factors import NUM_BINS, joint_bins, uniform_factors
from tests.support.fake_scores import ReadsWritten, Written, written_images
from tests.support.known_generators import FEW, Telling, random_states, scored, true_counts

pytestmark = pytest.mark.usefixtures("no_page")


# What goes in


@pytest.mark.parametrize(
    "make",
    [
        Telling,
        lambda: DataParallel(Telling()),
        lambda: torch.compile(Telling(), backend="eager", disable=True),
    ],
)
def test_networks_of_latents(make: Callable[[], Any]) -> None:
    result = scored(make(), seed=7)
    np.testing.assert_array_equal(result.counts, true_counts(FEW, 7))
    assert result.result.source.name == "Telling"
    assert result.result.source.details["takes"] == "latents"


def test_a_network_that_has_no_length() -> None:
    class Compiled(Telling):
        def __len__(self) -> int:  # as of what torch.compile gives
            raise TypeError("does not support len()")

    assert scored(Compiled()).result.source.kind == "network"


def test_functions_of_latents() -> None:
    network = Telling().eval()
    for batch in (64, 100):  # a sample's latent does not depend on the batch
        found = scored(lambda z: network(z), latent_dim=6, batch=batch)
        np.testing.assert_array_equal(found.counts, true_counts(FEW))


def test_functions_of_a_number() -> None:
    network = Telling()
    by_method = scored(network.sample)
    assert by_method.result.source.details["takes"] == "count"
    assert network.seen == len(network.seen) * [(False, False, False)]
    again = scored(lambda n: network.eval().sample(n))
    np.testing.assert_array_equal(by_method.counts, again.counts)
    other = scored(network.sample, seed=1)
    assert (other.counts != again.counts).any()


def test_a_function_of_a_number_may_draw_from_any_generator() -> None:
    def draw(n: int) -> Tensor:
        rows = torch.randint(100, (n,)).numpy()
        rows = rows * 100 + np.random.randint(100, size=n)  # noqa: NPY002
        return written_images(rows * 10 + np.array([random.randrange(10) for _ in rows]), 64)

    one, same, other = (scored(draw, seed=seed).counts for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one > 0).sum() > 0.9 * FEW  # of 100,000 cells: no batch repeats another


def test_functions_of_seeds() -> None:
    def draw(seeds: np.ndarray) -> Tensor:
        return written_images(seeds % NUM_BINS, 64)

    truth = np.bincount(sample_seeds(2, 0, FEW) % NUM_BINS, minlength=NUM_BINS)
    np.testing.assert_array_equal(scored(draw, seed=2).counts, truth)


def test_a_source_stays_open() -> None:
    class Closable(Written):
        closed = False

        def __exit__(self, *_: object) -> None:
            self.closed = True

    source = Closable(128, crowded=True)
    result = scored(source, 6_000)
    assert not source.closed
    np.testing.assert_array_equal(
        result.counts, np.bincount(source.bins(0, 6_000), minlength=NUM_BINS)
    )
    assert result.result.images.resized_by == "area"


def test_a_path(tmp_path: Path) -> None:
    source = Written(32, crowded=True)
    np.save(tmp_path / "images.npy", source.images(0, FEW).permute(0, 2, 3, 1).numpy())

    for path in (tmp_path / "images.npy", str(tmp_path / "images.npy")):
        result = scored(path, None, recognizer=ReadsWritten(32))
        assert result.samples == FEW
        np.testing.assert_array_equal(
            result.counts, np.bincount(source.bins(0, FEW), minlength=NUM_BINS)
        )
    with pytest.raises(UsageError, match=r"leave out seed$"):
        scored(tmp_path / "images.npy", seed=1)


def test_code_on_a_path_does_not_run_without_trust(tmp_path: Path) -> None:
    file, ran = tmp_path / "theirs.py", tmp_path / "ran"
    file.write_text(f"open({str(ran)!r}, 'w')\ndef make(seeds): pass\n")
    with pytest.raises(UsageError, match=r"add trust"):
        scored(f"{file}:make")
    assert not ran.exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_latents_are_of_the_networks_type(dtype: torch.dtype) -> None:
    class Typed(nn.Module):
        latent_dim = 4

        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(4, 1)

        def forward(self, z: Tensor) -> Tensor:
            assert z.dtype == dtype
            return self.line(z)[:, :, None, None].expand(-1, 3, 64, 64).sigmoid()

    class AnyBin(ReadsWritten):
        def __call__(self, images: Tensor) -> np.ndarray:
            return uniform_factors(0, 0, len(images))

    result = scored(Typed().to(dtype), recognizer=AnyBin(), range="unit")
    assert result.result.source.details["dtype"] == str(dtype)[6:]


# What comes out


@pytest.fixture(scope="module")
def biased() -> Score:
    return scored(Telling(tilt=0.3), 20_000, seed=5)


def test_the_numbers_are_those_of_the_histogram(biased: Score) -> None:
    fit, parts = goodness_of_fit(biased.counts), decompose(biased.counts)
    assert biased.divergence == fit.divergence
    assert biased.reduced_chi_square == fit.prediction.reduced_chi_square
    assert biased.significant == tuple(part.name for part in parts.significant)
    assert set(biased.significant) >= {"scale", "shape", "orientation", "floor_hue"}
    assert (biased.passed, biased.verdict) == tuple(biased.to_json()["verdict"].values())
    assert not biased.passed
    assert biased.samples == biased.counts.sum() == 20_000


def test_a_score_has_typed_results_and_prints_as_on_the_command_line(biased: Score) -> None:
    assert biased.result.fit.samples == 20_000
    assert str(biased) == describe(biased.result)
    assert repr(biased).startswith("Score(reduced_chi_square=")
    assert repr(biased).endswith("samples=20,000, passed=False)")
    copied = biased.to_json()
    copied["fit"]["samples"] = 0
    assert biased.result.fit.samples == 20_000


def test_a_saved_score_can_be_compared(biased: Score, tmp_path: Path) -> None:
    path = tmp_path / "step-1000.json"
    path.write_text(json.dumps(biased.to_json(), allow_nan=False))
    assert compare([path]).results[0].verdict == biased.result.verdict


def test_another_distribution(tmp_path: Path) -> None:
    file = tmp_path / "distribution.toml"
    file.write_text("scale.weights = [1, 1, 2, 4]\nshape.weights = [1, 1, 0, 1]\n")
    distribution = Distribution.read(file)

    def draw(seeds: np.ndarray) -> Tensor:  # each batch from a place of its own
        first = int(seeds[0])
        return written_images(joint_bins(distribution.factors(0, first, first + len(seeds))), 64)

    result = scored(draw, distribution=file)
    assert result.result.distribution.bins == distribution.bins < NUM_BINS
    assert result.passed
    assert result.result.outside.samples == 0


# What stays as it was


# A folder


def test_a_folder_holds_the_same(tmp_path: Path) -> None:
    network = Telling()
    result = scored(network, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"result.json", "histogram.npy"}
    np.testing.assert_array_equal(result.counts, true_counts(FEW))
    calls = len(network.seen)
    more = scored(network, 6_500, out=tmp_path / "out")
    np.testing.assert_array_equal(more.counts, true_counts(6_500))
    assert more.result.run.resumed
    assert len(network.seen) - calls < calls / 2


def test_a_network_that_was_trained_on_is_another_one(tmp_path: Path) -> None:
    network = Telling()
    scored(network, out=tmp_path / "out")
    with torch.no_grad():
        network.tilt += 1e-6
    with pytest.raises(UsageError, match=r"source \"Telling \(weights"):
        scored(network, out=tmp_path / "out")


def test_a_function_needs_a_new_folder(tmp_path: Path) -> None:
    network = Telling().eval()

    def draw(n: int) -> Tensor:
        return network.sample(n)

    (tmp_path / "out").mkdir()
    scored(draw, out=tmp_path / "out")
    with pytest.raises(UsageError, match=r"cannot .*new folder"):
        scored(draw, out=str(tmp_path / "out"))


def test_an_interrupt_with_a_folder(tmp_path: Path) -> None:
    network, calls = Telling(), []

    def press(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 40:
            raise KeyboardInterrupt

    hook = network.register_forward_pre_hook(press)
    with pytest.raises(InterruptedRunError, match="samples are counted"):
        scored(network, out=tmp_path / "out")
    assert network.training
    hook.remove()
    result = scored(network, out=tmp_path / "out")
    assert result.result.run.resumed
    np.testing.assert_array_equal(result.counts, true_counts(FEW))


# Errors


def _images(n: int, *shape: int) -> Tensor:
    return torch.zeros(n, *(shape or (3, 64, 64)), dtype=torch.uint8)


class Silent(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z


def _wants_latents(z: Tensor) -> Tensor:
    return _images(len(z))


def _two(z: Tensor, label: int) -> Tensor:
    return z


def _none() -> None:
    pass


@pytest.mark.parametrize(
    ("generator", "options", "message"),
    [
        (lambda n: None, {}, "returned None"),
        (lambda n: [_images(1)] * n, {}, "returned a list"),
        (lambda n: _images(n - 1), {}, "returned 63 images for 64 samples"),
        (lambda n: _images(n, 1, 64, 64), {}, "1 channel, grey"),
        (lambda n: _images(n)[0], {}, "shape (3, 64, 64)"),
        (lambda n: torch.full((n, 3, 64, 64), torch.nan), {}, "NaN values in 64 of 64"),
        (lambda n: torch.full((n, 3, 64, 64), 0.3), {}, "give range"),
        (lambda n: torch.full((n, 3, 64, 64), -0.9), {"range": "unit"}, "check range"),
        (lambda n: _images(n, 3, 64, 3), {}, "give layout='nchw' or layout='nhwc'"),
        (lambda n: _images(n, 3, 64, 48), {}, "48x64 pixels"),
        (lambda n: _images(n, 3, 16, 16), {}, "too few to read"),
        (lambda n: 1 / 0, {}, "n = 64: ZeroDivisionError"),
        (_wants_latents, {}, "for latents give latent_dim"),
        (_wants_latents, {"latent_dim": 0}, "latent_dim must be at least 1"),
        (Silent(), {}, "give latent_dim"),
        (Silent(), {"latent_dim": 7}, "shape (64, 7)"),
        (Telling(), {"latent_dim": 7}, "6 values, not of 7"),
        (Telling().sample, {"latent_dim": 6}, "leave out latent_dim"),
        (Silent, {}, "Silent: is a class"),
        (_two, {}, "_two: needs more arguments"),
        (_none, {}, "_none: takes no argument"),
        (17, {}, "int cannot be scored"),
        (None, {}, "None cannot be scored"),
        ("nowhere.zip", {}, "nowhere.zip: no such file"),
        (Telling(), {"device": "meta"}, "device='meta' cannot be used"),
        (Telling(), {"device": "nonsense"}, "device='nonsense' cannot be used"),
        (Telling().to("meta"), {"device": "cpu"}, "on meta, not on cpu"),
        (Telling(), {"samples": FEW - 1}, "5,760 samples are too few"),
        (Telling(), {"samples": 9.5}, "samples must be an integer"),
        (Telling(), {"samples": 9000, "protocol": "chi2-20k"}, "samples or protocol"),
        (Telling(), {"recognizer": 3}, "recognizer must be lite, hd"),
        (Telling(), {"recognizer": "nobody"}, "nobody: no such recognizer"),
        (Telling(), {"range": "wide"}, "range must be one of auto"),
        (Telling(), {"distribution": 4}, "distribution must be a Distribution"),
        (Telling(), {"features": 7, "fidelity": 100}, "features must be a name"),
        (Telling(), {"features": "vgg"}, "features goes with fidelity"),
        (Telling(), {"batch": 0}, "batch must be at least 1"),
        (Telling(), {"seed": -1}, "-1"),
        (Written(), {"latent_dim": 3}, "is a source already"),
        (Written(count=100), {"samples": None}, "100 images, too few"),
    ],
)  # fmt: skip
def test_one_clear_line(generator: Any, options: dict[str, Any], message: str) -> None:
    before = random_states()
    with pytest.raises(ShapesHDError) as caught:
        scored(generator, **{"samples": FEW, **options})
    words = str(caught.value)
    assert re.sub(r"\s+", " ", words) == words
    assert message in words
    assert " --" not in words
    assert random_states() == before
