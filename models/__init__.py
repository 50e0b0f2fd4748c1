"""The reference models.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Generator": "generator",
    "GeneratorConfig": "generator",
    "RunConfig": "config",
    "TrainingRun": "training_run",
    "load_config": "config_file",
    "load_generator": "architectures",
    "read_generator": "architectures",
    "save_generator": "architectures",
}
__all__ = [*sorted(_HOMES)]

if TYPE_CHECKING:
    from .architectures import load_generator as load_generator
    from .architectures import read_generator as read_generator
    from .architectures import save_generator as save_generator
    from .config import RunConfig as RunConfig
    from .config_file import load_config as load_config
    from .generator import Generator as Generator
    from .generator import GeneratorConfig as GeneratorConfig
    from .training_run import TrainingRun as TrainingRun


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
