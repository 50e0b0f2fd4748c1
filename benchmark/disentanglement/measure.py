"""Measures an encoder: the images of a dataset are encoded once, and three measures follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import ShapesHDError, UsageError, explain, named
from shapeshd.factors import FACTORS, NAMES, FloatArray
from shapeshd.images.resize import resized
from shapeshd.support.distributed import core_count
from shapeshd.support.progress import progress_bar

from .dci import Importance, dci, load_forests
from .factor_vae import FactorVAEScore, factor_vae_score
from .information import InformationGap, mutual_information_gap

Encode = Callable[[Tensor], Any]
"""Images float32 (n, 3, size, size) -> codes (n, d), a tensor or an array."""

RANGES = {"-1,1": (-1.0, 1.0), "0,1": (0.0, 1.0), "0,255": (0.0, 255.0)}
"""What black and full become, by the name of the range."""

_FEWEST = 1000
_CIRCLES = {n: factor.period for n, factor in enumerate(FACTORS) if factor.topology == "circle"}
_CLASSES = tuple(n for n, factor in enumerate(FACTORS) if factor.topology == "discrete")


@dataclass(frozen=True)
class Disentanglement:
    """What three measures say of an encoder.

    Attributes:
        encoder: its name.
        dataset: whose images were encoded.
        images: how many.
        components: of a code.
        seed: that drew the images, the groups and the trees.
        mig: the mutual information gap.
        factor_vae: the FactorVAE score.
        dci: disentanglement, completeness and informativeness.
    """

    encoder: str
    dataset: str
    images: int
    components: int
    seed: int
    mig: InformationGap
    factor_vae: FactorVAEScore
    dci: Importance

    def to_json(self) -> dict[str, Any]:
        """Return the measures, ready for JSON; tables are (components, factors)."""
        told = {
            name: {key: _plain(value) for key, value in getattr(self, name)._asdict().items()}
            for name in ("mig", "factor_vae", "dci")
        }
        return {**asdict(self), **told, "factors": list(NAMES)}

    def describe(self) -> str:
        """Return a table for people: a line for each factor, and one for all."""
        gap, vote, forest = self.mig, self.factor_vae, self.dci
        lines = [
            f"{self.encoder}: {self.components} components, {self.images:,} images of "
            f"{self.dataset}",
            "",
            f"{'':12}{'MIG':>8}{'component':>11}{'FactorVAE':>11}{'complete':>10}{'informative':>13}",
        ]
        for n, name in enumerate(NAMES):
            lines.append(
                f"{name:12}{gap.gaps[n]:8.3f}{gap.best[n]:11d}{vote.accuracies[n]:11.3f}"
                f"{forest.completenesses[n]:10.3f}{forest.informativenesses[n]:13.3f}"
            )
        lines += [
            f"{'all':12}{gap.mean:8.3f}{'':11}{vote.accuracy:11.3f}{forest.completeness:10.3f}"
            f"{forest.informativeness:13.3f}",
            "",
            f"MIG {gap.mean:.3f} +- {gap.standard_error:.3f}, FactorVAE score {vote.accuracy:.3f} "
            f"+- {vote.standard_error:.3f} (guessing: {1 / len(NAMES):.3f}), DCI disentanglement "
            f"{forest.disentanglement:.3f}",
        ]
        return "\n".join(lines)


def measure_disentanglement(
    encoder: Encode,
    dataset: ShapesHD,
    *,
    name: str = "encoder",
    size: int | None = None,
    value_range: str = "-1,1",
    images: int = 10_000,
    batch: int = 128,
    seed: int = 0,
    smallest_variance: float = 0.05,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Disentanglement:
    """Measure MIG, the FactorVAE score and DCI of an encoder.

    Args:
        encoder: takes float32 images (n, 3, size, size) on `device` and returns codes (n, d), best
            the means of their distributions. An nn.Module should be in evaluation mode.
        dataset: without a transform; its factors vary.
        name: what to call the encoder.
        size: pixels to which images are resized; None for the dataset's own.
        value_range: "-1,1", "0,1" or "0,255": what the encoder takes as black and full.
        images: how many to encode, drawn from the dataset by `seed`; all, if it has fewer.
        batch: images encoded at a time.
        seed: see above; also draws the groups and the trees.
        smallest_variance: components of a smaller one do not vote in the FactorVAE score; see
            `factor_vae_score`.
        device: where images are put.
        progress: whether to show it on stderr.

    Raises:
        UsageError: if an argument is impossible, the dataset has fewer than 1,000 images, or a
            factor does not vary in it.
        ShapesHDError: if the encoder fails, or its codes have another shape or are not finite.
        MissingPackageError: if scikit-learn is not installed.
    """
    if value_range not in RANGES:
        raise UsageError(f"{named('value_range', value_range)}: choose from {', '.join(RANGES)}")
    whole_number(named("images"), images, _FEWEST)
    whole_number(named("batch"), batch, 1)
    if len(dataset) < _FEWEST:
        raise UsageError(
            f"{dataset.name}: has {len(dataset):,} images, and at least {_FEWEST:,} are needed"
        )
    load_forests()  # before images are encoded, which takes minutes
    count = min(images, len(dataset))
    # Of a dataset in the order of a grid, the first images would have some factors fixed.
    rows = np.sort(np.random.default_rng(seed).choice(len(dataset), count, replace=False))
    factors = dataset.labels_of(rows.tolist())
    for column, factor in zip(factors.T, NAMES, strict=True):
        if (column == column[0]).all():
            raise UsageError(f"{dataset.name}: {factor} is {column[0]:g} in all of its images")
    with progress_bar(count, "encode", shown=progress) as bar, torch.no_grad():
        parts = []
        for some in _batches(dataset, rows.tolist(), batch, size, RANGES[value_range], device):
            parts.append(_codes(encoder, some, name))
            bar.update(len(some))
    codes = np.concatenate(parts)
    try:
        return Disentanglement(
            encoder=name,
            dataset=dataset.name,
            images=count,
            components=codes.shape[1],
            seed=seed,
            mig=mutual_information_gap(codes, factors),
            factor_vae=factor_vae_score(
                codes, factors, tuple(_CIRCLES), seed=seed, smallest_variance=smallest_variance
            ),
            dci=dci(codes, factors, _CLASSES, _CIRCLES, seed=seed, jobs=core_count()),
        )
    except UsageError as error:  # of the codes: the factors were looked at above
        raise UsageError(f"{name}: {error}") from None


def _batches(
    dataset: ShapesHD,
    rows: list[int],
    batch: int,
    size: int | None,
    ends: tuple[float, float],
    device: str | torch.device,
) -> Iterator[Tensor]:
    low, high = ends
    for start in range(0, len(rows), batch):
        images = torch.stack(
            [image for image, _ in dataset.__getitems__(rows[start : start + batch])]
        )
        if size is not None:
            images = resized(images, size)
        yield images.to(device, torch.float32) * ((high - low) / 255) + low


def _codes(encoder: Encode, images: Tensor, name: str) -> FloatArray:
    try:
        found = encoder(images)
        codes = np.asarray(found.detach().float().cpu() if isinstance(found, Tensor) else found)
        codes = codes.astype(np.float64)
    except ShapesHDError:
        raise
    except Exception as error:
        raise ShapesHDError(
            f"{name}: failed on images {tuple(images.shape)}: {explain(error)}"
        ) from error
    if codes.ndim != 2 or len(codes) != len(images):
        raise ShapesHDError(
            f"{name}: gave codes of shape {codes.shape} for {len(images)} images: they must be "
            f"({len(images)}, d)"
        )
    if not np.isfinite(codes).all():
        raise ShapesHDError(f"{name}: gave a code that is not finite")
    return codes


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
