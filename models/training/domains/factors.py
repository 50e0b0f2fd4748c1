"""The factor-space tier: data are smooth embeddings of the factors, 12 numbers each.

No image and no recognizer stands between a method and its chi-square here: a sample's factors are
decoded from the embedding in closed form. The three hues are points on the unit circle, scale and
orientation run from -1 to 1, and the shape is one-hot: as in images, another shape is no farther
than a quarter of a turn of a hue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from shapeshd.benchmark.recognizer.network import Reading
from shapeshd.benchmark.recognizer.recognizer import decode_reading, encode_factors
from shapeshd.errors import UsageError
from shapeshd.factors import SHAPES, FloatArray, uniform_factors
from shapeshd.models.augment.transforms import AugmentConfig
from shapeshd.models.config import RunConfig
from shapeshd.models.networks.blocks import Perceptron
from shapeshd.models.networks.encoder import Encoder, Head
from shapeshd.models.networks.flow import PerceptronFlow
from shapeshd.support.checkpoint import save_checkpoint
from shapeshd.support.device import moved

from .score_samples import latent_dim_of, score_samples

WIDTH = 12
"""Components of an embedding."""

KIND = "factor-generator"
_BATCH = 16384
_PIECE = 4096  # samples whose hidden layers stay in a core's cache


def embed(factors: FloatArray) -> Tensor:
    """Return the embedding of factors.

    Args:
        factors: float64 (n, 6), columns as in `shapeshd.FACTORS`.

    Returns:
        float32 (n, 12): cosine and sine of each hue, scale and orientation in [-1, 1], and the
        shape one-hot.
    """
    hues, scale, orientation, shape = encode_factors(factors)
    shapes = nn.functional.one_hot(shape, len(SHAPES))
    return torch.cat((hues.flatten(1), 2 * scale[:, None] - 1, orientation[:, None], shapes), 1)


def decode(embedding: Tensor) -> FloatArray:
    """Return the factors of embeddings, float64 (n, 6): the inverse of `embed`.

    Any 12 numbers have factors: hues by their angle, the shape by its largest number, scale and
    orientation cut to their ranges; as a recognizer reads any image.
    """
    values = embedding.detach().cpu().double()  # MPS has no float64
    points, scale = values[:, :6].view(-1, 3, 2), (values[:, 6] + 1) / 2
    reading = Reading(points, scale, values[:, 7], values[:, 8:])
    return decode_reading(reading).numpy()


class FactorGenerator(nn.Module):
    """Maps codes to embeddings.

    Attributes:
        mapping: the identity: w is z.
    """

    architecture: ClassVar[str] = "factor-perceptron"

    def __init__(self, latent_dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.settings = {"latent_dim": latent_dim, "width": width, "layers": layers}
        self.latent_dim = latent_dim
        self.mapping = nn.Identity()
        self.body = Perceptron(latent_dim, WIDTH, width, layers)

    def synthesize(self, w: Tensor) -> Tensor:
        """Map (n, latent_dim) to embeddings (n, 12)."""
        x: Tensor = self.body(w)
        return x

    def forward(self, z: Tensor) -> Tensor:
        """Map (n, latent_dim) to embeddings (n, 12)."""
        return self.synthesize(self.mapping(z))


class FactorDiscriminator(nn.Module):
    """Maps embeddings, or pairs of them, to logits."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.body = Perceptron(inputs, 1, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 12) or (n, 24) to logits (n,)."""
        logits: Tensor = self.body(x)
        return logits[:, 0]


class FactorDomain:
    """See `Domain`; the data are drawn from the run's seed."""

    why_no_score = None
    feature_dim = WIDTH
    shape: tuple[int, ...] = (WIDTH,)

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        self.count, self.held_out = config.factors.images, config.checks.held_out
        factors = uniform_factors(config.seed, 0, self.count + self.held_out)
        self._table = embed(factors).to(device)

    def describe(self) -> dict[str, Any]:
        """Return what the data are."""
        return {"name": "factors", "images": self.count, "seed": self._config.seed}

    def batches(self, rows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the embeddings of rows."""
        for some in rows:
            yield self._table[moved(some, self._device)]

    def encoder(self) -> Encoder:
        """Return an encoder whose trunk hands the embedding on."""
        codes = self._config.codes
        head = Head(WIDTH, codes.noise_dim, codes.latent_dim, codes.head_width, codes.head_layers)
        return Encoder(nn.Identity(), head).to(self._device)

    def generator(self) -> nn.Module:
        """Return a perceptron from codes to embeddings."""
        factors = self._config.factors
        latent = self._config.codes.latent_dim
        return FactorGenerator(latent, factors.width, factors.layers).to(self._device)

    def discriminator(self, pairs: bool) -> nn.Module:
        """Return a perceptron from embeddings, or pairs, to logits."""
        factors = self._config.factors
        inputs = 2 * WIDTH if pairs else WIDTH
        return FactorDiscriminator(inputs, factors.width, factors.layers).to(self._device)

    def flow(self) -> PerceptronFlow:
        """Return a flow of embeddings."""
        factors, flow = self._config.factors, self._config.flow
        sizes = (WIDTH, factors.width, factors.layers)
        return PerceptronFlow(*sizes, flow.solver, flow.solver_steps).to(self._device)

    def features(
        self, trunk: nn.Module, cache: Path | None, digest: str, *, keep: bool = True
    ) -> Tensor:
        """Return the embeddings themselves."""
        return self._table

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that changes nothing."""
        return nullcontext()

    def augmentation(self, kind: str) -> AugmentConfig | None:
        """Return None; raise `UsageError` for anything else than "none"."""
        if kind != "none":
            raise UsageError(f"gan.augment = {kind!r}: embeddings of factors have no transforms")
        return None

    def write_sheets(
        self, folder: Path, step: int, generator: nn.Module, encoder: Encoder | None
    ) -> None:
        """Write nothing: embeddings have no pictures."""

    @torch.no_grad()
    def score(self, generator: nn.Module, samples: int, seed: int) -> dict[str, Any]:
        """Return the goodness of fit of samples, its decomposition, and their ``residual``.

        The residual is the mean distance of a sample from the embedding of its own factors, 0
        for data: how sharp samples are, which their factors do not tell.
        """
        rng = torch.Generator(self._device).manual_seed(seed)
        latent = latent_dim_of(generator, self._config.codes)

        def made_of(z: Tensor) -> Tensor:
            return torch.cat([generator(some) for some in z.split(_PIECE)])

        found = score_samples(lambda z: decode(made_of(z)), samples, latent, rng, _BATCH)
        made = made_of(torch.randn(_BATCH, latent, generator=rng, device=self._device)).cpu()
        distances = torch.linalg.vector_norm(made - embed(decode(made)), dim=1)
        return {**found, "residual": float(distances.mean())}

    def save_generator(self, path: Path, generator: nn.Module, card: Mapping[str, Any]) -> None:
        """Save it as a checkpoint of its own kind: its samples are no images."""
        assert isinstance(generator, (FactorGenerator, PerceptronFlow))
        built = {"architecture": generator.architecture, "config": generator.settings}
        save_checkpoint(path, KIND, generator.state_dict(), {**card, **built})
