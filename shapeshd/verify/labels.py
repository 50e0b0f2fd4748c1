"""The checks of `verify` on a dataset's labels: ranges, recomputation, their distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shapeshd.dataset.shards import Provenance
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import BIN_SHAPE, FACTORS, NAMES, bin_indices, check_factors
from shapeshd.scene.sampling import Sampling, make_sampling

from .evidence import Check, Evidence, describe_images, outcome

MIN_EXPECTED = 5
"""Expected images per bin below which the chi-square distribution is a poor approximation."""
MIN_P = 1e-6
"""Labels are called biased when the smallest p-value times the number of tests is below."""
_ROUNDING = 1 - 1e-9  # of a probability


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
        if name == "distribution":
            distribution = Distribution.from_text(provenance.distribution)
            return make_sampling("uniform", seed=provenance.seed, distribution=distribution), ""
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
    return outcome("label ranges", f"six factors of {count} images", problems)


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
    return outcome("labels", f"recomputed bit for bit ({sampling.name})", problems)


def check_uniformity(evidence: Evidence) -> Check:
    """Chi-square tests of each factor's bins and, with enough images, of the joint bins.

    They are tested against the distribution that the labels are drawn from, and so are coupled
    pairs.
    """
    from scipy.stats import chisquare

    name, provenance = "uniformity", evidence.provenance
    if provenance is None or provenance.sampling not in ("uniform", "distribution"):
        return Check(name, None, "not tested: only a uniform sampling or a distribution claims it")
    try:
        distribution = Distribution.from_text(provenance.distribution)
    except UsageError as error:
        return Check(name, None, f"not tested: {error}")
    once = {evidence.headers[path].first_index: part for path, part in evidence.labels.items()}
    labels = np.concatenate([*once.values(), np.empty((0, len(FACTORS)))])
    try:
        bins = bin_indices(labels)
    except UsageError as error:
        return Check(name, False, "labels that fall into no bin", (str(error),))
    sets = [(factor,) for factor in NAMES] + [pair.names for pair in distribution.pairs] + [NAMES]
    p_values, skipped, problems = {}, [], []
    for names in sets:
        what = "joint" if names == NAMES else " x ".join(names)
        axes = [NAMES.index(factor) for factor in names]
        shape = [BIN_SHAPE[axis] for axis in axes]
        q = distribution.marginal(*names).ravel()
        found = np.ravel_multi_index(tuple(bins[:, axes].T), shape)
        counts = np.bincount(found, minlength=q.size)
        if impossible := int(counts[q == 0].sum()):
            problems.append(f"{what}: {impossible} images lie where the distribution has none")
        possible = q > 0
        if possible.sum() < 2 or len(labels) * q[possible].min() < MIN_EXPECTED * _ROUNDING:
            skipped.append(what)
            continue
        seen = counts[possible]
        expected = seen.sum() * (q[possible] / q[possible].sum())
        if seen.sum():
            p_values[what] = float(chisquare(seen, expected).pvalue)
    if not p_values and not problems:
        return Check(name, None, f"not tested: {len(labels)} images are too few")
    detail = "p-values: " + ", ".join(f"{what} {p:.3g}" for what, p in p_values.items())
    if not distribution.uniform:
        detail = f"against the distribution {distribution}; {detail}"
    if skipped:
        detail += f"; not tested ({len(labels)} images are too few): {', '.join(skipped)}"
    kind = "uniform" if distribution.uniform else "of the distribution"
    problems += [
        f"{what}: p = {p:.3g}, and {len(p_values)} x p < {MIN_P:g}: not {kind}"
        for what, p in p_values.items()
        if p * len(p_values) < MIN_P
    ]
    return outcome(name, detail, problems, p_values=p_values, images=len(labels))
