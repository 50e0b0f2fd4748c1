"""What all sources of a network share."""

from __future__ import annotations

import torch

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.networks.generator import GeneratorSource, NetworkBatches
from shapeshd.benchmark.sources.options import SourceOptions
from tests.support.tanh_generator import (
    rounded,
)


def test_range_is_learned_from_the_first_batch_wherever_a_run_starts() -> None:
    """Batches that look like [0, 1] on their own are read as the first one was."""
    first = normal_latents(0, 0, 2, 3)
    ramp = torch.linspace(0, 1, 48).reshape(1, 3, 4, 4)

    def network(z: torch.Tensor) -> torch.Tensor:
        return ramp.repeat(2, 1, 1, 1) * (-1 if torch.equal(z, first) else 1)

    def opened() -> GeneratorSource:
        form = ImageFormat(SourceOptions(), name="odd")
        batches = NetworkBatches(
            network,
            name="odd",
            latent_dim=3,
            seed=0,
            device=torch.device("cpu"),
            batch=2,
            form=form,
        )
        return GeneratorSource("odd", "test", batches)

    whole = opened().images(0, 8)
    assert torch.equal(opened().images(5, 8), whole[5:])
    assert torch.equal(whole[5:], rounded(ramp).repeat(3, 1, 1, 1))
