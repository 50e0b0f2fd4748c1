"""Whether a generator can take the options of truncation and noise; hands them to it.

What truncation computes is in `shapeshd.models.networks.truncation`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError, named
from shapeshd.models.networks.checkpoints import ClampedGenerator, StyleSampling
from shapeshd.models.networks.generator import Generator


def apply_sampling(network: nn.Module, options: SourceOptions, name: str) -> dict[str, Any]:
    """Let a network draw as the user's options say, and return what a result must say of it.

    Args:
        network: a `ClampedGenerator` of a `Generator`, or what holds one; any other takes none of
            the options.
        options: `truncation`, `truncation_cutoff` and `noise`.
        name: what the user called it.

    Raises:
        UsageError: if it has no styles, no average to truncate to, fewer styles than are to be
            truncated, or no noise.
    """
    clamped = next((part for part in network.modules() if isinstance(part, ClampedGenerator)), None)
    generator = None if clamped is None else clamped.network
    if clamped is None or not isinstance(generator, Generator):
        for option in ("truncation", "truncation_cutoff", "noise"):
            if getattr(options, option) is not None:
                raise UsageError(f"{name}: is a network without styles: leave out {named(option)}")
        return {}
    psi = options.truncation
    if psi is not None and psi < 1 and not generator.mapping.average.any():
        if network is not clamped:  # its input is more than a latent, such as a class
            raise UsageError(
                f"{name}: its average of w was never measured, so there is nothing to draw w to: "
                f"leave out {named('truncation')}"
            )
        generator.mapping.measure_average()
    clamped.sampling = _choose(generator, options, name)
    facts: dict[str, Any] = {"noise": clamped.sampling.noise if generator.config.noise else "none"}
    if options.truncation is not None:
        facts |= {
            "truncation": options.truncation,
            "truncation_cutoff": options.truncation_cutoff,
        }
    return facts


def _choose(network: Generator, options: SourceOptions, name: str) -> StyleSampling:
    psi, cutoff = options.truncation, options.truncation_cutoff
    if cutoff is not None and cutoff > network.layers:
        raise UsageError(
            f"{name}: has {network.layers} styles: {named('truncation_cutoff', cutoff)} is too many"
        )
    if options.noise is not None and not network.config.noise:
        raise UsageError(f"{name}: has no noise in its layers: leave out {named('noise')}")
    return StyleSampling(1.0 if psi is None else psi, cutoff, options.noise or "const")
