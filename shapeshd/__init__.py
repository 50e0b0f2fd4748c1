"""3DShapesHD: images whose generating process is exactly known.

The names below load on first use, so that ``import shapeshd`` stays quick and does
not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset.shapes_hd": ["ShapesHD", "open_dataset"],
        "distribution": ["Distribution"],
        "errors": ["ShapesHDError"],
        "factors": [
            "FACTORS", "Factor", "bin_indices", "check_factors", "joint_bins", "uniform_factors"
        ],
        "raytracer.tracer": ["RayTracer", "trace_images"],
        "engines.povray": ["render_images"],
    },
)  # fmt: skip
__all__ = ["__version__", *_names]

if TYPE_CHECKING:
    from .dataset.shapes_hd import ShapesHD as ShapesHD
    from .dataset.shapes_hd import open_dataset as open_dataset
    from .distribution import Distribution as Distribution
    from .engines.povray import render_images as render_images
    from .errors import ShapesHDError as ShapesHDError
    from .factors import FACTORS as FACTORS
    from .factors import Factor as Factor
    from .factors import bin_indices as bin_indices
    from .factors import check_factors as check_factors
    from .factors import joint_bins as joint_bins
    from .factors import uniform_factors as uniform_factors
    from .raytracer.tracer import RayTracer as RayTracer
    from .raytracer.tracer import trace_images as trace_images
