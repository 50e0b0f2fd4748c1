"""A dataset on disk, or made as it is read: shards, manifest, reading, export, preview.

What reads images as tensors loads on first use, so that rendering does not import torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
