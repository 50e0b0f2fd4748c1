"""What can be scored: images that exist, and generators that make them.

`registry.py` lists all kinds; each is loaded when a source of it is opened. A package of
one's own adds a `SourceKind` by an entry point in the group ``shapeshd.sources``.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
