"""Phase 3: the coupled GAN, equations 7-8, and the plain one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.models.augment.adaptive_probability import AdaptiveProbability
from shapeshd.models.augment.transforms import augment
from shapeshd.models.config import GAN, RunConfig
from shapeshd.models.losses import (
    equation_7,
    equation_8,
    moved_average,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from shapeshd.models.networks.encoder import Encoder
from shapeshd.models.networks.generator import Mapper

from .distributed import Group
from .domains.domain import Domain
from .phase import Phase, frozen


class GANPhase(Phase):
    """Phase 3: trains G' against D, which sees pairs (equations 7-8) or, in a plain GAN, samples.

    Args:
        config: of the run.
        domain: data and networks.
        group: the processes that train together.
        device: where.
        autoencoder: E and G of phase 2, for pairs and to start from; None for a plain GAN.
    """

    name = "gan"

    def __init__(
        self,
        config: RunConfig,
        domain: Domain,
        group: Group,
        device: torch.device,
        autoencoder: tuple[Encoder, nn.Module] | None = None,
    ) -> None:
        super().__init__(config, domain, group, device)
        settings = config.gan
        paired = settings.paired
        generator = domain.generator()
        if autoencoder is not None:
            encoder, decoder = (frozen(network).eval() for network in autoencoder)
            if paired:
                self.fixed = {"encoder": encoder, "generator": decoder}
            if settings.from_autoencoder:
                generator.load_state_dict(decoder.state_dict())
        self.networks = {"generator": generator, "discriminator": domain.discriminator(paired)}
        self.averages = {"generator": self.average_of(generator)}
        self.add_optimizer("generator", [(generator, settings.generator_rate)], (0.0, 0.99))
        self.add_optimizer("discriminator", [(self.networks["discriminator"], 1.0)], (0.0, 0.99))
        self.numbers["path_mean"] = 0.0
        self.augmentation = domain.augmentation(settings.augment)
        self.probability = AdaptiveProbability(target=settings.target, kimg=settings.augment_kimg)
        self._latent = config.codes.latent_dim

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step of D and one of G'; see `Phase.update`."""
        log = self._discriminate(step, x)
        if step >= self.config.gan.head_start:
            log |= self._generate(step)
        return log

    def _discriminate(self, step: int, x: Tensor) -> dict[str, Tensor]:
        settings: GAN = self.config.gan
        network = self.networks["discriminator"].requires_grad_(True)
        real, fake = x, self._fake(step, "d", train=False)
        if self.fixed:
            real = torch.cat((x, self._reconstructed(x, step)), 1)
        regularised = settings.penalty > 0 and step % settings.penalty_every == 0
        real = real.detach().requires_grad_(regularised)
        # What torch.compile makes cannot be differentiated twice; `forward` is not compiled.
        discriminate = network.forward if regularised else network
        with self.domain.autocast():
            on_real = discriminate(self._augmented(real, step, "d real")).float()
            on_fake = network(self._augmented(fake, step, "d fake")).float()
        loss = equation_7(on_real, on_fake)
        log = {"loss_d": loss.detach()}
        total = loss
        if regularised:
            penalty = r1_penalty(on_real, real)
            total = loss + settings.penalty / 2 * settings.penalty_every * penalty
            log["r1"] = penalty.detach()
        self.descend("discriminator", total, step)
        if self.augmentation is not None:
            sign = self.group.mean(on_real.detach().sign().mean())
            self.probability.observe(sign * settings.batch, settings.batch)
            log["augment"] = torch.tensor(self.probability.p)
        return log

    def _generate(self, step: int) -> dict[str, Tensor]:
        settings: GAN = self.config.gan
        discriminator = frozen(self.networks["discriminator"])
        fake = self._fake(step, "g", train=True)
        with self.domain.autocast():
            on_fake = discriminator(self._augmented(fake, step, "g")).float()
        loss = total = equation_8(on_fake)
        log = {"loss_g": loss.detach()}
        if settings.path > 0 and step % settings.path_every == 0:
            penalty = self._path_penalty(step)
            total = loss + settings.path * settings.path_every * penalty
            log |= {"path": penalty.detach(), "path_mean": torch.tensor(self.numbers["path_mean"])}
        self.descend("generator", total, step)
        self.follow(step)
        return log

    def _path_penalty(self, step: int) -> Tensor:
        settings, generator = self.config.gan, self.networks["generator"]
        z = self.draws.normal(step, "path", settings.batch, self._latent)
        w = generator.mapping(z)
        if not w.requires_grad:
            w = w.requires_grad_(True)
        images = generator.synthesize(w)
        noise = self.draws.normal(step, "path images", settings.batch, *images.shape[1:])
        lengths = path_lengths(images, w, noise)
        mean = float(self.group.mean(lengths.detach().mean()))
        self.numbers["path_mean"] = moved_average(
            self.numbers["path_mean"], mean, settings.path_decay
        )
        return path_length_penalty(lengths, self.numbers["path_mean"])

    def _fake(self, step: int, what: str, *, train: bool) -> Tensor:
        """Return G'(z), beside it G(z) where D sees pairs."""
        z = self.draws.normal(step, what, self.config.gan.batch, self._latent)
        generator = self.networks["generator"]
        with torch.set_grad_enabled(train), self.domain.autocast():
            images = generator(z)  # as a whole, which is what is compiled
        if isinstance(generator.mapping, Mapper) and train:
            with torch.no_grad():
                w = generator.mapping(z)
            generator.mapping.update_average(self.group.mean(w.mean(0))[None])
        if not self.fixed:
            return images.float()
        with torch.no_grad(), self.domain.autocast():
            beside = self.fixed["generator"](z)
        return torch.cat((images.float(), beside.float()), 1)

    @torch.no_grad()
    def _reconstructed(self, x: Tensor, step: int) -> Tensor:
        with self.domain.autocast():
            features = self.fixed["encoder"].trunk(x)
            z, _, _ = self.encode(features, step, self.config.gan.batch, "pairs")
            images: Tensor = self.fixed["generator"](z)
        return images.float()

    def _augmented(self, samples: Tensor, step: int, what: str) -> Tensor:
        """Transform this process's part of a batch as was drawn for the whole."""
        if self.augmentation is None:
            return samples
        rng = self.draws.generator(step, f"augment {what}", "cpu")
        batch = self.config.gan.batch
        return augment(
            samples, self.probability.p, self.augmentation, rng,
            batch=batch, part=self.group.part(batch),
        )  # fmt: skip

    def extra(self) -> dict[str, Any]:
        """Return the state of the augmentation."""
        return {"augmentation": self.probability.to_json()}

    def restore_extra(self, values: Mapping[str, Any]) -> None:
        """Take over the state of the augmentation."""
        self.probability = AdaptiveProbability.from_json(values["augmentation"])
