"""Rendering a dataset: many shards in parallel, resumable, on one machine or a cluster."""

from __future__ import annotations

import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from . import povray, scene
from .backends import WorkerDied, parallel_backend
from .errors import DamagedShardError, RendererError, ShapesHDError, UsageError
from .manifest import MANIFEST_NAME, Manifest, load_manifest, write_manifest
from .povray import RenderOptions, processes_per_core
from .progress import progress_bar
from .sampling import Sampling
from .shard_task import ShardOutcome, ShardTask, check_same_labels, render_shard
from .shards import (
    SHARD_FOLDER,
    Provenance,
    ShardWriter,
    compression_filter,
    list_shards,
    open_shard,
    read_labels,
    shard_name,
    shard_number,
)
from .workspace import WORK_FOLDER, sweep_work, work_folder

DEFAULT_COUNT = 500_000
MAX_COUNT = 10**9
MAX_SHARD_SIZE = 100_000
_ATTEMPTS = 4
_PROBE_IMAGES = 16


@dataclass(frozen=True)
class RenderPlan:
    """A dataset to be rendered, checked; make it with `plan_render`.

    Args:
        dataset: the dataset folder, absolute.
        sampling: which factors.
        count: images in the whole dataset.
        provenance: what decides the images.
        shards: the shards of this run, all of them unless it is one of a job array.
    """

    dataset: Path
    sampling: Sampling
    count: int
    provenance: Provenance
    shards: range

    @property
    def total_shards(self) -> int:
        """Shards in the whole dataset."""
        return -(-self.count // self.provenance.shard_size)

    def interval(self, shard: int) -> tuple[int, int]:
        """Return the images [first, stop) of a shard."""
        size = self.provenance.shard_size
        return shard * size, min(self.count, (shard + 1) * size)

    def images(self, shards: Sequence[int] | None = None) -> int:
        """Count the images of `shards`, by default of this run."""
        chosen = self.shards if shards is None else shards
        return sum(stop - first for first, stop in map(self.interval, chosen))

    def present(self) -> list[int]:
        """List the shards of this run whose files exist (sound or not)."""
        folder = self.dataset / SHARD_FOLDER
        return [number for number in self.shards if (folder / shard_name(number)).exists()]


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, from a probe: seconds of wall time, bytes on disk."""

    images: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class RenderResult:
    """What a run did.

    Args:
        rendered: images that POV-Ray made in this run.
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


def plan_render(
    out: Path,
    sampling: Sampling,
    count: int | None = None,
    options: RenderOptions | None = None,
    *,
    shard_size: int = 1000,
    compression: str = "gzip",
    shards: tuple[int | None, int | None] = (None, None),
) -> RenderPlan:
    """Check what is asked for against itself, the machine and what the folder already holds.

    Args:
        out: the dataset folder; it need not exist.
        sampling: which factors.
        count: images in the whole dataset; by default all that `sampling` has, or 500,000.
        options: size and antialiasing; by default 256 pixels.
        shard_size: images per file.
        compression: ``gzip``, ``zstd`` (extra ``zstd``) or ``none``.
        shards: first and one past the last shard of this run; None for the ends.

    Raises:
        UsageError: if an argument is impossible, or the folder holds another dataset; the
            message names the difference.
        RendererError: if POV-Ray is missing or too old.
    """
    options = options or RenderOptions()
    if count is None:
        count = DEFAULT_COUNT if sampling.length is None else sampling.length
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"--count must be between 1 and {MAX_COUNT:,}, not {count:,}")
    if sampling.length is not None and count > sampling.length:
        raise UsageError(
            f"--count {count:,} is more than the {sampling.length:,} images of the {sampling.name}"
        )
    if not 1 <= shard_size <= MAX_SHARD_SIZE:
        raise UsageError(f"--shard-size must be between 1 and {MAX_SHARD_SIZE:,}, not {shard_size}")
    compression_filter(compression)
    plan = RenderPlan(
        dataset=out.absolute(),
        sampling=sampling,
        count=count,
        provenance=Provenance(
            sampling=sampling.name,
            seed=sampling.seed,
            size=options.size,
            antialias=options.antialias,
            antialias_depth=options.antialias_depth,
            engine="povray",
            renderer=f"POV-Ray {povray.version()}",
            templates_sha256=scene.template_digest(),
            shard_size=shard_size,
            compression=compression,
        ),
        shards=_shard_range(shards, -(-count // shard_size)),
    )
    _check_folder(plan)
    return plan


def _shard_range(shards: tuple[int | None, int | None], total: int) -> range:
    first = 0 if shards[0] is None else shards[0]
    stop = total if shards[1] is None else shards[1]
    if not 0 <= first < stop <= total:
        raise UsageError(
            f"--shards {first}:{stop} must satisfy 0 <= A < B <= {total}, the number of shards"
        )
    return range(first, stop)


def _check_folder(plan: RenderPlan) -> None:
    out = plan.dataset
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder")
    if not list_shards(out):
        known = {SHARD_FOLDER, WORK_FOLDER, MANIFEST_NAME}
        others = sorted(entry.name for entry in out.iterdir() if entry.name not in known)
        if others:
            raise UsageError(
                f"{out}: is no dataset and not empty (it holds {others[0]}); give a new folder"
            )
        return
    try:
        manifest = load_manifest(out)
    except ShapesHDError:
        return  # damaged shards: each is looked at, and made anew, by its own task
    differences = manifest.provenance.differences(plan.provenance)
    if differences:
        raise UsageError(
            f"{out}: holds another dataset: its {'; its '.join(differences)}; "
            "use the same parameters or another folder"
        )
    if manifest.available > plan.count:
        raise UsageError(
            f"{out}: already holds {manifest.available:,} images, more than --count "
            f"{plan.count:,}; ask for at least as many, or render to another folder"
        )
    for path in list_shards(out):
        number = shard_number(path)
        if number is not None and number >= plan.total_shards:
            raise UsageError(f"{path}: lies beyond --count {plan.count:,}; ask for more images")
    if plan.sampling.name == "table":  # the other samplings are decided by their provenance
        for shard in manifest.shards:
            path, first = out / shard.file, shard.first_index
            with suppress(DamagedShardError), open_shard(path) as file:
                wanted = plan.sampling.factors(first, first + shard.count)
                check_same_labels(path, first, read_labels(file, path), wanted)


def core_count() -> int:
    """Return how many cores this process may use."""
    return int(joblib.cpu_count())


def estimate(plan: RenderPlan, jobs: int) -> Estimate:
    """Render a few images of `plan` in a temporary folder and extrapolate.

    The time is the CPU time that POV-Ray needs, spread over `jobs` cores; the size is that
    of the compressed images.
    """
    present = set(plan.present())
    missing = [number for number in plan.shards if number not in present]
    images = plan.images(missing)
    if not images:
        return Estimate(0, 0.0, 0)
    first = plan.interval(missing[0])[0]
    probe = plan.sampling.factors(first, min(first + _PROBE_IMAGES, plan.count))
    provenance = plan.provenance
    options = RenderOptions(provenance.size, provenance.antialias, provenance.antialias_depth)
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as name:
        folder = Path(name)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with ShardWriter(folder / "probe.h5", provenance, 0, probe) as writer:
            start = time.thread_time()
            for image in povray.stream_images(probe, options, folder, 4):
                writer.append(image)
            writer.finish()
            own = time.thread_time() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / "probe.h5").stat().st_size
    cpu = own + after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Estimate(images, cpu / len(probe) * images / jobs, size * images // len(probe))


def check_disk(plan: RenderPlan, expected: Estimate) -> None:
    """Raise `ShapesHDError` if the disk of `plan` has no room for what is expected."""
    place = plan.dataset
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if expected.bytes > free:
        raise ShapesHDError(
            f"{place}: has {free / 1e9:.2f} GB free, but about {expected.bytes / 1e9:.2f} GB are "
            "needed: free some space or ask for fewer images"
        )


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
    try:
        outcomes = _run_attempts(plan, jobs, backend, cluster, progress)
    except BaseException:
        sweep_work(plan.dataset)
        with suppress(ShapesHDError):  # what went wrong first is what the user must hear
            write_manifest(plan.dataset, plan.count)
        raise
    sweep_work(plan.dataset)
    manifest = write_manifest(plan.dataset, plan.count)
    rendered = sum(outcome.rendered for outcome in outcomes)
    return RenderResult(
        rendered=rendered,
        kept=sum(outcome.count for outcome in outcomes) - rendered,
        remade=tuple(outcome.number for outcome in outcomes if outcome.status == "remade"),
        seconds=time.monotonic() - began,
        manifest=manifest,
    )


def _run_attempts(
    plan: RenderPlan, jobs: int | None, backend: str, cluster: str | None, progress: bool
) -> list[ShardOutcome]:
    for attempt in range(_ATTEMPTS):
        try:
            with (
                parallel_backend(backend, jobs, cluster) as workers,
                work_folder(plan.dataset, "run-") as folder,
            ):
                run_file = folder / "progress"
                run_file.touch()
                tasks = _tasks(plan, workers, run_file)
                with _watch(run_file, plan.images(), progress):
                    parallel = joblib.Parallel(
                        n_jobs=workers, batch_size=1, pre_dispatch="2*n_jobs"
                    )
                    return list(parallel(joblib.delayed(render_shard)(task) for task in tasks))
        except WorkerDied as error:
            if attempt == _ATTEMPTS - 1:
                raise RendererError(
                    f"workers died {_ATTEMPTS} times (out of memory?), last: "
                    f"{' '.join(str(error).split())}; try fewer --jobs"
                ) from None
    raise AssertionError("unreachable")


def _tasks(plan: RenderPlan, workers: int, run_file: Path) -> Iterator[ShardTask]:
    side_by_side = max(1, min(workers, len(plan.shards)))
    processes = -(-processes_per_core(plan.provenance.size) * workers // side_by_side)
    for number in plan.shards:
        first, stop = plan.interval(number)
        yield ShardTask(
            dataset=plan.dataset,
            first_index=first,
            labels=np.ascontiguousarray(plan.sampling.factors(first, stop)),
            provenance=plan.provenance,
            processes=processes,
            run_file=run_file,
        )


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
