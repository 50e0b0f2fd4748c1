"""Images to train on, StyleGAN2's networks for them, and the recognizer that scores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.reader import piece_length, read_factors
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.dataset.contact_sheet import draw_sheet, save_sheet
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray
from shapeshd.images.resize import check_image_size
from shapeshd.models.augment.transforms import PAPER, SAFE, TRANSFORMS, AugmentConfig
from shapeshd.models.config import Codes, Images, RunConfig
from shapeshd.models.data.images import (
    batches,
    open_training_images,
    rendered_at,
    to_float,
    to_uint8,
)
from shapeshd.models.networks.checkpoints import save_generator
from shapeshd.models.networks.config import FlowConfig
from shapeshd.models.networks.discriminator import Discriminator, DiscriminatorConfig
from shapeshd.models.networks.encoder import Encoder, EncoderConfig, build_encoder
from shapeshd.models.networks.flow import ImageFlow, unet_layout
from shapeshd.models.networks.generator import Generator, GeneratorConfig
from shapeshd.support.device import moved
from shapeshd.support.progress import note
from shapeshd.support.schema import validated

from .features import stored_features
from .score_samples import latent_dim_of, score_samples

_Network = TypeVar("_Network", bound=nn.Module)

_LITE_SIZE = 64
_SCORED = 64  # images generated at a time
_SHEET = (6, 8)  # rows and columns
_LARGEST_THUMBNAIL = 128
_SHEET_SEED = 9_000_000


class ImageDomain:
    """See `Domain`.

    Args:
        config: of the run.
        source: a dataset, images to be rendered, a folder or a zip of images, an LSUN LMDB.
        device: where the networks are.
        workers: processes that read images.

    Raises:
        UsageError: if there are no images of the right kind, or too few.
    """

    def __init__(
        self, config: RunConfig, source: Path | RenderSpec, device: torch.device, workers: int
    ) -> None:
        self._config, self._device, self._workers = config, device, workers
        self._settings = config.images
        size = config.images.size
        self._data = open_training_images(rendered_at(source, size), size)
        self._data.check()
        self.held_out = config.checks.held_out
        self.count = len(self._data) - self.held_out
        if self.count < 1:
            raise UsageError(
                f"{self._data.name}: {len(self._data):,} images are too few: {self.held_out:,} are "
                "held out (checks.held_out)"
            )
        self.feature_dim = config.images.feature_dim
        self.shape: tuple[int, ...] = (3, size, size)
        self.why_no_score = self._data.why_no_score or self._too_small()
        self._recognizer: Recognizer | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the images are."""
        return self._data.describe()

    def batches(self, rows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield images of rows, float32 (n, 3, size, size) in [-1, 1]."""
        order = (some.tolist() for some in rows)
        for images in batches(self._data, order, self._workers):
            yield to_float(moved(images, self._device)).contiguous(
                memory_format=torch.channels_last
            )

    def encoder(self) -> Encoder:
        """Return a new encoder."""
        config = encoder_config(self._settings, self._config.codes)
        return self._placed(build_encoder(config))

    def generator(self) -> nn.Module:
        """Return a new generator. It keeps the length of z: codes of images have one."""
        settings = self._settings
        config = GeneratorConfig(
            size=settings.size,
            latent_dim=self._config.codes.latent_dim,
            style_dim=settings.style_dim,
            normalize_latent=False,
            mapping_layers=settings.mapping_layers,
            mapping_rate=settings.mapping_rate,
            channel_base=settings.channel_base,
            channel_max=settings.channel_max,
        )
        return self._placed(Generator(config))

    def discriminator(self, pairs: bool) -> nn.Module:
        """Return a new discriminator of images, or of pairs on 6 channels."""
        settings = self._settings
        config = DiscriminatorConfig(
            size=settings.size,
            channels=6 if pairs else 3,
            channel_base=settings.channel_base,
            channel_max=settings.channel_max,
            group=settings.group,
        )
        return self._placed(Discriminator(config))

    def flow(self) -> ImageFlow:
        """Return a new flow."""
        flow, size = self._config.flow, self._settings.size
        solved = {"solver": flow.solver, "steps": flow.solver_steps}
        values = {**self._config.unet.to_json(), "size": size, **solved}
        network = ImageFlow(validated(FlowConfig, values, "unet."))
        return self._placed(network, unet_layout(self._device))

    def _placed(
        self, network: _Network, layout: torch.memory_format = torch.channels_last
    ) -> _Network:
        network = network.to(self._device)
        network.to(memory_format=layout)
        if self._settings.compile:  # the part that is called by itself, if there is one
            _called(network).compile()
        return network

    def features(
        self, trunk: nn.Module, cache: Path | None, digest: str, *, keep: bool = True
    ) -> Tensor:
        """Return the trunk's features of all images, read from `cache` if they are there."""
        total = self.count + self.held_out
        rows = torch.arange(total).split(self._config.vae.batch)

        def computed() -> Iterator[Tensor]:
            with torch.no_grad():
                for x in self.batches(rows):
                    with self.autocast():
                        yield trunk(x).float()

        precision = self._settings.precision
        origin = {"encoder": digest, "data": self.describe(), "precision": precision}
        shape = (total, self.feature_dim)
        return stored_features(computed(), shape, cache, origin, self._device, keep=keep)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the networks' forward passes: bf16, if that is wanted."""
        if self._settings.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)

    def augmentation(self, kind: str) -> AugmentConfig | None:
        """Return the transforms that a configuration names; images must be large enough."""
        chosen = {"safe": SAFE, "paper": PAPER, "all": TRANSFORMS}
        if kind not in chosen:
            return None
        config = AugmentConfig(chosen[kind])
        try:
            config.check_size(self.shape[1:])
        except UsageError as error:
            raise UsageError(f"gan.augment = {kind!r}: {error}") from None
        return config

    def write_sheets(
        self, folder: Path, step: int, generator: nn.Module, encoder: Encoder | None
    ) -> None:
        """Write samples of fixed latents, and held-out images above their reconstructions."""
        folder.mkdir(parents=True, exist_ok=True)
        rows, columns = _SHEET
        rng = torch.Generator().manual_seed(_SHEET_SEED)
        codes = self._config.codes
        latent, noise_dim = latent_dim_of(generator, codes), codes.noise_dim
        z = torch.randn(rows * columns, latent, generator=rng).to(self._device)
        _draw(self._images(generator, z), rows, folder / f"samples-{step:07d}.png")
        if encoder is None:
            return
        shown = min(rows // 2 * columns, self.held_out)
        columns = min(columns, shown)
        shown -= shown % columns  # so that each image stands above its own
        x = next(iter(self.batches([torch.arange(self.count, self.count + shown)])))
        noise = torch.randn(shown, noise_dim, generator=rng).to(self._device)
        with torch.no_grad():
            with self.autocast():
                features = encoder.trunk(x)
            mean, _ = encoder.head(features.float(), noise)
        made = self._images(generator, mean)
        pairs = [*zip(to_uint8(x).cpu().split(columns), made.split(columns), strict=True)]
        lines = [line for pair in pairs for line in pair]
        _draw(torch.cat(lines), len(lines), folder / f"reconstructions-{step:07d}.png", columns)

    def score(self, generator: nn.Module, samples: int, seed: int) -> dict[str, Any]:
        """Return the goodness of fit of samples as the recognizer reads them."""
        reader = self._reader()

        def factors_of(z: Tensor) -> FloatArray:
            return read_factors(self._images(generator, z), reader)

        rng = torch.Generator(self._device).manual_seed(seed)
        latent = latent_dim_of(generator, self._config.codes)
        found = score_samples(factors_of, samples, latent, rng, piece_length(self._settings.size))
        return {**found, "recognizer": reader.name}

    def save_generator(self, path: Path, generator: nn.Module, card: Mapping[str, Any]) -> None:
        """Save it for `shapeshd score`."""
        assert isinstance(generator, (Generator, ImageFlow))
        save_generator(path, generator, card)

    @torch.no_grad()
    def _images(self, generator: nn.Module, z: Tensor) -> Tensor:
        """Return images of codes: uint8 (n, 3, size, size), on the CPU."""
        with self.autocast():
            parts = [generator(some).float() for some in z.split(_SCORED)]
        return to_uint8(torch.cat(parts)).cpu()

    def _too_small(self) -> str | None:
        """Say why no recognizer can read images of this size; None if one can."""
        size = self._settings.size
        try:
            check_image_size(size, size, _LITE_SIZE, self._data.name)
        except UsageError as error:
            return str(error)
        return None

    def _reader(self) -> Recognizer:
        if self._recognizer is None:
            size = self._settings.size
            self._recognizer = load_recognizer(shipped_for(size), self._device)
            how = check_image_size(size, size, self._recognizer.size, self._data.name)
            if how is not None:
                note(f"scored after resizing to {self._recognizer.size} pixels ({how})")
        return self._recognizer


def _called(network: nn.Module) -> nn.Module:
    if isinstance(network, ImageFlow):
        return network.unet
    return network.trunk if isinstance(network, Encoder) else network


def encoder_config(images: Images, codes: Codes) -> EncoderConfig:
    """Return the encoder of a run's tables."""
    return EncoderConfig(
        size=images.size,
        channel_base=images.channel_base,
        channel_max=images.channel_max,
        feature_dim=images.feature_dim,
        noise_dim=codes.noise_dim,
        latent_dim=codes.latent_dim,
        head_width=codes.head_width,
        head_layers=codes.head_layers,
    )


def _draw(images: Tensor, rows: int, path: Path, columns: int | None = None) -> None:
    columns = columns or -(-len(images) // rows)
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    height, width = arrays.shape[1:3]
    captions = [[()] * len(part) for part in images.split(columns)]
    thumbnail = min(height, _LARGEST_THUMBNAIL)
    save_sheet(draw_sheet(arrays, (height, width), captions, thumbnail=thumbnail), path)
