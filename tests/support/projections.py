"""Checkpoints small enough to search their latent space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models import Generator, GeneratorConfig, save_generator
from shapeshd.models.config import Codes, Images
from shapeshd.models.networks.config import FlowConfig
from shapeshd.models.networks.encoder import EncoderConfig, build_encoder
from shapeshd.models.networks.flow import ImageFlow
from shapeshd.support.checkpoint import save_checkpoint

SIZE, DIM = 32, 6
CODES = Codes(latent_dim=DIM, noise_dim=3, head_width=8, head_layers=1)
IMAGES = Images(size=SIZE, channel_base=128, channel_max=8, feature_dim=8, style_dim=8)
DATA = "render:5:40"
QUICK = ("--pool", 64)


def save_small(path: Path, card: dict[str, Any] | None = None, size: int = SIZE) -> Path:
    torch.manual_seed(0)
    config = GeneratorConfig(
        size=size, latent_dim=DIM, style_dim=8, mapping_layers=2, mapping_rate=1.0,
        normalize_latent=False, channel_base=128, channel_max=8,
    )  # fmt: skip
    save_generator(path, Generator(config), card or {})
    return path


def save_small_flow(path: Path) -> Path:
    torch.manual_seed(2)
    config = FlowConfig(
        channels=(4, 8), layers=1, groups=2, attention=0, head=4, size=8, solver="heun", steps=2
    )
    save_generator(path, ImageFlow(config), {})
    return path


def save_encoder(path: Path, **card: Any) -> str:
    torch.manual_seed(1)
    config = EncoderConfig(
        size=SIZE, channel_base=128, channel_max=8, feature_dim=8, noise_dim=3,
        latent_dim=DIM, head_width=8, head_layers=1,
    )  # fmt: skip
    tables = {"domain": "images", "codes": asdict(CODES), "images": asdict(IMAGES)}
    return save_checkpoint(path, "encoder", build_encoder(config).state_dict(), tables | card)


def spec() -> RenderSpec:
    return RenderSpec(5, 40, SIZE)
