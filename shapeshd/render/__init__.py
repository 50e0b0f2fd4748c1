"""Renders a dataset: plans it, runs its shards on one machine or a cluster, by either engine."""

from .plan import Estimate, RenderPlan, check_disk, estimate, plan_render
from .run import RenderResult, run_render

__all__ = [
    "Estimate",
    "RenderPlan",
    "RenderResult",
    "check_disk",
    "estimate",
    "plan_render",
    "run_render",
]
