"""The encoder E of section 4.2: a trunk that sees the image, and a head that sees the noise.

The trunk is all convolutions and the first dense layer, and deterministic, so that its features
of a whole dataset can be computed once. The head makes of features and noise the mean and the
variance of a normal distribution, from which the code z is sampled; the noise lets that mean
spread over more dimensions than the images have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapeshd.errors import UsageError
from shapeshd.support.schema import configuration

from .blocks import Condense, Perceptron, Pyramid
from .config import Depth, PyramidConfig, Width
from .layers import full_precision

LARGEST_LOG_VARIANCE = 20.0
"""The log-variance stays between this and its negative: a deviation of 4.5e-5 .. 22,026."""

_FIRST_LOG_VARIANCE = -1.0


@configuration
class EncoderConfig(PyramidConfig):
    """The configuration of an encoder of images; by default its codes fit the default generator.

    Attributes:
        feature_dim: components of the trunk's features.
        noise_dim: components of the noise that enters between trunk and head.
        latent_dim: components of a code z.
        head_width: width of the head's hidden layers.
        head_layers: how many of them there are.
    """

    feature_dim: Width = 512
    noise_dim: Width = 512
    latent_dim: Width = 512
    head_width: Width = 512
    head_layers: Depth = 4


class Trunk(nn.Module):
    """Maps images to features: the discriminator's residual design without the groups.

    Args:
        config: of the encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pyramid = Pyramid(config, 3)
        width = self.pyramid.outputs
        self.condense = Condense(width, width, config.feature_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, size, size) in [-1, 1] to features (n, feature_dim).

        The features are float32 at least, autocast or not, after a leaky ReLU.

        Raises:
            UsageError: if `x` has another shape.
        """
        features: Tensor = self.condense(self.pyramid(x))
        return features


class Head(nn.Module):
    """Maps features and noise to the mean and the log-variance of a code.

    At first the mean is near 0 and the log-variance near -1, whatever the features.

    Args:
        feature_dim: components of the features.
        noise_dim: components of the noise.
        latent_dim: components of a code.
        width: of the hidden layers.
        layers: how many of them there are, at least 1; see `Perceptron`.

    Attributes:
        centre: (latent_dim,), saved with the weights: what is taken from the mean; 0 at first.
            Phase 1 keeps it at the mean of all images' codes.
        deviation: a scalar, saved with the weights: what is added to the variance is its square,
            so that no component of a code is drawn with a smaller standard deviation; 0 at first.
    """

    centre: Tensor
    deviation: Tensor

    def __init__(
        self, feature_dim: int, noise_dim: int, latent_dim: int, width: int, layers: int
    ) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent_dim))
        self.register_buffer("deviation", torch.zeros(()))
        self.feature_dim, self.noise_dim, self.latent_dim = feature_dim, noise_dim, latent_dim
        self.body = Perceptron(feature_dim + noise_dim, 2 * latent_dim, width, layers)
        nn.init.constant_(self.body.last.bias[latent_dim:], _FIRST_LOG_VARIANCE)

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a code is drawn with, in float32 at least, autocast or not.

        Args:
            features: (n, feature_dim), of a mean square around 1.
            noise: (n, noise_dim), standard normal.

        Returns:
            The mean and the log-variance, each (n, latent_dim). The latter is b tanh(r / b) of
            the network's own output r, with b = 20: within 1% of r up to |r| = 3, and never so
            large that its exponential, or a square of a deviation, overflows. To the variance
            that this is the logarithm of, `deviation` squared is added.

        Raises:
            UsageError: if an argument has another shape.
        """
        for name, x, wanted in (
            ("features", features, self.feature_dim),
            ("noise", noise, self.noise_dim),
        ):
            if x.shape != (len(features), wanted):
                raise UsageError(
                    f"{name} must be ({len(features)}, {wanted}), not {tuple(x.shape)}"
                )
        both = torch.cat((full_precision(features), full_precision(noise)), 1)
        mean, raw = self.body(both).chunk(2, 1)
        log_variance = LARGEST_LOG_VARIANCE * torch.tanh(raw / LARGEST_LOG_VARIANCE)
        return mean - self.centre, torch.logaddexp(log_variance, 2 * self.deviation.log())

    def sample(
        self, features: Tensor, noise: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw codes of features.

        The paper's single noise vector is two: what enters the head, and what samples z.

        Args:
            features: (n, feature_dim).
            noise: (n, noise_dim), standard normal.
            normal: (n, latent_dim), standard normal noise.

        Returns:
            The codes z, and the mean and log-variance that they were drawn with: (n, latent_dim).
        """
        mean, log_variance = self(features, noise)
        return mean + normal * (log_variance / 2).exp(), mean, log_variance


class Encoder(nn.Module):
    """A trunk and a head.

    Attributes:
        trunk: data (n, ...) to features (n, feature_dim), deterministic.
        head: features and noise to the mean and the log-variance of a code.
    """

    def __init__(self, trunk: nn.Module, head: Head) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log-variance of the codes of `x`; see `Trunk` and `Head`."""
        mean, log_variance = self.head(self.trunk(x), noise)
        return mean, log_variance


def build_encoder(config: EncoderConfig) -> Encoder:
    """Return a new encoder of images.

    Weights are drawn from PyTorch's global generator of random numbers.
    """
    head = Head(
        config.feature_dim,
        config.noise_dim,
        config.latent_dim,
        config.head_width,
        config.head_layers,
    )
    return Encoder(Trunk(config), head)
