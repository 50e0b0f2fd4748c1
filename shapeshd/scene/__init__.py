"""The scene: its constants, its text for POV-Ray, which factors to render, and the options."""

from .constants import SceneConstants, hue_to_srgb, scene_constants
from .render_options import Image, RenderOptions
from .sampling import (
    DistributionSampling,
    GridSampling,
    Sampling,
    TableSampling,
    UniformSampling,
    make_sampling,
)

__all__ = [
    "DistributionSampling",
    "GridSampling",
    "Image",
    "RenderOptions",
    "Sampling",
    "SceneConstants",
    "TableSampling",
    "UniformSampling",
    "hue_to_srgb",
    "make_sampling",
    "scene_constants",
]
