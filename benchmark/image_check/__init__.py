"""A look at every source's images: are they like their re-renders, and how well can they be read?

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "check": ["check_images"],
        "kept_images": ["KeptImages"],
        "real_images": ["RealImages", "real_images"],
    },
)

if TYPE_CHECKING:
    from .check import check_images as check_images
    from .kept_images import KeptImages as KeptImages
    from .real_images import RealImages as RealImages
    from .real_images import real_images as real_images
