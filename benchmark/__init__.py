"""The measurement: is a generator's distribution that of the data?

The names below load on first use: importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Recognizer": "recognizer",
    "Score": "outcome",
    "SourceOptions": "sources",
    "decompose": "decomposition",
    "decompose_under": "coupled",
    "goodness_of_fit": "statistic",
    "load_recognizer": "recognizer",
    "open_source": "sources",
    "score": "api",
}
_OPTIONAL = {"DistributionScore": "metric"}  # what an extra brings: `import *` works without
__all__ = [*sorted(_HOMES)]

if TYPE_CHECKING:
    from .api import score as score
    from .coupled import decompose_under as decompose_under
    from .decomposition import decompose as decompose
    from .metric import DistributionScore as DistributionScore
    from .outcome import Score as Score
    from .recognizer import Recognizer as Recognizer
    from .recognizer import load_recognizer as load_recognizer
    from .sources import SourceOptions as SourceOptions
    from .sources import open_source as open_source
    from .statistic import goodness_of_fit as goodness_of_fit


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _OPTIONAL.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_OPTIONAL])
