"""`DistributionScore`: the score as a metric of torchmetrics, whose state is the histogram."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from shapeshd.checks import whole_number
from shapeshd.distribution import Distribution
from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.factors import NUM_BINS, FloatArray, IntArray, joint_bins
from shapeshd.images.resize import check_image_size, resized
from shapeshd.support.device import moved

from .caller_state import restoring_random_state
from .fidelity.compare_features import MIN_IMAGES
from .fidelity.frechet import Moments
from .fidelity.real_statistics import DIMENSION, RealStatistics, load_real_statistics
from .image_check.check import check_images
from .image_check.kept_images import FEWEST, MOST, Kept
from .recognizer.find import shipped_for
from .recognizer.precision import check_precision
from .recognizer.reader import Reader, count_bins, read_factors
from .recognizer.recognizer import Recognizer, load_recognizer
from .result.image_check import ImageCheckRecord, images_text
from .sources.image_format import ImageFormat
from .sources.options import RANGES, Layout, Range, SourceOptions
from .statistics.chi_square import GoodnessOfFit, goodness_of_fit
from .statistics.histogram import min_samples_under
from .statistics.measurement_error import check_testable, split_outside

try:
    from torchmetrics import Metric
except ImportError:
    raise MissingPackageError.of("torchmetrics", "metrics", "DistributionScore") from None

_NAME = "DistributionScore"


class DistributionScore(Metric):
    """The reduced chi-square of all images seen, predicted at 20 samples per bin: 1 is ideal.

    `update` with generated images, uint8 or float, (n, 3, H, W); `compute` gives a tensor without
    axes, `compute_all` also the divergence D and 95% intervals. Each image must be a
    sample of its own: give every rank other latents.

    With fewer samples than a test takes (5,761 of all ranks together for the uniform distribution),
    the value is NaN, and a warning says so once: `forward` on a batch, and Lightning's sanity
    check, see too few as a matter of course.

    Args:
        range: of the images' values: "uint8" 0 to 255, "unit" [0, 1] or "symmetric" [-1, 1].
            Each batch is checked against it.
        layout: "nchw" or "nhwc".
        recognizer: "lite", "lite-robust", "hd", the path of another one, or an object that reads
            images. By default hd for images of 128 pixels and more, else lite. One that is named
            works where the metric is; none is part of its state.
        precision: of the convolutions of a recognizer that is named or chosen: "fp32", "bf16", or
            "auto" for bf16 where the device computes in it natively and the recognizer's card says
            how well it then reads, else fp32.
        distribution: that the samples should follow, or its TOML file; by default the uniform one.
        image_check: how many of the first images are looked at beside their re-renders, of each
            rank its own, as every `score` does: 32 to 256, or 0 for none. `compute` warns once if
            they do not look like the dataset.
        fid: whether `compute_all` also gives ``fid`` against 10,000 real images of this size, of
            which mean and covariance come with the program: for ``lite`` and images of 64 pixels,
            and ``hd`` and 256. Each image is then read twice. The states are float64,
            which MPS has not.
        kwargs: those of `torchmetrics.Metric`.

    Attributes:
        histogram: samples in each joint bin, int64 (k,), of this rank until they are synced.
        looked_at: what the look at this rank's images found; None if there was none.

    Raises:
        UsageError: if an argument is impossible.
        MissingPackageError: on import, if torchmetrics is not installed.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 1.0

    histogram: Tensor
    fid_images: Tensor
    fid_sum: Tensor
    fid_products: Tensor

    def __init__(
        self,
        range: Range = "uint8",
        *,
        layout: Layout = "nchw",
        recognizer: str | Path | Reader | None = None,
        precision: str = "auto",
        distribution: Distribution | str | Path | None = None,
        image_check: int = 64,
        fid: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if range not in RANGES or range == "auto":
            raise UsageError(f"range must be uint8, unit or symmetric, not {range!r}")
        if layout not in ("nchw", "nhwc"):
            raise UsageError(f"layout must be nchw or nhwc, not {layout!r}")
        distribution = (
            Distribution.read(Path(distribution))
            if isinstance(distribution, (str, Path))
            else distribution
        )
        self.distribution = None if distribution is None or distribution.uniform else distribution
        if self.distribution is not None:
            check_testable(self.distribution)
            if fid:
                raise UsageError("fid compares with real images of the uniform distribution alone")
        if image_check:
            whole_number("image_check", image_check, FEWEST // 2, MOST)
        self._to_keep, self._kept, self._side = image_check, list[Kept](), 0
        self.looked_at: ImageCheckRecord | None = None
        self._inside_forward = False
        self._form = ImageFormat(SourceOptions(range=range, layout=layout), name=_NAME)
        check_precision(precision, recognizer)
        self._precision = precision
        self._ours = recognizer is None or isinstance(recognizer, (str, Path))
        if isinstance(recognizer, (str, Path)):
            recognizer = self._load(recognizer)
        self._reader: Reader | None = recognizer
        self._fit: GoodnessOfFit | None = None
        self._outside: float | None = None
        self._warned = self._warned_of_images = False
        self.add_state("histogram", torch.zeros(NUM_BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.fid = fid
        self._real: RealStatistics | None = None
        self._fid: float | None = None
        if fid:
            if self._reader is not None:
                # What has none is refused now, and not by the first update.
                self._real = load_real_statistics(self._reader, self._reader.size)
            self.add_state("fid_images", torch.tensor(0), dist_reduce_fx="sum")
            for name, shape in (("sum", (DIMENSION,)), ("products", (DIMENSION, DIMENSION))):
                zeros = torch.zeros(shape, dtype=torch.float64)
                self.add_state(f"fid_{name}", zeros, dist_reduce_fx="sum")

    @property
    def samples(self) -> int:
        """How many images are in the histogram."""
        return int(self.histogram.sum())

    def update(self, images: Tensor) -> None:
        """Count images.

        Args:
            images: (n, 3, H, W), or (n, H, W, 3) as stated; of one type and size for ever; on any
                device.

        Raises:
            UsageError: if these are no such images, or too small for the recognizer; or `fid` is
                asked for, and nothing comes with the program for their size or for the recognizer.
            ShapesHDError: if they are not of the stated range, or of another size than before.
        """
        levels = self._form(images)
        height, side = levels.shape[-2:]
        reader = self._chosen(side)
        check_image_size(height, side, reader.size, _NAME)
        factors = read_factors(levels, reader)
        if self.fid:
            self._add_features(levels, reader)
        self._keep(levels, factors, reader)
        counted = torch.from_numpy(count_bins([joint_bins(factors)]))
        # A new tensor: one made in inference mode cannot be changed outside of it.
        self.histogram = self.histogram + moved(counted, self.histogram.device)

    def compute(self) -> Tensor:
        """Return the reduced chi-square at 20 samples per bin: shape (), >= 1, or NaN.

        Under another distribution than the uniform one the lowest value is a little below 1, and
        samples where the distribution has none are left out; see `compute_all`.
        """
        counts: IntArray = self.histogram.cpu().numpy()
        probabilities = None if self.distribution is None else self.distribution.expected()
        self._fit = self._outside = None
        self._fid = self._distance() if self.fid and not self._inside_forward else None
        if self.distribution is not None and counts.any():
            counts, outside = split_outside(counts, self.distribution)
            self._outside = outside.share
        needed = min_samples_under(probabilities)
        if counts.sum() < needed:
            self._warn(needed)
        else:
            self._fit = goodness_of_fit(counts, probabilities)
            self._look()
        return self._tensors()["reduced_chi_square"]

    def compute_all(self) -> dict[str, Tensor]:
        """Return all estimates, of all ranks together: shape (), NaN of too few samples.

        Returns:
            ``reduced_chi_square`` and ``divergence``, each also with ``_low`` and ``_high``, the
            ends of the 95% interval; ``p_value`` of the chi-square test; ``unlike_dataset``, the
            share of this rank's images that were looked at and are farther from their re-render
            than 99% of real images are (NaN if none were); of a distribution that is not uniform,
            ``outside``, the share of the samples where it has none; and if asked for ``fid``, see
            `frechet_distance_to_real`.
        """
        self.compute()
        return self._tensors()

    def reset(self) -> None:
        """Begin again; the recognizer and the images' type and size stay."""
        super().reset()
        self._fit = self._outside = None
        if not self._inside_forward:  # which resets for the batch alone
            self._kept, self.looked_at = [], None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Count images, and return `compute` of this batch alone."""
        self._inside_forward = True
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._inside_forward = False

    def _add_features(self, levels: Tensor, reader: Reader) -> None:
        """Add the images' features to the sums that FID takes."""
        if self._real is None or self._real.card.size != levels.shape[-1]:
            self._real = load_real_statistics(reader, levels.shape[-1])
        found = self._real.moments(levels, cast(Recognizer, reader))
        self.fid_images = self.fid_images + found.count
        for name, values in (("fid_sum", found.first), ("fid_products", found.second)):
            before = getattr(self, name)
            setattr(self, name, before + torch.from_numpy(values).to(before.device))

    def _distance(self) -> float | None:
        """Return FID of all images; None if they are too few."""
        count = int(self.fid_images)
        if self._real is None or count < MIN_IMAGES:
            return None
        sums = (state.cpu().numpy() for state in (self.fid_sum, self.fid_products))
        return self._real.distance(Moments(count, *sums))

    def _keep(self, levels: Tensor, factors: FloatArray, reader: Reader) -> None:
        """Keep the first images as the reader sees them."""
        before = sum(len(one.numbers) for one in self._kept)
        more = min(self._to_keep - before, len(levels))
        if more <= 0:
            return
        numbers, images = np.arange(before, before + more), resized(levels[:more], reader.size)
        self._kept.append(Kept(numbers, images.cpu(), np.asarray(factors)[:more]))
        self._side, self.looked_at = levels.shape[-1], None

    def _look(self) -> None:
        """Look at the images that were kept, and warn once if they are none of the dataset's."""
        if self._inside_forward or self.looked_at is not None or not self._kept:
            return
        numbers, images, factors = zip(*self._kept, strict=True)
        kept = Kept(np.concatenate(numbers), torch.cat(images), np.concatenate(factors))
        with restoring_random_state(self.device):
            reader = self._chosen(self._side)
            found = check_images(kept, reader, self._side, self.distribution)
        self.looked_at = found
        if found is not None and not found.ok and not self._warned_of_images:
            warnings.warn(f"{_NAME}: {images_text(found, parts=True)}", stacklevel=4)
            self._warned_of_images = True

    def _tensors(self) -> dict[str, Tensor]:
        fit, values = self._fit, {}
        predicted = None if fit is None else fit.prediction.reduced_chi_square
        found = {"reduced_chi_square": predicted, "divergence": fit and fit.divergence}
        for name, estimate in found.items():
            for suffix, attribute in (("", "reported"), ("_low", "low"), ("_high", "high")):
                values[name + suffix] = getattr(estimate, attribute, math.nan)
        values["p_value"] = math.nan if fit is None else fit.p_value
        look = self.looked_at
        values["unlike_dataset"] = math.nan if look is None else look.beyond.value
        if self.distribution is not None:
            values["outside"] = math.nan if self._outside is None else self._outside
        if self.fid:
            values["fid"] = math.nan if self._fid is None else self._fid
        place = self.histogram.device
        return {name: torch.tensor(value, device=place) for name, value in values.items()}

    def _chosen(self, side: int) -> Reader:
        """Return what reads images of `side` pixels; what we loaded follows the metric."""
        if self._reader is None:
            self._reader = self._load(shipped_for(side))
        elif self._ours and self._reader.device != self.device:
            old = cast(Recognizer, self._reader)
            # What is counted already stays in one precision.
            precision = old.precision if self.histogram.any() else self._precision
            self._reader = Recognizer(
                old.network, old.name, old.digest, old.card, self.device, precision
            )
        return self._reader

    def _load(self, name: str | Path) -> Recognizer:
        with restoring_random_state(self.device):
            return load_recognizer(name, self.device, self._precision)

    def _warn(self, needed: int) -> None:
        if not self._warned:
            warnings.warn(
                f"{_NAME} is NaN: {self.samples:,} samples are too few, it takes {needed:,}",
                stacklevel=4,
            )
        self._warned = True
