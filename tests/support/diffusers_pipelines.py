"""Small diffusers pipelines; what imports this is skipped where diffusers is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions, open_source

diffusers = pytest.importorskip("diffusers")

SIZE, BATCH, STEPS = 8, 3, 3
WEIGHTS = "diffusion_pytorch_model.safetensors"


def unet(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "sample_size": SIZE,
        "layers_per_block": 1,
        "block_out_channels": (4, 8),
        "norm_num_groups": 2,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    return diffusers.UNet2DModel(**{**config, **changes})


def vqvae() -> Any:
    torch.manual_seed(1)
    return diffusers.VQModel(
        block_out_channels=(4,), norm_num_groups=2, latent_channels=3, num_vq_embeddings=16
    )


def few(kind: str, **more: Any) -> Any:
    return getattr(diffusers, kind)(num_train_timesteps=20, **more)


PIPELINES: dict[str, Callable[[], Any]] = {
    "DDPM": lambda: diffusers.DDPMPipeline(unet(), few("DDPMScheduler")),
    "DDPM with DDIM": lambda: diffusers.DDPMPipeline(unet(), few("DDIMScheduler")),
    "DDIM": lambda: diffusers.DDIMPipeline(unet(), few("DDIMScheduler")),
    "PNDM": lambda: diffusers.PNDMPipeline(unet(), few("PNDMScheduler", skip_prk_steps=True)),
    "score SDE": lambda: diffusers.ScoreSdeVePipeline(
        unet(time_embedding_type="fourier"), few("ScoreSdeVeScheduler", sigma_max=1.0)
    ),
    "consistency": lambda: diffusers.ConsistencyModelPipeline(
        unet(), few("CMStochasticIterativeScheduler")
    ),
    "latent diffusion": lambda: diffusers.LDMPipeline(vqvae(), unet(), few("DDIMScheduler")),
    "latent DDPM": lambda: diffusers.LDMPipeline(vqvae(), unet(), few("DDPMScheduler")),
}


def opened(folder: Path, seed: int = 3, trust: bool = False, **options: Any) -> Any:
    return open_source(
        str(folder), seed=seed, trust=trust, options=SourceOptions(**{"batch": BATCH, **options})
    )
