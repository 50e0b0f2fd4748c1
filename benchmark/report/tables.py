"""The rows of a result's tables, the same on the terminal and on a page: scores, fidelity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shapeshd.benchmark.result.fidelity import FidelityRecord, IntervalRecord
from shapeshd.benchmark.result.fit import PartRecord
from shapeshd.benchmark.result.formatting import (
    brief,
    estimate,
    interval,
    number,
    part_name,
    percent,
    with_interval,
)
from shapeshd.benchmark.result.image_check import ImageCheckRecord, corrected_text, share_left
from shapeshd.benchmark.result.schema import ImagesRecord, Result, ScoreRecord

INFINITE = "infinite"
"""Stands for a divergence from a distribution that has no place for what was seen."""

REAL = "real images"
"""How the name of the row of real images through the recognizer begins."""

AS_READ = (REAL, "the distribution as it is read")
"""How the names of the references begin that depend on the recognizer."""

MEASURES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "rmse": "RMSE, levels",
    "hue": "hue error, °",
}
"""Titles of the residual's measures, in the order of the tables."""

STATISTICS = {
    "fid": "FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "inception_score": "Inception score",
}
"""Titles of the statistics of features, in the order of the tables; not all networks have all."""


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores.

    Attributes:
        name: of the source or the reference.
        own: whether it is a source that was scored, not a reference.
        value: reduced chi-square at 20 samples per bin; infinity where D is infinite.
        low: lower end of its interval; None of an exact or infinite value.
        high: upper end.
        text: the value as written.
        interval: the value and its interval as written.
        divergence: the same of D.
        note: a remark.
    """

    name: str
    own: bool
    value: float
    low: float | None
    high: float | None
    text: str
    interval: str
    divergence: str
    note: str

    @property
    def infinite(self) -> bool:
        """Whether samples lie where the distribution has none; drawn at the end of an axis."""
        return math.isinf(self.value)


def source_row(result: ScoreRecord, name: str | None = None) -> ScoreRow:
    """Return the row of a result's own source."""
    predicted = result.fit.prediction.reduced_chi_square
    infinite = INFINITE if result.is_infinite else None
    return ScoreRow(
        name=name or result.source.title,
        own=True,
        value=math.inf if infinite else predicted.reported,
        low=None if infinite else predicted.low,
        high=None if infinite else predicted.high,
        text=infinite or estimate(predicted)[0],
        interval=infinite or with_interval(predicted),
        divergence=infinite or with_interval(result.fit.divergence),
        note=f"{result.samples:,} samples",
    )


def reference_rows(result: ScoreRecord) -> list[ScoreRow]:
    """Return the rows of the references: exact ones, and real images with their interval."""
    rows = []
    floor = result.recognizer.noise_floor
    for reference in result.references:
        text = f"{reference.reduced_chi_square:,.2f}"
        scatter = number(reference.deviation, 2)
        row = ScoreRow(
            name=reference.name,
            own=False,
            value=reference.reduced_chi_square,
            low=None,
            high=None,
            text=text,
            interval=text,
            divergence=number(reference.divergence),
            note=f"one run scatters by \N{PLUS-MINUS SIGN}{scatter}",
        )
        if reference.name.startswith(REAL) and floor is not None:
            measured = floor.reduced_chi_square
            row = replace(
                row,
                value=measured.reported,
                low=measured.low,
                high=measured.high,
                text=estimate(measured)[0],
                interval=with_interval(measured),
                divergence=with_interval(floor.divergence),
                note=f"{floor.images:,} images",
            )
        rows.append(row)
    return rows


def score_rows(result: Result) -> list[ScoreRow]:
    """Return the source's row, and the references' below it."""
    return [source_row(result), *reference_rows(result)]


def largest_part(result: ScoreRecord) -> PartRecord | None:
    """Return the largest significant part of D; None if there is none, or the source passed.

    The parts of a source that passed are no more than the recognizer's errors can make.
    """
    return None if result.verdict.passed else next(iter(result.decomposition.significant), None)


def largest_significant(result: ScoreRecord) -> str:
    """Name that part and its contribution to D; "none" if there is none."""
    part = largest_part(result)
    return "none" if part is None else f"{part_name(part.factors)} {brief(part.delta)}"


def share_text(values: IntervalRecord) -> str:
    """Write a share and its interval such as "12% [8%, 17%]"."""
    return f"{percent(values.value)} [{percent(values.low)}, {percent(values.high)}]"


def residual_rows(entry: FidelityRecord) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each measure of the residual, and one for all that decide the verdict.

    Returns:
        name; mean of the source; mean of real images; share of images beyond the limit that
        99.9% of real images keep; share beyond all real images.
    """
    residual = entry.residual
    rows = []
    for name, title in MEASURES.items():
        measure = getattr(residual, name)
        rows.append(
            (
                title,
                interval(measure.mean),
                interval(measure.floor.mean),
                share_text(measure.beyond_quantile),
                share_text(measure.beyond_maximum),
            )
        )
    beyond, maximum = share_text(residual.beyond), share_text(residual.beyond_maximum)
    return [*rows, ("any of these", "", "", beyond, maximum)]


def statistic_rows(entry: FidelityRecord) -> list[tuple[str, str, str]]:
    """Return name, value of the source, and value of a perfect generator, with intervals."""
    found = [
        (title, getattr(entry.statistics, name), getattr(entry.theoretical, name))
        for name, title in STATISTICS.items()
    ]
    return [
        (title, interval(own), interval(ideal))
        for title, own, ideal in found
        if own is not None and ideal is not None
    ]


def fidelity_basis(entry: FidelityRecord) -> str:
    """Say of how many images, against what, and by which features fidelity was measured."""
    settings, images = entry.settings, f"{entry.settings.images:,} images"
    which = f"{images}, {settings.order}" if settings.order else f"the first {images}"
    return (
        f"{which}; {entry.residual.real_images:,} real ones of seed "
        f"{settings.seed}, rendered by {settings.engine.name}; features: {settings.features.name}"
    )


def image_check_text(found: ImageCheckRecord) -> str:
    """Say how many samples are farther from their re-render than real images are."""
    real = percent(found.real_beyond.value)
    return (
        f"{share_text(found.beyond)} of {found.images:,} samples are farther from their re-render "
        f"than {percent(found.quantile, 0)} of real images are in one of three "
        f"measures (of real images {real}); RMSE {interval(found.rmse)} levels, real images "
        f"{interval(found.real_rmse)}"
    )


def fine_structure_text(result: ScoreRecord) -> str | None:
    """Say what reading this source's images leaves of fine structure; None if it is not known."""
    found, corrected = result.image_check, result.corrected
    if found is None or found.attenuation is None or corrected is None:
        return None
    return (
        f"{share_left(found)} of fine structure survives the errors of reading these images; D "
        f"corrected for that: {corrected_text(corrected, result.fit.divergence)}"
    )


def outside_text(result: ScoreRecord) -> str | None:
    """Say how many samples lie where the distribution has none; None if none does."""
    found = result.outside
    if found is None or not found.samples:
        return None
    text = f"{found.samples:,} of {result.samples:,} samples lie where the distribution has none"
    if found.wrong:
        return f"{text}: D is infinite, and all figures are of the others"
    return f"{text}, as the recognizer's errors explain; they are left out"


def distribution_name(result: ScoreRecord) -> str:
    """Name the distribution that a result was tested against."""
    found = result.distribution
    return f"the distribution {found.text}" if found else "the uniform distribution"


def converted_text(images: ImagesRecord) -> str:
    """Say how many images were made 8-bit sRGB, and by what; "" if none was, or it is not known."""
    return ", ".join(f"{count:,} {way}" for way, count in (images.converted or {}).items())
