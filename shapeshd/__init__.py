"""3DShapesHD: images whose generating process is exactly known.

The names below load on first use, so that ``import shapeshd`` stays quick and does
not import torch.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]
