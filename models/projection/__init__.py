"""Projects images into a generator's latent space, and finds those that it cannot make.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "optimize": ["ProjectionConfig", "Projector"],
        "report": ["write_projection"],
        "run": ["ProjectionOptions", "ProjectionResult", "project_images"],
    },
)

if TYPE_CHECKING:
    from .optimize import ProjectionConfig as ProjectionConfig
    from .optimize import Projector as Projector
    from .report import write_projection as write_projection
    from .run import ProjectionOptions as ProjectionOptions
    from .run import ProjectionResult as ProjectionResult
    from .run import project_images as project_images
