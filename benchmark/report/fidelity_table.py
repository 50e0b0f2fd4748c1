"""The quality of images in words: rows of its tables, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .formatting import percent, with_interval

TITLES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "rmse": "RMSE, levels",
    "hue": "hue error, °",
}
"""Names of the residual's measures, in the order of the tables."""

STATISTICS = {
    "fid": "FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


def with_its_interval(values: Mapping[str, float]) -> str:
    """Write a dict of value, low and high such as "31.2 [30.8, 31.6]"."""
    return with_interval({**values, "reported": values["value"]})


def share_words(values: Mapping[str, float]) -> str:
    """Write a share and its interval such as "12% [8%, 17%]"."""
    low, high = percent(values["low"]), percent(values["high"])
    return f"{percent(values['value'])} [{low}, {high}]"


def residual_rows(entry: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each measure of the residual, and one for all that are judged.

    Returns:
        name; mean of the source; mean of real images; share of images beyond the limit that
        99.9% of real images keep; share beyond all real images.
    """
    residual = entry["residual"]
    rows = [
        (
            title,
            with_its_interval(residual[name]["mean"]),
            with_its_interval(residual[name]["floor"]["mean"]),
            share_words(residual[name]["beyond_quantile"]),
            share_words(residual[name]["beyond_maximum"]),
        )
        for name, title in TITLES.items()
    ]
    beyond, maximum = share_words(residual["beyond"]), share_words(residual["beyond_maximum"])
    return [*rows, ("any of these", "", "", beyond, maximum)]


def statistic_rows(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value of the source, and value of a perfect generator, with intervals."""
    own, ideal = entry["statistics"], entry["theoretical"]
    return [
        (title, with_its_interval(own[name]), with_its_interval(ideal[name]))
        for name, title in STATISTICS.items()
    ]


def basis(entry: Mapping[str, Any]) -> str:
    """Say of how many images, against what, and by which features the quality was measured."""
    settings, residual = entry["settings"], entry["residual"]
    return (
        f"the first {settings['images']:,} images; {residual['real_images']:,} real ones of seed "
        f"{settings['seed']}, rendered by {settings['engine']['name']}; features: "
        f"{settings['features']['name']}"
    )
