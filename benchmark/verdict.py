"""What a score says in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shapeshd.factors import NAMES, IntArray

from .decomposition import Decomposition, Part
from .reference import TRAINING_SET, detection_limit, memorizer
from .statistic import GoodnessOfFit
from .wording import percent, with_interval


def verdict(
    counts: IntArray,
    fit: GoodnessOfFit,
    parts: Decomposition,
    accuracy: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return ``passed`` and ``text``.

    A source fails if D, or the term of a guilty part, lies surely above 0 *and* above what
    the recognizer's own errors could make of real images. Those move at most a share e of the
    images (the misread ones) to other bins, and so change no density by more than about 2 e:
    (2 e)^2 in a divergence.

    Args:
        counts: n_i, int64 (k,).
        fit: the test of all bins.
        parts: the decomposition.
        accuracy: of the recognizer, from its card; without it 2 e is 0.
    """
    if (counts > 0).sum() == 1:
        text = (
            "All images were recognised as one and the same cell: the source gives a single kind "
            "of image, or images that have nothing to do with the dataset."
        )
        return {"passed": False, "text": text}
    blamed = [part for part in parts.guilty if part.delta.low > _own_errors(accuracy, part)]
    divergence = fit.divergence
    joint = 1 - accuracy["joint_accuracy"] if accuracy else 0.0
    wrong = divergence.low > (2 * joint) ** 2
    limit = detection_limit(fit.samples, fit.bins)
    if not wrong and not blamed:
        within = divergence.low == 0
        text = (
            f"No deviation from the uniform law is seen in {fit.samples:,} samples: "
            + ("the interval of D contains 0" if within else "D is within the recognizer's errors")
            + f". A divergence above {limit.divergence:.2g} (reduced chi-square "
            f"{limit.reduced_chi_square:.2f} at 20 per bin) would have been noticed."
        )
        return {"passed": True, "text": text}
    predicted = fit.prediction.reduced_chi_square
    sentences = []
    if wrong:
        sentences.append(
            f"The distribution is wrong: D = {with_interval(divergence.to_json())}, a reduced "
            f"chi-square of {with_interval(predicted.to_json())} at 20 per bin, where 1 is ideal."
        )
    else:
        sentences.append(
            "The distribution is wrong, though all bins together do not show it: D is not told "
            "from 0, but a part of it is."
        )
    if blamed:
        listed = [_named(part) for part in blamed[:3]]
        more = f" and {len(blamed) - 3} more" if len(blamed) > 3 else ""
        sentences.append(f"What is wrong: {', '.join(listed)}{more}.")
    memory = memorizer(TRAINING_SET, fit.bins)
    if predicted.low > memory.reduced_chi_square:
        sentences.append(
            f"That is worse than repeating {TRAINING_SET:,} training images would be "
            f"({memory.reduced_chi_square:.2f})."
        )
    if blamed and not blamed[0].factors:
        images = (fit.bins - 1) / blamed[0].delta.reported
        sentences.append(
            f"The rest is as large as that of a source that repeats {images:,.0f} images."
        )
    return {"passed": False, "text": " ".join(sentences)}


def _own_errors(accuracy: Mapping[str, Any] | None, part: Part) -> float:
    if not accuracy:
        return 0.0
    names = part.factors or NAMES
    missed = sum(1 - accuracy["factors"][name]["accuracy"] for name in names)
    return float((2 * missed) ** 2)


def _named(part: Part) -> str:
    name = part.name.replace("_", " ").replace(" x ", " with ")
    share = ""
    if part.share is not None:  # an estimate, which can come out above D's own
        share = " (all of D)" if part.share > 0.995 else f" ({percent(part.share, 0)} of D)"
    return ("the interplay of three factors and more" if not part.factors else name) + share
