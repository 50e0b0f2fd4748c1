"""The search in latent space: its loss, its space, what it finds, and what it cannot find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import gammainc
from torch import Tensor, nn
from torch.autograd import gradcheck

from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.errors import UsageError
from shapeshd.models import Generator, GeneratorConfig
from shapeshd.models.data.images import to_float, to_uint8
from shapeshd.models.networks.encoder import Encoder, EncoderConfig, build_encoder
from shapeshd.models.projection.optimize import (
    SHELL,
    Projection,
    ProjectionConfig,
    Projector,
    image_distance,
    shell,
    to_shell,
)
from shapeshd.models.projection.run import residual

SIZE, DIM = 32, 6
CONFIG = GeneratorConfig(
    size=SIZE, latent_dim=DIM, style_dim=16, mapping_layers=2, mapping_rate=1.0,
    normalize_latent=False, channel_base=128, channel_max=16,
)  # fmt: skip
QUICK = ProjectionConfig(steps=60, starts=4, pool=256)


def small(seed: int = 0, contrast: float = 0.4, **changes: Any) -> Generator:
    """An untrained generator whose images stay within their range for the most part."""
    torch.manual_seed(seed)
    network = Generator(replace(CONFIG, **changes))
    with torch.no_grad():
        for block in network.blocks:
            block.rgb.weight.mul_(contrast)  # type: ignore[union-attr, operator]
    return network.eval()


def renders(count: int) -> Tensor:
    data = ShapesHD.rendered(5, 0, count, SIZE)
    return torch.stack([image for image, _ in data.__getitems__(range(count))])


def samples(network: Generator, count: int, seed: int = 9) -> tuple[Tensor, Tensor]:
    """Latents whose images the search is to find, not of its pool, and these images."""
    z = to_shell(normal_latents(seed, 0, count, DIM), *shell(DIM))
    with torch.no_grad():
        return z, to_uint8(network(z))


def search(
    network: Generator, images: Tensor, config: ProjectionConfig = QUICK, **more: Any
) -> Projection:
    return Projector(network, config, **more).project(images, range(len(images)))


def test_distance_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    made, target = rng.normal(0, 1, (2, 3, 16, 16)), rng.uniform(-1, 1, (2, 3, 16, 16))
    error = made.clip(-1, 1) - target
    wanted = np.zeros(2)
    for width in (1, 2, 4):  # pixels averaged: sizes of 16, 8 and 4
        averaged = error.reshape(2, 3, 16 // width, width, 16 // width, width).mean((3, 5))
        wanted += (averaged**2).mean((1, 2, 3))
    found = image_distance(torch.from_numpy(made), torch.from_numpy(target))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert image_distance(torch.from_numpy(target), torch.from_numpy(target)).abs().max() == 0


def test_the_gradient_passes_through_the_cut() -> None:
    """A pixel beyond white stays there if it should be white, and is moved if it should not."""
    made = torch.full((2, 3, 8, 8), 1.5, dtype=torch.float64, requires_grad=True)
    target = torch.ones_like(made)
    target.data[1] = -1
    image_distance(made, target).sum().backward()
    assert made.grad is not None
    assert made.grad[0].abs().max() == 0
    # Errors of 2 in 192 values at 8 pixels, and in 48 at 4 pixels, each the mean of four.
    torch.testing.assert_close(made.grad[1], torch.full_like(made.grad[1], 4 / 192 + 4 / 48 / 4))


@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_in_z_against_finite_differences(normalize: bool) -> None:
    network = small(contrast=0.1, size=8, normalize_latent=normalize).double()
    z = normal_latents(1, 0, 2, DIM).double().requires_grad_(True)
    assert network(z).abs().max() < 1  # nothing is cut, so the gradient is that of the distance
    target = to_float(renders(2))[:, :, ::4, ::4].double()
    assert gradcheck(lambda z: image_distance(network(z), target), z)


@pytest.mark.parametrize("dim", [1, 6, 128])
def test_shell_holds_its_share(dim: int) -> None:
    low, high = shell(dim)
    # The square of the length over two is gamma-distributed, of the shape d / 2.
    beyond = gammainc(dim / 2, low**2 / 2), 1 - gammainc(dim / 2, high**2 / 2)
    np.testing.assert_allclose(beyond, (1 - SHELL) / 2, rtol=1e-6)
    drawn = normal_latents(0, 0, 10_000, dim).norm(dim=1)
    share = ((drawn >= low) & (drawn <= high)).double().mean()
    assert abs(share - SHELL) < 5 * (SHELL * (1 - SHELL) / 10_000) ** 0.5


def test_nearest_point_of_the_shell() -> None:
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 3
    found = to_shell(z, 1.0, 2.0)
    inside = (z.norm(dim=1) >= 1) & (z.norm(dim=1) <= 2)
    assert 5 < inside.sum() < 45
    torch.testing.assert_close(found[inside], z[inside])
    angle = torch.linspace(0, 2 * torch.pi, 721)
    rings = [r * torch.stack((angle.cos(), angle.sin()), 1) for r in torch.linspace(1, 2, 21)]
    grid = torch.cat(rings)
    nearest = grid[torch.cdist(z, grid).argmin(1)]
    assert ((found - z).norm(dim=1) <= (nearest - z).norm(dim=1) + 1e-5).all()
    assert ((found.norm(dim=1) >= 1 - 1e-6) & (found.norm(dim=1) <= 2 + 1e-5)).all()


def test_own_images_are_found_and_others_are_not() -> None:
    network = small()
    known, images = samples(network, 6)
    found = search(network, images, replace(QUICK, steps=200))
    own = residual(images, found.images)
    assert own.max() < 1.5 and np.median(own) < 0.3  # of 255 levels
    assert (found.z - known).norm(dim=1).median() < 0.02  # and so are the latents
    torch.testing.assert_close(found.images, to_uint8(network(found.z)), rtol=0, atol=1)
    other = search(network, renders(4))
    assert residual(renders(4), other.images).min() > 25
    low, high = shell(DIM)
    lengths = torch.cat([found.z, other.z]).norm(dim=1)
    assert ((lengths > low - 1e-4) & (lengths < high + 1e-4)).all()


def test_a_latent_outside_the_shell_is_not_taken() -> None:
    """The image of a z that no normal draw gives is as far away as the shell makes it."""
    network = small()
    z = 2.5 * shell(DIM)[1] * torch.nn.functional.normalize(normal_latents(3, 0, 2, DIM))
    with torch.no_grad():
        images = to_uint8(network(z))
    found = search(network, images)
    assert (found.z.norm(dim=1) <= shell(DIM)[1] + 1e-4).all()
    assert residual(images, found.images).min() > 3


def test_never_worse_than_the_best_of_the_pool() -> None:
    network, images = small(), renders(3)
    pool = to_shell(normal_latents(0, 0, QUICK.pool, DIM), *shell(DIM))
    target = to_float(images)
    with torch.no_grad():  # which the search must not mind
        made = network(pool)
        wild = search(network, images, replace(QUICK, rate=10.0, steps=6))  # steps that miss
        for row in range(3):
            coarse = (made.clamp(-1, 1) - target[row]).unflatten(3, (16, 2)).mean(4)
            coarse = coarse.unflatten(2, (16, 2)).mean(3)
            best = coarse.square().sum((1, 2, 3)).argmin()
            start = image_distance(made[best : best + 1], target[row : row + 1])
            end = image_distance(network(wild.z[row : row + 1]), target[row : row + 1])
            assert end <= start + 1e-5


def test_what_is_found_does_not_depend_on_the_others() -> None:
    network = small()
    _, images = samples(network, 5)
    config = replace(QUICK, steps=12, pool=64)
    together = Projector(network, config).project(images, range(5))
    again = Projector(network, config).project(images, range(5))
    assert torch.equal(together.z, again.z) and torch.equal(together.images, again.images)
    projector = Projector(network, config)
    alone = torch.cat([projector.project(images[i : i + 1], [i]).z for i in (4, 0, 2)])
    torch.testing.assert_close(alone, together.z[[4, 0, 2]], rtol=1e-3, atol=1e-3)
    other = search(network, images, replace(config, seed=1))
    assert not torch.equal(other.z, together.z)


def test_progress_counts_each_image_at_each_step() -> None:
    network = small()
    calls: list[int] = []
    config = replace(QUICK, steps=7, pool=8)
    Projector(network, config).project(renders(3), range(3), calls.append)
    assert calls == [3] * 7


class Knows(nn.Module):
    """In an encoder's place: says of each image the code that it is given, plus noise."""

    def __init__(self, codes: Tensor, noise: float) -> None:
        super().__init__()
        self.codes, self.noise = codes, noise
        self.latent_dim = self.noise_dim = DIM
        self.seen: list[Tensor] = []

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Any:
        if noise is None:
            return self.codes
        self.seen.append(noise)
        return features + self.noise * noise, torch.zeros_like(features)


def test_codes_of_an_encoder_are_starts() -> None:
    network = small()
    known, images = samples(network, 4)
    config = replace(QUICK, steps=30, pool=4, codes=3)
    knows = Knows(known, 0.05)
    found = search(network, images, config, encoder=Encoder(knows, knows))
    assert found.encoded.all()
    assert residual(images, found.images).max() < 5
    blind = search(network, images, config)
    assert not blind.encoded.any()
    assert residual(images, blind.images).max() > 5
    # Noise belongs to the image's number, and differs from code to code.
    projector = Projector(network, config, encoder=Encoder(knows, knows))
    knows.codes = known[2:3]
    projector.project(images[2:3], [2])
    noise, alone = knows.seen[0].view(4, 3, DIM), knows.seen[1]
    torch.testing.assert_close(alone, noise[2])
    assert len(noise.flatten(0, 1).unique(dim=0)) == 12


def test_networks_that_do_not_belong_together() -> None:
    settings: dict[str, Any] = {
        "channel_base": 64, "channel_max": 8, "feature_dim": 8, "noise_dim": 4, "head_width": 8
    }  # fmt: skip
    for changes, message in (
        ({"size": SIZE, "latent_dim": DIM + 1}, "codes have 7 components"),
        ({"size": 16, "latent_dim": DIM}, "images of 16x16 pixels"),
    ):
        encoder = build_encoder(EncoderConfig(**settings, **changes))
        with pytest.raises(UsageError, match=message):
            Projector(small(), QUICK, encoder)
    right = build_encoder(EncoderConfig(**settings, size=SIZE, latent_dim=DIM))
    found = search(small(), renders(2), replace(QUICK, steps=3, pool=8), encoder=right)
    assert found.z.shape == (2, DIM)


def test_the_networks_keep_their_weights() -> None:
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    search(network, renders(2), replace(QUICK, steps=5))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    "changes", [{"steps": 2}, {"starts": 0}, {"pool": 3}, {"rate": 0.0}, {"rate": float("nan")},
                {"seed": -1}, {"codes": 0}]
)  # fmt: skip
def test_impossible_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(QUICK, **changes)
