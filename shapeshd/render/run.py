"""Rendering a dataset: many shards in parallel, resumable, on one machine or a cluster."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from shapeshd.dataset.manifest import Manifest, write_manifest
from shapeshd.dataset.shards import SHARD_FOLDER
from shapeshd.engines.engine import engine_named
from shapeshd.errors import RendererError, ShapesHDError, one_line
from shapeshd.support.progress import progress_bar
from shapeshd.support.workspace import WORK_FOLDER, sweep_work, work_folder

from .backends import WorkerDied, parallel_backend
from .plan import RenderPlan
from .shard_task import RenderTask, Shard, ShardOutcome, render_shards

_ATTEMPTS = 4
_THREADS_END_SECONDS = 10
_TASK_SECONDS = 60
_TASKS_PER_WORKER = 4


@dataclass(frozen=True)
class RenderResult:
    """What a run did.

    Args:
        rendered: images that were made in this run.
        kept: images that were there already and are sound.
        remade: shards that were damaged and have been rendered again.
        seconds: wall time.
        manifest: the dataset as it is now.
    """

    rendered: int
    kept: int
    remade: tuple[int, ...]
    seconds: float
    manifest: Manifest


def run_render(
    plan: RenderPlan,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    cluster: str | None = None,
    progress: bool = False,
) -> RenderResult:
    """Render what `plan` lacks, and check what it has.

    A run that is stopped, by whatever means, loses at most the shards in work; the same
    call goes on from there. Dead workers are replaced.

    Args:
        plan: from `plan_render`.
        jobs: shards rendered side by side; by default one for each core, or for each
            worker of a cluster.
        backend: ``loky`` (processes), ``threading``, ``dask`` or ``ray``.
        cluster: address of a Dask scheduler or a Ray head; by default a local one is started.
        progress: show a progress bar on stderr.

    Raises:
        ShapesHDError: saying what is wrong; finished shards stay.
    """
    began = time.monotonic()
    _make_folder(plan.dataset)
    sweep_work(plan.dataset)
    with suppress(ShapesHDError):  # no shards yet, or damaged ones
        write_manifest(plan.dataset, plan.count)  # so that an extension that is killed shows
    try:
        outcomes = _run_attempts(plan, jobs, backend, cluster, progress)
    except BaseException:
        # What went wrong first is what the user must hear.
        with suppress(ShapesHDError, OSError):
            _settle(plan.dataset, _THREADS_END_SECONDS if backend == "threading" else 0)
            write_manifest(plan.dataset, plan.count)
        raise
    manifest = write_manifest(plan.dataset, plan.count)
    sweep_work(plan.dataset)
    rendered = sum(outcome.rendered for outcome in outcomes)
    return RenderResult(
        rendered=rendered,
        kept=sum(outcome.count for outcome in outcomes) - rendered,
        remade=tuple(outcome.number for outcome in outcomes if outcome.status == "remade"),
        seconds=time.monotonic() - began,
        manifest=manifest,
    )


def _settle(dataset: Path, patience: float) -> None:
    """Sweep ``.work``, waiting for threads that still have to notice that the run has ended."""
    deadline = time.monotonic() + patience
    sweep_work(dataset)
    while (dataset / WORK_FOLDER).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
        sweep_work(dataset)


def _run_attempts(
    plan: RenderPlan, jobs: int | None, backend: str, cluster: str | None, progress: bool
) -> list[ShardOutcome]:
    for attempt in range(_ATTEMPTS):
        try:
            with (
                parallel_backend(backend, jobs, cluster) as workers,
                work_folder(plan.dataset, "run") as folder,
            ):
                run_file = folder / "progress"
                run_file.touch()
                tasks = _tasks(plan, workers, run_file)
                with _watch(run_file, plan.images(), progress):
                    parallel = joblib.Parallel(
                        n_jobs=workers, batch_size=1, pre_dispatch="2*n_jobs"
                    )
                    done = parallel(joblib.delayed(render_shards)(task) for task in tasks)
                    return list(itertools.chain.from_iterable(done))
        except WorkerDied as error:
            if attempt == _ATTEMPTS - 1:
                raise RendererError(
                    f"workers died {_ATTEMPTS} times (out of memory?), last: "
                    f"{one_line(error)}; try fewer --jobs"
                ) from None
    raise AssertionError("unreachable")


def _tasks(plan: RenderPlan, workers: int, run_file: Path) -> Iterator[RenderTask]:
    """Cut the shards of a run into tasks of a minute or so, several for each worker."""
    size, engine = plan.provenance.size, engine_named(plan.provenance.engine)
    in_a_minute = _TASK_SECONDS / engine.seconds_per_image(size) / plan.provenance.shard_size
    share = len(plan.shards) / (workers * _TASKS_PER_WORKER)
    step = max(1, min(math.ceil(share), math.ceil(in_a_minute)))
    side_by_side = min(workers, math.ceil(len(plan.shards) / step))
    for first in range(plan.shards.start, plan.shards.stop, step):
        yield RenderTask(
            shards=tuple(
                _shard(plan, number) for number in range(first, min(first + step, plan.shards.stop))
            ),
            parallel=engine.parallelism(size, workers / side_by_side),
            run_file=run_file,
        )


def _shard(plan: RenderPlan, number: int) -> Shard:
    first, stop = plan.interval(number)
    labels = np.ascontiguousarray(plan.sampling.factors(first, stop))
    return Shard(plan.dataset, first, labels, plan.provenance)


def _make_folder(dataset: Path) -> None:
    try:
        (dataset / SHARD_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise ShapesHDError(f"{dataset}: cannot be written ({what}); give another folder") from None


@contextmanager
def _watch(run_file: Path, total: int, show: bool) -> Iterator[None]:
    """Show the progress that the tasks append to `run_file` as lines ``shard done``."""
    if not show:
        yield
        return
    stop = threading.Event()

    def follow() -> None:
        done: dict[str, int] = {}
        bar = progress_bar(total, "render")
        with run_file.open() as lines, bar:
            ended = False
            while not ended:
                ended = stop.wait(0.5)
                for line in lines:
                    shard, _, images = line.partition(" ")
                    if images.strip().isdigit():
                        done[shard] = int(images)
                bar.update(sum(done.values()) - bar.n)

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        stop.set()
        follower.join()
