"""One POV-Ray process and several: exact frames, recovery, clear refusals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shapeshd.engines import povray
from shapeshd.engines.povray import render_images, stream_images
from shapeshd.errors import RendererError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.scene import povray_scene
from shapeshd.scene.render_options import RenderOptions

FACTORS = uniform_factors(0, 0, 12)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return render_images(FACTORS, 24, processes=1)


def test_batches_equal_one_process_per_image(reference: np.ndarray, tmp_path: Path) -> None:
    """The reference is POV-Ray started by hand for one image, writing a PNG."""
    for index in (0, 5, 11):
        (tmp_path / "one.pov").write_text(povray_scene.standalone(FACTORS[index]))
        subprocess.run(
            [povray.executable(), "+Ione.pov", "+Oone.png", "+W24", "+H24", "+A0.3", "+AM1",
             "+R3", "-J", "+BS24", "-D"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        found = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
        np.testing.assert_array_equal(found, reference[index])


@given(processes=st.integers(1, 14), cut=st.integers(0, 12))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_processes_and_cuts_never_change_a_pixel(
    reference: np.ndarray, processes: int, cut: int
) -> None:
    parts = [
        render_images(part, 24, processes=processes) for part in (FACTORS[:cut], FACTORS[cut:])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), reference)


def test_a_users_own_settings_do_not_matter(
    reference: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".povray" / "3.7"
    folder.mkdir(parents=True)
    (folder / "povray.ini").write_text("Width=7\nAntialias=off\nQuality=2\nFile_Gamma=1.0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POVINI", str(folder / "povray.ini"))
    np.testing.assert_array_equal(render_images(FACTORS[:2], 24), reference[:2])


def test_antialiasing_is_what_it_says() -> None:
    """A pixel that is supersampled lies between what single rays see around it."""
    plain = render_images(FACTORS[:4], 32, antialias=None).astype(int)
    smooth = render_images(FACTORS[:4], 32).astype(int)
    changed = np.abs(plain - smooth).max(axis=-1) > 0
    assert 0.01 < changed.mean() < 0.4
    # Antialiasing acts at edges only: away from them both are equal.
    finer = render_images(FACTORS[:4], 32, antialias_depth=1).astype(int)
    assert np.abs(finer - plain).max(axis=-1)[~changed].max() == 0


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "povray" in child.name():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_killed_processes_are_replaced(tmp_path: Path) -> None:
    """kill -9 of POV-Ray, again and again: the same images come."""
    factors = uniform_factors(1, 0, 40)
    expected = render_images(factors, 16)
    stop, kills = threading.Event(), []

    def killer() -> None:
        while not stop.wait(0.3) and len(kills) < 8:
            for child in children()[:1]:
                child.send_signal(signal.SIGKILL)
                kills.append(child.pid)

    thread = threading.Thread(target=killer)
    thread.start()
    found = np.stack(list(stream_images(factors, RenderOptions(16), tmp_path, 4)))
    stop.set()
    thread.join()
    assert len(kills) >= 3
    np.testing.assert_array_equal(found, expected)


def test_a_process_that_comes_too_far_ahead_renders_no_other_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that holds more frames than was thought: the scene of another frame is refused."""
    factors = uniform_factors(1, 0, 16)
    expected = render_images(factors, 16)
    monkeypatch.setattr(povray, "_PIPE_BYTES", 0)
    monkeypatch.setattr(povray, "_READ_BYTES", 0)
    read, waited = povray._read_ppm, []

    def late(stream: IO[bytes], size: int) -> povray.Image | None:
        """Read nothing before the first process has ended."""
        while not waited:
            time.sleep(0.05)
            waited.extend(one for one in children() if one.status() == psutil.STATUS_ZOMBIE)
        return read(stream, size)

    monkeypatch.setattr(povray, "_read_ppm", late)
    found = list(stream_images(factors, RenderOptions(16), tmp_path, 1))
    np.testing.assert_array_equal(np.stack(found), expected)


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    images = stream_images(uniform_factors(1, 0, 200), RenderOptions(64), tmp_path, 5)
    next(images)
    assert len(children()) == 5
    images.close()
    assert not children()


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Frames wait in bounded queues: a slow reader does not fill the memory."""
    images = stream_images(uniform_factors(1, 0, 400), RenderOptions(16), tmp_path, 4)
    next(images)
    time.sleep(4)
    waiting = sum(
        thread._frames.qsize()
        for thread in threading.enumerate()
        if isinstance(thread, povray.Batch)
    )
    images.close()
    assert 0 < waiting <= 4 * 4


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0}, {"size": 7}, {"size": 5000}, {"size": -64},
        {"antialias": 0.0}, {"antialias": -1.0}, {"antialias": 9.0}, {"antialias": float("nan")},
        {"antialias_depth": 0}, {"antialias_depth": 10},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be"):
        RenderOptions(**options)  # type: ignore[arg-type]


def fake(folder: Path, script: str) -> Path:
    program = folder / "povray"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_missing_povray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(RendererError, match=r"apt-get install povray.*brew.*conda-forge"):
        povray.version()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Persistence of Vision(tm) Ray Tracer'; echo 'POV-Ray 3.6.1'", "3.7 or newer"),
        ("echo hello", "does not say"),
        ("exit 3", "does not say"),
    ],
)
def test_a_wrong_povray_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setenv("SHAPESHD_POVRAY", str(fake(tmp_path, script)))
    with pytest.raises(RendererError, match=message):
        povray.version()


def test_a_povray_that_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake(tmp_path, "")
    program.write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    with pytest.raises(RendererError, match="cannot be run"):
        povray.version()


def test_a_povray_that_always_fails_is_reported_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake(tmp_path, "echo 'Fatal error: out of marbles' >&2; exit 7")
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    with pytest.raises(RendererError, match=r"status 7: .*marbles"):
        render_images(FACTORS[:2], 16)


def test_frames_of_another_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = fake(tmp_path, "printf 'P6\\n9 9\\n255\\n'; head -c 243 /dev/zero")
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    with pytest.raises(RendererError, match="sent an image"):
        render_images(FACTORS[:1], 16)


def test_a_version_check_that_is_killed_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    program = fake(
        tmp_path, f"[ -e {mark} ] || {{ touch {mark}; kill -9 $$; }}; echo 'POV-Ray 3.7.0.8'"
    )
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    assert povray.version() == "3.7.0.8"
    assert mark.exists()
