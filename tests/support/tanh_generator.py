"""A small generator of images in [-1, 1], and what every source of one must give."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.open import find_kind
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest

DIM, SIZE = 5, 8
LAST = 7  # samples in a batch of these tests


class Tanh(torch.nn.Module):
    """A generator of images in [-1, 1]; training mode would change them."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = DIM
        self.dense = torch.nn.Linear(DIM, 3 * SIZE * SIZE)
        self.dropout = torch.nn.Dropout()
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, generator=generator)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dropout(self.dense(z))).reshape(-1, 3, 8, 8)


def rounded(images: torch.Tensor) -> torch.Tensor:
    """What a saved image of [-1, 1] holds, in float64."""
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def near(images: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether images agree up to a level where another batch length rounds otherwise."""
    difference = (images.int() - expected.int()).abs()
    small = difference.max() <= 1 and difference.sum() <= 3
    return images.shape == expected.shape and bool(small)


def expected_images(stop: int, seed: int = 3) -> torch.Tensor:
    with torch.inference_mode():
        return rounded(Tanh().eval()(normal_latents(seed, 0, stop, DIM)))


def opened(
    text: str | Path, name: str = "", *, trust: bool = False, device: str = "cpu", **options: Any
) -> Any:
    """Open a source as `open_source` does, under a name of its own."""
    chosen = SourceOptions(**{"batch": LAST, **options})
    request = OpenRequest(str(text), name, seed=3, trust=trust, device=device, options=chosen)
    return find_kind(str(text), chosen).open(request)


def check_cuts(source: GeneratorSource, expected: torch.Tensor, close: bool = False) -> None:
    """However a range is cut, the images are the same; and they are the expected ones."""
    whole = source.images(0, len(expected))
    assert whole.dtype == torch.uint8
    assert near(whole, expected) if close else torch.equal(whole, expected)
    for cuts in ([0, 1, 2, 9, 20], [0, LAST, 2 * LAST, 20], [0, 13, 20]):
        parts = [source.images(a, b) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole[:20])
    assert torch.equal(source.images(15, 16), whole[15:16])
    assert source.images(4, 4).shape == (0, *whole.shape[1:])
