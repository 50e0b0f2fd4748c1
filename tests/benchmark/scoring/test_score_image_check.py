"""The samples that a score looks at are the same however its run was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapeshd.benchmark.image_check.kept_images import MOST, Kept, chosen_numbers
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.scoring.score import score_in_memory, score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.errors import ShapesHDError
from tests.support.fake_scores import ReadsWritten, Written, written_images

SAMPLES = 7_000

pytestmark = pytest.mark.usefixtures("no_page")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """What was looked at, in place of a look."""
    seen: list[Kept] = []

    def look(kept: Kept, *_: Any) -> None:
        seen.append(kept)

    monkeypatch.setattr(scoring, "check_images", look)
    return seen


def check(kept: Kept, samples: int) -> None:
    np.testing.assert_array_equal(kept.numbers, chosen_numbers(samples, MOST))
    bins = Written().bins(0, samples)[kept.numbers]
    assert (kept.images == written_images(bins, 64)).all()


def test_in_memory_and_in_a_folder(tmp_path: Path, looked_at: list[Kept]) -> None:
    settings = ScoreSettings(samples=SAMPLES)
    score_in_memory(Written(), ReadsWritten(), settings, progress=False)
    score_source(Written(), ReadsWritten(), tmp_path / "out", settings)
    assert len(looked_at) == 2
    for kept in looked_at:
        check(kept, SAMPLES)


def test_stopped_and_extended(tmp_path: Path, looked_at: list[Kept]) -> None:
    out = tmp_path / "out"
    with pytest.raises(ShapesHDError):
        score_source(Written(fail_at=5_000), ReadsWritten(), out, ScoreSettings(samples=6_000))
    score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=6_000))
    check(looked_at[-1], 6_000)
    score_source(Written(), ReadsWritten(), out, ScoreSettings(samples=SAMPLES))
    check(looked_at[-1], SAMPLES)


def test_it_can_be_left_out_and_a_reader_of_other_images_is_not_asked(
    tmp_path: Path,
) -> None:
    settings = ScoreSettings(samples=SAMPLES)
    result = score_source(Written(), ReadsWritten(), tmp_path / "a", settings)
    assert result is not None
    assert result.image_check is None
    settings = ScoreSettings(samples=SAMPLES, check_images=False)
    score_source(Written(), ReadsWritten(), tmp_path / "b", settings)
    assert not (tmp_path / "b" / ".work" / "image-check").exists()
