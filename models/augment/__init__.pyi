from .adaptive_probability import AdaptiveProbability as AdaptiveProbability
from .transforms import AugmentConfig as AugmentConfig
from .transforms import augment as augment
