"""Phase 1: the variational autoencoder, by the evidence lower bound."""

from __future__ import annotations

import torch
from torch import Tensor

from shapeshd.models.config import VAE, RunConfig
from shapeshd.models.losses import elbo

from .distributed import Group
from .domains.domain import Domain
from .phase import Phase

_CENTRE_RATE = 0.1


class VAEPhase(Phase):
    """Phase 1: trains encoder and generator by the evidence lower bound."""

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
            z, mean, log_variance = self._centred(features, step)
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

    def _centred(self, features: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw codes whose means have the mean 0 over the batch; see `Phase.encode`.

        Images have much in common, and to move the codes of all of them is the fastest way to
        tell G so. They would then stand far from the prior for long; the divergence alone takes
        tens of thousands of steps to bring them back.
        """
        z, mean, log_variance = self.encode(features, step, self.config.vae.batch)
        offset = self.group.mean_with_gradient(mean.mean(0))
        with torch.no_grad():
            self.networks["encoder"].head.centre.add_(offset, alpha=_CENTRE_RATE)
        return z - offset, mean - offset, log_variance
