"""Plans a run: checks what is asked for, and estimates what it will cost."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shapeshd.dataset.manifest import MANIFEST_NAME, VIRTUAL_NAME, scan_shards
from shapeshd.dataset.shards import (
    SHARD_FOLDER,
    Provenance,
    ShardWriter,
    compression_filter,
    header_of,
    list_shards,
    open_shard,
    read_labels,
)
from shapeshd.engines.engine import ENGINES, engine_named
from shapeshd.errors import DamagedShardError, ShapesHDError, UsageError, named, require_posix
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import Sampling
from shapeshd.support.workspace import WORK_FOLDER

from .shard_task import check_same_labels

DEFAULT_COUNT = 500_000
MAX_COUNT = 10**9
MAX_SHARD_SIZE = 100_000
_PROBE_IMAGES = 16
_PROBE_PARALLEL = 4  # more processes would measure their starts


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

    def images(self) -> int:
        """Count the images of this run's shards."""
        return sum(stop - first for first, stop in map(self.interval, self.shards))

    def missing(self) -> dict[int, int]:
        """Count the images that each shard of this run lacks; those that exist may be damaged."""
        existing: dict[int, int] = {}
        with suppress(ShapesHDError):
            existing = {
                shard.first_index: shard.count for shard in scan_shards(self.dataset).shards
            }
        lacking = {}
        for number in self.shards:
            first, stop = self.interval(number)
            if (count := stop - first - existing.get(first, 0)) > 0:
                lacking[number] = count
        return lacking


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, from a probe: seconds of wall time, bytes on disk."""

    images: int
    seconds: float
    bytes: int


def plan_render(
    out: Path,
    sampling: Sampling,
    count: int | None = None,
    options: RenderOptions | None = None,
    *,
    engine: str = ENGINES[0],
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
        engine: ``povray`` or ``torch``.
        shard_size: images per file.
        compression: ``gzip``, ``zstd`` (extra ``zstd``) or ``none``.
        shards: first and one past the last shard of this run; None for the ends.

    Raises:
        UsageError: if an argument is impossible, or the folder holds another dataset; the
            message names the difference.
        RendererError: if the engine is POV-Ray, and it is missing or too old.
    """
    require_posix()
    options = options or RenderOptions()
    if count is None:
        count = DEFAULT_COUNT if sampling.length is None else sampling.length
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"{named('count')} must be between 1 and {MAX_COUNT:,}, not {count:,}")
    if sampling.length is not None and count > sampling.length:
        raise UsageError(
            f"{named('count')} {count:,} is more than the {sampling.length:,} images of the "
            f"{sampling.name}"
        )
    if not 1 <= shard_size <= MAX_SHARD_SIZE:
        raise UsageError(
            f"{named('shard_size')} must be between 1 and {MAX_SHARD_SIZE:,}, not {shard_size:,}"
        )
    compression_filter(compression)
    chosen = engine_named(engine)
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
            engine=chosen.name,
            renderer=chosen.renderer(),
            scene_sha256=chosen.scene_sha256(),
            shard_size=shard_size,
            compression=compression,
            distribution=sampling.distribution,
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
            f"{named('shards')} {first}:{stop} must satisfy 0 <= A < B <= {total:,}, the number of "
            "shards"
        )
    return range(first, stop)


def _check_folder(plan: RenderPlan) -> None:
    out = plan.dataset
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; give a folder")
    if not list_shards(out):
        known = {SHARD_FOLDER, WORK_FOLDER, MANIFEST_NAME, VIRTUAL_NAME}
        others = sorted(entry.name for entry in out.iterdir() if entry.name not in known)
        if others:
            raise UsageError(
                f"{out}: is no dataset and not empty (it holds {others[0]}); give a new folder"
            )
        return
    for path in reversed(list_shards(out)):
        with suppress(DamagedShardError):  # its own task looks at it, and makes it anew
            _check_shard_fits(plan, path)


def _check_shard_fits(plan: RenderPlan, path: Path) -> None:
    with open_shard(path) as file:
        header = header_of(file, path)
        first, stop = header.first_index, header.first_index + header.count
        differences = header.provenance.differences(plan.provenance)
        if differences:
            raise UsageError(
                f"{plan.dataset}: holds another dataset: its {'; its '.join(differences)}; "
                "use the same parameters or another folder"
            )
        if stop > plan.count:
            raise UsageError(
                f"{plan.dataset}: already holds {stop:,} images, more than --count "
                f"{plan.count:,}; ask for at least as many, or render to another folder"
            )
        if plan.sampling.name == "table":  # other samplings are decided by their provenance
            labels = read_labels(file, path)
            check_same_labels(path, first, labels, plan.sampling.factors(first, stop))


def estimate(plan: RenderPlan, jobs: int) -> Estimate:
    """Render a few images of `plan` in a temporary folder and extrapolate.

    The time is the CPU time that rendering and writing need, spread over `jobs` cores; the
    size is that of the compressed images.
    """
    import resource  # of POSIX alone

    missing = plan.missing()
    images = sum(missing.values())
    if not images:
        return Estimate(0, 0.0, 0)
    first = plan.interval(next(iter(missing)))[0]
    probe = plan.sampling.factors(first, min(first + _PROBE_IMAGES, plan.count))
    provenance = plan.provenance
    options = RenderOptions(provenance.size, provenance.antialias, provenance.antialias_depth)
    engine = engine_named(provenance.engine)
    parallel = min(_PROBE_PARALLEL, engine.parallelism(provenance.size, 1))
    engine.warm_up()
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as name:
        folder = Path(name)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with ShardWriter(folder / "probe.h5", provenance, 0, probe) as writer:
            start = time.process_time()
            for image in engine.stream(probe, options, folder, parallel):
                writer.append(image)
            writer.finish()
            own = time.process_time() - start
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
