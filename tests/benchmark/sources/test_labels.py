"""Classes of conditional generators: which labels are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shapeshd.benchmark.sources import SourceOptions
from shapeshd.benchmark.sources.labels import choose_labels, stated_classes
from shapeshd.benchmark.sources.latents import normal_latents, sample_choices, sample_seeds
from shapeshd.benchmark.sources.option_values import parse_labels
from shapeshd.errors import UsageError


def test_choices_are_those_of_the_stream() -> None:
    """Word i of Philox belongs to sample i; its upper 40 bits, times the number, are the choice."""
    for seed, start, stop, count in [
        (0, 0, 9, 10),
        (7, 5, 12, 3),
        (2**62, 2**40 + 3, 2**40 + 5, 7),
    ]:
        generator = np.random.Philox(key=seed + (3 << 64))
        generator.advance(start // 4)
        words = [int(word) for word in generator.random_raw(64)][start % 4 :]
        wanted = [(word >> 24) * count >> 40 for word in words[: stop - start]]
        assert sample_choices(seed, start, stop, count).tolist() == wanted
    assert sample_choices(0, 4, 4, 10).tolist() == []
    assert not sample_choices(1, 0, 50, 1).any()
    assert sample_choices(1, 0, 50_000, 2**20).max() < 2**20


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 1000))
def test_a_choice_depends_on_seed_and_number_alone(
    seed: int, start: int, length: int, count: int
) -> None:
    whole = sample_choices(seed, start, start + 40, count)
    assert np.array_equal(sample_choices(seed, start, start + length, count), whole[:length])
    assert np.array_equal(sample_choices(seed, start + length, start + 40, count), whole[length:])
    assert whole.min() >= 0 and whole.max() < count


def test_choices_are_uniform_and_share_nothing_with_latents_or_seeds() -> None:
    drawn = sample_choices(0, 0, 200_000, 10)
    assert stats.chisquare(np.bincount(drawn, minlength=10)).pvalue > 0.001
    pairs = np.bincount(drawn[1:] * 10 + drawn[:-1], minlength=100)
    assert stats.chi2_contingency(pairs.reshape(10, 10)).pvalue > 0.001
    latents = normal_latents(0, 0, 20_000, 4).numpy()
    halves = np.sign(latents) > 0
    for column in halves.T:
        table = np.bincount(drawn[:20_000] * 2 + column, minlength=20).reshape(10, 2)
        assert stats.chi2_contingency(table).pvalue > 1e-4
    parity = sample_seeds(0, 0, 20_000) % 2
    table = np.bincount(drawn[:20_000] * 2 + parity, minlength=20).reshape(10, 2)
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert not np.array_equal(sample_choices(1, 0, 100, 10), drawn[:100])


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("uniform", None),
        ("3", [(3, 3)]),
        ("3,5,9", [(3, 3), (5, 5), (9, 9)]),
        ("0-9", [(0, 9)]),
        ("7, 0-2", [(7, 7), (0, 2)]),
        ("4-4", [(4, 4)]),
    ],
)
def test_texts_of_labels(text: str, ranges: Any) -> None:
    assert parse_labels(text) == ranges
    assert SourceOptions(labels=text).labels == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ""}, "labels must be uniform"),
        ({"labels": "all"}, "labels must be uniform"),
        ({"labels": "-1"}, "labels must be uniform"),
        ({"labels": "1,,2"}, "labels must be uniform"),
        ({"labels": "1.5"}, "labels must be uniform"),
        ({"labels": "٣"}, "labels must be uniform"),
        ({"labels": "9-0"}, "labels: the range 9-0"),
        ({"labels": "3,1-5"}, "labels: names the class 3"),
        ({"labels": "0-99999999999"}, "labels must be uniform"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"label_form": "both"}, "label_form must be one of"),
    ],
)
def test_impossible_labels(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SourceOptions(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("stated", "options", "message"),
    [
        (None, {}, "give classes"),
        (None, {"labels": "3"}, "give classes"),
        (10, {"classes": 9}, "10 classes, not 9"),
        (10, {"labels": "0-10"}, "labels='0-10' goes beyond"),
        (None, {"classes": 2**20 + 1}, "classes must be between"),
        (3, {"labels": "0-999999999"}, "goes beyond"),
    ],
)
def test_labels_that_a_generator_has_not(
    stated: int | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_labels(stated, "G", SourceOptions(**options), "index")
    assert message in str(caught.value)


def test_forms_of_labels() -> None:
    device = torch.device("cpu")
    options = SourceOptions(labels="1,4-5", classes=7)
    index = choose_labels(None, "G", options, "index").draw(2, 3, 43, device)
    assert index.dtype == torch.int64 and set(index.tolist()) == {1, 4, 5}
    rows = choose_labels(7, "G", options, "onehot").draw(2, 3, 43, device)
    assert (rows.dtype, rows.shape) == (torch.float32, (40, 7))
    assert torch.equal(rows, torch.nn.functional.one_hot(index, 7).float())
    assert choose_labels(7, "G", options, "index").describe() == {
        "classes": 7,
        "labels": "1,4-5",
        "label_form": "index",
    }
    for value, count in [(5, 5), (0, None), (True, None), ("5", None), (2**20 + 1, None)]:
        assert stated_classes(type("Holder", (), {"c_dim": value})) == count
