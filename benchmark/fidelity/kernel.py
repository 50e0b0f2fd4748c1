"""Kernel distance of two sets of features: KID (Binkowski et al. 2018).

The squared maximum mean discrepancy for the cubic kernel k(x, y) = (x . y / d + 1)^3, by its
unbiased estimator over *all* pairs (Gretton et al. 2012, eq. 3):

    sum_{i != j} k(x_i, x_j) / (n (n-1)) + sum_{i != j} k(y_i, y_j) / (m (m-1))
      - 2 sum_{i, j} k(x_i, y_j) / (n m).

Published values average it over random subsets of 1000 images; the expectation is the same, and
the scatter smaller. Its mean is 0 where the distributions are equal, so about half of such values
are negative. The sums are kept by pairs of groups, so that leaving a group out costs nothing: the
interval is the jackknife's (`jackknife`), which is too wide rather than too short at 0.
"""

from __future__ import annotations

import numpy as np

from shapeshd.factors import FloatArray, IntArray

from .intervals import GROUPS, Interval, groups_of, jackknife

_CELLS = 2**22  # kernel values at a time: 34 MB


def kernel_distance(generated: FloatArray, real: FloatArray, seed: int = 0) -> Interval:
    """Return the kernel distance of two sets of features and its 95% interval.

    Args:
        generated: float64 (n, d).
        real: float64 (m, d).
        seed: of the groups that are left out.
    """
    group1, group2 = groups_of(len(generated), seed), groups_of(len(real), seed + 1)
    own1 = _sums(generated, generated, group1, group1, own=True)
    own2 = _sums(real, real, group2, group2, own=True)
    cross = _sums(generated, real, group1, group2)
    counts1 = np.bincount(group1, minlength=GROUPS)
    counts2 = np.bincount(group2, minlength=GROUPS)

    def discrepancy(kept: FloatArray) -> float:
        n, m = float(kept @ counts1), float(kept @ counts2)
        within = kept @ own1 @ kept / (n * (n - 1)) + kept @ own2 @ kept / (m * (m - 1))
        return float(within - 2 * (kept @ cross @ kept) / (n * m))

    left_out = [discrepancy(1.0 - row) for row in np.eye(GROUPS)]
    return jackknife(discrepancy(np.ones(GROUPS)), left_out)


def _sums(
    first: FloatArray, second: FloatArray, rows: IntArray, columns: IntArray, own: bool = False
) -> FloatArray:
    """Return the sums of the kernel over pairs of groups, (GROUPS, GROUPS).

    With `own` the two sets are one, and no image is paired with itself.
    """
    totals = np.zeros((GROUPS, GROUPS))
    members = np.eye(GROUPS)[columns]
    step = max(1, _CELLS // len(second))
    for start in range(0, len(first), step):
        part = first[start : start + step]
        values = (part @ second.T / first.shape[1] + 1) ** 3
        if own:
            place = np.arange(len(part))
            values[place, start + place] = 0.0
        np.add.at(totals, rows[start : start + len(part)], values @ members)
    return totals
