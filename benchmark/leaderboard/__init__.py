"""Several results side by side: compared, ranked, written as tables and as entries.

The names below load on first use; none of them imports torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
