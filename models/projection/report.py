"""Writes what a projection found: a folder, a table, and a sheet of pairs as in figure 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapeshd.benchmark.statistics.intervals import CONFIDENCE
from shapeshd.dataset.contact_sheet import draw_sheet, save_sheet
from shapeshd.models.training.files import RESULT, write_json
from shapeshd.support.atomic_files import publish, replace_file

from .run import ProjectionResult

SHEET = "pairs.png"
LATENTS = "latents.npy"
_PAIRS, _COLUMNS = 48, 8
_SHOWN = 128  # pixels of an image, at least
_BETWEEN = 2  # pixels between target and projection
_NAMED = 2  # factors named below a pair


def write_projection(result: ProjectionResult, out: Path) -> dict[str, Any]:
    """Write the folder of a projection; it appears whole or not at all.

    It holds ``result.json``, ``latents.npy`` (float32 (n, latent_dim), rows as the images in
    ``result.json``) and ``pairs.png``.

    Returns:
        What ``result.json`` holds.

    Raises:
        UsageError: if there is something at `out`.
        OSError: if it cannot be written.
    """
    values = {**result.values, "files": {"sheet": SHEET, "latents": LATENTS}}

    def write(folder: Path) -> None:
        folder.mkdir()
        np.save(folder / LATENTS, result.latents)
        _draw_pairs(result, folder / SHEET)
        replace_file(folder / RESULT, write_json(values))

    publish(out, write)
    return values


def describe(values: dict[str, Any]) -> str:
    """Return the table of a projection for people; see `ProjectionResult.values`."""
    summary, limit, rmse = values["summary"], values["limit"], values["summary"]["rmse"]
    count, failed = summary["images"], summary["not_generated"]
    rows = [
        (
            "cannot be generated",
            f"{failed:,} of {count:,} ({summary['share']:.1%}; {CONFIDENCE:.0%} interval "
            f"{summary['low']:.1%} to {summary['high']:.1%})",
        )
    ]
    if summary["wrong_factors"] is not None:
        wrong = [f"{name} {n:,}" for name, n in summary["wrong_factors"].items() if n]
        rows.append(("  factor in another bin", ", ".join(wrong) or "none"))
    from_what = _limit_from(limit["from"], values["reference"]["images"])
    above = f"{summary['above_limit']:,} (limit {limit['rmse']:.1f}, {from_what})"
    rows.append(("  residual above limit", above))
    rows.append(
        (
            "residual, 8-bit levels",
            f"median {rmse['median']:.1f}, 95% below {rmse['p95']:.1f}, worst "
            f"{rmse['largest']:.1f} (image {summary['worst']:,})",
        )
    )
    floor = values["reference"]["rmse"]
    if floor is not None:
        rows.append(
            (
                "of its own samples",
                f"median {floor['median']:.1f}, 95% below {floor['p95']:.1f}, worst "
                f"{floor['largest']:.1f} ({values['reference']['images']:,} samples)",
            )
        )
    if values["encoder"] is None:
        rows.append(("encoder", "none: the search begins with samples alone (--encoder PATH)"))
    if values["why_no_factors"] is not None:
        rows.append(("factors not compared", values["why_no_factors"]))
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{text}" for name, text in rows)


def _limit_from(source: str, references: int) -> str:
    """Say what set the limit, and which other value was smaller."""
    fence, own = "third quartile + 3 interquartile ranges", "largest of its own samples"
    if source == "given":
        return "--limit"
    if source == "reference":
        return f"{own}, above {fence}"
    return f"{fence}, not below {own}" if references else fence


def _draw_pairs(result: ProjectionResult, path: Path) -> None:
    """Draw each image above its projection: what cannot be generated first, worst first."""
    images = result.values["images"]
    order = sorted(
        range(len(images)), key=lambda row: (not images[row]["not_generated"], -images[row]["rmse"])
    )[:_PAIRS]
    targets = result.data.batch([images[row]["index"] for row in order]).cpu()
    made = result.projector.images(result.latents[order])
    pairs = [
        _pair(*(x.permute(1, 2, 0).numpy() for x in pair))
        for pair in zip(targets, made, strict=True)
    ]
    captions = [_caption(images[row]) for row in order]
    rows = [captions[start : start + _COLUMNS] for start in range(0, len(captions), _COLUMNS)]
    shape = pairs[0].shape
    foot = (
        "above: image of the dataset; below: the nearest that was found in latent space",
        "its number; residual in 8-bit levels (root mean square); factors in another bin",
    )
    save_sheet(draw_sheet(pairs, (shape[0], shape[1]), rows, foot=foot), path)


def _pair(target: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one image above the other, small ones enlarged by a whole factor."""
    factor = max(1, _SHOWN // len(target))
    line = np.full((_BETWEEN, factor * len(target), 3), 255, dtype=np.uint8)
    target, made = (x.repeat(factor, 0).repeat(factor, 1) for x in (target, made))
    return np.concatenate([target, line, made])


def _caption(image: dict[str, Any]) -> tuple[str, ...]:
    lines = (f"#{image['index']}", f"{image['rmse']:.1f}")
    if image["factors"] is None:
        return lines
    wrong = [name.removesuffix("_hue") for name in image["factors"]["wrong"]]
    more = f" +{len(wrong) - _NAMED}" if len(wrong) > _NAMED else ""
    return (*lines, ", ".join(wrong[:_NAMED]) + more)
