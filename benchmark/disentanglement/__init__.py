"""How well an encoder keeps the six factors apart: MIG, DCI and the FactorVAE score.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
