"""Measures whether a generator's distribution is that of the data.

The names below load on first use: importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

_OPTIONAL = ("DistributionScore",)  # what an extra brings: `import *` works without

__getattr__, __dir__, _names = lazy_loader.attach(
    __name__,
    submod_attrs={
        "api": ["Score", "score", "sweep"],
        "metric": ["DistributionScore"],
        "recognizer.recognizer": ["Recognizer", "load_recognizer"],
        "sources.options": ["SourceOptions"],
        "sources.open": ["open_source"],
        "statistics.chi_square": ["goodness_of_fit"],
        "statistics.coupled": ["decompose_under"],
        "statistics.decomposition": ["decompose"],
    },
)
__all__ = [name for name in _names if name not in _OPTIONAL]

if TYPE_CHECKING:
    from .api import Score as Score
    from .api import score as score
    from .api import sweep as sweep
    from .metric import DistributionScore as DistributionScore
    from .recognizer.recognizer import Recognizer as Recognizer
    from .recognizer.recognizer import load_recognizer as load_recognizer
    from .sources.open import open_source as open_source
    from .sources.options import SourceOptions as SourceOptions
    from .statistics.chi_square import goodness_of_fit as goodness_of_fit
    from .statistics.coupled import decompose_under as decompose_under
    from .statistics.decomposition import decompose as decompose
