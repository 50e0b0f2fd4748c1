"""StyleGAN2's discriminator, after Karras et al. 2020 (arXiv:1912.04958), configuration F.

Images, or pairs of images stacked on their channels, become features of 4 x 4 pixels through
residual blocks; the minibatch standard deviation (Karras et al. 2018, arXiv:1710.10196, section
3) adds a channel that says how much the samples of a group differ; two dense layers give a logit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapeshd.support.schema import configuration

from .blocks import Condense, Pyramid
from .config import PyramidConfig, Width
from .layers import EqualLinear, full_precision

_EPSILON = 1e-8


@configuration
class DiscriminatorConfig(PyramidConfig):
    """The configuration of a discriminator; the defaults are the paper's configuration F at 256.

    Attributes:
        channels: of its input: 3 for images, 6 for pairs.
        group: samples that the minibatch standard deviation looks at together; 1 for none.
    """

    channels: Width = 3
    group: Width = 4


class Discriminator(nn.Module):
    """Maps images to logits: above 0 where they look like data.

    Weights are drawn from PyTorch's global generator of random numbers. A sample's logit depends
    on the other samples of its group; see `group_deviation`.

    Attributes:
        config: what it is built from.
    """

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        self.pyramid = Pyramid(config, config.channels)
        width = self.pyramid.outputs
        self.deviation = GroupDeviation(config.group)
        self.condense = Condense(width + 1, width, width)
        self.logit = EqualLinear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            x: (n, channels, size, size), in [-1, 1]; samples of a group stand together.

        Returns:
            (n,), in float32 at least, autocast or not.

        Raises:
            UsageError: if `x` has another shape.
        """
        x = self.condense(self.deviation(self.pyramid(x)))
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.logit(x)
        return logits[:, 0]


class GroupDeviation(nn.Module):
    """Adds `group_deviation` to features as their last channel.

    Args:
        group: at least 1.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c + 1, h, w), in float32 at least."""
        x = full_precision(x)
        # Added to zeros of the features' memory format: an expanded channel would lose it.
        channel = torch.zeros_like(x[:, :1]) + group_deviation(x, self.group)[:, None, None, None]
        return torch.cat((x, channel), 1)


def group_deviation(x: Tensor, group: int) -> Tensor:
    """Return how much the samples of a group differ, for each sample.

    Samples of a group are neighbours: with groups of 4, samples 0 to 3 are the first. So two
    processes that take half of a batch each, both multiples of the group, have the same groups as
    one that takes all of it. A batch that is no multiple is cut into equal groups of another
    size, its largest divisor below: 6 samples into two groups of 3, 5 (or a prime number) into
    groups of one, which are of no use to a discriminator; so train with multiples.

    Args:
        x: features (n, c, h, w), float32 or float64.
        group: samples in a group, at least 1.

    Returns:
        (n,): sqrt(v + 1e-8), averaged over channels and pixels, where v is a feature's variance
        (over g, not g - 1) among the g samples of the group.
    """
    n = len(x)
    size = next((g for g in range(min(group, n), 0, -1) if n % g == 0), 1)
    groups = x.unflatten(0, (n // size, size))
    variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)
    deviation = (variance + _EPSILON).sqrt().mean((1, 2, 3))
    return deviation[:, None].expand(-1, size).reshape(n)
