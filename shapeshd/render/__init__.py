"""Renders a dataset: plans it, runs its shards on one machine or a cluster, by either engine."""

from .engines import ENGINES, Engine, engine_named, is_scene_installed
from .plan import Estimate, RenderPlan, check_disk, estimate, plan_render
from .povray import render_images
from .run import RenderResult, run_render

__all__ = [
    "ENGINES",
    "Engine",
    "Estimate",
    "RenderPlan",
    "RenderResult",
    "check_disk",
    "engine_named",
    "estimate",
    "is_scene_installed",
    "plan_render",
    "render_images",
    "run_render",
]
