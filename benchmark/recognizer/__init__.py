"""The network that reads the six factors from an image: used, trained, evaluated, shipped.

The names below load on first use: whoever reads images loads nothing of the training.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
