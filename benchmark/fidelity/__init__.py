"""Image fidelity: how close single images are to real ones, beside the score of their distribution.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare_features": ["compare_features", "theoretical"],
        "features": ["FeatureNetwork", "load_features"],
        "measure": ["Fidelity", "FidelitySettings", "open_fidelity"],
        "rerender": ["Renderer"],
        "residual": ["residuals", "summarize"],
    },
)

if TYPE_CHECKING:
    from .compare_features import compare_features as compare_features
    from .compare_features import theoretical as theoretical
    from .features import FeatureNetwork as FeatureNetwork
    from .features import load_features as load_features
    from .measure import Fidelity as Fidelity
    from .measure import FidelitySettings as FidelitySettings
    from .measure import open_fidelity as open_fidelity
    from .rerender import Renderer as Renderer
    from .residual import residuals as residuals
    from .residual import summarize as summarize
