"""What can be scored: images that exist, and generators that make them.

`kinds.py` is the table of all kinds; each is loaded when a source of it is opened. A package of
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
        "kind": ["Candidate", "OpenRequest", "SourceKind"],
        "networks.generator": ["GeneratorSource"],
        "options": ["SourceOptions"],
        "registry": ["open_source", "register", "source_kinds"],
    },
)

if TYPE_CHECKING:
    from .base import Source as Source
    from .image_format import ImageFormat as ImageFormat
    from .kind import Candidate as Candidate
    from .kind import OpenRequest as OpenRequest
    from .kind import SourceKind as SourceKind
    from .networks.generator import GeneratorSource as GeneratorSource
    from .options import SourceOptions as SourceOptions
    from .registry import open_source as open_source
    from .registry import register as register
    from .registry import source_kinds as source_kinds
