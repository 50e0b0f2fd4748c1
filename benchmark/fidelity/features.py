"""Images in, feature vectors out: what the statistics of image fidelity compare.

The default takes the recognizer's own features, which needs nothing more. It was trained on
these very scenes, and sees a hue or an edge out of place that an ImageNet network does not;
but it knows nothing else, so values on its features compare only among themselves.

Its features are what the factors are read from (`RecognitionNetwork.features`), brought to one
scale. The raw ones differ a thousandfold: a few that follow the factors outweigh the many that
tell how sharp an edge is. So each is taken less its mean, over its standard deviation (with a
floor for those that hardly ever differ from 0), both of real images; and since many have long
tails, of which a distance of covariances would see little else, what enters is the inverse
hyperbolic sine of that: as it is near 0, like a logarithm far out.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shapeshd.benchmark.recognizer.reader import precision_in_use
from shapeshd.benchmark.recognizer.recognizer import Recognizer
from shapeshd.factors import FloatArray, uniform_factors
from shapeshd.images.resize import check_image_size, resized
from shapeshd.raytracer.tracer import trace_images

from .pretrained.names import DEFAULT, features_place
from .pretrained.networks import load_pretrained, published_weights

SCALE_SEED = 1_000_003
"""Of the real images that tell the scale of a recognizer's features."""

_SCALE_IMAGES = 256
_FLOOR = 0.1  # of the median of all standard deviations
_scales: dict[tuple[str, str | None], tuple[FloatArray, FloatArray]] = {}
"""By the weights' digest, and the precision."""


class FeatureNetwork(Protocol):
    """A network that turns images into vectors.

    Attributes:
        name: what to call it in a result.
        digest: SHA-256 of its weights.
        dimension: d, the numbers in a vector.
    """

    name: str
    digest: str
    dimension: int

    def __call__(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Return the features of images.

        Args:
            images: uint8 (n, 3, H, W), sRGB, of any size, on any device.

        Returns:
            float32 (n, d).
        """
        ...


class RecognizerFeatures:
    """The features from which a recognizer reads the factors, on one scale; see the module.

    Images of another size are resized as for a score. The first call traces 256 real images
    unless `scale` is given. Errors as of `Recognizer` and `check_image_size`.

    Args:
        recognizer: whose features these are.
        scale: mean and spread of each raw feature over real images, float64 (d,) each, as `scale`
            gave them before; None to measure them.
    """

    def __init__(
        self, recognizer: Recognizer, scale: tuple[FloatArray, FloatArray] | None = None
    ) -> None:
        self._recognizer, self._given = recognizer, scale
        self.name = f"recognizer {recognizer.name}"
        self.digest = recognizer.digest
        self.dimension = recognizer.feature_dim

    def __call__(self, images: Tensor) -> npt.NDArray[np.float32]:
        """Return float32 (n, d) for uint8 images (n, 3, H, W)."""
        wanted = self._recognizer.size
        check_image_size(images.shape[-2], images.shape[-1], wanted, "features")
        raw = self._recognizer.features(resized(images, wanted))
        mean, spread = self.scale()
        found: npt.NDArray[np.float32] = np.arcsinh((raw - mean) / spread).astype(np.float32)
        return found

    def scale(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and spread of each raw feature over real images: float64 (d,) each."""
        if self._given is not None:
            return self._given
        key = (self.digest, precision_in_use(self._recognizer))
        if self.digest and key in _scales:
            return _scales[key]
        factors = uniform_factors(SCALE_SEED, 0, _SCALE_IMAGES)
        device = self._recognizer.device
        raw = self._recognizer.features(trace_images(factors, self._recognizer.size, device=device))
        values = raw.astype(np.float64)
        deviation = values.std(0)
        floor = _FLOOR * float(np.median(deviation)) or 1.0
        scale = values.mean(0), np.hypot(deviation, floor)
        if self.digest:
            _scales[key] = scale
        return scale


def load_features(
    text: str, recognizer: Recognizer, device: str | torch.device = "cpu", *, trust: bool = False
) -> FeatureNetwork:
    """Return the network that `text` names.

    Args:
        text: "recognizer"; a kind of `pretrained.names.KINDS` with a file of weights, such as
            "inception:PATH"; or the kind alone, whose published weights are downloaded once.
        recognizer: the one of the score.
        device: where another network computes.
        trust: run code that the file may hold.

    Raises:
        UsageError: if there is no such network, or its file could run code.
        MissingPackageError: if it takes a package that is not installed.
        ShapesHDError: if the file is damaged.
    """
    kind, path = features_place(text)
    if kind == DEFAULT:
        return RecognizerFeatures(recognizer)
    return load_pretrained(kind, path or published_weights(kind), device, trust=trust)
