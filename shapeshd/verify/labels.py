"""The checks of `verify` on a dataset's labels: ranges, recomputation, uniformity."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..factors import FACTORS, NAMES, NUM_BINS, bin_indices, check_factors, joint_bins
from ..sampling import Sampling, make_sampling
from ..shards import Provenance
from .read import Check, Evidence, describe_images, judge

MIN_EXPECTED = 5
"""Expected images per bin below which the chi-square distribution is a poor approximation."""
MIN_P = 1e-6
"""Labels are called biased when the smallest p-value times the number of tests is below."""


def claimed_sampling(
    provenance: Provenance | None, table: Path | None
) -> tuple[Sampling | None, str]:
    """Return the sampling that the labels must come from, or why it is not known.

    Raises:
        UsageError: if `table` is no readable table, or the dataset is not of a table.
    """
    if provenance is None:
        return None, "not checked: no shard can be read"
    name = provenance.sampling
    if table is not None and name != "table":
        raise UsageError(f"--factors is for datasets of a table; this one's sampling is {name}")
    if name == "table" and table is None:
        return None, "not checked: the labels come from a table; give it with --factors"
    try:
        return make_sampling(name, seed=provenance.seed, table=table), ""
    except UsageError as error:
        if table is not None:
            raise
        return None, f"not checked: {error}"


def check_ranges(evidence: Evidence) -> Check:
    """Every label is finite and inside the range of its factor."""
    problems = []
    for path, labels in evidence.labels.items():
        try:
            check_factors(labels)
        except UsageError as error:
            problems.append(f"{path}: {error}")
    count = sum(len(labels) for labels in evidence.labels.values())
    return judge("label ranges", f"six factors of {count} images", problems)


def check_labels(evidence: Evidence, sampling: Sampling | None, reason: str) -> Check:
    """The labels are, bit for bit, those that `sampling` gives for their indices."""
    if sampling is None:
        # An unknown sampling is no excuse: nothing then says what the images should be.
        known = evidence.provenance is None or evidence.provenance.sampling == "table"
        return Check("labels", None if known else False, reason, () if known else (reason,))
    problems = []
    for path, labels in evidence.labels.items():
        first = evidence.headers[path].first_index
        stop = first + len(labels)
        if first < 0 or (sampling.length is not None and stop > sampling.length):
            problems.append(f"{path}: {sampling.name} has no {describe_images(first, stop)}")
            continue
        expected = np.ascontiguousarray(sampling.factors(first, stop))
        wrong = np.argwhere(labels.view(np.uint64) != expected.view(np.uint64))
        if len(wrong):
            row, column = wrong[0]
            rows = len(np.unique(wrong[:, 0]))
            problems.append(
                f"{path}: {rows} of {len(labels)} labels are not those of the sampling; image "
                f"{first + row}: {NAMES[column]} is {float(labels[row, column])!r}, "
                f"not {float(expected[row, column])!r}"
            )
    return judge("labels", f"recomputed bit for bit ({sampling.name})", problems)


def check_uniformity(evidence: Evidence) -> Check:
    """Chi-square tests of each factor's bins and, with enough images, of the joint bins."""
    from scipy.stats import chisquare

    name = "uniformity"
    if evidence.provenance is None or evidence.provenance.sampling != "uniform":
        return Check(name, None, "not tested: only a uniform sampling claims it")
    once = {evidence.headers[path].first_index: part for path, part in evidence.labels.items()}
    labels = np.concatenate([*once.values(), np.empty((0, len(FACTORS)))])
    try:
        bins = bin_indices(labels)
    except UsageError as error:
        return Check(name, False, "labels that fall into no bin", (str(error),))
    columns = [(f.name, f.bins, bins[:, column]) for column, f in enumerate(FACTORS)]
    columns.append(("joint", NUM_BINS, joint_bins(labels)))
    tested = [column for column in columns if len(labels) >= MIN_EXPECTED * column[1]]
    if not tested:
        return Check(name, None, f"not tested: {len(labels)} images are too few")
    p_values = {
        what: float(chisquare(np.bincount(found, minlength=count)).pvalue)
        for what, count, found in tested
    }
    detail = "p-values: " + ", ".join(f"{what} {p:.3g}" for what, p in p_values.items())
    if skipped := [what for what, _, _ in columns if what not in p_values]:
        detail += f"; not tested ({len(labels)} images are too few): {', '.join(skipped)}"
    problems = [
        f"{what}: p = {p:.3g}, and {len(p_values)} x p < {MIN_P:g}: not uniform"
        for what, p in p_values.items()
        if p * len(p_values) < MIN_P
    ]
    return judge(name, detail, problems, p_values=p_values, images=len(labels))
