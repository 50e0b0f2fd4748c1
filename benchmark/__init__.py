"""Measures whether a generator's distribution is that of the data.

The names below load on first use: importing the package does not import torch.
"""

from __future__ import annotations

import lazy_loader

_OPTIONAL = ("DistributionScore",)  # what an extra brings: `import *` works without

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in _names if name not in _OPTIONAL]
