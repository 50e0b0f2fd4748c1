"""Checks of what a score is asked for that need neither PyTorch nor the source."""

from __future__ import annotations

from shapeshd.benchmark.statistics.histogram import (
    MAX_SAMPLES,
    PER_BIN,
    PROTOCOL,
    require_samples,
)
from shapeshd.checks import whole_number
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError, named
from shapeshd.factors import NUM_BINS, FloatArray


def bins_and_probabilities(distribution: Distribution | None) -> tuple[int, FloatArray | None]:
    """Return how many bins are tested, and their probabilities; None for the uniform ones."""
    if distribution is None:
        return NUM_BINS, None
    return distribution.bins, distribution.expected()


def samples_asked(
    samples: int | None, protocol: str | None, distribution: Distribution | None
) -> int | None:
    """Return how many samples are asked for; None if nobody says.

    Raises:
        UsageError: if both a number and a protocol are given, there is no such protocol, or it is
            no number of samples.
    """
    if protocol is not None:
        if protocol != PROTOCOL:
            raise UsageError(f"there is no protocol {protocol!r}; there is {PROTOCOL}")
        if samples is not None:
            raise UsageError(f"give {named('samples')} or {named('protocol')}, not both")
        return PER_BIN * bins_and_probabilities(distribution)[0]
    if samples is not None:
        whole_number("samples", samples, 1, MAX_SAMPLES)
    return samples


def refuse_too_few(samples: int, distribution: Distribution | None) -> None:
    """Raise `UsageError` if so many samples cannot test the distribution."""
    require_samples(samples, *bins_and_probabilities(distribution))


def refuse_without_fidelity(images: int | None, **given: bool) -> None:
    """Refuse settings of the fidelity of images that nobody asked to be measured.

    Args:
        images: of how many it is measured; None for none.
        given: by the settings' names, whether each is given.

    Raises:
        UsageError: naming the first one.
    """
    for name in given:
        if given[name] and images is None:
            raise UsageError(f"{named(name)} goes with {named('fidelity')}: say of how many images")
