"""The same set through Dask and Ray, for real, with workers killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from tests.conftest import render_small
from tests.support.render_runs import RENDER, files, named, tree


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("backend", "word"), [("dask", "spawn_main"), ("ray", "ray::")])
def test_clusters_render_the_same_bytes_also_if_a_worker_is_killed(
    tmp_path: Path, backend: str, word: str
) -> None:
    arguments = "--count 160 --size 16 --shard-size 20 --jobs 2".split()  # noqa: SIM905
    whole, out = tmp_path / "whole", tmp_path / backend
    render_small(whole, count=160, size=16)
    words = tmp_path / "stderr.txt"
    with words.open("w") as stderr:
        run = subprocess.Popen(
            [*RENDER, str(out), *arguments, "--backend", backend],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    program, killed = psutil.Process(run.pid), 0
    while run.poll() is None and not killed:
        # Only a worker that has a shard in work: one with POV-Ray below it.
        for worker in named(tree(program), word):
            if not killed and named(tree(worker), "batch.pov"):
                worker.send_signal(signal.SIGKILL)
                killed += 1
        time.sleep(0.02)
    assert run.wait(timeout=240) == 0, words.read_text()
    assert killed == 1
    assert files(out) == files(whole)
    assert not (out / ".work").exists()


def test_a_local_dask_cluster_by_its_address(rendered: Path, tmp_path: Path) -> None:
    """``--cluster ADDRESS``: the workers are somebody else's."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        render_small(tmp_path / "set", backend="dask", cluster=cluster.scheduler_address)
    assert files(tmp_path / "set") == files(rendered)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "slurm"}, UsageError, "unknown backend 'slurm'"),
        ({"jobs": 0}, UsageError, "--jobs"),
        ({"cluster": "tcp://127.0.0.1:9"}, UsageError, "--cluster goes with"),
        ({"backend": "dask", "cluster": "nonsense://"}, ShapesHDError, "no Dask scheduler answers"),
        ({"backend": "ray", "cluster": "127.0.0.1:9"}, ShapesHDError, "no Ray cluster answers"),
    ],
)
def test_wrong_backends_are_refused(
    tmp_path: Path, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        render_small(tmp_path / "out", **arguments)


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"shapeshd\[{backend}\]"):
        render_small(tmp_path / "out", backend=backend)
