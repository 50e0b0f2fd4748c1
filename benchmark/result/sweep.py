"""The schema of ``sweep.json``: the scores of one source with several values of an option."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from shapeshd.benchmark.statistics.record import Count, Flag, Record, Text
from shapeshd.errors import UsageError, named
from shapeshd.support import atomic_files

from .fidelity import FidelityRecord, IntervalRecord, ShareRecord
from .files import REPORT
from .fit import EstimateRecord
from .read import save_result
from .schema import Result

FORMAT: Final = "shapeshd-sweep"
SWEEP = "sweep.json"


class SweepFidelityRecord(Record):
    """Image fidelity at one value of the option; see `FidelityRecord`."""

    images: Count
    beyond: ShareRecord
    rmse: IntervalRecord
    fid: IntervalRecord
    kid: IntervalRecord
    precision: IntervalRecord
    recall: IntervalRecord


class SweepPointRecord(Record):
    """The score with one value of the option.

    Attributes:
        value: of the option.
        folder: of the whole result, beside ``sweep.json``.
        samples: how many were counted.
        passed: whether no deviation is seen that the recognizer's errors cannot explain.
        infinite: whether samples lie where the distribution has none, so that D is infinite.
        divergence: D, of the others in that case.
        reduced_chi_square: predicted at 20 samples per bin.
        fidelity: of the images; None if it was not measured.
    """

    value: float | int | str
    folder: Text
    samples: Count
    passed: Flag
    infinite: Flag
    divergence: EstimateRecord
    reduced_chi_square: EstimateRecord
    fidelity: SweepFidelityRecord | None = None

    @property
    def text(self) -> str:
        """The value as people read it, such as "0.5"."""
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)


class SweepRecord(Record):
    """What ``sweep.json`` holds.

    Attributes:
        title: what the source is called.
        kind: of the source.
        option: whose values are swept.
        seed: of the latents, the same for all values.
        points: in the order that was asked for.
        command: the command line; None from a program.
    """

    format: Literal["shapeshd-sweep"]
    format_version: Literal[1]
    title: Text
    kind: Text
    option: Text
    seed: Count
    points: tuple[SweepPointRecord, ...]
    command: Text | None

    @property
    def option_text(self) -> str:
        """The option as people read it, such as "truncation cutoff"."""
        return self.option.replace("_", " ")


def build_sweep(
    option: str,
    results: Sequence[tuple[float | int | str, str, Result]],
    command: str | None = None,
) -> SweepRecord:
    """Return the record of a sweep.

    Args:
        option: whose values are swept.
        results: value, folder and result of each score.
        command: the command line.
    """
    first = results[0][2]
    return SweepRecord(
        format=FORMAT,
        format_version=1,
        title=first.source.title,
        kind=first.source.kind,
        option=option,
        seed=first.seed,
        points=tuple(
            SweepPointRecord(
                value=value,
                folder=folder,
                samples=result.samples,
                passed=result.verdict.passed,
                infinite=result.is_infinite,
                divergence=result.fit.divergence,
                reduced_chi_square=result.fit.prediction.reduced_chi_square,
                fidelity=None if result.fidelity is None else _fidelity(result.fidelity),
            )
            for value, folder, result in results
        ),
        command=command,
    )


def save_sweep(sweep: SweepRecord, out: Path) -> None:
    """Write ``sweep.json`` into a folder; a reader finds the old file or the new one."""
    save_result(sweep, out / SWEEP)


def check_sweep_folder(out: Path) -> None:
    """Raise `UsageError` if the folder of a sweep is a file, or holds anything but sweeps.

    What a killed sweep was writing is removed.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; {named('out')} takes a folder")
    atomic_files.sweep(out)
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [name for name in names if name not in (SWEEP, REPORT) and "=" not in name]
    if foreign:
        raise UsageError(
            f"{out}: holds other files, such as {foreign[0]}; choose another {named('out')}"
        )


def _fidelity(entry: FidelityRecord) -> SweepFidelityRecord:
    features = entry.statistics
    return SweepFidelityRecord(
        images=entry.settings.images,
        beyond=entry.residual.beyond,
        rmse=entry.residual.rmse.mean,
        fid=features.fid,
        kid=features.kid,
        precision=features.precision,
        recall=features.recall,
    )
