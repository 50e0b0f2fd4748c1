"""Several results side by side: compared, ranked, written as tables and as entries.

The names below load on first use; none of them imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare": ["Comparison"],
        "entry": ["entry_of", "write_entries", "write_entry"],
        "ranking": ["Place", "places"],
        "terminal": ["describe_comparison"],
        "writers": ["write_comparison"],
    },
)

if TYPE_CHECKING:
    from .compare import Comparison as Comparison
    from .entry import entry_of as entry_of
    from .entry import write_entries as write_entries
    from .entry import write_entry as write_entry
    from .ranking import Place as Place
    from .ranking import places as places
    from .terminal import describe_comparison as describe_comparison
    from .writers import write_comparison as write_comparison
