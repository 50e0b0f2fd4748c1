"""Rendering a dataset: the same files for any jobs, shards, back ends and interruptions."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from shapeshd.dataset.manifest import load_manifest
from shapeshd.dataset.shards import list_shards
from shapeshd.engines.povray import render_images
from shapeshd.factors import uniform_factors
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import GridSampling, TableSampling
from tests.conftest import COUNT, SEED, SIZE, heed_ctrl_c, render_small
from tests.support.render_runs import ARGUMENTS, RENDER, contents, files, flip_byte, named, tree


def test_images_are_those_of_their_factors(rendered: Path) -> None:
    images, labels = contents(rendered)
    np.testing.assert_array_equal(labels, uniform_factors(SEED, 0, COUNT))
    np.testing.assert_array_equal(images, render_images(labels, SIZE))


def test_virtual_dataset_is_the_whole_set(rendered: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(rendered, moved)
    images, labels = contents(rendered)
    with h5py.File(moved / "dataset.h5") as file:
        np.testing.assert_array_equal(file["images"][()], images)
        np.testing.assert_array_equal(file["labels"][()], labels)


@pytest.mark.parametrize(
    "changes",
    [
        {"jobs": 1},
        {"jobs": 3},
        {"jobs": 2, "backend": "loky"},
        {"compression": "gzip", "jobs": 1, "shards": (0, None)},
    ],
    ids=str,
)
def test_workers_never_change_a_byte(
    rendered: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    render_small(tmp_path / "again", **changes)
    assert files(tmp_path / "again") == files(rendered)


@pytest.mark.parametrize(
    ("shard_size", "compression"), [(7, "gzip"), (7, "none"), (50, "zstd"), (1000, "none")]
)
def test_shards_and_compression_never_change_a_pixel(
    rendered: Path, tmp_path: Path, shard_size: int, compression: str
) -> None:
    render_small(tmp_path / "other", shard_size=shard_size, compression=compression)
    for expected, found in zip(contents(rendered), contents(tmp_path / "other"), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_job_array_equals_one_run(rendered: Path, tmp_path: Path) -> None:
    """Two jobs of an array at the same time, then the last: the same files as one run."""
    out = tmp_path / "array"
    jobs = [
        subprocess.Popen(
            [*RENDER, str(out), *ARGUMENTS, "--shards", shards],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for shards in ("0:1", "2:3")
    ]
    assert [job.wait() for job in jobs] == [0, 0], [job.stderr.read() for job in jobs if job.stderr]
    assert load_manifest(out).gaps() == [(20, 40)]
    assert not (out / "dataset.h5").exists()
    subprocess.run([*RENDER, str(out), *ARGUMENTS, "--shards", "1:2"], check=True)
    assert files(out) == files(rendered)


def test_a_larger_count_extends(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown"
    first = render_small(out, count=13)
    assert first.manifest.complete
    second = render_small(out, count=31)
    assert (second.rendered, second.kept) == (18, 13)
    third = render_small(out)
    assert (third.rendered, third.kept) == (19, 31)
    assert files(out) == files(rendered)


def test_a_finished_set_is_only_checked(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(rendered, out)
    result = render_small(out)
    assert (result.rendered, result.kept, result.remade) == (0, COUNT, ())
    assert files(out) == files(rendered)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text", "labels", "attributes"])
def test_damaged_shards_are_made_anew(rendered: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(rendered, out)
    victim = list_shards(out)[1]
    if damage == "flip":
        flip_byte(victim, victim.stat().st_size // 2)
    elif damage == "truncate":
        os.truncate(victim, victim.stat().st_size * 2 // 3)
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "text":
        victim.write_text("not an HDF5 file")
    elif damage == "labels":
        with h5py.File(victim, "r+") as file:
            file["labels"][3, 2] += 1e-12
    else:
        with h5py.File(victim, "r+") as file:
            del file.attrs["images_sha256"]
    result = render_small(out)
    assert (result.remade, result.rendered) == ((1,), 20)
    assert files(out) == files(rendered)


def test_missing_shards_are_made_anew(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "holes"
    shutil.copytree(rendered, out)
    list_shards(out)[0].unlink()
    (out / "manifest.json").unlink()
    assert render_small(out).rendered == 20
    assert files(out) == files(rendered)


def test_grid_and_table_hold_their_factors(tmp_path: Path) -> None:
    render_small(tmp_path / "grid", sampling=GridSampling(), count=30)
    np.testing.assert_array_equal(contents(tmp_path / "grid")[1], GridSampling().factors(0, 30))
    rows = uniform_factors(9, 0, 25)
    render_small(tmp_path / "table", sampling=TableSampling(rows), count=None)
    images, labels = contents(tmp_path / "table")
    np.testing.assert_array_equal(labels, rows)
    np.testing.assert_array_equal(images[20:], render_images(rows[20:], SIZE))


def test_options_reach_the_renderer(tmp_path: Path) -> None:
    render_small(tmp_path / "plain", count=3, options=RenderOptions(40, antialias=None))
    np.testing.assert_array_equal(
        contents(tmp_path / "plain")[0],
        render_images(uniform_factors(SEED, 0, 3), 40, antialias=None),
    )


def kill_one(run: subprocess.Popen[bytes], word: str, started: list[psutil.Process]) -> bool:
    """Kill the first process of a run that has this word in its command line; False for none."""
    deadline = time.monotonic() + 20
    while run.poll() is None and time.monotonic() < deadline:
        family = tree(psutil.Process(run.pid))
        started += family
        for victim in named(family, word):
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kill_9_anywhere_loses_nothing(tmp_path: Path) -> None:
    """12 kills or more, of the program, its workers and POV-Ray; then the same files."""
    arguments = ["--count", "140", "--size", "16", "--shard-size", "20", "--jobs", "2"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    render_small(whole, count=140, size=16)
    words = tmp_path / "stderr.txt"
    chance = random.Random(0)
    kills = {"program": 0, "popen_loky_posix": 0, "povray": 0}
    started: list[psutil.Process] = []
    while sum(kills.values()) < 12 or min(kills.values()) < 2:
        with words.open("wb") as stderr:
            run = subprocess.Popen(
                [*RENDER, str(out), *arguments],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        # Three deaths are made good; a fourth would end the run.
        for word in chance.sample(["popen_loky_posix", "povray"] * 2, chance.choice([2, 3])):
            time.sleep(chance.uniform(0, 0.5))
            kills[word] += kill_one(run, word, started)
        time.sleep(chance.uniform(0, 2))
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
            kills["program"] += 1
        run.wait()
        assert run.returncode in (0, -signal.SIGKILL), words.read_text()
        if run.returncode == 0 or len(list_shards(out)) >= 5:
            # Soon complete, before enough was killed: take a part away again.
            for path in chance.sample(list_shards(out), 5):
                path.unlink()
    run = subprocess.Popen(
        [*RENDER, str(out), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )
    assert kill_one(run, "povray", started)
    try:
        _, said = run.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGABRT)  # faulthandler then says where every thread stands
        _, said = run.communicate()
    assert run.returncode == 0, said.decode()
    assert files(out) == files(whole)
    assert not (out / ".work").exists()
    psutil.wait_procs(started, timeout=30)
    assert not [process for process in started if process.is_running()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_and_the_run_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "stopped"
    arguments = ["--count", "240", "--size", "32", "--shard-size", "20", "--jobs", "2"]
    run = subprocess.Popen(
        [*RENDER, str(out), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    while not list_shards(out):
        assert run.poll() is None
        time.sleep(0.05)
    if how is signal.SIGINT:
        os.killpg(run.pid, how)  # a terminal sends Ctrl-C to the whole group
    else:
        run.send_signal(how)
    _, words = run.communicate(timeout=60)
    assert run.returncode == 130, words
    assert "Traceback" not in words
    assert "the same command goes on" in words
    assert not (out / ".work").exists()
    assert 0 < load_manifest(out).available < 240
    render_small(out, count=240)
    np.testing.assert_array_equal(contents(out)[1], uniform_factors(0, 0, 240))
