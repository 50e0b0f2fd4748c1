"""The verdict of a score: what is decided, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shapeshd.benchmark.recognizer.card import Accuracy, FactorAccuracy
from shapeshd.benchmark.statistics.bin_counts import is_collapsed
from shapeshd.benchmark.statistics.chi_square import GoodnessOfFit
from shapeshd.benchmark.statistics.decomposition import Decomposition, Part, made_together
from shapeshd.benchmark.statistics.measurement_error import MeasurementError, Outside
from shapeshd.benchmark.statistics.references import (
    TRAINING_SET,
    DetectionLimit,
    detection_limit,
    memorizer,
)
from shapeshd.factors import NAMES, IntArray

from .fidelity import JointVerdictRecord, ResidualRecord
from .fit import CollapseRecord
from .formatting import (
    factor_name,
    percent,
    with_interval,
)
from .image_check import CorrectedRecord, ImageCheckRecord, attenuation_text, images_text
from .schema import VerdictRecord
from .source_checks import NearCopiesRecord, RepeatsRecord

_LISTED = 3  # parts in a sentence
_MOST = 0.5  # share of D that the named parts must hold by themselves


@dataclass(frozen=True)
class Findings:
    """What a score found.

    Attributes:
        one_cell: whether all samples lie in one bin.
        limit: of detection; its margin is the D that the recognizer's errors explain.
        differs: whether D lies surely above the margin.
        parts: the significant parts of D above what the recognizer's errors explain, the largest
            first.
        outside: the samples where the distribution has none, unless it is the uniform one.
        collapse: the bins that are occupied, if they are few; see `is_collapsed`.
        together: large parts that `parts` make together, if most of D lies there.
        undecided: whether D does not differ, and the errors of reading these very images, which do
            not look like the dataset, may make all of `parts`.
    """

    one_cell: bool
    limit: DetectionLimit
    differs: bool
    parts: tuple[Part, ...]
    outside: Outside | None
    collapse: CollapseRecord | None = None
    together: tuple[Part, ...] = ()
    undecided: bool = False

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
    image_check: ImageCheckRecord | None = None,
) -> Findings:
    """Decide what is wrong with a histogram.

    A source fails if D, or the term of a significant part, lies surely above 0 *and* above what the
    recognizer's own errors could make of real images; an ideal source does so in at most `LEVEL`
    of all runs (`decomposition`). Errors move at most a share e of the images (the ones in a wrong
    bin) to other bins, and so change no density by more than about 2 e: (2 e)^2 in a divergence.
    Under another distribution than the uniform one they may change more: then four times what they
    make of images of the distribution counts (twice the deviation in density), and samples where
    the distribution has none fail a source if the errors do not explain them.

    Images that do not look like the dataset are read with more errors than real ones. Where D does
    not differ and these errors may make all parts that do, the source fails, as undecided: their
    upper limits are far above what they usually make, so that a real fault can lie below.

    Args:
        counts: n_i, int64 (k,).
        fit: the test of all bins.
        parts: the decomposition.
        accuracy: of the recognizer, from its card; without it 2 e is 0.
        measurement_error: the distribution as the recognizer reads it, where it is not uniform.
        outside: what lies where the distribution has none; None of the uniform distribution.
        image_check: what a look at the images found.
    """
    by_factor = (accuracy.factors if accuracy else None) or {}
    joint = 2 * (1 - accuracy.joint_accuracy) if accuracy else 0.0
    explained = max(joint**2, 4 * measurement_error.divergence() if measurement_error else 0.0)
    above = tuple(
        part
        for part in parts.significant
        if part.delta.low > _explained(part, by_factor, measurement_error)
    )
    differs = fit.divergence.low > explained
    unlike = image_check is not None and not image_check.ok and not differs and bool(above)
    most = sum(part.share or 0 for part in above) >= _MOST
    return Findings(
        collapse=_collapse(fit),
        together=() if most or not above else made_together(parts.parts),
        one_cell=int((counts > 0).sum()) == 1,
        limit=detection_limit(fit.samples, fit.bins, margin=explained),
        differs=differs,
        parts=above,
        undecided=unlike and all(part.delta.low <= _misread(part, image_check) for part in above),
        outside=outside,
    )


def _collapse(fit: GoodnessOfFit) -> CollapseRecord | None:
    occupied, expected = fit.bins - fit.empty_bins.observed, fit.bins - fit.empty_bins.expected
    if not is_collapsed(occupied, expected):
        return None
    return CollapseRecord(occupied=occupied, expected=expected)


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


def _misread(part: Part, image_check: ImageCheckRecord | None) -> float:
    """Return the term of a part that the errors of reading a source's images may make.

    They were measured on some images alone, so upper limits of them are taken.
    """
    right = image_check and image_check.right_factors
    if not right:
        return 0.0
    return (2 * sum(1 - right[name].low for name in part.factors or NAMES)) ** 2


def verdict(
    findings: Findings,
    fit: GoodnessOfFit,
    image_check: ImageCheckRecord | None = None,
    corrected: CorrectedRecord | None = None,
    scene: str | None = None,
) -> VerdictRecord:
    """Say what was found in sentences: of the images if they are wrong, then of the distribution.

    Args:
        findings: of the distribution: they alone decide whether the source passed.
        fit: the test of all bins.
        image_check: what a look at the images found.
        corrected: D corrected for the errors of reading these images.
        scene: that the source's images are of another scene; None if they are not.
    """
    if findings.one_cell:
        text = f"{_collapsed(findings, fit, image_check)} All images were read as one and the same."
    elif findings.passed:
        text = _nothing_found(findings, fit)
    else:
        text = _what_is_wrong(findings, fit, image_check)
    if image_check is not None:
        named = bool(findings.parts) and not findings.one_cell
        said = (
            images_text(image_check, parts=named),
            text,
            attenuation_text(image_check, corrected, fit.divergence),
        )
        text = " ".join(filter(None, said))
    if scene is not None:
        text = f"{scene} {text}"
    return VerdictRecord(passed=findings.passed, text=text)


def with_repeats(
    said: VerdictRecord, repeats: RepeatsRecord | None, near: NearCopiesRecord | None = None
) -> VerdictRecord:
    """Return a verdict that begins with equal and nearly equal images, if there are any."""
    text = said.text
    if near is not None and near.copies:
        text = f"Nearly equal images: {near.text}. {text}"
    if repeats is not None and repeats.copies:
        text = f"Equal images: {repeats.text}. {text}"
    return said.model_copy(update={"text": text})


def _nothing_found(findings: Findings, fit: GoodnessOfFit) -> str:
    limit, outside = findings.limit, findings.outside
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


def _collapsed(findings: Findings, fit: GoodnessOfFit, image_check: ImageCheckRecord | None) -> str:
    """Say how few combinations occur, and whether the images look like scenes; "" if not few."""
    if findings.collapse is None:
        return ""
    occupied, expected = findings.collapse.occupied, findings.collapse.expected
    text = (
        f"Collapsed: {occupied:,} of {fit.bins:,} combinations of the factors "
        f"{'occurs' if occupied == 1 else 'occur'}, where an ideal source shows {expected:,.0f} in "
        "as many samples"
    )
    if image_check is None:
        return f"{text}."
    if image_check.ok:
        return f"{text}; the images look like scenes of the dataset."
    look = "like damaged scenes" if image_check.alike else "like no scene"
    return f"{text}; the images look {look} of the dataset."


def _what_is_wrong(
    findings: Findings, fit: GoodnessOfFit, image_check: ImageCheckRecord | None
) -> str:
    predicted, parts = fit.prediction.reduced_chi_square, findings.parts
    sentences = []
    if findings.collapse is not None:
        sentences.append(_collapsed(findings, fit, image_check))
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
    elif findings.undecided and not findings.infinite:
        sentences.append(
            "Whether the distribution is wrong cannot be told from such images: D does not differ "
            "significantly from 0, and the errors of reading them can make as much as what does."
        )
    elif parts and not findings.infinite:
        sentences.append(
            "The distribution is wrong, though all bins together do not show it: D does not "
            "differ significantly from 0, but a part of it does."
        )
    if parts:
        named = "What differs" if findings.undecided else "What is wrong"
        sentences.append(f"{named}: {_listed(findings)}.")
    memory = memorizer(TRAINING_SET, fit.bins)
    if predicted.low > memory.reduced_chi_square:
        sentences.append(
            f"That is worse than repeating {TRAINING_SET:,} training images would be "
            f"({memory.reduced_chi_square:.2f})."
        )
    return " ".join(sentences)


def _listed(findings: Findings) -> str:
    """List what is wrong, the largest first: what parts make together, then the parts."""
    parts = findings.parts
    more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    if not findings.together:
        return ", ".join(map(_named, parts[:_LISTED])) + more
    made = ", ".join(map(_named, findings.together[:_LISTED]))
    small = [_named(part).replace(" (< 1% of D)", "") for part in parts[:_LISTED]]
    return f"{made}, made together by {', '.join(small)}{more}"


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


def joint_case(passed: bool, real: bool, collapsed: bool) -> Case:
    """Return what distribution and image fidelity are together.

    Args:
        passed: whether the distribution is right.
        real: whether no more images than tolerated are far from their re-render.
        collapsed: whether few combinations of the factors occur.
    """
    if passed:
        return "right and real" if real else "diverse but bad"
    if not real:
        return "bad and wrong"
    return "pretty but collapsed" if collapsed else "pretty but biased"


def joint_verdict(
    passed: bool, residual: ResidualRecord, collapse: CollapseRecord | None = None
) -> JointVerdictRecord:
    """Name what distribution and image fidelity are together, and say how good the images are.

    What is known of the distribution stands in the score's own verdict.

    Args:
        passed: whether the score passed.
        residual: what `summarize` says.
        collapse: the bins that are occupied, if they are few.
    """
    case = joint_case(passed, residual.ok, collapse is not None)
    text = f"{case.capitalize()}: {_fidelity_text(residual)}."
    return JointVerdictRecord(distribution=passed, fidelity=residual.ok, name=case, text=text)


def _fidelity_text(residual: ResidualRecord) -> str:
    mean = f"{residual.psnr.mean.value:.1f} dB on average"
    real = f"real images {residual.psnr.floor.mean.value:.1f} dB"
    if residual.ok:
        return f"the images are as close to their re-render as real ones ({mean}, {real})"
    share, limit = percent(residual.beyond.value), percent(residual.quantile, 1)
    return (
        f"{share} of the images differ more from their re-render than {limit} of real ones do "
        f"({mean}, {real}; of real images {percent(residual.real_beyond.value)} differ so much)"
    )
