"""From a source to a result: samples are counted in a folder, where a stopped run goes on.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "examples": ["choose_examples", "choose_fidelity_examples"],
        "run_folder": ["RunFolder"],
        "score": ["score_in_memory", "score_source"],
        "settings": ["ScoreSettings"],
        "tally": ["Tally"],
    },
)

if TYPE_CHECKING:
    from .examples import choose_examples as choose_examples
    from .examples import choose_fidelity_examples as choose_fidelity_examples
    from .run_folder import RunFolder as RunFolder
    from .score import score_in_memory as score_in_memory
    from .score import score_source as score_source
    from .settings import ScoreSettings as ScoreSettings
    from .tally import Tally as Tally
