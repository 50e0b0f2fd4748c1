"""From a source to a result: count its samples, test the histogram, write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import shapeshd
from shapeshd.benchmark.fidelity.measure import Fidelity, open_fidelity
from shapeshd.benchmark.image_check.check import check_images
from shapeshd.benchmark.image_check.kept_images import KeptImages
from shapeshd.benchmark.recognizer.reader import Reader, count_bins, read_pieces
from shapeshd.benchmark.report.html import draw_or_say, write_report
from shapeshd.benchmark.result.build import build_result, with_fidelity, with_joint_verdict
from shapeshd.benchmark.result.fidelity import FileRecord
from shapeshd.benchmark.result.files import EXAMPLES, FIDELITY, HISTOGRAM, REPORT, RESULT
from shapeshd.benchmark.result.read import save_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.result.source_checks import ReproducibilityRecord
from shapeshd.benchmark.sources.base import Source, conversions
from shapeshd.benchmark.statistics.decomposition import Decomposition
from shapeshd.errors import ShapesHDError, UsageError, explain, named, one_line
from shapeshd.factors import FloatArray, IntArray
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.distributed import Ranks
from shapeshd.support.progress import note, progress_bar, warn

from .counting import count_samples
from .examples import choose_examples, choose_fidelity_examples
from .identity import DRAWN, identity_of
from .image_hashes import SeenImages
from .near_copies import describe_near_copies
from .repeats import describe_repeats
from .reproducibility import look_again, require_reproducible
from .run_folder import RunFolder, recorded_settings
from .seen_factors import SeenFactors
from .settings import ReaderChoice, ScoreSettings, Task, distribution_remark, prepare
from .witnesses import check_witnesses


def score_source(
    source: Source,
    reader: Reader | ReaderChoice,
    out: Path,
    settings: ScoreSettings | None = None,
    *,
    ranks: Ranks | None = None,
    command: str | None = None,
    progress: bool = False,
) -> Result | None:
    """Score a source into a folder, or go on where a stopped run ended.

    Args:
        source: what to score; see `open_source`.
        reader: a recognizer, or what gives one for the side of the source's images in pixels.
        out: folder of the result; it is made. It holds ``result.json``, ``histogram.npy``,
            ``examples.npz``, ``report.html``, with fidelity ``fidelity.npz``, and in ``.work``
            what takes it up again.
        settings: what to measure. More samples than a run in `out` has counted are added to it,
            and fidelity can be asked for once the score is there.
        ranks: processes that share the work, each with its own source and recognizer.
        command: the command line, for the report.
        progress: show a bar and notes on stderr.

    Returns:
        What ``result.json`` holds; None in all processes but the first.

    Raises:
        UsageError: if a setting is impossible, there are too few samples, the images cannot
            be read by the recognizer, or `out` holds something else.
        InterruptedRunError: if SIGINT or SIGTERM came; what was counted is kept.
        ShapesHDError: if the source fails; what was counted is kept.
    """
    settings, ranks = settings or ScoreSettings(), ranks or Ranks()
    before = {} if settings.again else recorded_settings(out) or {}
    ranks.wait()  # until all have seen it: the first changes it
    task = prepare(
        source, reader, settings, drawn=before["order"] == DRAWN if "order" in before else None
    )
    with task:
        fidelity = None
        if settings.fidelity is not None:
            fidelity = open_fidelity(
                settings.fidelity, task.samples, task.reader, task.side, task.distribution,
                drawn=task.fidelity_source is not task.source,
            )  # fmt: skip
        identity = identity_of(task, settings.options)
        with closing(RunFolder(out, identity, ranks, again=settings.again)) as folder:
            if ranks.first and (remark := distribution_remark(source, task.distribution)):
                note(remark)
            _refuse_fewer(task, fidelity, folder)
            if fidelity is not None:
                fidelity.open(folder.work, ranks)
            result = folder.finished(task.samples)
            _check_source(task, fidelity, folder, result, allowed=settings.allow_irreproducible)
            if result is None or _is_of_another_version(result):
                result = _count(task, fidelity, folder, command, progress)
            try:
                if fidelity is not None and not fidelity.matches(
                    result.fidelity if result else None
                ):
                    result = _measure(task, fidelity, folder, result, command, progress)
            finally:
                if ranks.first and result is not None and not (out / REPORT).exists():
                    draw_or_say(lambda folder: write_report(result, folder), out)
    return result if ranks.first else None


def score_in_memory(
    source: Source, reader: Reader | ReaderChoice, settings: ScoreSettings, *, progress: bool
) -> tuple[Result, IntArray]:
    """Score without a folder: nothing is kept of a run that fails; fidelity is not measured.

    Returns:
        What ``result.json`` would hold, and the histogram, int64 (k,).

    Raises:
        UsageError, ShapesHDError: as `score_source`.
    """
    task = prepare(source, reader, settings)
    if remark := distribution_remark(source, task.distribution):
        note(remark)
    started, found = time.monotonic(), look_again(task.source)
    seen, factors = SeenImages(), SeenFactors()
    kept = KeptImages(task.samples, task.side, task.reader.size) if task.check_images else None
    task.gather(progress=progress)
    with task, progress_bar(task.samples, "score", shown=progress) as bar:

        def parts() -> Any:
            for piece in read_pieces(task.source, task.reader, task.side, 0, task.samples):
                seen.add(piece.start, piece.counted)
                factors.add(piece.start, piece.counted_factors)
                if kept is not None:
                    kept.collect(piece.first, piece.images, piece.factors)
                yield piece.bins
                bar.update(len(piece.bins))

        counts = count_bins(parts())
    converted = conversions(task.source, 0, task.samples)
    run = _run_facts(task, task.samples, started)
    result, _ = _build(task, counts, seen, factors, kept, converted, reproducibility=found, run=run)
    histogram = result.histogram.model_copy(update={"file": None})
    return result.model_copy(update={"histogram": histogram}), counts


def _check_source(
    task: Task,
    fidelity: Fidelity | None,
    folder: RunFolder,
    result: Result | None,
    *,
    allowed: bool,
) -> None:
    """Refuse a source that gives other images than were counted, or than it gave just now.

    One process looks; what it finds is kept in the folder.
    """
    ranks, counted = folder.ranks, folder.done.samples
    if not ranks.first:
        return
    record = _reproducibility(folder)
    if record is None and result is None and (record := look_again(task.source)):
        folder.found["reproducibility"] = record.to_json()
    whole = result is not None and (fidelity is None or fidelity.matches(result.fidelity))
    if not whole:
        require_reproducible(record, task.source, counted=counted, ranks=ranks, allowed=allowed)
    if counted and (record is None or record.same):
        check_witnesses(task.source, folder.done.seen, folder.out, allowed=allowed)


def _reproducibility(folder: RunFolder) -> ReproducibilityRecord | None:
    known = folder.found.get("reproducibility")
    return None if known is None else ReproducibilityRecord.model_validate(known)


def _is_of_another_version(result: Result) -> bool:
    """Tell whether another version of the program made a result: it is then built anew."""
    return result.versions.get("shapeshd") != shapeshd.__version__


def _refuse_fewer(task: Task, fidelity: Fidelity | None, folder: RunFolder) -> None:
    """Raise `UsageError` if the folder holds more than is asked for."""
    before = folder.done.samples
    if before > task.samples:
        raise UsageError(
            f"{folder.out}: holds {before:,} samples already; ask for as many or more, or "
            f"choose another {named('out')}"
        )
    if task.first_alone:
        raise UsageError(
            f"{folder.out}: holds a score of all {task.source.count:,} images, begun in their "
            f"order: ask for all, or choose another {named('out')}"
        )
    earlier = folder.earlier()
    entry = earlier.fidelity if earlier else None
    if fidelity is not None and (more := fidelity.exceeded(entry)):
        raise UsageError(
            f"{folder.out}: holds the fidelity of {more:,} images already; ask for as many "
            f"or more, or choose another {named('out')}"
        )


def _count(
    task: Task, fidelity: Fidelity | None, folder: RunFolder, command: str | None, progress: bool
) -> Result | None:
    """Count the missing samples and save the result; None in all processes but the first.

    Where none is missing, the result is built of what was counted, and keeps how that was run.
    """
    ranks, before = folder.ranks, folder.done.samples
    earlier = folder.earlier()
    whole = before == task.samples
    if before and progress and ranks.first:
        going_on = f"going on after {before:,} of {task.samples:,} samples"
        note("all samples are counted: the result is built anew" if whole else going_on)
    started = time.monotonic()
    if not whole:
        task.gather(progress=progress and ranks.first)
    kept = None
    if task.check_images:
        kept = KeptImages(task.samples, task.side, task.reader.size, folder.work, ranks)
    wanted = [one.collect for one in (fidelity, kept) if one is not None]

    def collect(first: int, images: Tensor, factors: FloatArray) -> None:
        for one in wanted:
            one(first, images, factors)

    count_samples(task, folder, collect=collect if wanted else None, progress=progress)
    total = folder.total()
    if not ranks.first:
        return None
    run = _run_facts(task, task.samples - before, started)
    run |= {"world_size": ranks.count, "resumed": bool(before), "command": command}
    if whole and earlier is not None and earlier.samples == before:
        run = earlier.run.to_json()
    result, parts = _build(
        task, total.counts, total.seen, total.read, kept, total.converted,
        reproducibility=_reproducibility(folder), run=run,
    )  # fmt: skip
    out = folder.out
    replace_file(out / HISTOGRAM, lambda path: _save_array(path, total.counts))
    try:
        examples = choose_examples(
            total.counts, total.first_seen, parts, task.source, task.reader, task.distribution,
            progress=progress,
        )  # fmt: skip
        replace_file(out / EXAMPLES, lambda path: _save_arrays(path, examples))
        result = result.model_copy(update={"examples": FileRecord(file=EXAMPLES)})
    except Exception as error:  # of whatever kind: the numbers are worth more than the pictures
        warn(f"no example images: {_said(error)}")
        (out / EXAMPLES).unlink(missing_ok=True)
    if fidelity is None and earlier is not None and earlier.fidelity is not None:
        # Of fewer samples, but the same images.
        result = with_joint_verdict(result.model_copy(update={"fidelity": earlier.fidelity}))
    _save(result, out)
    return result


def _build(
    task: Task,
    counts: IntArray,
    seen: SeenImages,
    factors: SeenFactors,
    kept: KeptImages | None,
    converted: Mapping[str, int],
    *,
    reproducibility: ReproducibilityRecord | None,
    run: dict[str, Any],
) -> tuple[Result, Decomposition]:
    """Return the result of what was counted, seen and kept; see `build_result`."""
    looked_at = None
    if kept is not None:
        looked_at = check_images(kept.load(), task.reader, task.side, task.distribution)
    return build_result(
        counts, task.source, task.reader,
        seed=task.seed, side=task.side, resized=task.resized, distribution=task.distribution,
        converted=converted, drawn_from=task.drawn_from, run=run,
        repeats=describe_repeats(task.source, seen), near_copies=describe_near_copies(factors),
        reproducibility=reproducibility,
        image_check=looked_at,
    )  # fmt: skip


def _measure(
    task: Task,
    fidelity: Fidelity,
    folder: RunFolder,
    result: Result | None,
    command: str | None,
    progress: bool,
) -> Result | None:
    """Measure the fidelity that is missing and save it with the result; None as in `_count`."""
    source = task.fidelity_source
    task.gather_fidelity(fidelity.images, progress=progress and folder.ranks.first)
    measured = fidelity.finish(source, folder.ranks, progress=progress)
    if measured is None or result is None:
        return None
    out, (entry, sample) = folder.out, measured
    pictured: str | None = FIDELITY
    try:
        pictures = choose_fidelity_examples(sample, source, fidelity.rerender, progress=progress)
        replace_file(out / FIDELITY, lambda path: _save_arrays(path, pictures))
    except Exception as error:
        warn(f"no images beside their re-renders: {_said(error)}")
        (out / FIDELITY).unlink(missing_ok=True)
        pictured = None
    result = with_fidelity(result, entry, command=command, pictures=pictured)
    _save(result, out)
    return result


def _run_facts(task: Task, counted: int, started: float) -> dict[str, Any]:
    """Return how long a run took, and where; of one process that was not stopped."""
    seconds = time.monotonic() - started
    return {
        "seconds": round(seconds, 2),
        "images_per_second": round(counted / max(seconds, 1e-9), 1),
        "device": str(task.reader.device),
        "world_size": 1,
        "resumed": False,
        "command": None,
    }


def _said(error: Exception) -> str:
    return one_line(error) if isinstance(error, ShapesHDError) else explain(error)


def _save(result: Result, out: Path) -> None:
    """Write ``result.json``. A report that lies there is always that of the result beside it."""
    (out / REPORT).unlink(missing_ok=True)
    save_result(result, out / RESULT)


def _save_array(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
