"""Which encoder belongs to a generator, and reading it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shapeshd.errors import UsageError
from shapeshd.models.projection.encoder_file import find_encoder, read_encoder
from tests.support.projections import (
    DIM,
    SIZE,
    save_encoder,
    save_small,
)


def test_the_encoder_that_belongs_to_a_generator(tmp_path: Path) -> None:
    """Beside it, or the one that phase gan began with."""
    for phase in ("vae", "aae", "gan"):
        (tmp_path / phase).mkdir()
    digest = save_encoder(tmp_path / "aae" / "encoder.safetensors")
    save_encoder(tmp_path / "vae" / "encoder.safetensors", seed=3)
    gan = tmp_path / "gan" / "generator.safetensors"
    for card, found in (
        ({"origin": {"encoder": digest}}, tmp_path / "aae" / "encoder.safetensors"),
        ({"origin": {"encoder": "0" * 64}}, None),  # --from another run
        ({"origin": {}}, None),  # a plain GAN
        ({}, None),
    ):
        save_small(gan, card)
        assert find_encoder(gan) == found
    vae = save_small(tmp_path / "vae" / "generator.safetensors")
    assert find_encoder(vae) == tmp_path / "vae" / "encoder.safetensors"


def test_reading_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path)
    state = torch.random.get_rng_state()
    encoder = read_encoder(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    mean, log_variance = encoder(torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, 3))
    assert mean.shape == log_variance.shape == (2, DIM)
    for card, message in (
        ({"domain": "factors"}, "no images"),
        ({"codes": None}, "codes must be"),
        ({"codes": {"latent": 3}}, r"codes\.latent: .*no such key"),
        ({"codes": {"latent_dim": DIM + 1}}, "has the shape"),
    ):
        save_encoder(path, **card)
        with pytest.raises(UsageError, match=message):
            read_encoder(path)
