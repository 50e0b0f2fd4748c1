"""What a review found once: each of these hung, crashed, lied or lost something."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from shapeshd.dataset.manifest import load_manifest, write_manifest
from shapeshd.dataset.safe_file import SafeFile
from shapeshd.dataset.shards import check_shard, list_shards
from shapeshd.engines.povray import executable, render_images, stream_images
from shapeshd.errors import DamagedShardError
from shapeshd.factors import uniform_factors
from shapeshd.scene.render_options import RenderOptions
from shapeshd.support.workspace import sweep_work, work_folder
from tests.conftest import render_small
from tests.support.render_runs import ARGUMENTS, RENDER, files, named

Run = Callable[..., tuple[int, str, str]]


def bytes_to_flip(shard: Path) -> list[int]:
    """Return all bytes of the metadata, but of long runs of zeros every eighth; a few of data."""
    whole = shard.read_bytes()
    kind = np.zeros(len(whole), bool)
    with h5py.File(shard) as file:
        for name in ("images", "labels"):
            dataset = file[name].id
            for number in range(dataset.get_num_chunks()):
                chunk = dataset.get_chunk_info(number)
                kind[chunk.byte_offset : chunk.byte_offset + chunk.size] = True
    data, metadata = np.flatnonzero(kind), np.flatnonzero(~kind)
    assert len(data) and len(metadata)
    return [
        *(int(p) for p in metadata if p % 8 == 0 or any(whole[max(0, p - 8) : p + 8])),
        *(int(p) for p in data[::37]),
    ]


@pytest.mark.timeout(120)
def test_no_flipped_bit_of_a_shard_hangs_or_escapes(rendered: Path, tmp_path: Path) -> None:
    """One bit in each byte of the metadata, and in some of the images: sound or damaged."""
    whole = list_shards(rendered)[2].read_bytes()
    victim = tmp_path / "shard-000002.h5"
    expected = check_shard(list_shards(rendered)[2])
    positions = bytes_to_flip(list_shards(rendered)[2])
    found = 0
    for position in positions:
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        victim.write_bytes(data)
        try:
            header, labels = check_shard(victim)
        except DamagedShardError as error:
            found += 1
            assert "shard-000002.h5" in str(error)
        else:  # a byte that no content depends on
            assert header == expected[0]
            np.testing.assert_array_equal(labels, expected[1])
    assert found > len(positions) / 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"shards": [{"first_index": null}]}', "\x00"]
)
def test_any_manifest_is_replaced(rendered: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    (out / "manifest.json").write_text(text)
    assert render_small(out).kept == 50
    assert files(out) == files(rendered)


@pytest.mark.parametrize("damage", ["shard", "manifest"])
def test_damage_does_not_let_another_dataset_in(
    run: Run, rendered: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    if damage == "shard":
        os.truncate(list_shards(out)[0], 1000)
    else:
        (out / "manifest.json").write_text("")
    before = files(out)
    status, _, stderr = run(
        "render", out, "--count", 50, "--size", 16, "--shard-size", 20, "--shards", "0:1"
    )
    assert status == 2
    assert "size is 32, not 16" in stderr
    assert files(out) == before


def test_runs_that_start_and_end_together_share_the_work_folder(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(300):
                with work_folder(tmp_path, "x") as folder:
                    assert folder.is_dir()
                    sweep_work(tmp_path)
                    assert folder.is_dir()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not (tmp_path / ".work").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with work_folder(tmp_path, "x") as folder:
        sweep_work(tmp_path)
        assert folder.is_dir()
    sweep_work(tmp_path)
    assert not (tmp_path / ".work").exists()


def test_threads_end_cleanly_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        [*RENDER, str(out), "--count", "200", "--size", "32", "--shard-size", "20",
         "--backend", "threading"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list_shards(out):
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, words = run.communicate(timeout=60)
    assert run.returncode == 130, words
    assert "Traceback" not in words
    assert not (out / ".work").exists()
    assert 0 < load_manifest(out).available < 200


def test_an_extension_that_is_killed_shows_as_incomplete(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_small(out, count=15)
    killed = subprocess.Popen([*RENDER, str(out), *ARGUMENTS], stderr=subprocess.DEVNULL)
    while load_manifest(out).count == 15:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    status, stdout, _ = run("info", out)
    assert status == 0
    assert "of 50" in stdout
    assert not (out / "dataset.h5").exists()
    render_small(out)
    assert load_manifest(out).complete


@pytest.mark.parametrize("command", ["info", "preview"])
def test_a_virtual_file_without_its_shards_is_refused(
    run: Run, rendered: Path, tmp_path: Path, command: str
) -> None:
    shutil.copy(rendered / "dataset.h5", tmp_path / "dataset.h5")
    out = [tmp_path / "sheet.png"] if command == "preview" else []
    status, _, stderr = run(command, tmp_path / "dataset.h5", *out)
    assert status == 1
    assert "index of other files" in stderr
    assert not (tmp_path / "sheet.png").exists()


def test_leaving_early_is_quick_and_starts_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    program = tmp_path / "povray"
    program.write_text(f'#!/bin/sh\necho x >> {starts}\nexec {executable()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    images = stream_images(uniform_factors(1, 0, 200), RenderOptions(16), tmp_path / "work", 10)
    next(images)
    images.close()
    time.sleep(0.5)
    assert len(starts.read_text().split()) == 10


def test_a_povray_that_stops_early_without_an_error_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    program = tmp_path / "povray"
    program.write_text(f"#!/bin/sh\necho x >> {starts}\n")
    program.chmod(0o755)
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    with pytest.raises(Exception, match="POV-Ray failed 4 times"):
        next(stream_images(uniform_factors(1, 0, 1), RenderOptions(16), tmp_path / "work", 1))
    assert len(starts.read_text().split()) == 4


def test_hdf5_never_sees_a_failure_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first failure the file goes on in memory, and what was written can be read."""
    target = SafeFile(tmp_path / "file.h5")
    with h5py.File(target, "w") as file:
        file["before"] = np.arange(1000)
        file.flush()

        class Full:
            def __getattr__(self, name: str) -> object:
                return getattr(disk, name)

            def write(self, _: object) -> int:
                raise OSError(28, "No space left on device")

        disk = target._file
        target._file = Full()  # type: ignore[assignment]
        file["after"] = np.arange(2000)
        file.flush()
        np.testing.assert_array_equal(file["before"][()], np.arange(1000))
        np.testing.assert_array_equal(file["after"][()], np.arange(2000))
    assert target.error is not None
    assert target.error.errno == 28
    target.close()


def test_zstd_shards_are_read_in_a_fresh_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_small(out, count=3, compression="zstd")
    script = (
        "import sys, pathlib\nfrom shapeshd.dataset.shards import check_shard, list_shards\n"
        "for path in list_shards(pathlib.Path(sys.argv[1])):\n    check_shard(path)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(out)], check=True)


def test_a_manifest_follows_a_shard_that_is_replaced(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    render_small(tmp_path / "other", seed=1)
    shutil.copy(list_shards(tmp_path / "other")[0], list_shards(out)[0])
    list_shards(out)[1].unlink()
    list_shards(out)[-1].unlink()
    manifest = write_manifest(out, 50)
    assert manifest.shards[0].images_sha256 != load_manifest(rendered).shards[0].images_sha256
    assert manifest.provenance.seed == 1


def test_an_orphaned_povray_whose_folder_is_swept_ends(tmp_path: Path) -> None:
    """POV-Ray started, its run killed, its folder removed by the next run: it must not spin."""
    slow = tmp_path / "povray"
    slow.write_text(f'#!/bin/sh\n[ "$1" = --version ] || sleep 4\nexec {executable()} "$@"\n')
    slow.chmod(0o755)
    arguments = [*RENDER, str(tmp_path / "out"), "--count", "4", "--size", "16", "--jobs", "1"]
    environment = {**os.environ, "SHAPESHD_POVRAY": str(slow)}
    plain = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(arguments, env=environment, **plain)
    orphans: list[psutil.Process] = []
    while not orphans:
        assert run.poll() is None
        time.sleep(0.05)
        if (tmp_path / "out" / ".work").is_dir():  # the estimate is over
            orphans = named(psutil.Process(run.pid).children(recursive=True), "batch.pov")
    run.kill()
    run.wait()
    time.sleep(1.5)  # its workers notice
    subprocess.run(arguments, check=True, **plain)
    assert not (tmp_path / "out" / ".work").exists()
    _, alive = psutil.wait_procs(orphans, timeout=15)
    assert not alive


def test_shards_of_another_format_version_are_refused_and_kept(
    run: Run, rendered: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    (out / "manifest.json").unlink()
    for path in list_shards(out):
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 99
    before = files(out)
    status, _, stderr = run("render", out, *ARGUMENTS)
    assert status == 2
    assert "version 99" in stderr
    assert files(out) == before


def test_a_stale_manifest_hides_no_shard(rendered: Path, tmp_path: Path) -> None:
    """Killed before the manifest was written: what is on disk counts."""
    out = tmp_path / "out"
    render_small(out, shards=(0, 1))
    stale = (out / "manifest.json").read_text()
    render_small(out, shards=(1, 2))
    (out / "manifest.json").write_text(stale)
    manifest = load_manifest(out)
    assert (manifest.available, manifest.count) == (40, 50)


def test_antialiasing_may_be_a_numpy_number() -> None:
    factors = uniform_factors(0, 0, 1)
    np.testing.assert_array_equal(
        render_images(factors, 16, antialias=np.float64(0.3)), render_images(factors, 16)
    )
