"""ImageForm: known answers, round trips, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import ShapesHDError, UsageError

LEVELS = np.arange(256, dtype=np.uint8)


def noise(count=4, height=8, width=10, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def ramp():
    """All 256 levels in each channel: uint8 (2, 3, 8, 16)."""
    return np.tile(LEVELS.reshape(2, 1, 8, 16), (1, 3, 1, 1))


def encode(pixels, range):
    values = pixels.astype(np.float64)
    return {"uint8": values, "unit": values / 255, "symmetric": values / 127.5 - 1}[range]


def form(**options):
    return ImageFormat(SourceOptions(**options), name="x")


@pytest.mark.parametrize("range", ["uint8", "unit", "symmetric"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("told", [True, False])
def test_every_level_comes_back(range, dtype, told):
    images = form(range=range if told else "auto")
    batch = encode(ramp(), range).astype(dtype)
    np.testing.assert_array_equal(images(batch).numpy(), ramp())
    said = images.describe()
    assert said["range"] == {"uint8": "0 to 255", "unit": "[0, 1]", "symmetric": "[-1, 1]"}[range]
    assert said["range_from"] == ("stated" if told else "inferred")
    assert said["clamped_share"] == 0


@settings(max_examples=60)
@given(
    pixels=hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(4, 9), st.integers(4, 9))
    ),
    range=st.sampled_from(["uint8", "unit", "symmetric"]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    layout=st.sampled_from(["nchw", "nhwc"]),
    as_tensor=st.booleans(),
)
def test_round_trip(pixels, range, dtype, layout, as_tensor):
    if range == "uint8" and pixels.max() == 1:
        return  # refused: see below
    batch = encode(pixels, range).astype(dtype)
    if layout == "nhwc":
        batch = batch.transpose(0, 2, 3, 1)
    images = form(range=range, layout=layout)
    result = images(torch.from_numpy(batch.copy()) if as_tensor else batch)
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), pixels)


def test_rounding_is_that_of_save_image_and_of_nvlabs(tmp_path):
    unit = torch.rand(5, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 1.04 - 0.02
    for number, image in enumerate(unit):
        torchvision.utils.save_image(image, tmp_path / f"{number}.png")
    saved = torch.stack(
        [
            torch.from_numpy(np.array(PIL.Image.open(tmp_path / f"{number}.png")))
            for number in range(5)
        ]
    )
    assert torch.equal(form()(unit), saved.permute(0, 3, 1, 2))
    symmetric = torch.randn(5, 3, 20, 20, generator=torch.Generator().manual_seed(1)) * 0.5
    nvlabs = (symmetric * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    assert torch.equal(form()(symmetric), nvlabs)


def test_uint8_stays_what_it_is_and_keeps_its_device_and_memory():
    pixels = torch.from_numpy(noise())
    images = form()
    assert images(pixels).data_ptr() == pixels.data_ptr()
    dark = torch.zeros(2, 3, 8, 10, dtype=torch.uint8)
    assert torch.equal(images(dark), dark)  # uint8 is 0 to 255, even if all is black
    assert images.describe() == {
        "dtype": "uint8",
        "layout": "nchw",
        "layout_from": "inferred",
        "range": "0 to 255",
        "range_from": "type",
    }


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint16", ">i4", "uint64"])
def test_integers_of_0_to_255(dtype):
    np.testing.assert_array_equal(form()(noise().astype(dtype)).numpy(), noise())


def test_layouts():
    pixels = noise()
    last = pixels.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(form()(last).numpy(), pixels)
    small = noise(4, 3, 3)
    np.testing.assert_array_equal(form(layout="nchw")(small).numpy(), small)
    np.testing.assert_array_equal(form(layout="nhwc")(small).numpy(), small.transpose(0, 3, 1, 2))
    learned = form()
    learned(noise(4, 5, 7))
    np.testing.assert_array_equal(learned(pixels[:, :, :5, :7]).numpy(), pixels[:, :, :5, :7])


def test_a_small_overshoot_is_clamped_and_told():
    batch = encode(np.tile(ramp(), (10, 1, 1, 1)), "symmetric")
    batch[0, 0, 0, :4] = [-1.3, 1.25, 1.002, 1.01]  # the third is within half a level
    images = form()
    result = images(batch)
    assert result[0, 0, 0, :4].tolist() == [0, 255, 255, 255]
    said = images.describe()
    assert said["clamped_share"] == pytest.approx(3 / batch.size)
    assert (said["lowest"], said["highest"]) == (-1.3, 1.25)
    images(encode(ramp(), "symmetric"))
    assert images.describe()["clamped_share"] == pytest.approx(3 / (batch.size + ramp().size))


def test_learning_does_not_count():
    images = form()
    assert images.describe() == {}
    images.learn(encode(ramp(), "unit"))
    assert images.describe()["range"] == "[0, 1]"
    assert "clamped_share" not in images.describe()


def test_values_that_need_a_gradient():
    batch = torch.from_numpy(encode(ramp(), "unit")).requires_grad_()
    np.testing.assert_array_equal(form()(batch).numpy(), ramp())


@pytest.mark.parametrize(
    ("values", "range"),
    [
        ((-1, 1), "symmetric"),
        ((-0.8, 0.9), "symmetric"),
        ((-1, -1), "symmetric"),
        ((-2.9, 3.1), "symmetric"),
        ((0, 1), "unit"),
        ((0.1, 0.6), "unit"),
        ((-0.04, 1.2), "unit"),
        ((0, 255), "uint8"),
        ((0, 20), "uint8"),
        ((-3, 257), "uint8"),
    ],
)
def test_what_is_inferred(values, range):
    batch = np.full((2, 3, 40, 40), sum(values) / 2)
    batch[0, 0, 0, :2] = values
    expected = {"uint8": "0 to 255", "unit": "[0, 1]", "symmetric": "[-1, 1]"}[range]
    images = form()
    images(batch)
    assert images.describe()["range"] == expected


@pytest.mark.parametrize(
    "values",
    [(0, 0), (0, 0.3), (0.3, 1), (1, 1), (-0.04, 0.3), (-0.01, 0.01), (0, 4), (0.5, 16)],
)
def test_what_is_ambiguous(values):
    batch = np.full((2, 3, 40, 40), sum(values) / 2)
    batch[0, 0, 0, :2] = values
    with pytest.raises(UsageError, match="give range: unit"):
        form()(batch)
    form(range="unit" if max(values) <= 1 else "uint8")(batch)  # saying it settles it


@pytest.mark.parametrize("values", [(-0.3, 0.9), (-0.2, 0.2), (-0.06, 1.3), (-0.49, -0.1)])
def test_negative_values_leave_one_range_which_is_taken_and_said(values, capsys):
    batch = np.full((2, 3, 40, 40), sum(values) / 2)
    batch[0, 0, 0, :2] = values
    images = form()
    images(batch)
    assert images.describe()["range"] == "[-1, 1]"
    told = capsys.readouterr().err
    assert "x: values from" in told and "[-1, 1]" in told and "range" in told
    assert len(told.splitlines()) == 1
    images(batch)
    form(range="symmetric")(batch)
    form()(np.linspace(-1, 1, 192).reshape(1, 3, 8, 8))  # a range that nobody needs to be told
    assert capsys.readouterr().err == ""


def refused(batches, message, **options):
    images = form(**options)
    with pytest.raises(ShapesHDError) as caught:
        for batch in batches:
            images(batch)
    text = str(caught.value)
    assert text.startswith("x: ")
    assert "\n" not in text
    assert re.search(message, text), text


def with_value(value, dtype=np.float32):
    batch = encode(noise(), "unit").astype(dtype)
    batch[1, 2, 3, 4] = value
    return batch


UNIT, SYMMETRIC, BYTES = (encode(noise(), name) for name in ("unit", "symmetric", "uint8"))

REFUSALS = {
    "nan": ([with_value(np.nan)], "1 NaN values in 1 of 4"),
    "infinite": ([with_value(np.inf)], "1 infinite values in 1 of 4"),
    "later nan": ([UNIT, with_value(np.nan)], "1 NaN"),
    "grey": ([noise()[:, :1]], "1 channel, grey"),
    "grey last": ([noise()[:, :1].transpose(0, 2, 3, 1)], "1 channel, grey"),
    "alpha": ([np.zeros((2, 4, 8, 8), np.uint8)], "4 channels; .*alpha"),
    "five channels": ([np.zeros((2, 5, 8, 8), np.uint8)], r"\(2, 5, 8, 8\), not"),
    "one image": ([noise()[0]], "one image"),
    "flat": ([np.zeros((4, 192), np.uint8)], r"\(4, 192\), not"),
    "none": ([noise()[:0]], "holds no images"),
    "layout": ([noise(4, 8, 3)], "give layout='nchw' or layout='nhwc'"),
    "bool": ([noise() > 100], r"truth values \(bool\)"),
    "bool tensor": ([torch.zeros(2, 3, 8, 8, dtype=torch.bool)], r"truth values \(bool\)"),
    "complex": ([noise() + 1j], "complex numbers"),
    "sparse": ([torch.zeros(2, 3, 8, 8).to_sparse()], "a sparse tensor"),
    "meta": ([torch.zeros(2, 3, 8, 8, device="meta")], "no values"),
    "objects": ([noise().astype(object)], "Python objects"),
    "texts": ([noise().astype("U3")], "<?U3, not images"),
    "16 bits": ([noise().astype(np.uint16) * 257], r"uint16 .*65\d+, not 0 to 255"),
    "negative": ([noise().astype(np.int16) - 128], "int16 .*-128 to 127, not 0 to 255"),
    "zeros and ones": ([noise().astype(np.int64) // 128], "int64 of 0 and 1"),
    "too bright": ([BYTES * 257], "far outside: give range"),
    "no range": ([SYMMETRIC * 5], "fit no range"),
    "later symmetric": ([UNIT, SYMMETRIC], r"range \[0, 1\] of the first batch"),
    "later unit": ([BYTES, UNIT], "range 0 to 255 of the first batch"),
    "later bytes": ([UNIT, BYTES], "far outside: give range"),
    "other size": ([UNIT, UNIT[:, :, :4]], "10x8 and then of 10x4"),
    "other type": ([UNIT, noise()], "float64 and then of uint8"),
    "other layout": ([noise(), noise().transpose(0, 2, 3, 1)], r"\(4, 8, 10, 3\), not"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case):
    refused(*REFUSALS[case])


TOLD = {
    "unit for bytes": (BYTES, "unit", r"the stated range \[0, 1\]"),
    "unit for symmetric": (SYMMETRIC, "unit", r"the stated range \[0, 1\]"),
    "symmetric for bytes": (BYTES, "symmetric", r"the stated range \[-1, 1\]"),
    "bytes for unit": (UNIT, "uint8", "the stated range 0 to 255"),
    "unit for uint8": (noise(), "unit", "holds uint8, .*leave out"),
    "symmetric for int": (noise().astype(int), "symmetric", "holds int64, .*leave out"),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_wrong_range_is_refused(case):
    batch, range, message = TOLD[case]
    refused([batch], message, range=range)


def test_a_wrong_layout_is_refused():
    refused([noise()], r"not \(n, H, W, 3\)", layout="nhwc")
