"""`render --engine`: the ray tracer's sets as exact and as safe as POV-Ray's, and never mixed."""

from __future__ import annotations

import hashlib
import json
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
import pytest
import torch

from shapeshd.cli.options import engines
from shapeshd.dataset.manifest import load_manifest
from shapeshd.dataset.shards import list_shards, read_header
from shapeshd.engines.engine import ENGINES, RAYTRACER_VERSION, Engine, engine_named
from shapeshd.engines.povray import render_images
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import RayTracer, trace_images
from shapeshd.render.plan import estimate, plan_render
from shapeshd.render.run import run_render
from shapeshd.scene import constants
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import GridSampling, UniformSampling
from tests.conftest import COUNT, SEED, SIZE, heed_ctrl_c, render_small
from tests.support.render_runs import ARGUMENTS, RENDER, contents, files, flip_byte

Run = Callable[..., tuple[int, str, str]]
TRACED = [*ARGUMENTS, "--engine", "torch"]
NOWHERE = "/nonexistent/povray"


@pytest.fixture
def no_povray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPESHD_POVRAY", NOWHERE)


def test_the_command_line_knows_all_engines() -> None:
    assert tuple(engines.choices) == ENGINES


def test_images_are_those_of_the_ray_tracer_and_nearly_those_of_povray(traced: Path) -> None:
    images, labels = contents(traced)
    np.testing.assert_array_equal(labels, uniform_factors(SEED, 0, COUNT))
    one_by_one = [
        trace_images(row[None], SIZE, dtype=torch.float64, batch=1)[0].permute(1, 2, 0)
        for row in labels
    ]
    np.testing.assert_array_equal(images, torch.stack(one_by_one).numpy())
    distance = np.abs(images.astype(int) - render_images(labels, SIZE))
    assert (distance > 1).mean() < 1e-3


def test_the_version_of_the_ray_tracer_follows_its_pixels() -> None:
    """If this fails, the ray tracer makes other pixels: raise RAYTRACER_VERSION and the digest."""
    digest = hashlib.sha256()
    for options in (RenderOptions(48), RenderOptions(32, None), RenderOptions(24, 0.1, 2)):
        images = RayTracer(options, dtype=torch.float64)(uniform_factors(5, 0, 40))
        digest.update(images.numpy().tobytes())
    assert (RAYTRACER_VERSION, digest.hexdigest()[:16]) == (1, "a9a33a18d7cdd53f")


def test_the_scene_digest_follows_constants_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_named("torch")
    digests = {engine.scene_sha256()}
    changed = {**constants.read_constants(), "AMBIENT": 0.26}
    monkeypatch.setattr(constants, "read_constants", lambda: changed)
    digests.add(engine.scene_sha256())
    monkeypatch.setattr("shapeshd.engines.engine.RAYTRACER_VERSION", RAYTRACER_VERSION + 1)
    digests.add(engine.scene_sha256())
    assert len(digests) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"jobs": 1, "shards": (0, None)},
        {"jobs": 3},
        {"jobs": 2, "backend": "loky"},
        {"jobs": 2, "backend": "dask"},
        {"jobs": 2, "backend": "ray"},
    ],
    ids=str,
)
def test_workers_never_change_a_byte(
    traced: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    render_small(tmp_path / "again", engine="torch", **changes)
    assert files(tmp_path / "again") == files(traced)


@pytest.mark.parametrize(("shard_size", "compression"), [(1, "gzip"), (7, "zstd"), (1000, "none")])
def test_shards_and_compression_never_change_a_pixel(
    traced: Path, tmp_path: Path, shard_size: int, compression: str
) -> None:
    out = tmp_path / "other"
    render_small(out, engine="torch", shard_size=shard_size, compression=compression)
    for expected, found in zip(contents(traced), contents(out), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_images_do_not_depend_on_those_beside_them() -> None:
    """Of the grid too, where colours and angles tie."""
    engine, options = engine_named("torch"), RenderOptions(32)
    factors = np.concatenate([uniform_factors(1, 0, 300), GridSampling().factors(7000, 7300)])
    straight = np.stack(list(engine.stream(factors, options, Path(), 1)))
    order = np.random.default_rng(0).permutation(len(factors))
    mixed = np.stack(list(engine.stream(factors[order], options, Path(), 3)))
    np.testing.assert_array_equal(mixed, straight[order])
    assert straight.dtype == np.uint8 and straight.shape == (600, 32, 32, 3)
    assert not list(engine.stream(factors[:0], options, Path(), 2))


def test_an_interrupted_job_array_that_is_extended_equals_one_run(
    traced: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    render_small(out, engine="torch", count=31, shards=(1, 2))
    render_small(out, engine="torch", count=31, shards=(0, 1))
    flip_byte(list_shards(out)[0], list_shards(out)[0].stat().st_size // 2)
    result = render_small(out, engine="torch")
    assert (result.remade, result.rendered, result.kept) == ((0,), 39, 11)
    assert files(out) == files(traced)


@pytest.mark.parametrize(
    ("how", "backend"),
    [(signal.SIGINT, "loky"), (signal.SIGTERM, "loky"), (signal.SIGTERM, "threading")],
)
def test_a_stopped_run_ends_promptly_and_goes_on(
    tmp_path: Path, how: signal.Signals, backend: str
) -> None:
    out = tmp_path / "stopped"
    arguments = "--count 6000 --size 32 --shard-size 50 --jobs 2 --engine torch".split()  # noqa: SIM905
    run = subprocess.Popen(
        [*RENDER, str(out), *arguments, "--backend", backend],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )  # fmt: skip
    while not list_shards(out):
        assert run.poll() is None
        time.sleep(0.02)
    if how is signal.SIGINT:
        os.killpg(run.pid, how)
    else:
        run.send_signal(how)
    _, words = run.communicate(timeout=60)
    assert run.returncode == 130, words
    assert "Traceback" not in words
    assert not (out / ".work").exists()
    available = load_manifest(out).available
    assert 0 < available < 6000
    # The first five shards go on: all that there is then is right.
    render_small(out, engine="torch", count=6000, shard_size=50, shards=(0, 5))
    assert len(list_shards(out)) >= 5
    images, labels = contents(out)
    chosen = np.linspace(0, len(images) - 1, 40).astype(int)
    expected = trace_images(labels[chosen], 32, dtype=torch.float64).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(images[chosen], expected.numpy())


def test_a_stream_that_is_closed_traces_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[int] = []
    plain = RayTracer.__call__
    monkeypatch.setattr(
        RayTracer,
        "__call__",
        lambda self, factors: (traced.append(len(factors)), plain(self, factors))[1],
    )
    stream = engine_named("torch").stream(
        uniform_factors(0, 0, 100_000), RenderOptions(8), Path(), 2
    )
    next(stream)
    stream.close()
    number = len(traced)
    assert sum(traced) <= 4 * 256
    time.sleep(0.3)
    assert len(traced) == number
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batch")]


def test_torch_takes_one_thread_of_each_and_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    plain = RayTracer._trace
    monkeypatch.setattr(
        RayTracer,
        "_trace",
        lambda self, factors: (seen.add(torch.get_num_threads()), plain(self, factors))[1],
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        render_small(tmp_path / "out", engine="torch", jobs=3)
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (seen, torch.get_num_threads(), later) == ({1}, 3, [3])
    finally:
        torch.set_num_threads(before)


def test_rendering_with_povray_does_not_import_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom shapeshd.cli.main import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    assert not stop.code\nassert 'torch' not in sys.modules\n"
    )
    out = str(tmp_path / "out")
    for arguments in (
        ["render", out, "--count", "3", "--size", "16", "--backend", "threading"],
        ["verify", out, "--rerender", "2"],
        ["render", str(tmp_path / "none"), "--engine", "torch", "--help"],
    ):
        subprocess.run([sys.executable, "-c", script, *arguments], check=True)


@pytest.mark.usefixtures("no_povray")
def test_the_ray_tracer_needs_no_povray(run: Run, traced: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, stdout, stderr = run("render", out, *TRACED, "--dry-run")
    assert (status, stderr) == (0, "")
    assert "50 images of 32x32 in 3 shards by shapeshd ray tracer 1" in stdout
    assert not out.exists()
    status, stdout, stderr = run("render", out, *TRACED)
    assert status == 0, stderr
    assert "rendered 50 images with shapeshd ray tracer 1" in stdout
    assert files(out) == files(traced)
    status, stdout, _ = run("verify", out, "--rerender", COUNT, "--json")
    assert status == 0
    pixels = next(check for check in json.loads(stdout)["checks"] if check["name"] == "pixels")
    assert pixels["values"]["engine"] == "torch"
    assert pixels["values"]["installed_differs"] == []
    assert run("info", out)[0] == 0


def test_provenance_says_the_engine(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["render", out, "--count", 3, "--size", 16, "--engine", "torch", "--json"]
    for stage in ([*arguments, "--dry-run"], [*arguments, "--backend", "threading"]):
        status, stdout, _ = run(*stage)
        assert status == 0
        result = json.loads(stdout)
        assert result.get("engine", "torch") == "torch"
    provenance = read_header(list_shards(out)[0]).provenance
    assert (provenance.engine, provenance.renderer) == (
        "torch",
        f"shapeshd ray tracer {RAYTRACER_VERSION}",
    )
    assert provenance.scene_sha256 == engine_named("torch").scene_sha256()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shards", [":", "1:2"])
def test_engines_are_never_mixed(
    run: Run, rendered: Path, traced: Path, tmp_path: Path, engine: str, shards: str
) -> None:
    """In a whole set, or by another job of an array."""
    other = {"povray": traced, "torch": rendered}[engine]
    out = shutil.copytree(other, tmp_path / "out")
    if shards != ":":
        list_shards(out)[1].unlink()
    before = files(out)
    arguments = [*ARGUMENTS, "--engine", engine, "--shards", shards]
    status, stdout, stderr = run("render", out, *arguments)
    assert (status, stdout) == (2, "")
    found = "torch" if engine == "povray" else "povray"
    assert stderr == (
        f"shapeshd: error: {out}: holds another dataset: its engine is {found!r}, not "
        f"{engine!r}; use the same parameters or another folder\n"
    )
    assert files(out) == before


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_two_jobs_that_both_start_in_an_empty_folder_do_not_mix(
    tmp_path: Path, backend: str
) -> None:
    plans = [
        plan_render(
            tmp_path / "out", UniformSampling(), 40, RenderOptions(16), engine=engine,
            shard_size=20, shards=shards,
        )
        for engine, shards in (("torch", (0, 1)), ("povray", (1, 2)))
    ]  # fmt: skip
    run_render(plans[0], backend="threading")
    before = files(tmp_path / "out")
    with pytest.raises(UsageError, match="engine is 'torch'"):
        run_render(plans[1], backend=backend)
    assert files(tmp_path / "out") == before


def test_wrong_engines(run: Run, rendered: Path, tmp_path: Path) -> None:
    status, _, stderr = run("render", tmp_path / "out", "--engine", "blender")
    assert status == 2 and "'blender' is not" in stderr
    status, _, stderr = run("verify", rendered, "--engine", "torch")
    assert status == 2 and "--engine goes with --rerender" in stderr
    with pytest.raises(UsageError, match="blender"):
        render_small(tmp_path / "out", engine="blender")
    assert not (tmp_path / "out").exists()


def test_without_pytorch_it_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shapeshd.raytracer.tracer", None)
    status, _, stderr = run("render", tmp_path / "out", *TRACED)
    assert status == 1
    assert "engine torch needs" in stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_povray")
def test_the_estimate_counts_what_is_missing(tmp_path: Path) -> None:
    plan = plan_render(
        tmp_path / "out", UniformSampling(), 64, RenderOptions(32), engine="torch", shard_size=32
    )
    expected = estimate(plan, 1)
    assert expected.images == 64 and expected.seconds > 0
    run_render(plan, jobs=1)
    actual = sum(path.stat().st_size for path in list_shards(plan.dataset))
    assert expected.bytes == pytest.approx(actual, rel=0.5)
    assert estimate(plan, 1).images == 0


@pytest.mark.parametrize("name", ENGINES)
def test_parallelism_grows_with_the_cores(name: str) -> None:
    engine: Engine = engine_named(name)
    counts = [engine.parallelism(256, cores) for cores in (0.5, 1, 2, 8)]
    assert counts == sorted(counts) and counts[0] >= 1 and counts[-1] >= 8
    assert engine.seconds_per_image(512) > engine.seconds_per_image(64) > 0


def test_a_virtual_dataset_of_traced_images(traced: Path) -> None:
    with h5py.File(traced / "dataset.h5") as file:
        np.testing.assert_array_equal(file["images"][()], contents(traced)[0])
