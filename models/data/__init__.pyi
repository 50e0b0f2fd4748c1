from .images import ImageData as ImageData
from .images import batches as batches
from .images import open_training_images as open_training_images
