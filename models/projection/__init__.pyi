from .optimize import ProjectionConfig as ProjectionConfig
from .optimize import Projector as Projector
from .report import write_projection as write_projection
from .run import ProjectionOptions as ProjectionOptions
from .run import ProjectionResult as ProjectionResult
from .run import project_images as project_images
