from .distributed import Group as Group
from .distributed import joined_group as joined_group
from .dry_run import plan_of as plan_of
from .report import describe_plan as describe_plan
from .report import describe_results as describe_results
from .run import TrainingRun as TrainingRun
from .trainer import Trainer as Trainer
