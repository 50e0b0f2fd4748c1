"""The interface of what a phase trains on: images, or embeddings of factors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from shapeshd.models.augment.transforms import AugmentConfig
from shapeshd.models.networks.encoder import Encoder
from shapeshd.models.networks.flow import Flow


class Domain(Protocol):
    """Data, the networks that fit them, and the score of what is generated.

    Attributes:
        count: samples to train on, numbered from 0; the held-out ones follow.
        held_out: how many of these there are.
        feature_dim: components of the trunk's features.
        shape: of a sample.
    """

    count: int
    held_out: int
    feature_dim: int
    shape: tuple[int, ...]

    @property
    def why_no_score(self) -> str | None:
        """One line that says why there is no score; None if there is one."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the data are, ready for JSON: a resumed run must have the same."""
        ...

    def batches(self, rows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield float32 data (n, ...) on the device for each int64 (n,) of `rows`."""
        ...

    def encoder(self) -> Encoder:
        """Return a new encoder."""
        ...

    def generator(self) -> nn.Module:
        """Return a new generator."""
        ...

    def discriminator(self, pairs: bool) -> nn.Module:
        """Return a new discriminator of single samples, or of pairs."""
        ...

    def flow(self) -> Flow:
        """Return a new flow."""
        ...

    def features(
        self, trunk: nn.Module, cache: Path | None, digest: str, *, keep: bool = True
    ) -> Tensor:
        """Return a trunk's features of all data, held-out ones last: float32 (n, feature_dim).

        Args:
            trunk: deterministic; see `Encoder`.
            cache: file to keep them in; None for none.
            digest: of the encoder, so that kept ones are known to be its; and of these data.
            keep: write the file, if they had to be computed.
        """
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the networks' forward passes."""
        ...

    def augmentation(self, kind: str) -> AugmentConfig | None:
        """Return the transforms that `gan.augment` names; None for "none".

        Raises:
            UsageError: if these data cannot be transformed so.
        """
        ...

    def write_sheets(
        self, folder: Path, step: int, generator: nn.Module, encoder: Encoder | None
    ) -> None:
        """Write pictures of samples, and of reconstructions, into a folder."""
        ...

    def score(self, generator: nn.Module, samples: int, seed: int) -> dict[str, Any]:
        """Return the goodness of fit of a generator's samples; only without `why_no_score`."""
        ...

    def save_generator(self, path: Path, generator: nn.Module, card: dict[str, Any]) -> None:
        """Save a generator as a checkpoint."""
        ...
