"""Checks a dataset folder as a whole, and says what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shapeshd.engines.engine import engine_named
from shapeshd.errors import UsageError
from shapeshd.support.workspace import WORK_FOLDER

from . import files, labels
from .evidence import Check, collect
from .pixels import check_pixels


@dataclass(frozen=True)
class Verification:
    """The outcome of `verify_dataset`.

    Args:
        dataset: the folder.
        images: how many images its sound shards hold.
        shards: how many shard files there are.
        checks: all checks, in a fixed order.
        notes: what is worth knowing and no failure.
        render_again: the shards that are missing or not sound, as ``--shards`` takes them.
    """

    dataset: Path
    images: int
    shards: int
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    render_again: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {"passed": self.passed, **asdict(self), "dataset": str(self.dataset)}


def verify_dataset(
    path: Path,
    rerender: int = 0,
    table: Path | None = None,
    jobs: int | None = None,
    seed: int = 0,
    engine: str | None = None,
) -> Verification:
    """Check the dataset folder `path`.

    Args:
        path: the folder that `shapeshd render` wrote.
        rerender: how many random images to render again and to compare pixel by pixel.
        table: CSV file of the factors that a dataset of sampling ``table`` was rendered from.
        jobs: processes that read shards; by default one a core for a large set.
        seed: draws the images that are rendered again.
        engine: renders them, ``povray`` or ``torch``; by default the dataset's own. With the
            other one they are compared with tolerance; see `check_pixels`.

    Raises:
        UsageError: if `path` is no dataset, or an argument is wrong.
    """
    if rerender < 0 or (jobs is not None and jobs < 1):
        raise UsageError("rerender must not be negative, and jobs at least 1")
    if engine is not None:
        engine_named(engine)
        if not rerender:
            raise UsageError("--engine goes with --rerender: it renders the images again")
    evidence = collect(Path(path), jobs)
    sampling, reason = labels.claimed_sampling(evidence.provenance, table)
    checks = [
        files.check_digests(evidence),
        files.check_provenance(evidence),
        files.check_names(evidence),
        files.check_sizes(evidence),
        files.check_coverage(evidence),
        files.check_manifest(evidence),
        files.check_virtual(evidence),
        labels.check_ranges(evidence),
        labels.check_labels(evidence, sampling, reason),
        labels.check_uniformity(evidence),
        check_pixels(evidence, rerender, seed, engine),
    ]
    notes = []
    if (evidence.dataset / WORK_FOLDER).exists():
        notes.append(
            f"{evidence.dataset / WORK_FOLDER}: a run is at work or was interrupted; the next "
            "`shapeshd render` on this dataset removes what is left over"
        )
    images = sum(len(labels) for labels in evidence.labels.values())
    again = tuple(f"{first}:{stop}" for first, stop in files.shards_to_render(evidence))
    return Verification(
        evidence.dataset, images, len(evidence.paths), tuple(checks), tuple(notes), again
    )
