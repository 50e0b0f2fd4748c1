"""StyleGAN2's generator and discriminator, the encoder, and the discriminators of codes.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["load_generator", "read_generator", "save_generator"],
        "code_discriminator": ["CodeDiscriminator", "LinearCodeDiscriminator"],
        "discriminator": ["Discriminator", "DiscriminatorConfig"],
        "encoder": ["Encoder", "EncoderConfig", "build_encoder"],
        "generator": ["Generator", "GeneratorConfig"],
    },
)

if TYPE_CHECKING:
    from .checkpoints import load_generator as load_generator
    from .checkpoints import read_generator as read_generator
    from .checkpoints import save_generator as save_generator
    from .code_discriminator import CodeDiscriminator as CodeDiscriminator
    from .code_discriminator import LinearCodeDiscriminator as LinearCodeDiscriminator
    from .discriminator import Discriminator as Discriminator
    from .discriminator import DiscriminatorConfig as DiscriminatorConfig
    from .encoder import Encoder as Encoder
    from .encoder import EncoderConfig as EncoderConfig
    from .encoder import build_encoder as build_encoder
    from .generator import Generator as Generator
    from .generator import GeneratorConfig as GeneratorConfig
