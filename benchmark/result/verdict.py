"""What a score says in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapeshd.benchmark.report.formatting import percent, with_interval
from shapeshd.benchmark.statistics.chi_square import GoodnessOfFit
from shapeshd.benchmark.statistics.decomposition import Decomposition, Part
from shapeshd.benchmark.statistics.measurement_error import MeasurementError, Outside
from shapeshd.benchmark.statistics.references import TRAINING_SET, detection_limit, memorizer
from shapeshd.factors import NAMES, IntArray


def verdict(
    counts: IntArray,
    fit: GoodnessOfFit,
    parts: Decomposition,
    accuracy: Mapping[str, Any] | None,
    *,
    measurement_error: MeasurementError | None = None,
    outside: Outside | None = None,
) -> dict[str, Any]:
    """Return ``passed`` and ``text``.

    A source fails if D, or the term of a significant part, lies surely above 0 *and* above what
    the recognizer's own errors could make of real images. Those move at most a share e of the
    images (the misread ones) to other bins, and so change no density by more than about 2 e:
    (2 e)^2 in a divergence. Under another distribution than the uniform one they may change more:
    then four times what they make of images of the distribution counts (twice the deviation in
    density), and samples where the distribution has none fail a source if the errors do not explain
    them.

    Args:
        counts: n_i, int64 (k,).
        fit: the test of all bins.
        parts: the decomposition.
        accuracy: of the recognizer, from its card; without it 2 e is 0.
        misread: the distribution as the recognizer reads it, where it is not uniform.
        outside: what lies where the distribution has none; None of the uniform distribution.
    """
    if (counts > 0).sum() == 1:
        text = (
            "All images were recognised as one and the same cell: the source gives a single kind "
            "of image, or images that have nothing to do with the dataset."
        )
        return {"passed": False, "text": text}
    attributed = [
        part
        for part in parts.significant
        if part.delta.low > _own_errors(accuracy, part, measurement_error)
    ]
    divergence = fit.divergence
    joint = 1 - accuracy["joint_accuracy"] if accuracy else 0.0
    errors = max((2 * joint) ** 2, 4 * measurement_error.divergence() if measurement_error else 0.0)
    wrong = divergence.low > errors
    limit = detection_limit(fit.samples, fit.bins)
    impossible = outside is not None and outside.wrong
    if not wrong and not attributed and not impossible:
        within = divergence.low == 0
        text = (
            f"No deviation from the {'uniform ' if outside is None else ''}distribution is seen in "
            f"{fit.samples:,} samples: "
            + ("the interval of D contains 0" if within else "D is within the recognizer's errors")
            + f". A divergence above {limit.divergence:.2g} (reduced chi-square "
            f"{limit.reduced_chi_square:.2f} at 20 per bin) would have been noticed."
        )
        if outside is not None and outside.samples:
            text += (
                f" Left out: {outside.samples:,} samples where the distribution has none, no more "
                "than the recognizer's errors explain."
            )
        return {"passed": True, "text": text}
    predicted = fit.prediction.reduced_chi_square
    sentences = []
    if impossible and outside is not None:
        sentences.append(
            f"The distribution is wrong: {outside.samples:,} samples ({percent(outside.share)}) "
            "lie where the distribution has none, so that D is infinite; all other figures are of "
            "the rest."
        )
    if wrong:
        begin = "So is that of the rest" if impossible else "The distribution is wrong"
        sentences.append(
            f"{begin}: D = {with_interval(divergence.to_json())}, a reduced "
            f"chi-square of {with_interval(predicted.to_json())} at 20 per bin, where 1 is ideal."
        )
    elif attributed and not impossible:
        sentences.append(
            "The distribution is wrong, though all bins together do not show it: D is not told "
            "from 0, but a part of it is."
        )
    if attributed:
        listed = [_named(part) for part in attributed[:3]]
        more = f" and {len(attributed) - 3} more" if len(attributed) > 3 else ""
        sentences.append(f"What is wrong: {', '.join(listed)}{more}.")
    memory = memorizer(TRAINING_SET, fit.bins)
    if predicted.low > memory.reduced_chi_square:
        sentences.append(
            f"That is worse than repeating {TRAINING_SET:,} training images would be "
            f"({memory.reduced_chi_square:.2f})."
        )
    if attributed and not attributed[0].factors:
        images = (fit.bins - 1) / attributed[0].delta.reported
        sentences.append(
            f"The rest is as large as that of a source that repeats {images:,.0f} images."
        )
    return {"passed": False, "text": " ".join(sentences)}


def _own_errors(
    accuracy: Mapping[str, Any] | None, part: Part, measurement_error: MeasurementError | None
) -> float:
    if not accuracy:
        return 0.0
    names = part.factors or NAMES
    missed = sum(1 - accuracy["factors"][name]["accuracy"] for name in names)
    under_distribution = (
        4 * measurement_error.divergence(*part.factors) if measurement_error else 0.0
    )
    return float(max((2 * missed) ** 2, under_distribution))


def _named(part: Part) -> str:
    name = part.name.replace("_", " ").replace(" x ", " with ")
    share = ""
    if part.share is not None:  # an estimate, which can come out above D's own
        share = " (all of D)" if part.share > 0.995 else f" ({percent(part.share, 0)} of D)"
    return ("the interplay of three factors and more" if not part.factors else name) + share


COLLAPSED = 1.0
"""D from which fewer than half of the bins are as good as used: 1 / (1 + D) of them."""


def verdict_of_both(result: Mapping[str, Any], residual: Mapping[str, Any]) -> dict[str, Any]:
    """Say in one sentence what distribution and image fidelity are together.

    The distribution is right if the score passed. The quality is right if no more images are
    far from their re-render than is tolerated; see `summarize`.

    Args:
        result: of the score: its ``verdict`` and ``fit`` are looked at.
        residual: what `summarize` says.

    Returns:
        ``distribution`` and ``quality``, each whether it is right; ``name``, the case in a few
        words; ``text``, the sentence.
    """
    right, good = bool(result["verdict"]["passed"]), bool(residual["ok"])
    divergence = result["fit"]["divergence"]
    share = f"{percent(residual['beyond']['value'])} of its images"
    real, limit = percent(residual["real_beyond"]["value"]), percent(residual["quantile"], 1)
    mean = f"{residual['psnr']['mean']['value']:.1f} dB on average"
    floor = f"real images {residual['psnr']['floor']['mean']['value']:.1f} dB"
    lie = f"{share} differ more from their re-render than {limit} of real ones do ({mean}, {floor})"
    wrong = f"D = {with_interval(divergence)}"
    if right and good:
        name = "right and real"
        text = (
            "Distribution and image fidelity are both right: no deviation from the distribution is "
            "seen, and "
            f"the images are as close to their re-render as real ones ({mean}, {floor})."
        )
    elif right:
        name = "diverse but bad"
        text = (
            f"Diverse but bad: the distribution is right, the images are not: {lie}; of real "
            f"images {real} do."
        )
    elif good:
        used = 1 / (1 + max(float(divergence["reported"]), 0.0))
        collapsed = float(divergence["low"]) > COLLAPSED
        name = "pretty but collapsed" if collapsed else "pretty but biased"
        how = f", as if {percent(used)} of the bins were used" if collapsed else ""
        text = (
            f"{name.capitalize()}: each image is as close to its re-render as real ones ({mean}, "
            f"{floor}), but the distribution is wrong: {wrong}{how}."
        )
    else:
        name = "bad and wrong"
        text = (
            f"Neither is right: the distribution is wrong, {wrong}, and the images are bad: {lie}."
        )
    return {"distribution": right, "fidelity": good, "name": name, "text": text}
