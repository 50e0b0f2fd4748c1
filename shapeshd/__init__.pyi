from .benchmark.api import score as score
from .benchmark.score_object import Score as Score
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

__version__: str
