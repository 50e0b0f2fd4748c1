"""The recognizer: from factors to what the network should say, and back; and its errors."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from shapeshd.benchmark.recognizer import find as module
from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.recognizer.network import Reading, RecognitionNetwork
from shapeshd.benchmark.recognizer.recognizer import (
    KIND,
    Recognizer,
    decode_reading,
    encode_factors,
    load_recognizer,
)
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import FACTORS, SHAPE, FloatArray, bin_indices, uniform_factors
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.checkpoint import read_card, save_checkpoint
from tests.support.tiny_training import TINY

HUES = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 1e-300, 1e-17, 1e-9, 1 - 2**-53, 1 - 1e-9, 1.0, 0.25, 0.5, 0.75]),
)
ROWS = st.tuples(HUES, HUES, HUES, st.floats(1, 2), st.integers(0, 3), st.floats(-30, 30))


def perfect(factors: FloatArray) -> Reading:
    """Return the reading that says `factors` exactly."""
    hues, scale, orientation, shape = encode_factors(factors)
    return Reading(hues, scale, orientation, torch.nn.functional.one_hot(shape, 4).float())


def network(size: int = 64, seed: int = 0) -> RecognitionNetwork:
    torch.manual_seed(seed)
    return RecognitionNetwork(replace(TINY, size=size))


def saved(path: Path, **changes: object) -> Path:
    net = network()
    card = {"network": net.config.to_json(), **changes}
    save_checkpoint(path, KIND, net.state_dict(), card)
    return path


@pytest.fixture(scope="module")
def images() -> Tensor:
    return trace_images(uniform_factors(1, 0, 150), 64)


@settings(max_examples=200)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_decoding_undoes_encoding(rows: list[tuple[float, ...]]) -> None:
    factors = np.array(rows, dtype=np.float64)
    found = decode_reading(perfect(factors)).numpy()
    assert found.dtype == np.float64
    turns = (found[:, :3] - factors[:, :3] + 0.5) % 1 - 0.5
    assert np.abs(turns).max() < 1e-7
    assert ((found[:, :3] >= 0) & (found[:, :3] < 1)).all()
    np.testing.assert_allclose(found[:, 3], factors[:, 3], atol=1e-7)
    np.testing.assert_array_equal(found[:, 4], factors[:, 4])
    np.testing.assert_allclose(found[:, 5], factors[:, 5], atol=2e-6)


def test_encoding_by_hand() -> None:
    factors = np.array([[0.0, 0.25, 0.5, 1.0, 3, -30.0], [0.75, 0.125, 1.0, 1.75, 0, 15.0]])
    hues, scale, orientation, shape = encode_factors(factors)
    half = math.sqrt(0.5)
    expected = [[[1, 0], [0, 1], [-1, 0]], [[0, -1], [half, half], [1, 0]]]
    np.testing.assert_allclose(hues, expected, atol=1e-7)
    assert scale.tolist() == [0, 0.75]
    assert orientation.tolist() == [-1, 0.5]
    assert shape.tolist() == [3, 0]
    assert [part.dtype for part in (hues, scale, orientation)] == [torch.float32] * 3


@pytest.mark.parametrize("sine", [0.0, -0.0, -1e-45, 1e-45, -1e-20, 1e-20, -1e-7])
def test_a_hue_just_below_red_is_no_whole_turn(sine: float) -> None:
    reading = perfect(uniform_factors(0, 0, 1))
    reading.hues[:] = torch.tensor([1.0, sine])
    found = decode_reading(reading).numpy()[:, :3]
    assert ((found >= 0) & (found < 1)).all()
    assert set(bin_indices(decode_reading(reading).numpy())[0, :3]) <= {0, 11}


def test_the_length_of_a_hue_does_not_matter_and_ranges_are_kept() -> None:
    factors = uniform_factors(4, 0, 50)
    reading = perfect(factors)
    loose = reading._replace(hues=0.1 * reading.hues, scale=reading.scale * 9 - 4,
                             orientation=reading.orientation * 5)  # fmt: skip
    found = decode_reading(loose).numpy()
    np.testing.assert_allclose(found[:, :3], factors[:, :3], atol=1e-6)
    for column in (3, 5):
        low, high = FACTORS[column].low, FACTORS[column].high
        assert (found[:, column].min(), found[:, column].max()) == (low, high)


@pytest.mark.parametrize("part", ["hues", "scale", "orientation"])
def test_nan_stays_nan_in_its_own_column(part: str) -> None:
    reading = perfect(uniform_factors(4, 0, 3))
    getattr(reading, part)[1] = math.nan
    found = decode_reading(reading).isnan()
    columns = {"hues": [0, 1, 2], "scale": [3], "orientation": [5]}[part]
    assert found.nonzero().tolist() == [[1, column] for column in columns]


@pytest.mark.parametrize("part", ["pointer.masks.bias", "geometry.head.4.weight"])
def test_damaged_weights_are_said_in_one_line(images: Tensor, part: str) -> None:
    net = network()
    with torch.no_grad():
        net.state_dict()[part].fill_(math.nan)
    with pytest.raises(ShapesHDError, match="bad gives NaN") as caught:
        Recognizer(net, "bad")(images[:3])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 3, 64, 64),
        torch.zeros(2, 3, 64, 64, dtype=torch.int64),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 64, 64, 3, dtype=torch.uint8),
        torch.zeros(2, 1, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 3, 64, 32, dtype=torch.uint8),
        torch.zeros(2, 3, 256, 256, dtype=torch.uint8),
    ],
    ids=lambda tensor: f"{tensor.dtype}{tuple(tensor.shape)}",
)
def test_other_images_are_refused(wrong: Tensor) -> None:
    with pytest.raises(UsageError) as caught:
        Recognizer(network(), "mine")(wrong)
    words = str(caught.value)
    assert "mine reads uint8 images of shape (n, 3, 64, 64)" in words
    assert str(tuple(wrong.shape)) in words
    assert str(wrong.dtype).removeprefix("torch.") in words


def test_no_images_give_no_factors() -> None:
    found = Recognizer(network(), "mine")(torch.zeros(0, 3, 64, 64, dtype=torch.uint8))
    assert found.shape == (0, 6)


@pytest.mark.parametrize("size", [64, 256])
def test_threads_and_batches_change_nothing_beyond_rounding(size: int) -> None:
    pictures = trace_images(uniform_factors(1, 0, 9 if size == 256 else 150), size)
    recognizer = Recognizer(network(size), "mine")
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            for batch in (1, 7, 64, 1000):
                recognizer._batch = batch
                found.append(recognizer(pictures))
                np.testing.assert_array_equal(recognizer(pictures), found[-1])
    finally:
        torch.set_num_threads(threads)
    assert np.isfinite(found[0]).all()
    for other in found[1:]:
        turns = (other[:, :3] - found[0][:, :3] + 0.5) % 1 - 0.5
        assert np.abs(turns).max() < 1e-4
        np.testing.assert_allclose(other[:, 3:], found[0][:, 3:], atol=1e-3)


def test_it_reads_what_the_network_says(images: Tensor) -> None:
    net = network().eval()
    recognizer = Recognizer(net, "mine")
    with torch.inference_mode():
        expected = decode_reading(net(images)).numpy()
    found = recognizer(images)
    assert found.shape == (150, 6)
    assert set(found[:, SHAPE]) <= {0, 1, 2, 3}
    np.testing.assert_allclose(found[:, 3:], expected[:, 3:], atol=1e-3)
    np.testing.assert_allclose(recognizer(images.flip(0))[::-1, 3:], found[:, 3:], atol=1e-3)


def test_any_layout_in_memory_is_read(images: Tensor) -> None:
    recognizer = Recognizer(network(), "mine")
    apart = images[:4].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    np.testing.assert_allclose(recognizer(apart), recognizer(images[:4]), atol=1e-3)


def test_saved_and_loaded_it_reads_the_same(tmp_path: Path, images: Tensor) -> None:
    path = saved(tmp_path / "recognizer.safetensors", note="x")
    expected = Recognizer(network(), "mine")(images)
    for name in (path, str(path), tmp_path):
        found = load_recognizer(name)
        np.testing.assert_array_equal(found(images), expected)
        assert found.digest == hashlib.sha256(save(network().state_dict())).hexdigest()
        assert (found.name, found.size, found.device.type) == (str(name), 64, "cpu") or (
            name == tmp_path and found.name == str(path)
        )
        assert found.card.to_json()["note"] == "x"
    assert not found.network.training


def test_half_precision_weights_are_read_in_single(tmp_path: Path, images: Tensor) -> None:
    net = network()
    half = {name: tensor.half() for name, tensor in net.state_dict().items()}
    card = {"network": net.config.to_json()}
    save_checkpoint(tmp_path / "half.safetensors", KIND, half, card)
    net.load_state_dict(half)
    found = load_recognizer(tmp_path / "half.safetensors")(images)
    np.testing.assert_array_equal(found, Recognizer(net, "mine")(images))


def test_the_shipped_ones_lie_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_recognizer("lite") == Path(module.__file__).parent / "weights/lite.safetensors"
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    path = saved(tmp_path / "hd.safetensors")
    assert find_recognizer("hd") == path
    assert load_recognizer("hd").name == "hd"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^litle: .*lite, .*hd"):
        find_recognizer("litle")
    with pytest.raises(UsageError, match=r"no recognizer\.safetensors: it is no recognizer's"):
        find_recognizer(tmp_path)
    with pytest.raises(UsageError, match="name is empty; say lite"):
        find_recognizer("")


def test_another_kind_of_network(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "g.safetensors", "generator", {"a": torch.zeros(1)}, {})
    with pytest.raises(UsageError, match="generator, not a recognizer"):
        load_recognizer(tmp_path / "g.safetensors")


def test_cards_that_do_not_fit_the_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "r.safetensors")
    tensors, values = network().state_dict(), read_card(path)
    cases = [
        ({**values["network"], "width": 16}, "has the shape"),
        ({**values["network"], "blocks": [1, 1, 2]}, "lacks the tensor"),
        ({**values["network"], "size": 128}, "lacks the tensor geometry.stem"),
        ({**values["network"], "blocks": [1, 1, 0]}, "holds the tensor"),
        ({**values["network"], "colour": 1}, "'colour'"),
        ("lite", "network"),
        (None, "network"),
    ]
    for broken, words in cases:
        save_checkpoint(path, KIND, tensors, {**values, "network": broken})
        with pytest.raises(UsageError, match=words) as caught:
            load_recognizer(path)
        assert "\n" not in str(caught.value)
    del values["network"]
    save_checkpoint(path, KIND, tensors, values)
    with pytest.raises(UsageError, match="has no entry 'network'"):
        load_recognizer(path)
