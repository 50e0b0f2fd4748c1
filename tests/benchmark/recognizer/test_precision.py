"""The precision of a recognizer: what chooses it, what it changes, and whose figures count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shapeshd.benchmark import api
from shapeshd.benchmark.leaderboard.compare import comparison_warnings
from shapeshd.benchmark.metric import DistributionScore
from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.evaluate import evaluate_recognizer
from shapeshd.benchmark.recognizer.network import RecognitionNetwork
from shapeshd.benchmark.recognizer.pixels import hue_vectors, hue_vectors_of_sums, squares
from shapeshd.benchmark.recognizer.precision import chosen_precision, computes_bf16
from shapeshd.benchmark.recognizer.recognizer import KIND, Recognizer, load_recognizer
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.identity import difference
from shapeshd.benchmark.scoring.run_folder import precision_of
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.checkpoint import read_card, save_checkpoint
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.simulated_results import accuracy, noise_floor, simulated, simulated_result
from tests.support.tiny_training import TINY

CPU = torch.device("cpu")
FEW = 5_761
MEASURED = {"accuracy": {"images": 10, "joint_accuracy": 0.9}}

pytestmark = pytest.mark.usefixtures("no_page")


def network(size: int = 64) -> RecognitionNetwork:
    """Return a small network with random weights, none of them 0."""
    torch.manual_seed(0)
    made = RecognitionNetwork(type(TINY)(**{**vars(TINY), "size": size})).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith("second.weight"):
                weight.normal_(std=0.05)
    return made


class InBf16(ReadsWritten):
    """Says that it reads in bf16."""

    precision = "bf16"


@pytest.mark.parametrize(
    ("avx", "amx", "onednn", "native"),
    [(True, False, True, True), (False, True, True, True), (False, False, True, False),
     (True, True, False, False)],
)  # fmt: skip
def test_what_a_cpu_computes_natively(
    monkeypatch: pytest.MonkeyPatch, avx: bool, amx: bool, onednn: bool, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert computes_bf16(CPU) is native


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True)])
def test_what_a_gpu_computes_natively(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], native: bool
) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert computes_bf16(torch.device("cuda:0")) is native
    assert not computes_bf16(torch.device("mps"))


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bf16_where_card_and_hardware_say_so(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr("shapeshd.benchmark.recognizer.precision.computes_bf16", lambda _: native)
    known, unknown = RecognizerCard.read({"bf16": MEASURED}), RecognizerCard.read(MEASURED)
    assert chosen_precision("auto", CPU, known) == ("bf16" if native else "fp32")
    assert chosen_precision("auto", CPU, unknown) == "fp32"
    for asked in ("fp32", "bf16"):
        assert chosen_precision(asked, CPU, unknown) == asked
    with pytest.raises(UsageError, match=r"precision.*'fp16'"):
        chosen_precision("fp16", CPU, known)


@pytest.mark.parametrize("size", [64, 256])
def test_convolutions_in_bf16_are_those_of_autocast(size: int) -> None:
    net, images = network(size), trace_images(uniform_factors(1, 0, 4), size)
    with torch.inference_mode():
        found, exact = net.in_bf16()(images), net(images)
        with torch.autocast("cpu", torch.bfloat16):
            expected = net(images)
    for mine, theirs, single in zip(found, expected, exact, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=5e-3, rtol=1e-2)
        assert not torch.equal(mine, single)
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


def test_a_recognizer_in_bf16_leaves_the_network_as_it_is() -> None:
    net, images = network(), trace_images(uniform_factors(1, 0, 20), 64)
    before = Recognizer(net, "mine")(images)
    coarse = Recognizer(net, "mine", precision="bf16")
    assert coarse.precision == "bf16"
    assert coarse.network is net
    found = coarse(images)
    assert not np.array_equal(found, before)
    np.testing.assert_allclose(found[:, 3], before[:, 3], atol=0.02)
    assert coarse.features(images).dtype == np.float32
    np.testing.assert_array_equal(Recognizer(net, "mine")(images), before)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_squares_against_unfold(side: int) -> None:
    torch.manual_seed(0)
    levels = torch.randint(0, 256, (3 * 2 * 3 * 12 * 24 + 1,), dtype=torch.uint8)
    images = levels[1:].view(-1, 3, 12, 24)  # not aligned in memory
    expected = F.unfold(images.float(), side, stride=side).transpose(1, 2)
    for given in (images, images.clone(), images.float()):
        torch.testing.assert_close(squares(given, side), expected, rtol=0, atol=0)


@pytest.mark.parametrize("side", [1, 4])
def test_hues_by_the_table_are_those_of_the_means(side: int) -> None:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    means = F.avg_pool2d(images.double(), side) / 255
    sums = (means * 255 * side**2).round().float()
    found = hue_vectors_of_sums(sums, side**2)
    torch.testing.assert_close(found.double(), hue_vectors(means), atol=3e-6, rtol=0)


def test_the_stem_is_a_convolution() -> None:
    net, images = network(256), trace_images(uniform_factors(1, 0, 3), 256)
    stem = net.geometry.stem
    with torch.inference_mode():
        expected = F.relu(stem(images.double().sub(127.5).div(255).float()))
        for given in (images, images.float() / 255):
            found = net._pixels(given)
            torch.testing.assert_close(found[2], expected, atol=1e-5, rtol=1e-5)
            means = F.avg_pool2d(images.float(), 4) / 255
            torch.testing.assert_close(found[0], means, atol=1e-6, rtol=0)


def test_figures_in_bf16_stand_beside_those_in_fp32(tmp_path: Path) -> None:
    path, net = tmp_path / "recognizer.safetensors", network()
    save_checkpoint(path, KIND, net.state_dict(), {"network": net.config.to_json()})
    images = RenderSpec(seed=5, count=40, size=64)
    for precision in ("fp32", "bf16"):
        found = evaluate_recognizer(str(path), images, precision=precision, write_card=True)
        assert found.to_json()["recognizer"]["precision"] == precision
        card = RecognizerCard.read(read_card(path))
        measured = card.measured(precision).accuracy
        assert measured is not None
        assert measured.to_json() == found.accuracy.to_json()
    assert card.accuracy is not None
    assert card.bf16 is not None
    assert card.accuracy != card.bf16.accuracy
    assert load_recognizer(path, precision="bf16").precision == "bf16"
    again = evaluate_recognizer(str(path), images, precision="auto", write_card=True)
    assert again.recognizer.precision == "fp32"


def test_a_result_has_the_figures_of_the_precision_in_use(tmp_path: Path) -> None:
    fine, coarse = accuracy(), {**accuracy(), "joint_accuracy": 0.5}
    table = np.full((12, 12), 1) + 40 * np.eye(12, dtype=int)
    hue = {**fine["factors"]["wall_hue"], "confusion": table.tolist()}
    coarse["factors"] = {**fine["factors"], "wall_hue": hue}
    card: dict[str, Any] = {
        "accuracy": fine, "noise_floor": noise_floor(),
        "bf16": {"accuracy": coarse, "noise_floor": {**noise_floor(), "images": 7_000}},
    }  # fmt: skip
    settings = ScoreSettings(samples=FEW, check_images=False)
    found: dict[str, Result] = {}
    for name, kind in (("plain", ReadsWritten), ("bf16", InBf16)):
        result = score_source(Written(), kind(**card), tmp_path / name, settings)
        assert result is not None
        found[name] = result
    plain, bf16 = found["plain"], found["bf16"]
    assert (plain.recognizer.precision, bf16.recognizer.precision) == (None, "bf16")
    for result, share, floor in ((plain, fine["joint_accuracy"], 100_000), (bf16, 0.5, 7_000)):
        assert result.recognizer.accuracy is not None
        assert result.recognizer.accuracy.joint_accuracy == share
        assert result.recognizer.noise_floor is not None
        assert result.recognizer.noise_floor.images == floor
        assert result.attenuation is not None
    left = (1 - 12 / 52) ** 2  # of a confusion of 40 I + 1, by hand
    assert bf16.attenuation.factors["wall_hue"] == pytest.approx(left)  # type: ignore[union-attr]
    assert plain.attenuation.factors["wall_hue"] > 0.98  # type: ignore[union-attr]
    assert bf16.detection_limit.divergence > plain.detection_limit.divergence


def test_a_score_goes_on_in_its_precision(tmp_path: Path) -> None:
    out, settings = tmp_path / "out", ScoreSettings(samples=FEW, check_images=False)
    assert precision_of(out, "auto") == "auto"
    score_source(Written(), InBf16(), out, settings)
    assert precision_of(out, "auto") == "bf16"
    assert precision_of(out, "fp32") == "fp32"
    assert precision_of(out, "auto", again=True) == "auto"

    class InFp32(InBf16):
        precision = "fp32"

    with pytest.raises(UsageError, match=r"precision.*bf16.*fp32"):
        score_source(Written(), InFp32(), out, settings)


def test_earlier_versions_counted_in_fp32() -> None:
    assert difference({}, {"precision": "fp32"}) is None
    assert difference({}, {"precision": None}) is None
    assert "precision" in (difference({}, {"precision": "bf16"}) or "")


def test_compare_warns_of_another_precision() -> None:
    recognizer = simulated("tilted")["recognizer"]
    results = {
        precision: simulated_result("tilted", recognizer={**recognizer, "precision": precision})
        for precision in ("fp32", "bf16")
    }
    older = simulated_result("tilted", recognizer=recognizer)
    assert comparison_warnings([older, results["fp32"]], ["a", "b"]) == []
    (warning,) = comparison_warnings([older, results["bf16"]], ["a", "b"])
    assert "precision" in warning
    assert "fp32, bf16" in warning


def test_what_cannot_be_chosen_is_refused() -> None:
    for wrong, recognizer in (("half", None), ("bf16", ReadsWritten())):
        with pytest.raises(UsageError, match="precision"):
            api.score("render:0:6000", recognizer=recognizer, precision=wrong)
        with pytest.raises(UsageError, match="precision"):
            DistributionScore(recognizer=recognizer, precision=wrong)
    assert DistributionScore(recognizer="lite", precision="bf16")._reader.precision == "bf16"  # type: ignore[union-attr]
