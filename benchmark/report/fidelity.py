"""The part of a page that tells of image fidelity, beside the distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shapeshd.benchmark.fidelity.residual import MEASURES

from .fidelity_table import basis, residual_rows, share_words, statistic_rows
from .formatting import number, percent
from .sheets import Arrays, collage, load_arrays

_KEYS = ("kind", "image_index", "images", "rerenders", "residuals")
_TITLES = {
    "worst": "The images farthest from their re-render",
    "median": "Images in the middle",
}


def load_pictures(path: Path) -> Arrays | None:
    """Read the arrays that `choose_fidelity_examples` made; None if there is no such file.

    Raises:
        ShapesHDError: if the file is damaged or something else.
    """
    return load_arrays(path, _KEYS, "pictures")


def fidelity_context(result: Mapping[str, Any], pictures: Arrays | None) -> dict[str, Any] | None:
    """Return what the template needs of a result's ``fidelity``; None if it has none."""
    entry = result.get("fidelity")
    if not entry:
        return None
    residual = entry["residual"]
    return {
        "verdict": entry["verdict"],
        "basis": basis(entry),
        "beyond": share_words(residual["beyond"]),
        "real_beyond": percent(residual["real_beyond"]["value"]),
        "quantile": percent(residual["quantile"], 1),
        "tolerated": percent(residual["tolerated"]),
        "residual": residual_rows(entry),
        "statistics": statistic_rows(entry),
        "images": f"{entry['settings']['images']:,}",
        "sheets": [] if pictures is None else _sheets(pictures),
    }


def _sheets(pictures: Arrays) -> list[dict[str, Any]]:
    found = []
    for kind, title in _TITLES.items():
        rows = np.flatnonzero(pictures["kind"] == kind)
        cards = [_card(pictures, int(row)) for row in rows]
        if cards:
            found.append({"title": title, "cards": cards})
    return found


def _card(pictures: Arrays, row: int) -> dict[str, str]:
    values = dict(zip(MEASURES, pictures["residuals"][row], strict=True))
    index = int(pictures["image_index"][row])
    words = (
        f"PSNR {number(values['psnr'])} dB, SSIM {number(values['ssim'])}, "
        f"hue {number(values['hue'], 2)}°"
    )
    return {
        "src": collage(np.stack([pictures["images"][row], pictures["rerenders"][row]])),
        "alt": f"Sample {index} beside its re-render; {words}",
        "name": f"sample {index}",
        "words": words,
    }
