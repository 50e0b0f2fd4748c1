"""Adaptive discriminator augmentation: transforms, and how often they are applied.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adaptive_probability": ["AdaptiveProbability"],
        "transforms": ["AugmentConfig", "augment"],
    },
)

if TYPE_CHECKING:
    from .adaptive_probability import AdaptiveProbability as AdaptiveProbability
    from .transforms import AugmentConfig as AugmentConfig
    from .transforms import augment as augment
