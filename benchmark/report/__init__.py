"""A result for people: the terminal's table, the HTML page and its figures.

The names below load on first use.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
