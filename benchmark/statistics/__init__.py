"""Goodness of fit of a histogram: pure statistics, without files or networks.

`histogram` checks counts and distribution; `chi_square` tests them and estimates the divergence D
with `intervals`, which holds every estimate's interval; `decomposition` and `coupled` split D over
the factors. The names below load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bin_counts": ["BinCounts", "EmptyBins", "empty_bins"],
        "chi_square": ["GoodnessOfFit", "Prediction", "goodness_of_fit"],
        "coupled": ["decompose_under"],
        "decomposition": ["Decomposition", "Part", "decompose"],
        "histogram": ["Histogram", "min_samples", "read_histogram"],
        "intervals": ["CONFIDENCE", "Estimate"],
        "measurement_error": ["MeasurementError", "Outside", "split_outside"],
        "references": [
            "DetectionLimit",
            "Reference",
            "detection_limit",
            "ideal_sampler",
            "memorizer",
        ],
    },
)  # fmt: skip

if TYPE_CHECKING:
    from .bin_counts import BinCounts as BinCounts
    from .bin_counts import EmptyBins as EmptyBins
    from .bin_counts import empty_bins as empty_bins
    from .chi_square import GoodnessOfFit as GoodnessOfFit
    from .chi_square import Prediction as Prediction
    from .chi_square import goodness_of_fit as goodness_of_fit
    from .coupled import decompose_under as decompose_under
    from .decomposition import Decomposition as Decomposition
    from .decomposition import Part as Part
    from .decomposition import decompose as decompose
    from .histogram import Histogram as Histogram
    from .histogram import min_samples as min_samples
    from .histogram import read_histogram as read_histogram
    from .intervals import CONFIDENCE as CONFIDENCE
    from .intervals import Estimate as Estimate
    from .measurement_error import MeasurementError as MeasurementError
    from .measurement_error import Outside as Outside
    from .measurement_error import split_outside as split_outside
    from .references import DetectionLimit as DetectionLimit
    from .references import Reference as Reference
    from .references import detection_limit as detection_limit
    from .references import ideal_sampler as ideal_sampler
    from .references import memorizer as memorizer
