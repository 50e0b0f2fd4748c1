"""The verdict of a score: what is decided, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shapeshd.benchmark.recognizer.card import Accuracy, FactorAccuracy
from shapeshd.benchmark.statistics.chi_square import GoodnessOfFit
from shapeshd.benchmark.statistics.decomposition import Decomposition, Part
from shapeshd.benchmark.statistics.measurement_error import MeasurementError, Outside
from shapeshd.benchmark.statistics.references import TRAINING_SET, detection_limit, memorizer
from shapeshd.factors import NAMES, IntArray

from .fidelity import JointVerdictRecord, ResidualRecord
from .formatting import (
    Reported,
    factor_name,
    interval,
    number,
    percent,
    with_interval,
)
from .image_check import CorrectedRecord, ImageCheckRecord
from .schema import VerdictRecord
from .source_checks import RepeatsRecord

_LISTED = 3  # parts in a sentence
_FEW_BINS = 0.01
"""A source has collapsed that occupies fewer bins than this share of what samples of the
distribution would occupy."""

_COLLAPSED = 1.0
"""D from which fewer than half of the bins are as good as used: 1 / (1 + D) of them."""

ATTENUATED = 0.9
"""Share of fine structure below which the verdict says how much of it survives."""
_BLURRED = 0.5  # pixels from which a blur is named
_FILTERED = 0.5  # the filter is named if it leaves less than so much of the error


@dataclass(frozen=True)
class Findings:
    """What a score found.

    Attributes:
        one_cell: whether all samples lie in one bin.
        collapsed: how many bins are occupied, if they are fewer than 1% of those that as many
            samples of the distribution would occupy; else None.
        margin: D that the recognizer's errors explain.
        differs: whether D lies surely above the margin.
        parts: the significant parts of D above what the recognizer's errors explain, the largest
            first.
        outside: the samples where the distribution has none, unless it is the uniform one.
    """

    one_cell: bool
    margin: float
    differs: bool
    parts: tuple[Part, ...]
    outside: Outside | None
    collapsed: int | None = None

    @property
    def infinite(self) -> bool:
        """Whether D is infinite: errors do not explain the samples outside."""
        return self.outside is not None and self.outside.wrong

    @property
    def passed(self) -> bool:
        """Whether no deviation is seen that the recognizer's errors cannot explain."""
        return not (self.one_cell or self.differs or self.parts or self.infinite)


def find(
    counts: IntArray,
    fit: GoodnessOfFit,
    parts: Decomposition,
    accuracy: Accuracy | None,
    *,
    measurement_error: MeasurementError | None = None,
    outside: Outside | None = None,
) -> Findings:
    """Decide what is wrong with a histogram.

    A source fails if D, or the term of a significant part, lies surely above 0 *and* above what the
    recognizer's own errors could make of real images; an ideal source does so in at most `LEVEL`
    of all runs (`decomposition`). Errors move at most a share e of the images (the ones in a wrong
    bin) to other bins, and so change no density by more than about 2 e: (2 e)^2 in a divergence.
    Under another distribution than the uniform one they may change more: then four times what they
    make of images of the distribution counts (twice the deviation in density), and samples where
    the distribution has none fail a source if the errors do not explain them.

    Args:
        counts: n_i, int64 (k,).
        fit: the test of all bins.
        parts: the decomposition.
        accuracy: of the recognizer, from its card; without it 2 e is 0.
        measurement_error: the distribution as the recognizer reads it, where it is not uniform.
        outside: what lies where the distribution has none; None of the uniform distribution.
    """
    by_factor = (accuracy.factors if accuracy else None) or {}
    joint = 2 * (1 - accuracy.joint_accuracy) if accuracy else 0.0
    explained = max(joint**2, 4 * measurement_error.divergence() if measurement_error else 0.0)
    occupied, usual = fit.bins - fit.empty_bins.observed, fit.bins - fit.empty_bins.expected
    return Findings(
        collapsed=occupied if occupied < _FEW_BINS * usual else None,
        one_cell=int((counts > 0).sum()) == 1,
        margin=explained,
        differs=fit.divergence.low > explained,
        parts=tuple(
            part
            for part in parts.significant
            if part.delta.low > _explained(part, by_factor, measurement_error)
        ),
        outside=outside,
    )


def _explained(
    part: Part,
    by_factor: Mapping[str, FactorAccuracy],
    measurement_error: MeasurementError | None,
) -> float:
    if not by_factor:
        return 0.0
    missed = sum(1 - by_factor[name].accuracy for name in part.factors or NAMES)
    known = 4 * measurement_error.divergence(*part.factors) if measurement_error else 0.0
    return float(max((2 * missed) ** 2, known))


def verdict(
    findings: Findings,
    fit: GoodnessOfFit,
    image_check: ImageCheckRecord | None = None,
    corrected: CorrectedRecord | None = None,
) -> VerdictRecord:
    """Say what was found in sentences: of the images if they are wrong, then of the distribution.

    Args:
        findings: of the distribution: they alone decide whether the source passed.
        fit: the test of all bins.
        image_check: what a look at the images found.
        corrected: D corrected for the errors of reading these images.
    """
    if findings.one_cell:
        text = (
            "All images were recognised as one and the same cell: the source gives a single kind "
            "of image, or images that have nothing to do with the dataset."
        )
    elif findings.passed:
        text = _nothing_found(findings, fit)
    else:
        text = _what_is_wrong(findings, fit)
    if image_check is not None:
        named = bool(findings.parts) and not findings.one_cell
        said = (
            images_text(image_check, parts=named),
            text,
            attenuation_text(image_check, corrected),
        )
        text = " ".join(filter(None, said))
    return VerdictRecord(passed=findings.passed, text=text)


def with_repeats(said: VerdictRecord, repeats: RepeatsRecord | None) -> VerdictRecord:
    """Return a verdict that begins with the equal images among the samples, if there are any."""
    if repeats is None or not repeats.copies:
        return said
    return said.model_copy(update={"text": f"Equal images: {repeats.text}. {said.text}"})


def _nothing_found(findings: Findings, fit: GoodnessOfFit) -> str:
    limit, outside = (
        detection_limit(fit.samples, fit.bins, margin=findings.margin),
        findings.outside,
    )
    known = "" if outside is not None else "uniform "
    why = (
        "the interval of D contains 0"
        if fit.divergence.low == 0
        else "D is within the recognizer's errors"
    )
    text = (
        f"No deviation from the {known}distribution is seen in {fit.samples:,} samples: {why}. "
        f"A divergence of {limit.divergence:.2g} (reduced chi-square "
        f"{limit.reduced_chi_square:.2f} at 20 per bin) would be found in {limit.power:.0%} of "
        "such runs; in one factor, pair or triple alone a smaller one is enough."
    )
    if outside is not None and outside.samples:
        text += (
            f" Left out: {outside.samples:,} samples where the distribution has none, no more "
            "than the recognizer's errors can explain."
        )
    return text


def _what_is_wrong(findings: Findings, fit: GoodnessOfFit) -> str:
    predicted, parts = fit.prediction.reduced_chi_square, findings.parts
    sentences = []
    if findings.collapsed is not None:
        sentences.append(
            f"Collapsed: {findings.collapsed:,} of {fit.bins:,} combinations of the factors occur."
        )
    if findings.outside is not None and findings.infinite:
        outside = findings.outside
        sentences.append(
            f"The distribution is wrong: {outside.samples:,} samples ({percent(outside.share)}) "
            "lie where the distribution has none, so that D is infinite; all other figures are of "
            "the rest."
        )
    if findings.differs:
        begin = "So is that of the rest" if findings.infinite else "The distribution is wrong"
        sentences.append(
            f"{begin}: D = {with_interval(fit.divergence)}, a reduced chi-square of "
            f"{with_interval(predicted)} at 20 per bin, where 1 is ideal."
        )
    elif parts and not findings.infinite:
        sentences.append(
            "The distribution is wrong, though all bins together do not show it: D does not "
            "differ significantly from 0, but a part of it does."
        )
    if parts:
        listed = ", ".join(map(_named, parts[:_LISTED]))
        more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
        sentences.append(f"What is wrong: {listed}{more}.")
    memory = memorizer(TRAINING_SET, fit.bins)
    if predicted.low > memory.reduced_chi_square:
        sentences.append(
            f"That is worse than repeating {TRAINING_SET:,} training images would be "
            f"({memory.reduced_chi_square:.2f})."
        )
    return " ".join(sentences)


def _named(part: Part) -> str:
    name = " with ".join(map(factor_name, part.factors)) or (
        "higher-order interactions of four factors and more"
    )
    if part.share is None:
        return name
    # An estimate, which can come out above D's own.
    return f"{name} (all of D)" if part.share > 0.995 else f"{name} ({percent(part.share, 0)} of D)"


Case = Literal[
    "right and real", "diverse but bad", "pretty but biased", "pretty but collapsed",
    "bad and wrong",
]  # fmt: skip


def joint_case(passed: bool, real: bool, divergence_low: float) -> Case:
    """Return what distribution and image fidelity are together.

    Args:
        passed: whether the distribution is right.
        real: whether no more images than tolerated are far from their re-render.
        divergence_low: lower end of the interval of D.
    """
    if passed:
        return "right and real" if real else "diverse but bad"
    if not real:
        return "bad and wrong"
    return "pretty but collapsed" if divergence_low > _COLLAPSED else "pretty but biased"


def joint_verdict(
    passed: bool, divergence: Reported, residual: ResidualRecord
) -> JointVerdictRecord:
    """Say in one sentence what distribution and image fidelity are together.

    Args:
        passed: whether the score passed.
        divergence: D.
        residual: what `summarize` says.
    """
    case = joint_case(passed, residual.ok, divergence.low)
    text = _joint_text(case, divergence, residual)
    return JointVerdictRecord(distribution=passed, fidelity=residual.ok, name=case, text=text)


def _joint_text(case: Case, divergence: Reported, residual: ResidualRecord) -> str:
    mean = f"{residual.psnr.mean.value:.1f} dB on average"
    real = f"real images {residual.psnr.floor.mean.value:.1f} dB"
    share, limit = percent(residual.beyond.value), percent(residual.quantile, 1)
    wrong = f"D = {with_interval(divergence)}"
    far = (
        f"{share} of its images differ more from their re-render than {limit} of real ones do "
        f"({mean}, {real})"
    )
    if case == "right and real":
        return (
            "Distribution and image fidelity are both right: no deviation from the distribution is "
            f"seen, and the images are as close to their re-render as real ones ({mean}, {real})."
        )
    if case == "diverse but bad":
        return (
            f"Diverse but bad: the distribution is right, the images are not: {far}; of real "
            f"images {percent(residual.real_beyond.value)} do."
        )
    if case == "bad and wrong":
        return (
            f"Neither is right: the distribution is wrong, {wrong}, and the images are bad: {far}."
        )
    used = percent(1 / (1 + max(divergence.reported, 0.0)))
    how = f", as if {used} of the bins were used" if case == "pretty but collapsed" else ""
    return (
        f"{case.capitalize()}: each image is as close to its re-render as real ones ({mean}, "
        f"{real}), but the distribution is wrong: {wrong}{how}."
    )


def images_text(found: ImageCheckRecord, *, parts: bool) -> str:
    """Say that images do not look like the dataset, and why; "" where they do.

    Args:
        found: what the look at them found.
        parts: whether the verdict names parts of the divergence.
    """
    if found.ok:
        return ""
    far = (
        f"These images do not look like the dataset: {percent(found.beyond.value)} of "
        f"{found.images:,} samples are farther from the rendering of their own recognised factors "
        f"than {percent(found.quantile, 0)} of real images are (RMSE {number(found.rmse.value)} "
        f"levels on average, real images {number(found.real_rmse.value)})."
    )
    if found.change is not None:
        return f"{far} They do if this is undone: the images are {found.change}."
    if not found.alike:
        return (
            f"{far} No known change of such images explains it, so that all that follows is of "
            "factors which the recognizer reads into something else."
        )
    words = [far]
    if kind := _kind(found):
        words.append(f"They are {kind}.")
    if parts:
        words.append(
            "What is named as wrong with the distribution may come from the images instead."
        )
    return " ".join(words)


def _kind(found: ImageCheckRecord) -> str | None:
    response = found.response
    if response is None or response.remainder > _FILTERED * found.rmse.value:
        return None
    if response.blur < _BLURRED:
        return None
    return f"blurred by about {number(response.blur, 2)} pixels (standard deviation)"


def attenuation_text(found: ImageCheckRecord, corrected: CorrectedRecord | None) -> str:
    """Say what the errors of reading these images leave of a fine divergence; "" of most of it."""
    if found.attenuation is None or corrected is None:
        return ""
    left = found.attenuation.higher_order
    if left.value >= ATTENUATED:
        return ""
    return (
        f"The recognizer reads these images with errors that leave {share_left(found)} of fine "
        "structure (interactions of four factors and more): corrected for that, D = "
        f"{corrected_text(corrected)}."
    )


def share_left(found: ImageCheckRecord) -> str:
    """Write the share of fine structure that is left, with its interval."""
    assert found.attenuation is not None
    left = found.attenuation.higher_order
    return f"{percent(left.value, 0)} [{percent(left.low, 0)}, {percent(left.high, 0)}]"


def corrected_text(corrected: CorrectedRecord) -> str:
    """Write the corrected D with its interval; it is not shown below 0."""
    found = corrected.divergence
    return interval(found.model_copy(update={"value": max(0.0, found.value)}))
