"""The images that the reference models train on.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": ["ImageData", "batches", "open_training_images"],
    },
)

if TYPE_CHECKING:
    from .images import ImageData as ImageData
    from .images import batches as batches
    from .images import open_training_images as open_training_images
