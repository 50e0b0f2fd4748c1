"""The reference models.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["RunConfig"],
        "config_file": ["load_config"],
        "networks.checkpoints": ["load_generator", "read_generator", "save_generator"],
        "networks.generator": ["Generator", "GeneratorConfig"],
        "training.run": ["TrainingRun"],
    },
)

if TYPE_CHECKING:
    from .config import RunConfig as RunConfig
    from .config_file import load_config as load_config
    from .networks.checkpoints import load_generator as load_generator
    from .networks.checkpoints import read_generator as read_generator
    from .networks.checkpoints import save_generator as save_generator
    from .networks.generator import Generator as Generator
    from .networks.generator import GeneratorConfig as GeneratorConfig
    from .training.run import TrainingRun as TrainingRun
