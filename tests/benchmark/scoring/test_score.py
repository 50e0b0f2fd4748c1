"""`score` on sources whose truth is known exactly: counts, going on, refusals, the result."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shapeshd.benchmark.report.terminal import describe
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings, choose_samples
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.errors import InterruptedRunError, ShapesHDError, UsageError
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS
from tests.support.fake_scores import ReadsWritten, Written, check_tally, written_images
from tests.support.simulated_results import accuracy, noise_floor

FEW = 5_761
FILES = {".work", "result.json", "histogram.npy", "examples.npz", "report.html"}


pytestmark = pytest.mark.usefixtures("no_page")


def held(out: Path) -> Tally:
    """What lies in the folder, all processes together."""
    total = Tally()
    for path in (out / ".work").glob("tally-*.npz"):
        total.merge(Tally.load(path)[0])
    return total


def check_folder(out: Path, truth: np.ndarray) -> None:
    check_tally(held(out), truth)
    histogram = np.load(out / "histogram.npy")
    np.testing.assert_array_equal(histogram, np.bincount(truth, minlength=NUM_BINS))


@pytest.mark.parametrize(
    ("n", "side", "size"),
    [(FEW, 64, 64), (8_192, 64, 64), (8_193, 64, 64), (FEW, 128, 64), (FEW, 128, 128),
     (6_001, 100, 64)],
)  # fmt: skip
def test_the_histogram_is_the_truth(tmp_path: Path, n: int, side: int, size: int) -> None:
    source = Written(side, crowded=True)
    result = score_source(source, ReadsWritten(size), tmp_path / "out", ScoreSettings(samples=n))
    check_folder(tmp_path / "out", source.bins(0, n))
    assert result is not None
    assert result.samples == n
    assert result.images.resized_to == (None if side == size else size)


def test_a_source_that_ends(tmp_path: Path) -> None:
    source = Written(count=7_001, crowded=True)
    result = score_source(source, ReadsWritten(), tmp_path / "all")
    assert result is not None
    assert result.samples == result.source.count == 7_001
    check_folder(tmp_path / "all", source.bins(0, 7_001))
    score_source(source, ReadsWritten(), tmp_path / "most", ScoreSettings(samples=7_000))
    check_folder(tmp_path / "most", source.bins(0, 7_000))


def test_a_recognizer_is_chosen_by_the_images_size(tmp_path: Path) -> None:
    asked: list[int] = []

    def choose(side: int) -> ReadsWritten:
        asked.append(side)
        return ReadsWritten()

    score_source(Written(128), choose, tmp_path / "out", ScoreSettings(samples=FEW))
    assert asked == [128]


def test_an_extended_run_equals_a_long_one(tmp_path: Path) -> None:
    source = Written(crowded=True)
    for n in (FEW, 8_192, 9_001):
        score_source(source, ReadsWritten(), tmp_path / "often", ScoreSettings(samples=n))
        check_folder(tmp_path / "often", source.bins(0, n))
    once = score_source(
        Written(crowded=True), ReadsWritten(), tmp_path / "once", ScoreSettings(samples=9_001)
    )
    often = json.loads((tmp_path / "often" / "result.json").read_text())
    assert once is not None
    said = once.to_json()
    for result in (said, often):
        del result["run"], result["created"]
    assert said == often
    for name in ("histogram.npy", "examples.npz"):
        one, other = (tmp_path / folder / name for folder in ("once", "often"))
        if name.endswith("npy"):
            assert one.read_bytes() == other.read_bytes()
            continue
        with np.load(one) as first, np.load(other) as second:
            for key in first:
                np.testing.assert_array_equal(first[key], second[key])


def test_a_network_sees_the_same_batches_however_a_run_is_cut(tmp_path: Path) -> None:
    source = Written()
    for n in (FEW, 6_000, 9_000):
        score_source(source, ReadsWritten(), tmp_path / "out", ScoreSettings(samples=n))
    pieces = {(start, stop) for start, stop in source.asked if stop - start > 8}
    assert pieces == {(start, start + 512) for start in range(0, 9_000, 512)}


def test_a_finished_run_is_not_read_again(tmp_path: Path) -> None:
    first = score_source(Written(), ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    source = Written()
    again = score_source(source, ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    assert again == first
    # For the size of its images, and to see that they are still the same.
    assert source.asked == [(0, 1), (0, 8), (4096, 4097)]


def test_examples_are_those_of_the_samples(tmp_path: Path) -> None:
    source = Written(crowded=True)
    score_source(source, ReadsWritten(), tmp_path / "out", ScoreSettings(samples=9_000))
    with np.load(tmp_path / "out" / "examples.npz", allow_pickle=False) as file:
        found = dict(file)
    for image, index, cell in zip(
        found["images"], found["image_index"], found["image_cell"], strict=True
    ):
        true = np.array(np.unravel_index(source.bins(index, index + 1)[0], BIN_SHAPE))
        wanted = found["bins"][cell]
        assert ((wanted < 0) | (wanted == true)).all()
        expected = written_images(source.bins(index, index + 1), 64)[0].permute(1, 2, 0)
        np.testing.assert_array_equal(image, expected.numpy())


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a score of few samples, which no test changes."""
    out = tmp_path_factory.mktemp("few") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "write_report", lambda *_: None)
        score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=FEW))
    return out


@pytest.mark.parametrize(
    ("settings", "digest", "options", "message"),
    [
        ({"seed": 1}, "0", SourceOptions(), "with seed 0, not 1"),
        ({}, "1", SourceOptions(), 'with recognizer "0000'),
        ({}, "0", SourceOptions(range="unit"), 'with range "auto", not "unit"'),
        ({}, "0", SourceOptions(batch=8), "with batch 64, not 8"),
        ({"name": "other"}, "0", SourceOptions(), 'with source "written", not "other"'),
        ({"count": 50_000}, "0", SourceOptions(), "with images null, not 50000"),
    ],
)
def test_other_settings_are_refused_by_name(
    few: Path, settings: dict[str, Any], digest: str, options: SourceOptions, message: str
) -> None:
    source, reader = Written(**settings), ReadsWritten(digest=digest * 64)
    with pytest.raises(UsageError, match=re.escape(message)):
        asked = ScoreSettings(samples=9_000, seed=source.seed, options=options)
        score_source(source, reader, few, asked)
    check_folder(few, Written().bins(0, FEW))


def test_options_that_decide_nothing_about_images_may_change(few: Path, tmp_path: Path) -> None:
    out = shutil.copytree(few, tmp_path / "out")
    patient = SourceOptions(timeout=5.0)
    score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=FEW + 1, options=patient))
    check_folder(out, Written().bins(0, FEW + 1))


def test_a_changed_file_of_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    images = np.random.default_rng(0).integers(0, 255, (FEW, 32, 32, 3), dtype=np.uint8)
    np.save(path, images)

    def run() -> None:
        with open_source(str(path)) as source:
            score_source(source, Half(), tmp_path / "out")

    class Half(ReadsWritten):
        def __call__(self, images: torch.Tensor) -> np.ndarray:
            return np.full((len(images), 6), 0.5)

    run()
    run()
    images[77, 3, 3, 0] ^= 1
    np.save(path, images)
    with pytest.raises(UsageError, match=r"images\.npy has changed.*again"):
        run()


def test_fewer_samples_than_counted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=6_000))
    with pytest.raises(UsageError, match="holds 6,000 samples already"):
        score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=FEW))
    check_folder(out, Written().bins(0, 6_000))


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    file, foreign = tmp_path / "file", tmp_path / "foreign"
    file.write_text("mine")
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    for out, message in ((file, "is a file; out"), (foreign, "thesis.tex")):
        with pytest.raises(UsageError, match=message):
            score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=FEW))
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    assert file.read_text() == "mine"
    for nowhere in (file / "out", Path("/proc/out")):
        with pytest.raises(OSError, match=re.escape(str(nowhere))):
            score_source(Written(), ReadsWritten(), nowhere, ScoreSettings(samples=FEW))


@pytest.mark.parametrize(
    ("samples", "protocol", "count", "message"),
    [
        (FEW - 1, None, None, "5,760 samples are too few"),
        (None, None, 5_000, "5,000 images, too few"),
        (9_000, None, 8_000, "8,000 images, fewer than 9,000"),
        (None, "chi2-20k", 8_000, "8,000 images, fewer than 3,317,760"),
        (9_000, "chi2-20k", None, "samples or protocol"),
        (None, "fid", None, "'fid'; there is chi2-20k"),
        (0, None, None, "samples must be between"),
        (-1, None, None, "samples must be between"),
        (2**40, None, None, "samples must be between"),
    ],
)
def test_impossible_numbers(
    tmp_path: Path, samples: int | None, protocol: str | None, count: int | None, message: str
) -> None:
    source = Written(count=count)
    with pytest.raises(UsageError, match=re.escape(message)):
        settings = ScoreSettings(samples=samples, protocol=protocol)
        score_source(source, ReadsWritten(), tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
    assert source.asked == []


def test_how_many_samples() -> None:
    assert choose_samples(Written(), None, None) == 100_000
    assert choose_samples(Written(count=6_000), None, None) == 6_000
    assert choose_samples(Written(), None, "chi2-20k") == 3_317_760
    assert choose_samples(Written(count=6_000), FEW, None) == FEW


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 64, 48), "48x64 pixels"), ((3, 16, 16), "too few to read")],
)
def test_images_that_cannot_be_read(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    class Other(Written):
        def images(self, start: int, stop: int) -> torch.Tensor:
            return torch.zeros((stop - start, *shape), dtype=torch.uint8)

    with pytest.raises(UsageError, match=message):
        score_source(Other(), ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    assert not (tmp_path / "out").exists()


def test_a_source_that_fails_on_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error, message in (
        (ShapesHDError("gen.pt: the generator fell over"), "gen.pt: the generator fell over"),
        (OSError(5, "Input/output error", "a.png"), "Input/output error: 'a.png'; "),
        (RuntimeError("CUDA error:\n out of memory"), "CUDA error: out of memory; "),
    ):
        broken = Written(crowded=True, fail_at=7_000, error=error)
        with pytest.raises(ShapesHDError) as stop:
            score_source(broken, ReadsWritten(), out, ScoreSettings(samples=9_000))
        assert stop.value.exit_code == 1
        assert "\n" not in str(stop.value)
        assert message in str(stop.value)
        assert "6,656 of 9,000 samples" in str(stop.value)
        check_tally(held(out), broken.bins(0, 6_656))
    mended = Written(crowded=True)
    result = score_source(mended, ReadsWritten(), out, ScoreSettings(samples=9_000))
    check_folder(out, mended.bins(0, 9_000))
    assert result is not None
    assert result.run.resumed
    assert min(start for start, stop in mended.asked if stop - start > 8) == 6_656


def test_a_recognizer_that_says_nan(tmp_path: Path) -> None:
    class Sick(ReadsWritten):
        calls = 0

        def __call__(self, images: torch.Tensor) -> np.ndarray:
            factors = super().__call__(images)
            self.calls += 1
            if self.calls == 3:
                factors[5, 3] = np.nan
            return factors

    with pytest.raises(ShapesHDError, match=r"scale .*nan.* 1,024"):
        score_source(Written(crowded=True), Sick(), tmp_path / "out", ScoreSettings(samples=9_000))
    score_source(
        Written(crowded=True), ReadsWritten(), tmp_path / "out", ScoreSettings(samples=9_000)
    )
    check_folder(tmp_path / "out", Written(crowded=True).bins(0, 9_000))


def test_an_interrupt_keeps_what_is_counted(tmp_path: Path) -> None:
    pressed = Written(crowded=True, fail_at=5_000)
    pressed.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(InterruptedRunError, match=r"interrupted.* 4,608 of 9,000"):
        score_source(pressed, ReadsWritten(), tmp_path / "out", ScoreSettings(samples=9_000))
    check_tally(held(tmp_path / "out"), pressed.bins(0, 4_608))


def test_constant_images_get_a_result_that_says_so(tmp_path: Path) -> None:
    class Constant(Written):
        def bins(self, start: int, stop: int) -> np.ndarray:
            return np.full(stop - start, 4_321)

    result = score_source(Constant(), ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    assert result is not None
    assert not result.verdict.passed
    assert "one and the same" in result.verdict.text
    json.loads((tmp_path / "out" / "result.json").read_text(), parse_constant=pytest.fail)


def test_no_examples_are_no_reason_to_lose_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Forgetful(Written):
        def images(self, start: int, stop: int) -> torch.Tensor:
            if max(self.asked, default=(0, 0))[0] > 5_000 and stop - start == 1:
                raise self.error
            return super().images(start, stop)

    source = Forgetful()
    result = score_source(source, ReadsWritten(), tmp_path / "out", ScoreSettings(samples=FEW))
    assert result is not None
    assert result.examples.file is None
    assert "no example images" in capsys.readouterr().err
    check_folder(tmp_path / "out", source.bins(0, FEW))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything, of a recognizer that has a card."""
    out = tmp_path_factory.mktemp("whole") / "deep" / "out"
    reader = ReadsWritten(accuracy=accuracy(), noise_floor=noise_floor())
    with pytest.MonkeyPatch.context() as patch:
        # Figures take seconds; tests of the page look at them.
        empty = dict.fromkeys(("wide", "narrow"), "data:image/svg+xml;base64,")
        patch.setattr("shapeshd.benchmark.report.sections.both_widths", lambda _: empty)
        settings = ScoreSettings(samples=8_000, seed=3)
        score_source(Written(128, seed=3), reader, out, settings, command="shapeshd score x")
    return out


def test_the_result_agrees_with_its_histogram(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == FILES
    text = (whole / "result.json").read_text()
    result = json.loads(text, parse_constant=pytest.fail)  # no NaN, no infinity
    counts = np.load(whole / "histogram.npy", allow_pickle=False)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(
        counts, np.bincount(Written(seed=3).bins(0, 8_000), minlength=NUM_BINS)
    )
    assert result["histogram"]["sha256"] == hashlib.sha256(counts.tobytes()).hexdigest()
    assert result["fit"] == json.loads(json.dumps(goodness_of_fit(counts).to_json()))
    assert result["decomposition"] == json.loads(json.dumps(decompose(counts).to_json()))
    table = counts.reshape(BIN_SHAPE)
    assert list(result["marginals"]) == list(NAMES)
    assert result["marginals"]["shape"] == table.sum(axis=(0, 1, 2, 3, 5)).tolist()
    assert len(result["pairs"]) == 15
    for pair in result["pairs"]:
        axes = [NAMES.index(name) for name in pair["factors"]]
        expected = table.sum(axis=tuple(axis for axis in range(6) if axis not in axes))
        assert pair["counts"] == expected.tolist()
    assert (result["samples"], result["seed"], result["protocol"]) == (8_000, 3, None)
    assert result["images"] == {
        "height": 128, "width": 128, "resized_to": 64, "resized_by": "area",
        "drawn_from": None, "converted": {},
    }  # fmt: skip
    assert result["recognizer"]["accuracy"] == accuracy()
    assert 0.9 < result["attenuation"]["factors"]["scale"] < 1
    assert len(result["references"]) == 3
    assert result["verdict"]["passed"]
    assert result["run"]["world_size"] == 1
    assert not result["run"]["resumed"]
    assert result["run"]["command"] == "shapeshd score x"
    assert "</html>" in (whole / "report.html").read_text()


class Converted(Written):
    """Every third image has a colour profile, and every seventh is turned."""

    def conversions(self, numbers: range) -> Counter[str]:
        return Counter(
            profile=len([n for n in numbers if n % 3 == 0]),
            turned=len([n for n in numbers if n % 7 == 0]),
        )


def test_what_was_done_to_images_is_counted_once_however_a_score_goes_on(tmp_path: Path) -> None:
    for n in (6_000, 7_500):  # no multiples of a piece
        found = score_source(Converted(), ReadsWritten(), tmp_path, ScoreSettings(samples=n))
        assert found is not None
        assert found.images.converted == {"profile": -(-n // 3), "turned": -(-n // 7)}
    text = " ".join(describe(found).split())
    assert "converted to 8-bit sRGB: 2,500 profile, 1,072 turned" in text


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    peaks = []
    for n in (10_000, 50_000):
        tracemalloc.start()
        score_source(Written(), ReadsWritten(), tmp_path / str(n), ScoreSettings(samples=n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
