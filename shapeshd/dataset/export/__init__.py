"""A dataset in the forms that other programs read: images, labels, splits, and a card."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
