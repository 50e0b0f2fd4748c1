"""Sheets of images for a page: samples of the fullest and emptiest cells, and re-renders."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from shapeshd.benchmark.result.formatting import cell_name, number
from shapeshd.errors import ShapesHDError

Arrays = dict[str, npt.NDArray[Any]]

_EXAMPLES = ("part", "kind", "bins", "count", "expected", "images", "image_cell", "image_index",
         "traced", "traced_cell")  # fmt: skip
_RERENDERS = ("kind", "image_index", "images", "rerenders", "residuals")
_COLUMNS, _GAP = 2, 4
_MOST_BYTES = 16_000
"""A card larger than this as PNG becomes a JPEG."""
_SHOWN = 128
_CELL_TITLES = {
    "part-full": "Fullest cells of {part}",
    "part-empty": "Emptiest cells of {part}",
    "joint-full": "Fullest of all joint bins",
    "joint-empty": "Emptiest of all joint bins",
}
_RERENDER_TITLES = {
    "worst": "The images farthest from their re-render",
    "median": "Images in the middle",
}
_RESIDUALS = ("rmse", "psnr", "ssim", "hue")
"""Columns of the residuals in the file: `shapeshd.benchmark.fidelity.residual.MEASURES`."""


def load_examples(path: Path) -> Arrays | None:
    """Read the arrays that `choose_examples` made; None if there is no such file.

    Raises:
        ShapesHDError: if the file is damaged or something else.
    """
    return _load_arrays(path, _EXAMPLES, "examples")


def load_rerenders(path: Path) -> Arrays | None:
    """Read the arrays that `choose_fidelity_examples` made; None if there is no such file.

    Raises:
        ShapesHDError: if the file is damaged or something else.
    """
    return _load_arrays(path, _RERENDERS, "pictures")


def _load_arrays(path: Path, keys: Sequence[str], what: str) -> Arrays | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ShapesHDError(f"{path}: holds no {what} ({type(error).__name__})") from None


def example_sheets(examples: Arrays, part: str) -> list[dict[str, Any]]:
    """Return the sheets of a page.

    Args:
        examples: see `choose_examples`.
        part: name of the worst part, for people.

    Returns:
        for each kind of cells that there is a dict: title; cards, a list of dicts: src (a
        ``data:`` URI), alt, cell, count, missing (whether the images are traced).
    """
    found = []
    for kind, title in _CELL_TITLES.items():
        cells = np.flatnonzero(examples["kind"] == kind)
        cards = [_example_card(examples, int(cell)) for cell in cells]
        if cards:
            found.append({"title": title.format(part=part), "cards": cards})
    return found


def _example_card(examples: Arrays, cell: int) -> dict[str, Any]:
    bins = [int(index) for index in examples["bins"][cell]]
    count, expected = int(examples["count"][cell]), float(examples["expected"][cell])
    missing = count == 0
    chosen = examples["traced_cell" if missing else "image_cell"] == cell
    images = examples["traced" if missing else "images"][chosen]
    name = cell_name(bins)
    samples = ", ".join(f"{index}" for index in examples["image_index"][
        examples["image_cell"] == cell])  # fmt: skip
    what = "Rendered: what is missing" if missing else f"Samples {samples}"
    return {
        "src": _collage(images),
        "alt": f"{what}; cell {name}",
        "what": "rendered, not sampled" if missing else f"samples {samples}",
        "cell": name,
        "count": f"{count:,}",
        "expected": number(expected) if expected < 100 else f"{expected:,.0f}",
        "missing": missing,
    }


def rerender_sheets(pictures: Arrays) -> list[dict[str, Any]]:
    """Return sheets of images beside their re-renders.

    Args:
        pictures: see `choose_fidelity_examples`.

    Returns:
        for the worst and for ordinary images a dict: title; cards, a list of dicts: src (a
        ``data:`` URI), alt, name, measures.
    """
    found = []
    for kind, title in _RERENDER_TITLES.items():
        rows = np.flatnonzero(pictures["kind"] == kind)
        if cards := [_rerender_card(pictures, int(row)) for row in rows]:
            found.append({"title": title, "cards": cards})
    return found


def _rerender_card(pictures: Arrays, row: int) -> dict[str, str]:
    values = dict(zip(_RESIDUALS, pictures["residuals"][row], strict=True))
    index = int(pictures["image_index"][row])
    measures = (
        f"PSNR {number(values['psnr'])} dB, SSIM {number(values['ssim'])}, "
        f"hue {number(values['hue'], 2)}°"
    )
    return {
        "src": _collage(np.stack([pictures["images"][row], pictures["rerenders"][row]])),
        "alt": f"Sample {index} beside its re-render; {measures}",
        "name": f"sample {index}",
        "measures": measures,
    }


def _collage(images: npt.NDArray[np.uint8]) -> str:
    """Put images side by side in two columns, as a ``data:`` URI."""
    height, width = images.shape[1:3]
    factor = max(1, round(_SHOWN / max(height, width)))
    height, width = height * factor, width * factor
    rows, columns = -(-len(images) // _COLUMNS), min(len(images), _COLUMNS)
    size = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
    sheet = Image.new("RGB", size, "white")
    for place, image in enumerate(images):
        row, column = divmod(place, _COLUMNS)
        # Few pixels stay visible as such: they are what the recognizer has seen.
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(picture, (column * (width + _GAP), row * (height + _GAP)))
    return _picture_uri(sheet)


def _picture_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    kind = "png"
    if buffer.tell() > _MOST_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        picture.save(buffer, "JPEG", quality=90, subsampling=0)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
