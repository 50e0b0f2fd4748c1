"""From a source to a result: count its samples, test the histogram, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from shapeshd.benchmark.fidelity.features import DEFAULT as DEFAULT_FEATURES
from shapeshd.benchmark.fidelity.features import FeatureNetwork
from shapeshd.benchmark.fidelity.measure import Fidelity, check_fidelity, open_fidelity
from shapeshd.benchmark.fidelity.pictures import choose_pictures
from shapeshd.benchmark.fidelity.rerender import DEFAULT_ENGINE
from shapeshd.benchmark.report.terminal import write_report
from shapeshd.benchmark.result.build import build_result, save_result
from shapeshd.benchmark.result.files import EXAMPLES, FIDELITY, HISTOGRAM, RESULT
from shapeshd.benchmark.result.verdict import verdict_of_both
from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.statistics.chi_square import PER_BIN, PROTOCOL
from shapeshd.benchmark.statistics.histogram import MAX_SAMPLES, min_samples, require_samples
from shapeshd.benchmark.statistics.measurement_error import check_testable
from shapeshd.checks import whole_number
from shapeshd.distribution import Distribution
from shapeshd.errors import ShapesHDError, UsageError, one_line
from shapeshd.factors import NUM_BINS, check_seed
from shapeshd.images.resize import check_image_size
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.progress import note

from .counting import Reader, count_samples
from .distributed import Ranks
from .examples import choose_examples
from .provenance import content_digest
from .run_folder import RunFolder
from .tally import Tally

Choice = Callable[[int], Reader]
"""Gives a recognizer for images of so many pixels a side."""

DEFAULT_SAMPLES = 100_000


def score(
    source: Source,
    reader: Reader | Choice,
    out: Path,
    *,
    samples: int | None = None,
    protocol: str | None = None,
    seed: int = 0,
    distribution: Distribution | None = None,
    options: SourceOptions | None = None,
    fidelity: int | None = None,
    features: str | FeatureNetwork = DEFAULT_FEATURES,
    fidelity_engine: str = DEFAULT_ENGINE,
    trust: bool = False,
    ranks: Ranks | None = None,
    command: str | None = None,
    progress: bool = False,
) -> dict[str, Any] | None:
    """Score a source into a folder, or go on where a stopped run ended.

    Args:
        source: what to score; see `open_source`.
        reader: a recognizer, or what gives one for the side of the source's images in pixels.
        out: folder of the result; it is made. It holds ``result.json``, ``histogram.npy``,
            ``examples.npz``, ``report.html``, with `fidelity` ``quality.npz``, and in ``.work``
            what takes it up again.
        samples: how many; by default all images that the source has, or 100,000. More than
            a run in `out` has counted are added to it.
        protocol: "chi2-20k" for 20 samples per bin, in place of `samples`.
        seed: with which the source was opened.
        distribution: that the samples should follow; by default the uniform one.
        options: with which the source was opened.
        fidelity: of how many images, the first ones, the quality is measured as well; see
            `Fidelity`. It can be asked for once the score is there.
        features: which features they are compared by; see `load_features`.
        fidelity_engine: "torch" or "povray", which renders what they are compared with.
        trust: whether code in a file of features may run.
        ranks: processes that share the work, each with its own source and recognizer.
        command: the command line, for the report.
        progress: show a bar and notes on stderr.

    Returns:
        What ``result.json`` holds; None in all processes but the first.

    Raises:
        UsageError: if an argument is impossible, there are too few samples, the images cannot
            be read by the recognizer, or `out` holds something else.
        InterruptedRunError: if SIGINT or SIGTERM came; what was counted is kept.
        ShapesHDError: if the source fails; what was counted is kept.
    """
    ranks = ranks or Ranks()
    check_seed(seed)
    task = prepare(source, reader, samples, protocol, distribution)
    chosen, distribution = task.reader, task.distribution
    measured = None
    if fidelity is not None:
        check_fidelity(fidelity, task.samples)
        measured = open_fidelity(
            fidelity, features, fidelity_engine, chosen, task.side, distribution, trust=trust
        )
    settings = {
        "source": source.name,
        "kind": source.kind,
        "content": content_digest(source),
        "images": source.count,
        "seed": seed,
        "recognizer": chosen.digest or chosen.name,
        "distribution": None if distribution is None else distribution.digest,
        **vars(options or SourceOptions()),
    }
    del settings["timeout"]  # decides no image: whoever waited too briefly can go on with more
    folder = RunFolder(out, settings, ranks)
    if ranks.first and (remark := rendered_otherwise(source, distribution)):
        note(remark)
    try:
        return _Run(source, task, folder, seed, measured, ranks, command, progress).finish()
    finally:
        folder.close()


@dataclass(frozen=True)
class Task:
    """What a score has to do, and that it can be done.

    Attributes:
        reader: reads the source's images.
        samples: how many.
        distribution: that they should follow; None for the uniform one.
        side: width and height of the source's images, pixels.
        resized: how they are brought to the reader's size; None if they have it.
    """

    reader: Reader
    samples: int
    distribution: Distribution | None
    side: int
    resized: str | None


def prepare(
    source: Source,
    reader: Reader | Choice,
    samples: int | None,
    protocol: str | None,
    distribution: Distribution | None,
) -> Task:
    """Choose the reader and the number of samples; arguments as of `score`.

    Raises:
        UsageError: as `score`.
        ShapesHDError: if the source does not give its first image.
    """
    distribution = None if distribution is None or distribution.uniform else distribution
    if distribution is not None:
        check_testable(distribution)
    n = choose_samples(
        source, samples, protocol, NUM_BINS if distribution is None else distribution.bins
    )
    height, side = source.images(0, 1).shape[-2:]
    chosen = cast(Reader, reader if hasattr(reader, "size") else reader(side))
    return Task(
        chosen, n, distribution, side, check_image_size(height, side, chosen.size, source.name)
    )


def rendered_otherwise(source: Source, distribution: Distribution | None) -> str | None:
    """Return a remark if a dataset records another distribution than the tested one."""
    recorded: Distribution | None = getattr(source, "distribution", None)
    if recorded is None or recorded == (distribution or Distribution.from_text("")):
        return None
    tested = (
        "the uniform distribution" if distribution is None else f"the distribution {distribution}"
    )
    made = "uniform factors" if recorded.uniform else f"another distribution, {recorded}"
    hint = "; give it with --distribution to test against it" if distribution is None else ""
    return f"{source.name}: is tested against {tested}, but was rendered with {made}{hint}"


def choose_samples(
    source: Source, samples: int | None, protocol: str | None, bins: int = NUM_BINS
) -> int:
    """Return how many samples to take, or raise `UsageError` if that is impossible."""
    if protocol is not None:
        if protocol != PROTOCOL:
            raise UsageError(f"there is no protocol {protocol!r}; there is {PROTOCOL}")
        if samples is not None:
            raise UsageError("give --samples or --protocol, not both")
        samples = PER_BIN * bins
    if samples is None:
        samples = DEFAULT_SAMPLES if source.count is None else source.count
    whole_number("samples", samples, 1, MAX_SAMPLES)
    if source.count is not None and samples > source.count:
        raise UsageError(f"{source.name}: has {source.count:,} images, fewer than {samples:,}")
    if source.count is not None and source.count < min_samples(bins):
        raise UsageError(
            f"{source.name}: has {source.count:,} images, too few to test {bins:,} bins: at "
            f"least {min_samples(bins):,} are needed"
        )
    require_samples(samples, bins)
    return samples


@dataclass(frozen=True)
class _Run:
    source: Source
    task: Task
    folder: RunFolder
    seed: int
    fidelity: Fidelity | None
    ranks: Ranks
    command: str | None
    progress: bool

    def finish(self) -> dict[str, Any] | None:
        """Count and measure what is missing and write the result, unless it is there already."""
        folder, ranks, before = self.folder, self.ranks, self.folder.done.samples
        if before > self.task.samples:
            raise UsageError(
                f"{folder.out}: holds {before:,} samples already; ask for as many or more, or "
                "choose another --out"
            )
        if self.fidelity is not None:
            if more := self.fidelity.exceeded((folder.earlier() or {}).get("fidelity")):
                raise UsageError(
                    f"{folder.out}: holds the quality of {more:,} images already; ask for as many "
                    "or more, or choose another --out"
                )
            self.fidelity.open(folder.work, ranks)
        result = folder.finished(self.task.samples)
        if result is None:
            result = self._count(before)
        elif self.fidelity is not None and self.fidelity.matches(result.get("fidelity")):
            return result if ranks.first else None
        if self.fidelity is not None:
            return self._measure(self.fidelity, result)
        return result if ranks.first else None

    def _count(self, before: int) -> dict[str, Any] | None:
        folder, ranks = self.folder, self.ranks
        if before and self.progress and ranks.first:
            note(f"going on after {before:,} of {self.task.samples:,} samples")
        collect = None if self.fidelity is None else self.fidelity.collect
        started = time.monotonic()
        count_samples(
            self.source, self.task.reader, self.task.samples, folder, ranks, self.task.side,
            distribution=self.task.distribution, collect=collect, progress=self.progress,
        )  # fmt: skip
        total = folder.total()
        if not ranks.first:
            return None
        seconds = time.monotonic() - started
        return self._write(
            total,
            {
                "seconds": round(seconds, 2),
                "images_per_second": round((self.task.samples - before) / max(seconds, 1e-9), 1),
                "device": str(self.task.reader.device),
                "world_size": ranks.count,
                "resumed": bool(before),
                "command": self.command,
            },
        )

    def _write(self, total: Tally, run: dict[str, Any]) -> dict[str, Any]:
        out = self.folder.out
        task = self.task
        result, parts = build_result(
            total.counts, self.source, task.reader,
            seed=self.seed, side=task.side, resized=task.resized, run=run,
            distribution=task.distribution,
        )  # fmt: skip
        replace_file(out / HISTOGRAM, lambda path: _save_array(path, total.counts))
        try:
            examples = choose_examples(
                total.counts,
                total.first_seen,
                parts,
                self.source,
                self.task.reader,
                self.task.distribution,
            )
            replace_file(out / EXAMPLES, lambda path: _save_arrays(path, examples))
            result["examples"] = {"file": EXAMPLES}
        except ShapesHDError as error:  # the numbers are worth more than the pictures
            note(f"no example images: {one_line(error)}")
            (out / EXAMPLES).unlink(missing_ok=True)
        if self.fidelity is None and (entry := (self.folder.earlier() or {}).get("fidelity")):
            # Of fewer samples, but the same first images.
            verdict = verdict_of_both(result, entry["residual"])
            result["fidelity"] = {**entry, "verdict": verdict}
        write_report(result, out)
        save_result(result, out / RESULT)
        return result

    def _measure(self, fidelity: Fidelity, result: dict[str, Any] | None) -> dict[str, Any] | None:
        measured = fidelity.finish(self.source, self.ranks, progress=self.progress)
        if measured is None or result is None:
            return None
        out, (entry, sample) = self.folder.out, measured
        try:
            pictures = choose_pictures(sample, self.source, fidelity.rerender)
            replace_file(out / FIDELITY, lambda path: _save_arrays(path, pictures))
            pictured = FIDELITY
        except ShapesHDError as error:
            note(f"no images beside their re-renders: {one_line(error)}")
            (out / FIDELITY).unlink(missing_ok=True)
            pictured = None
        result["fidelity"] = {
            **entry,
            "command": self.command,
            "examples": {"file": pictured},
            "verdict": verdict_of_both(result, entry["residual"]),
        }
        write_report(result, out)
        save_result(result, out / RESULT)
        return result


def _save_array(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
