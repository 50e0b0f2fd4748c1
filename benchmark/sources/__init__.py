"""What can be scored: images that exist, and generators that make them.

`registry.py` lists all kinds; each is loaded when a source of it is opened. A package of
one's own adds a `SourceKind` by an entry point in the group ``shapeshd.sources``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Source"],
        "image_format": ["ImageFormat"],
        "networks.generator": ["GeneratorSource"],
        "open": ["open_source"],
        "options": ["SourceOptions"],
        "registry": ["register", "source_kinds"],
        "source_kind": ["Candidate", "OpenRequest", "SourceKind"],
    },
)

if TYPE_CHECKING:
    from .base import Source as Source
    from .image_format import ImageFormat as ImageFormat
    from .networks.generator import GeneratorSource as GeneratorSource
    from .open import open_source as open_source
    from .options import SourceOptions as SourceOptions
    from .registry import register as register
    from .registry import source_kinds as source_kinds
    from .source_kind import Candidate as Candidate
    from .source_kind import OpenRequest as OpenRequest
    from .source_kind import SourceKind as SourceKind
