"""Trains the reference models: a run of phases, each of which can be stopped and taken up again.

The names below load on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "distributed": ["Group", "joined_group"],
        "dry_run": ["describe_plan", "plan_of"],
        "report": ["describe_results"],
        "run": ["TrainingRun"],
        "trainer": ["Trainer"],
    },
)

if TYPE_CHECKING:
    from .distributed import Group as Group
    from .distributed import joined_group as joined_group
    from .dry_run import describe_plan as describe_plan
    from .dry_run import plan_of as plan_of
    from .report import describe_results as describe_results
    from .run import TrainingRun as TrainingRun
    from .trainer import Trainer as Trainer
