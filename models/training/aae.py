"""Phase 2: the adversarial autoencoder on stored features, equations 2-6."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shapeshd.models.config import AAE, RING, RunConfig
from shapeshd.models.losses import (
    adversarial,
    discriminator_advantage,
    equation_2,
    equation_3,
    equation_4,
    equation_5,
    equation_6,
    kl_to_standard_normal,
    norm_error,
    r1_penalty,
)
from shapeshd.models.networks.code_discriminator import CodeDiscriminator, LinearCodeDiscriminator
from shapeshd.models.networks.encoder import Encoder
from shapeshd.support.device import moved

from .distributed import Group
from .domains.domain import Domain
from .phase import Phase, frozen
from .schedule import cosine_between


class AAEPhase(Phase):
    """Phase 2: trains the encoder's head and G against the discriminators of codes.

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
        features: float32 (n, feature_dim), of the data to train on; or what computes them,
            which `prepare` then calls.
    """

    name = "aae"
    features: Tensor

    def __init__(
        self,
        config: RunConfig,
        domain: Domain,
        group: Group,
        device: torch.device,
        encoder: Encoder,
        generator: nn.Module,
        features: Tensor | Callable[[], Tensor],
    ) -> None:
        super().__init__(config, domain, group, device)
        settings, codes = config.aae, config.codes
        self._compute = None if isinstance(features, Tensor) else features
        if isinstance(features, Tensor):
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

    def prepare(self) -> None:
        """Compute the features, unless they were at hand."""
        if self._compute is not None:
            self.features = self._compute()

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step of equations 4-6, or 2-3; see `Phase.update`."""
        settings: AAE = self.config.aae
        self._hold_noise(step)
        some = self.draws.rows(step, "features", settings.codes, len(self.features))
        features = self.features[moved(some, self.features.device)].to(self.device)
        z, mean, log_variance = self.encode(features, step, settings.codes, "codes")
        seen = differences(z, settings.others) if self.differences else z
        log = self._discriminate("c1", seen.detach(), step)
        loss_c1 = adversarial(self._frozen_logits("c1", seen))
        loss_c2 = None
        if "c2" in self.networks:
            log |= self._discriminate("c2", z.detach(), step)
            loss_c2 = adversarial(self._frozen_logits("c2", z))
        divergence = kl_to_standard_normal(mean, log_variance).mean()
        small = self.features[moved(rows, self.features.device)].to(self.device)
        with self.domain.autocast():
            code, _, _ = self.encode(small, step, settings.batch, "small")
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
        deviation = cosine_between(
            settings.deviation, settings.final_deviation, step, settings.steps
        )
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

    def _frozen_logits(self, name: str, codes: Tensor) -> Tensor:
        logits: Tensor = frozen(self.networks[name])(codes)
        return logits


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
