"""The generator's parts against their definitions; saved and loaded; bad checkpoints."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models import (
    Generator,
    GeneratorConfig,
    load_generator,
    read_generator,
    save_generator,
)
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from shapeshd.support.schema import validated

SMALL = GeneratorConfig(
    size=16, latent_dim=5, style_dim=7, mapping_layers=2, channel_base=64, channel_max=8
)


def small(seed: int = 0, **changes: Any) -> Generator:
    torch.manual_seed(seed)
    return Generator(replace(SMALL, **changes))


def latents(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, SMALL.latent_dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [8, 16, 64])
def test_images_have_their_size(size: int) -> None:
    network = small(size=size)
    images = network(latents(2))
    assert images.shape == (2, 3, size, size)
    assert images.dtype == torch.float32
    assert images.std() > 0.1


def test_numbers_of_styles_and_parameters() -> None:
    """18 styles at 1024 pixels; the parameters counted by hand."""
    with torch.device("meta"):
        network = Generator(GeneratorConfig(size=1024, noise=True))
    assert network.layers == 18
    widths = [512, 512, 512, 512, 512, 256, 128, 64, 32]  # of 4, 8, .. 1024 pixels
    pairs = list(itertools.pairwise(widths)) + [(width, width) for width in widths]
    # Weights, bias, strength of the noise, the style's weights and bias.
    convolutions = sum(9 * a * b + b + 1 + 512 * a + a for a, b in pairs)
    colours = sum(3 * a + 3 + 512 * a + a for a in widths)
    mapping = 8 * (512 * 512 + 512)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == mapping + 512 * 4 * 4 + convolutions + colours


def test_the_batch_changes_nothing() -> None:
    network, z = small(), latents(7)
    together = network(z)
    alone = torch.cat([network(z[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    w = network.mapping(z)
    torch.testing.assert_close(network.synthesize(w), together)
    torch.testing.assert_close(network.synthesize(w[:3]), together[:3], rtol=1e-4, atol=1e-5)


def test_mapping_by_its_definition() -> None:
    network, z = small(), latents(4)
    x = z / z.square().mean(1, keepdim=True).sqrt()
    for layer, inputs in zip(network.mapping.layers, (5, 7), strict=True):
        x = x @ layer.weight.T * (0.01 / inputs**0.5) + layer.bias * 0.01
        x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    torch.testing.assert_close(network.mapping(z), x)


def test_the_length_of_z_counts_only_where_it_should() -> None:
    z = latents(3)
    normal, plain = small(), small(normalize_latent=False)
    torch.testing.assert_close(normal.mapping(z), normal.mapping(3 * z))
    # Biases begin at zero, and the rest of the map is homogeneous.
    torch.testing.assert_close(3 * plain.mapping(z), plain.mapping(3 * z))


def test_each_layer_has_its_style() -> None:
    network = small()
    w = network.mapping(latents(1))[:, None].repeat(1, network.layers, 1)
    image = network.synthesize(w)
    assert network.layers == 6
    for layer in range(network.layers):
        other = w.clone()
        other[:, layer] += 1
        assert (network.synthesize(other) - image).abs().max() > 1e-3
    # The last style reads out the largest image alone, so it acts on each pixel by itself.
    block = network.blocks[-1]
    assert block.rgb.weight.shape[-2:] == (1, 1)  # type: ignore[union-attr]


def test_skip_connections_sum_the_enlarged_images() -> None:
    network, w = small(), small().mapping(latents(2))
    x, total = network.constant.expand(2, -1, -1, -1), None
    for block in network.blocks:
        x, rgb = block(x, w[:, None].expand(-1, 3, -1), None)
        total = rgb if total is None else rgb + network.enlarge(total)
    torch.testing.assert_close(network.synthesize(w), total)


def test_average_of_w_in_closed_form() -> None:
    mapping = small(average_decay=0.9).mapping
    batches = [torch.randn(3, 7, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    for batch in batches:
        mapping.update_average(batch)
    wanted = sum(0.1 * 0.9 ** (4 - i) * batch.mean(0) for i, batch in enumerate(batches))
    torch.testing.assert_close(mapping.average, wanted)


def test_truncation() -> None:
    network, z = small(), latents(3)
    network.mapping.update_average(torch.randn(50, 7))
    w, mean = network.mapping(z), network.mapping.average
    torch.testing.assert_close(network(z, truncation=1.0), network.synthesize(w))
    half = network.synthesize(mean + 0.5 * (w - mean))
    torch.testing.assert_close(network(z, truncation=0.5), half)
    none = network(z, truncation=0.0)
    torch.testing.assert_close(none[0], none[1])


def test_noise() -> None:
    plain, noisy = small(), small(noise=True)
    assert not [name for name in plain.state_dict() if "noise" in name or "strength" in name]
    z = latents(2)
    rng = torch.Generator().manual_seed(0)
    torch.testing.assert_close(noisy(z), noisy(z, rng=rng))  # the strength begins at zero
    for name, parameter in noisy.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.constant_(parameter, 0.5)
    assert torch.equal(noisy(z), noisy(z))
    drawn = noisy(z, rng=rng.manual_seed(3))
    assert not torch.equal(drawn, noisy(z))
    assert not torch.equal(drawn, noisy(z, rng=rng))
    assert torch.equal(drawn, noisy(z, rng=rng.manual_seed(3)))
    same = noisy(z[:1].expand(2, -1), rng=rng)
    assert not torch.equal(same[0], same[1])
    with pytest.raises(UsageError, match="no noise"):
        plain(z, rng=rng)


def test_second_derivatives() -> None:
    """What the path-length penalty needs, through the whole network."""
    network = small(size=8, channel_max=2).double()
    w = network.mapping(latents(2).double()).detach().requires_grad_()
    assert torch.autograd.gradgradcheck(network.synthesize, (w,))
    z = latents(1).double().requires_grad_()
    assert torch.autograd.gradgradcheck(network, (z,))


def test_every_parameter_learns() -> None:
    network = small(noise=True)
    network(latents(4)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_channels_last_changes_only_the_rounding() -> None:
    network, z = small(), latents(3)
    wanted = network(z)
    network = network.to(memory_format=torch.channels_last)
    x = network.constant.expand(3, -1, -1, -1)
    for block in network.blocks:
        x, _ = block(x, network.mapping(z)[:, None].expand(-1, 3, -1), None)
        assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(z), wanted, rtol=1e-4, atol=1e-5)


def test_autocast_keeps_the_images_fine() -> None:
    network, z = small(), latents(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = network(z)
        assert network.mapping(z).dtype == torch.float32
    assert images.dtype == torch.float32
    wanted = network(z)
    assert (images - wanted).std() < 0.02 * wanted.std()


def test_one_graph() -> None:
    network, z = small(), latents(2)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), network(z))


def test_config_survives_json() -> None:
    text = json.dumps(SMALL.to_json())
    assert validated(GeneratorConfig, json.loads(text), complete=True) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size .*power of two, not 48"),
        ({"size": 4}, "size must be"),
        ({"size": "64"}, "size must be"),
        ({"latent_dim": 0}, "latent_dim must be"),
        ({"style_dim": True}, "style_dim must be"),
        ({"mapping_layers": 0}, "mapping_layers must be"),
        ({"channel_base": 15}, "channel_base must be"),
        ({"noise": 1}, "noise must be true or false"),
        ({"mapping_rate": 0.0}, "mapping_rate must be"),
        ({"mapping_rate": float("nan")}, "mapping_rate must be"),
        ({"average_decay": 1}, "average_decay must be"),
        ({"depth": 3}, "depth: .*no such key"),
    ],
)
def test_bad_config(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validated(GeneratorConfig, {**SMALL.to_json(), **changes}, complete=True)


def test_config_that_lacks_a_field() -> None:
    values = SMALL.to_json()
    del values["noise"]
    with pytest.raises(UsageError, match="noise is missing"):
        validated(GeneratorConfig, values, complete=True)


@pytest.mark.parametrize("shape", [(5,), (2, 6), (2, 5, 1)])
def test_bad_latents(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"latents .*\(n, 5\)"):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 7), (7,)])
def test_bad_styles(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"styles .*\(n, 6, 7\)"):
        small().synthesize(torch.zeros(shape))


@pytest.mark.parametrize("noise", [False, True])
def test_saved_and_loaded_images_are_identical(tmp_path: Path, noise: bool) -> None:
    path, network, z = tmp_path / "g.safetensors", small(noise=noise), latents(3)
    network.mapping.update_average(torch.randn(5, 7))
    digest = save_generator(path, network, {"trained": "never", "config": "not this"})
    card = load_checkpoint(path, "generator").card
    assert card["architecture"] == "stylegan2"
    assert card["config"] == SMALL.to_json() | {"noise": noise}
    assert card["trained"] == "never"
    assert card["sha256"] == digest
    state = torch.get_rng_state()
    loaded, latent_dim = load_generator(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert latent_dim == 5
    assert not any(module.training for module in loaded.modules())
    with torch.no_grad():
        images = network(z)
        assert torch.equal(loaded(z), images.clamp(-1, 1))
        again = read_generator(path)
        assert torch.equal(again(z), images)
        assert torch.equal(again(z, truncation=0.3), network(z, truncation=0.3))


def test_the_range_is_kept(tmp_path: Path) -> None:
    network = small()
    torch.nn.init.constant_(network.blocks[-1].rgb_bias, 5.0)  # type: ignore[arg-type]
    save_generator(tmp_path / "g.safetensors", network, {})
    images = load_generator(tmp_path / "g.safetensors")[0](latents(4))
    assert images.max() == 1
    assert images.min() >= -1


def refusal(path: Path) -> str:
    with pytest.raises(ShapesHDError) as caught:
        load_generator(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_bad_checkpoints(tmp_path: Path) -> None:
    path, network = tmp_path / "g.safetensors", small()
    tensors, config = network.state_dict(), SMALL.to_json()

    def saved(card: dict[str, Any], kind: str = "generator", **other: Tensor) -> Path:
        save_checkpoint(path, kind, {**tensors, **other}, card)
        return path

    assert "no such file" in refusal(path)
    assert "not a generator" in refusal(saved({}, kind="recognizer"))
    assert "knows stylegan2, flow" in refusal(saved({"architecture": "dcgan", "config": {}}))
    assert "architecture" in refusal(saved({"architecture": ["a"], "config": {}}))
    card = {"architecture": "stylegan2", "config": config}
    assert "config" in refusal(saved({**card, "config": None}))
    assert "config.depth: there is no" in refusal(saved({**card, "config": {**config, "depth": 3}}))
    assert "power of two" in refusal(saved({**card, "config": {**config, "size": 20}}))
    wide = refusal(saved({**card, "config": {**config, "style_dim": 6}}))
    assert "has the shape (7," in wide
    assert "lacks the tensor" in refusal(saved({**card, "config": {**config, "size": 32}}))
    assert "holds the tensor extra" in refusal(saved(card, extra=torch.zeros(1)))
    saved(card)
    load_generator(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "SHA-256" in refusal(path)
    path.unlink()
    with pytest.raises(UsageError, match="no such file"):
        load_generator(path)


def test_the_package_imports_no_torch() -> None:
    code = "import sys, shapeshd.models; assert 'torch' not in sys.modules; dir(shapeshd.models)"
    subprocess.run([sys.executable, "-c", code], check=True)
