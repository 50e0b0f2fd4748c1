"""Tallies: their sums depend on no order; the folder that keeps them loses and doubles nothing."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapeshd.benchmark.scoring.run_folder import RunFolder
from shapeshd.benchmark.scoring.tally import BLOCK, Tally
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import NUM_BINS
from shapeshd.support.distributed import Ranks
from tests.support.fake_scores import Written, check_tally
from tests.support.simulated_results import simulated_result

SETTINGS = {"source": "a.npy", "seed": 0}


def counted(truth: np.ndarray, start: int = 0, stop: int | None = None) -> Tally:
    """A tally of the samples `start` .. `stop` - 1, block by block."""
    tally, stop = Tally(), len(truth) if stop is None else stop
    while start < stop:
        end = min(stop, start - start % BLOCK + BLOCK)
        tally.add(start, truth[start:end])
        start = end
    return tally


def test_a_tally_is_the_histogram_and_the_first_samples() -> None:
    truth = Written(crowded=True).bins(0, 3 * BLOCK + 17)
    check_tally(counted(truth), truth)


def test_an_empty_tally() -> None:
    tally = Tally()
    tally.add(0, np.zeros(0, np.int64))
    tally.merge(Tally())
    assert tally.samples == 0
    assert (tally.first_seen == -1).all()


@settings(max_examples=12)
@given(
    cuts=st.lists(st.integers(1, 2 * BLOCK + 99), max_size=6),
    order=st.randoms(use_true_random=False),
    few=st.integers(1, 400),
)
def test_any_pieces_in_any_order_add_up_to_the_same(cuts: list[int], order, few: int) -> None:  # type: ignore[no-untyped-def]
    n = 2 * BLOCK + 100
    truth = np.random.default_rng(few).integers(0, few, n) * (NUM_BINS // few)
    borders = sorted({0, n, *cuts})
    parts = [counted(truth, *pair) for pair in itertools.pairwise(borders)]
    order.shuffle(parts)
    total = Tally()
    for part in parts:
        total.merge(part)
    check_tally(total, truth)
    np.testing.assert_array_equal(total.filled, counted(truth).filled)


def test_saved_and_read_again(tmp_path: Path) -> None:
    truth = Written(crowded=True).bins(0, 5000)
    path = tmp_path / "tally-1.npz"
    counted(truth).save(path, {"settings": SETTINGS})
    tally, card = Tally.load(path)
    assert card == {"settings": SETTINGS}
    check_tally(tally, truth)
    assert [file.name for file in tmp_path.iterdir()] == ["tally-1.npz"]


def test_a_save_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tally-1.npz"
    counted(np.arange(100)).save(path, {})
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        counted(np.arange(200)).save(path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["tally-1.npz"]
    assert path.read_bytes() == before


def test_a_damaged_tally_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tally-1.npz"
    counted(np.arange(100)).save(path, {"settings": SETTINGS})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    heads = [whole.index(name) + k for name in (b"counts", b"card", b"filled") for k in range(60)]
    places = [*heads[::12], *rng.integers(0, len(whole), 4), *range(len(whole) - 90, len(whole), 7)]
    damaged = [b"", b"no zip file", whole[:1000], whole[:-1]]
    for place in map(int, places):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        try:
            tally, card = Tally.load(path)
        except ShapesHDError as error:
            assert str(path) in str(error)
            assert "delete the folder" in str(error)
        else:  # a byte that says nothing, such as the time of day
            assert card == {"settings": SETTINGS}
            np.testing.assert_array_equal(tally.counts, counted(np.arange(100)).counts)


def test_counts_that_contradict_each_other_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "tally-1.npz"
    tally = counted(np.arange(100))
    tally.counts[0] += 1
    tally.save(path, {})
    with pytest.raises(ShapesHDError, match="damaged"):
        Tally.load(path)


def begin(out: Path, truth: np.ndarray, start: int, stop: int) -> RunFolder:
    """A run that has counted the samples `start` .. `stop` - 1 and is then gone."""
    folder = RunFolder(out, SETTINGS, Ranks())
    folder.own.merge(counted(truth, start, stop))
    folder.save()
    folder.close()
    return folder


def tallies(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / ".work").glob("tally-*.npz")}


def check_done(out: Path, truth: np.ndarray) -> None:
    folder = RunFolder(out, SETTINGS, Ranks())
    check_tally(folder.done, truth)
    check_tally(folder.total(), truth)
    folder.close()
    assert len(tallies(out)) == 1


def test_a_kill_before_the_old_tallies_are_deleted_doubles_nothing(tmp_path: Path) -> None:
    out, truth = tmp_path / "out", Written(crowded=True).bins(0, 6000)
    begin(out, truth, 0, 1000)
    first = tallies(out)
    begin(out, truth, 1000, 3000)
    second = tallies(out)
    for name, data in first.items():  # the second run was killed before it deleted this one
        (out / ".work" / name).write_bytes(data)
    begin(out, truth, 3000, 6000)
    assert len({*first, *second, *tallies(out)}) == 3
    # The third is killed while it deletes: all states that it can leave behind.
    for left in ({}, first, second, {**first, **second}):
        state = shutil.copytree(out, tmp_path / f"state-{len(list(tmp_path.iterdir()))}")
        for name, data in left.items():
            (state / ".work" / name).write_bytes(data)
        check_done(state, truth)


def test_a_kill_while_a_tally_is_written_loses_what_it_held_alone(tmp_path: Path) -> None:
    out, truth = tmp_path / "out", Written(crowded=True).bins(0, 2000)
    begin(out, truth, 0, 2000)
    half = out / ".work" / ".tally-0.npz.new"
    half.write_bytes(b"half")
    check_done(out, truth)
    assert not half.exists()


def test_tallies_of_several_processes_are_taken_up(tmp_path: Path) -> None:
    out, truth = tmp_path / "out", Written(crowded=True).bins(0, 2 * BLOCK)
    begin(out, truth, 0, BLOCK)
    counted(truth, BLOCK, 2 * BLOCK).save(
        out / ".work" / "tally-other.npz", {"settings": SETTINGS, "absorbed": []}
    )
    check_done(out, truth)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_another_run_is_refused_and_nothing_changes(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    begin(out, np.arange(100), 0, 100)
    before = tallies(out)
    message = f"with {name} {json.dumps(SETTINGS[name])}, not 7; choose"
    with pytest.raises(UsageError, match=re.escape(message)):
        RunFolder(out, {**SETTINGS, name: 7}, Ranks())
    assert tallies(out) == before
    RunFolder(out, SETTINGS, Ranks()).close()  # a refused one does not stay in the folder


def test_one_run_at_a_time(tmp_path: Path) -> None:
    held = RunFolder(tmp_path / "out", SETTINGS, Ranks())
    with pytest.raises(ShapesHDError, match="score is at work") as stop:
        RunFolder(tmp_path / "out", SETTINGS, Ranks())
    assert stop.value.exit_code == 1
    held.close()
    RunFolder(tmp_path / "out", SETTINGS, Ranks()).close()


@pytest.mark.parametrize("text", ["", "[]", "3", '{"samples": 99}', "\xff"])
def test_a_result_that_is_none_is_made_again(tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    result = simulated_result("unbiased")
    begin(out, np.arange(result.samples), 0, result.samples)
    (out / "result.json").write_bytes(text.encode("latin-1"))
    folder = RunFolder(out, SETTINGS, Ranks())
    assert folder.finished(result.samples) is None
    (out / "result.json").write_text(json.dumps(result.to_json()))
    assert folder.finished(result.samples) == result
    assert folder.finished(result.samples + 1) is None
    folder.close()
