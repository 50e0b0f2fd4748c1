"""3DShapesHD: images whose generating process is exactly known.

The names below load on first use, so that ``import shapeshd`` stays quick and does
not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "FACTORS": "factors",
    "Factor": "factors",
    "Law": "law",
    "bin_indices": "factors",
    "check_factors": "factors",
    "joint_bins": "factors",
    "open_dataset": "dataset",
    "uniform_factors": "factors",
    "ShapesHD": "dataset",
    "ShapesHDError": "errors",
    "render_images": "povray",
    "RayTracer": "raytracer",
    "trace_images": "raytracer",
}
__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from .dataset import ShapesHD as ShapesHD
    from .dataset import open_dataset as open_dataset
    from .errors import ShapesHDError as ShapesHDError
    from .factors import FACTORS as FACTORS
    from .factors import Factor as Factor
    from .factors import bin_indices as bin_indices
    from .factors import check_factors as check_factors
    from .factors import joint_bins as joint_bins
    from .factors import uniform_factors as uniform_factors
    from .law import Law as Law
    from .povray import render_images as render_images
    from .raytracer import RayTracer as RayTracer
    from .raytracer import trace_images as trace_images


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
