"""Disentanglement, completeness and informativeness (DCI) of codes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shapeshd.errors import MissingPackageError, UsageError
from shapeshd.factors import FloatArray

from .information import check_codes, entropy

_TREES, _SMALLEST_LEAF = 50, 5
_TESTED = 1 / 3  # share of the images


class Importance(NamedTuple):
    """What random forests say of codes.

    Attributes:
        disentanglement: in [0, 1]; 1 if each component matters for one factor alone.
        completeness: in [0, 1], the mean over factors; 1 if one component matters for each.
        informativeness: mean over factors, at most 1; 1 if all are predicted without error.
        completenesses: (factors,).
        informativenesses: (factors,): of a continuous factor 1 - squared error / variance, of a
            discrete one the share that is told right; on images that no forest was fitted to.
        importance: (components, factors), each column with the sum 1.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    completenesses: FloatArray
    informativenesses: FloatArray
    importance: FloatArray


def dci(
    codes: FloatArray,
    factors: FloatArray,
    discrete: tuple[int, ...] = (),
    periods: dict[int, float] | None = None,
    *,
    seed: int = 0,
    jobs: int = 1,
) -> Importance:
    """Return the scores of Eastwood & Williams 2018 (openreview.net/forum?id=By-7dz-AZ).

    A random forest of 50 trees predicts each factor from the codes; the importances of its inputs
    (the decrease in impurity) are the matrix R. A hue is predicted as the point (cos, sin) on a
    circle, so that it has no end. Of 3 images 2 are fitted to and 1 is tested on.

    Args:
        codes: (n, d), d >= 2.
        factors: (n, k), k >= 2.
        discrete: numbers of the factors that are classes.
        periods: by number, of the factors whose ends meet.
        seed: draws the trees, and which images are tested on.
        jobs: processor cores.

    Raises:
        UsageError: as `mutual_information_gap`.
        MissingPackageError: if scikit-learn is not installed.
    """
    check_codes(codes, factors)
    ensemble = load_forests()
    order = np.random.default_rng(seed).permutation(len(codes))
    tested, fitted = np.split(order, [int(len(order) * _TESTED)])
    settings: dict[str, Any] = {
        "n_estimators": _TREES,
        "min_samples_leaf": _SMALLEST_LEAF,
        # Each split chooses among all components: one that is not offered the best would give
        # importance to others, and a perfect code 0.65 of disentanglement.
        "max_features": 1.0,
        "random_state": seed,
        "n_jobs": jobs,
    }
    columns, told = [], []
    for number, values in enumerate(factors.T):
        if number in discrete:
            forest = ensemble.RandomForestClassifier(**settings)
            target = values
        else:
            forest = ensemble.RandomForestRegressor(**settings)
            target = _on_a_circle(values, (periods or {}).get(number))
        forest.fit(codes[fitted], target[fitted])
        forest.n_jobs = 1  # several threads add the trees' answers in an order of their own
        found, truth = forest.predict(codes[tested]), target[tested]
        columns.append(forest.feature_importances_)
        if number in discrete:
            told.append(float((found == truth).mean()))
        else:
            spread = np.square(truth - truth.mean(0)).sum()
            told.append(float(1 - np.square(found - truth).sum() / spread))
    importance = np.stack(columns, 1)
    disentanglement, completenesses = importance_scores(importance)
    each = np.array(told)
    return Importance(
        disentanglement,
        float(completenesses.mean()),
        float(each.mean()),
        completenesses,
        each,
        importance,
    )


def load_forests() -> Any:
    """Return the module of forests, or raise `MissingPackageError`."""
    try:
        import sklearn.ensemble
    except ImportError:
        raise MissingPackageError.of("scikit-learn", "disentanglement", "DCI") from None
    return sklearn.ensemble


def importance_scores(importance: FloatArray) -> tuple[float, FloatArray]:
    """Return the disentanglement, and the completeness of each factor.

    With P_ij = R_ij / sum_k R_ik, a component's disentanglement is 1 - H(P_i.) / ln k; the mean
    over components is weighted by their share of R. With Q_ij = R_ij / sum_l R_lj, a factor's
    completeness is 1 - H(Q_.j) / ln d.

    Args:
        importance: R, (d, k), at least 0; d and k at least 2, no column of zeros.

    Raises:
        UsageError: if it is not.
    """
    r = np.asarray(importance, dtype=np.float64)
    if r.ndim != 2 or min(r.shape) < 2 or (r < 0).any() or not (r.sum(0) > 0).all():
        raise UsageError(
            "importances must be (d, k) numbers of at least 0, d and k at least 2, and no column "
            "only zeros"
        )
    of_components = 1 - entropy(_shares(r, 1), 1) / np.log(r.shape[1])
    weights = r.sum(1) / r.sum()
    of_factors = 1 - entropy(_shares(r, 0), 0) / np.log(r.shape[0])
    return float((weights * of_components).sum()), of_factors


def _shares(r: FloatArray, axis: int) -> FloatArray:
    """Return r, scaled to a sum of 1 along `axis`; 0 where the sum is 0."""
    return np.asarray(r / np.maximum(r.sum(axis, keepdims=True), np.finfo(np.float64).tiny))


def _on_a_circle(values: FloatArray, period: float | None) -> FloatArray:
    if period is None:
        return values
    angle = 2 * np.pi * values / period
    return np.stack((np.cos(angle), np.sin(angle)), 1)
