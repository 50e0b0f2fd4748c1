"""The update steps: VAE, then AAE (equations 2-6), then the GAN (equations 7-8).

Each class holds the networks of its phase and takes one step at a time; what data are, which
networks there are and how results are judged is the domain's matter. Random numbers are drawn for
the whole batch and cut to this process's part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .adaptive_probability import AdaptiveProbability
from .augment import augment
from .code_discriminator import CodeDiscriminator, LinearCodeDiscriminator
from .config import AAE, GAN, RING, VAE, RunConfig
from .domain import Domain
from .encoder import Encoder
from .generator import Mapper
from .losses import (
    adversarial,
    discriminator_advantage,
    elbo,
    equation_2,
    equation_3,
    equation_4,
    equation_5,
    equation_6,
    equation_7,
    equation_8,
    kl_to_standard_normal,
    moved_average,
    norm_error,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from .parallel import Group
from .phase import Phase, frozen

_CENTRE_RATE = 0.1


class VAEPhase(Phase):
    """Phase 1: encoder and generator by the evidence lower bound."""

    name = "vae"

    def __init__(
        self, config: RunConfig, domain: Domain, group: Group, device: torch.device
    ) -> None:
        super().__init__(config, domain, group, device)
        self.networks = {"encoder": domain.encoder(), "generator": domain.generator()}
        self.averages = {name: self.average_of(net) for name, net in self.networks.items()}
        encoder = self.networks["encoder"]
        parts = [
            (self.networks["generator"], 1.0),
            (encoder.trunk, 1.0),
            (encoder.head, config.vae.head_rate),
        ]
        self.add_optimizer("autoencoder", parts, (0.9, 0.99))
        latent = config.codes.latent_dim

        def without_means(gradient: Tensor) -> Tensor:
            return torch.cat((torch.zeros_like(gradient[:latent]), gradient[latent:]))

        # Centred codes do not feel the bias of their means: what gradient it has is rounding,
        # which Adam would scale up to steps of full size.
        encoder.head.body.last.bias.register_hook(without_means)

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step up the bound; see `Phase.update`."""
        settings: VAE = self.config.vae
        with self.domain.autocast():
            features = self.networks["encoder"].trunk(x)
            z, mean, log_variance = self._encode(features, step)
            reconstruction = self.networks["generator"](z)
        reconstruction = reconstruction.float()
        error = self.group.mean((reconstruction.detach() - x).square().mean())
        # While reconstructions are poor, sigma is what they are off by, which is its best value
        # (Rybkin et al. 2021, arXiv:2006.13202): else the codes are far off before the
        # divergence has any say.
        sigma = max(settings.sigma, float(error) ** 0.5)
        terms = elbo(x, reconstruction, mean, log_variance, sigma)
        loss = terms.reconstruction + settings.divergence * terms.divergence
        self.descend("autoencoder", loss, step)
        self.follow(step)
        return {
            "loss": loss.detach(),
            "reconstruction": terms.reconstruction.detach(),
            "divergence": terms.divergence.detach(),
            "sigma": torch.tensor(sigma),
        }

    def _encode(self, features: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw codes whose means have the mean 0 over the batch; see `encode`.

        Images have much in common, and to move the codes of all of them is the fastest way to
        tell G so. They would then stand far from the prior for long; the divergence alone takes
        tens of thousands of steps to bring them back.
        """
        z, mean, log_variance = encode(self, features, step, self.config.vae.batch)
        offset = self.group.mean_with_gradient(mean.mean(0))
        with torch.no_grad():
            self.networks["encoder"].head.centre.add_(offset, alpha=_CENTRE_RATE)
        return z - offset, mean - offset, log_variance


class AAEPhase(Phase):
    """Phase 2: the encoder's head and G against the discriminators of codes.

    The trunk is fixed and its features of all data are at hand, so that the adversarial part has
    thousands of codes; the norm is taken over a small batch. The discriminators take their step
    first, and the encoder meets them as they are then, with the same codes.

    Args:
        config: of the run.
        domain: data and networks.
        group: the processes that train together.
        device: where.
        encoder: of phase 1.
        generator: of phase 1.
        features: float32 (n, feature_dim), of the data to train on.
    """

    name = "aae"

    def __init__(
        self,
        config: RunConfig,
        domain: Domain,
        group: Group,
        device: torch.device,
        encoder: Encoder,
        generator: nn.Module,
        features: Tensor,
    ) -> None:
        super().__init__(config, domain, group, device)
        settings, codes = config.aae, config.codes
        self.features = features
        self.differences = settings.discriminator == "difference"
        self.networks = {
            "encoder": encoder.requires_grad_(True),
            "generator": generator.requires_grad_(True),
            "c1": CodeDiscriminator(codes.latent_dim, codes.width, codes.layers).to(device),
        }
        frozen(encoder.trunk)
        self._hold_noise(0)
        self.averages = {
            name: self.average_of(self.networks[name]) for name in ("encoder", "generator")
        }
        parts = [
            (encoder.head, settings.encoder_rate),
            (self.networks["generator"], settings.generator_rate),
        ]
        self.add_optimizer("autoencoder", parts, (0.5, 0.99))
        self.add_optimizer("c1", [(self.networks["c1"], 1.0)], (0.5, 0.99))
        self.numbers["lambda_1"] = settings.lambda_1
        if settings.second != "none":
            self.networks["c2"] = LinearCodeDiscriminator(codes.latent_dim).to(device)
            self.add_optimizer("c2", [(self.networks["c2"], settings.second_rate)], (0.5, 0.99))
            self.numbers["lambda_2"] = settings.lambda_2

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step of equations 4-6, or 2-3; see `Phase.update`."""
        settings: AAE = self.config.aae
        self._hold_noise(step)
        some = self.draws.rows(step, "features", settings.codes, len(self.features))
        features = self.features[some.to(self.features.device)].to(self.device)
        z, mean, log_variance = encode(self, features, step, settings.codes, "codes")
        seen = differences(z, settings.others) if self.differences else z
        log = self._discriminate("c1", seen.detach(), step)
        loss_c1 = adversarial(self._judge("c1", seen))
        loss_c2 = None
        if "c2" in self.networks:
            log |= self._discriminate("c2", z.detach(), step)
            loss_c2 = adversarial(self._judge("c2", z))
        divergence = kl_to_standard_normal(mean, log_variance).mean()
        small = self.features[rows.to(self.features.device)].to(self.device)
        with self.domain.autocast():
            code, _, _ = encode(self, small, step, settings.batch, "small")
            reconstruction = self.networks["generator"](code)
        norm = norm_error(x, reconstruction.float())
        if loss_c2 is None:
            objective = equation_3(norm, loss_c1, self.numbers["lambda_1"])
        else:
            weights = self.numbers["lambda_1"], self.numbers["lambda_2"]
            objective = equation_6(norm, loss_c1, weights[0], loss_c2, weights[1])
        loss = objective + settings.divergence * divergence
        self.descend("autoencoder", loss, step)
        self.follow(step)
        # What oscillates in figure 1: where the cloud of codes is just now.
        centre = self.group.mean(z.detach().mean(0)).norm()
        return {
            "loss": loss.detach(),
            "norm": norm.detach(),
            "code_mean": centre,
            "divergence": divergence.detach(),
            **log,
            **{key: torch.tensor(value) for key, value in self.numbers.items()},
        }

    def _hold_noise(self, step: int) -> None:
        settings: AAE = self.config.aae
        deviation = self.between(settings.deviation, settings.final_deviation, step)
        self.networks["encoder"].head.deviation.fill_(deviation)

    def _discriminate(self, name: str, codes: Tensor, step: int) -> dict[str, Tensor]:
        """Take a step of a discriminator, and adjust its weight in the encoder's loss."""
        settings: AAE = self.config.aae
        network = self.networks[name].requires_grad_(True)
        first = name == "c1"
        scale = math.sqrt(1 + 1 / settings.others) if first and self.differences else 1.0
        prior = scale * self.draws.normal(step, name, settings.codes, codes.shape[1])
        penalised = first and settings.penalty > 0 and step % settings.penalty_every == 0
        fake = codes.requires_grad_(True) if penalised else codes
        on_prior, on_codes = network(prior), network(fake)
        equation = (equation_4 if self.differences else equation_2) if first else equation_5
        loss = equation(on_prior, on_codes)
        advantage = discriminator_advantage(on_prior.detach(), on_codes.detach())
        total = loss
        if penalised:
            weight = settings.penalty / 2 * settings.penalty_every
            total = loss + weight * r1_penalty(on_codes, fake)
        self.descend(name, total, step)
        number = "lambda_1" if first else "lambda_2"
        if settings.control:
            excess = float(self.group.mean(advantage)) - settings.target
            weight = self.numbers[number] * math.exp(settings.control * excess)
            self.numbers[number] = min(max(weight, settings.lambda_min), settings.lambda_max)
        return {f"loss_{name}": loss.detach(), f"advantage_{name}": advantage}

    def _judge(self, name: str, codes: Tensor) -> Tensor:
        logits: Tensor = frozen(self.networks[name])(codes)
        return logits


class GANPhase(Phase):
    """Phase 3: G' against D, which sees pairs (equations 7-8) or, in a plain GAN, single samples.

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
        judge = network.forward if regularised else network
        with self.domain.autocast():
            on_real = judge(self._augmented(real, step, "d real")).float()
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
        judge = frozen(self.networks["discriminator"])
        fake = self._fake(step, "g", train=True)
        with self.domain.autocast():
            on_fake = judge(self._augmented(fake, step, "g")).float()
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
            z, _, _ = encode(self, features, step, self.config.gan.batch, "pairs")
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


def encode(
    phase: Phase, features: Tensor, step: int, batch: int, what: str = "encode"
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw codes of features.

    The paper's single noise vector is drawn as two: what enters the head, and what samples z.

    Args:
        phase: whose encoder and random numbers are used.
        features: (n, feature_dim), this process's part of the batch.
        step: of the run.
        batch: size of the whole batch.
        what: names the draw.

    Returns:
        The codes z, and the mean and log-variance that they were drawn with: (n, latent_dim).
    """
    encoder = phase.networks["encoder"] if "encoder" in phase.networks else phase.fixed["encoder"]
    codes = phase.config.codes
    noise = phase.draws.normal(step, f"{what} noise", batch, codes.noise_dim)
    mean, log_variance = encoder.head(features, noise)
    sample = phase.draws.normal(step, f"{what} sample", batch, codes.latent_dim)
    return mean + sample * (log_variance / 2).exp(), mean, log_variance


def differences(z: Tensor, others: int = 1) -> Tensor:
    """Return as many differences as there are codes: a code less the mean of others.

    With one other they are the differences of equation 4. For i.i.d. codes N(m, I) a difference
    to the mean of k others is N(0, (1 + 1/k) I), and by Cramer's theorem the converse holds for
    any k: it is a sum of independent vectors, and normal only if each of them is. Its mean is 0,
    whatever that of the codes, so it cannot oscillate either. But the difference of two codes is
    symmetric however skewed the codes are, and what is left of a skewness is of second order;
    of several others' mean, it keeps the share (1 - 1/k^2) / (1 + 1/k)^1.5 (and of the excess
    kurtosis (1 + 1/k^3) / (1 + 1/k)^2): 0 and 0.5 for one other, 0.90 and 0.88 for 15.

    The codes stand in rings of 16, and each is compared with those before it in its ring. The
    codes of a difference are independent, as equation 4 asks; neighbouring differences share
    codes. Rings lie in one process, whatever the number of processes.

    Args:
        z: (n, latent_dim), n a multiple of 16.
        others: 1 .. 15.
    """
    rings = z.view(-1, RING, z.shape[1])
    mean = sum(rings.roll(k, dims=1) for k in range(1, others + 1)) / others
    return (rings - mean).view_as(z)
