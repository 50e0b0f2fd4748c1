"""Estimates from pairs of samples, with their variance, interval and test.

Every divergence here is theta = E h(x, y), the mean over independent samples of a kernel that
is symmetric, positive semidefinite and, under the expected distribution q, centred: E_q h(x, .) =
0. Its unbiased estimate is the mean over all pairs of different samples, a U-statistic of
degree two (Hoeffding 1948). With

    zeta_1 = Var E[h(x, y) | x],   zeta_2 = Var h(x, y)

its variance is exactly

    [4 (n - 2) zeta_1 + 2 zeta_2] / (n (n - 1))  =  4 zeta_1 / n + 2 tau / (n (n - 1)),

tau = zeta_2 - 2 zeta_1. All of these are in turn estimated without bias, from pairs, triples
and quadruples of different samples. The first term vanishes at theta = 0 (the statistic is
degenerate there); the second does not, and is what an ideal sampler scatters by.

**The interval** holds the values theta that a two-sided test at 5% does not reject. For a
supposed theta the estimate is distributed like a noncentral chi-square: nearly that of
sum_i s_i (z_i + d_i)^2 / n less the mean of its central part, with eigenvalues s_i of the
kernel. Pearson's approximation (1959), a shifted gamma distribution of the same mean, variance
and skewness, is used:

    mean theta, variance 4 r theta / n + 2 tau / (n (n - 1)),
    third cumulant 24 r^2 theta / n^2 + 8 c / n^2 + 8 s tau / n^3 + 4 e / n^4,

with s = tau / (E h(x, x) - theta), the mean noise of a direction (1 under the distribution), r =
zeta_1 / theta, that in the direction of theta, c the third cumulant of E[h(x, y) | x], and e the
skewness that a few colliding pairs have. All but e depend on the supposed theta. On the way
p = q (1 + t g) from the distribution to the source, E g = 0, E g^2 = 1, it is theta = t^2 and

    r = s + gamma sqrt(theta) - theta,
    c = gamma theta^(3/2) + (gamma^2 - 2) theta^2 - 3 gamma theta^(5/2) + 2 theta^3

if gamma = E g^3 is that of a g of two values (other g have a larger c); gamma is what makes r
the estimated zeta_1 / theta, drawn towards s where theta is lost in the noise. A spike, much mass
in a single bin, has a gamma of about sqrt(k), and its r grows with theta. The ratio of estimates
that gamma is comes out too small where few samples carry it, by 3/8 of the squared relative error
of theta, and scatters; `_CORRECTION` times that square is added to zeta_1, for which an interval of
a spike of 10 to 40 samples holds the truth. tau grows linearly from what it is under the
distribution (`dimensions`) to its estimate, for a theta that vanishes only there; for a part, whose
noise other parts make too, it grows beyond the estimate and is constant below.

Where one factor alone is tested under the distribution this is Pearson's chi-square test itself. A
variance frozen at its estimate (Wald's interval) misses small divergences more often, since it is
too small whenever the estimate is.

**Rare bins.** Under a distribution of unequal bins, samples in the rare ones can carry most of
theta, and show it by a few collisions or none. Bins are put into classes by their kernel h(x, x),
each within a factor of two. Where less than `_FEW` collisions would be seen if the samples of
a class were spread evenly over its bins, the upper end takes the moments of that even spread if
they are larger than those of the collisions, and reaches at least the theta of an even spread of as
many samples as Poisson's 97.5% limit allows. The lower end rests on the collisions that are seen.

The ends are never below 0, nor above the largest kernel h(x, x) of a bin (k - 1 for the uniform
distribution), which no theta exceeds. An estimate below 0 gets the upper end of the estimate 0; the
noise is then that under the distribution, if less than half of it is left in the samples: chosen
images of which no two share a bin show none. So no interval is shorter than the noise.

Simulated: ``tests/experiments/truth/levels.py`` (``benchmark/results/levels.json``),
``tests/experiments/speed/coverage.py`` (``coverage.json``) and
``tests/experiments/truth/known_distributions.py`` (``known-distribution-recovery.json``).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from shapeshd.errors import UsageError
from shapeshd.factors import FloatArray

CONFIDENCE = 0.95
"""Of every interval of the project; reports take their "95%" from here."""

_TAIL = (1 - CONFIDENCE) / 2
_NO_SKEW = 1e-5
_ROUNDING = 1e-9
_CORRECTION = 1.5  # times the squared relative error of theta
_FEW = 20.0  # expected collisions
_LOST = 0.5  # share of the noise under the distribution; chance keeps at least 0.7


@dataclass(frozen=True)
class Estimate:
    """An unbiased estimate of a quantity that is at least `floor`.

    Attributes:
        value: the raw estimate; it can lie below `floor`, as every unbiased one must.
        standard_error: its standard deviation, >= 0.
        low: lower end of the 95% interval, >= `floor`.
        high: upper end, >= `low`.
        floor: smallest value possible: 0 for a divergence, 1 for the reduced chi-square.
    """

    value: float
    standard_error: float
    low: float
    high: float
    floor: float = 0.0

    @property
    def reported(self) -> float:
        """The estimate, but not below the smallest value possible."""
        return max(self.value, self.floor)

    def scaled(
        self, slope: float, offset: float, extra: float = 0.0, floor: float | None = None
    ) -> Estimate:
        """Return the estimate of ``offset + slope * theta``, for a positive slope.

        Args:
            slope: factor, > 0.
            offset: summand.
            extra: standard error of the summand, where it is itself estimated; it widens
                the interval in quadrature.
            floor: smallest value possible; by default that of a summand that is known.
        """

        def end(value: float, sign: float) -> float:
            if not extra:
                return offset + slope * value
            distance = slope * (value - self.reported)
            wide = math.hypot(distance, extra * NORMAL)
            return offset + slope * self.reported + sign * wide

        if floor is None:
            floor = offset + slope * self.floor
        # If the distribution itself is not excluded, neither is what holds under it.
        low = floor if self.low <= self.floor else max(floor, end(self.low, -1.0))
        high = max(low, end(self.high, 1.0))
        error = math.hypot(slope * self.standard_error, extra)
        return Estimate(offset + slope * self.value, error, low, high, floor)

    def to_json(self) -> dict[str, float]:
        """Return the fields and `reported`, ready for JSON."""
        return {**asdict(self), "reported": self.reported}


NORMAL = float(scipy.special.ndtri(1 - _TAIL))
"""Half of a 95% interval, in standard errors that are known."""


def student(freedom: float) -> float:
    """Return half of a 95% interval in standard errors that so many degrees of freedom tell."""
    return float(scipy.special.stdtrit(freedom, 1 - _TAIL))


@dataclass(frozen=True)
class RareBins:
    """What classes of rare bins add to the moments if their samples are spread evenly.

    Attributes:
        zeta1: to `UStatistic.zeta1`, >= 0.
        tau: to `UStatistic.tau`, >= 0.
        third: to `UStatistic.third`, >= 0.
        reach: how far theta may lie above its estimate by one class alone.
    """

    zeta1: float
    tau: float
    third: float
    reach: float


@dataclass(frozen=True)
class UStatistic:
    """What the samples say about theta.

    Attributes:
        samples: n.
        value: unbiased estimate of theta.
        zeta1: unbiased estimate of Var E[h(x, y) | x].
        tau: unbiased estimate of zeta_2 - 2 zeta_1.
        trace: unbiased estimate of E h(x, x) - theta.
        third: estimate of E h(x, y)^3 over coinciding samples.
        largest: largest h(x, x) of a bin; theta is at most that.
        dimensions: tau under the distribution; infinite if unknown.
        whole: whether theta vanishes under the distribution alone.
        rare_bins: None if there are none.
    """

    samples: int
    value: float
    zeta1: float
    tau: float
    trace: float
    third: float
    largest: float
    dimensions: float = math.inf
    whole: bool = False
    rare_bins: RareBins | None = None

    def estimate(self) -> Estimate:
        """Return the estimate with its standard error and 95% interval."""
        low = _SamplingDistribution.of(self).solve(self.value, 1 - _TAIL)
        wide = self._with_rare_bins()
        if self.value < 0 and wide.tau < _LOST * self.dimensions < math.inf:
            wide = replace(wide, tau=self.dimensions)
        high = _SamplingDistribution.of(wide).solve(max(self.value, 0.0), _TAIL)
        if self.rare_bins:
            high = max(high, self.value + self.rare_bins.reach)
        linear, pairs = 4 * max(wide.zeta1, 0.0) / self.samples, self.samples * (self.samples - 1.0)
        error = math.sqrt(linear + 2 * max(wide.tau, 0.0) / pairs)
        return Estimate(self.value, error, low, max(low, min(high, self.largest)))

    def _with_rare_bins(self) -> UStatistic:
        if (rare := self.rare_bins) is None:
            return self
        return replace(
            self,
            zeta1=max(self.zeta1, 0.0) + rare.zeta1,
            tau=max(self.tau, 0.0) + rare.tau,
            third=self.third + rare.third,
        )

    def p_value(self, theta: float = 0.0) -> float:
        """Return the probability of an estimate as large as this one, or larger, at `theta`.

        1 where they are equal but for rounding, as if everything lies in one bin.
        """
        theta = max(theta, 0.0)
        if abs(self.value - theta) <= _ROUNDING * theta:
            return 1.0
        return _SamplingDistribution.of(self).tail(self.value, theta)


def u_statistic(
    counts: npt.NDArray[np.int64],
    row_sums: FloatArray,
    diagonal: FloatArray | float,
    squares: float,
    *,
    dimensions: float = math.inf,
    whole: bool = False,
) -> UStatistic:
    """Return the U-statistic of a kernel h on bins.

    Args:
        counts: c, int64 of shape (k,).
        row_sums: h c, float64 of shape (k,): entry i is the sum of h(i, x) over all samples.
        diagonal: h(i, i), float64 of shape (k,), or one number for all.
        squares: sum of h(x, y)^2 over all ordered pairs of different samples.
        dimensions: E h(x, y)^2 under the distribution, the sum of the squared eigenvalues of h.
        whole: whether theta vanishes under the distribution alone.

    Raises:
        UsageError: if there are fewer than four samples.
    """
    n = int(counts.sum())
    if n < 4:
        raise UsageError(f"{n} samples have no variance: at least 4 are needed")
    pairs = float(n) * (n - 1)
    others = row_sums - diagonal  # over the samples that are not the one in question
    sum1 = float(counts @ others)
    sum3 = float(counts @ others**2) - squares
    sum4 = sum1**2 - 4 * sum3 - 2 * squares  # pairs of pairs that share no sample
    triples, quadruples = pairs * (n - 2), pairs * (n - 2) * (n - 3)
    value = sum1 / pairs
    square = sum4 / quadruples  # theta^2 without bias
    zeta1 = sum3 / triples - square
    zeta2 = squares / pairs - square
    coinciding = counts * (counts - 1.0)
    return UStatistic(
        samples=n,
        value=value,
        zeta1=zeta1,
        tau=zeta2 - 2 * zeta1,
        trace=float((counts * diagonal).sum()) / n - value,
        third=float((coinciding * diagonal**3).sum()) / pairs,
        largest=float(np.max(diagonal)),
        dimensions=dimensions,
        whole=whole,
        rare_bins=_rare_bins(counts, np.broadcast_to(diagonal, counts.shape)),
    )


def _rare_bins(counts: npt.NDArray[np.int64], diagonal: FloatArray) -> RareBins | None:
    """Return what classes add in which less than `_FEW` collisions are to be expected."""
    n, largest = int(counts.sum()), float(diagonal.max())
    if largest <= 0 or (np.ptp(diagonal) == 0 and n**2 >= 2 * _FEW * len(counts)):
        return None
    least = np.finfo(np.float64).tiny
    halvings = np.log2(largest / np.maximum(diagonal, largest * least)).astype(np.int64)
    bins = np.bincount(halvings)
    samples = np.bincount(halvings, weights=counts)
    few = (bins > 0) & (samples**2 < 2 * _FEW * bins)
    if not few.any():
        return None

    def total(weights: FloatArray) -> FloatArray:
        return np.bincount(halvings, weights=weights).astype(np.float64)[few]

    m, held = bins[few], samples[few]
    coinciding = counts * (counts - 1.0)
    pairs, triples = n * (n - 1.0), float(n) ** 3
    mean = total(diagonal) / m  # of the kernel on the diagonal, over the bins of a class
    seen = total(coinciding * diagonal) / pairs
    squares = held**2 * mean**2 / m / pairs
    cubes = held**2 * mean**3 / m / pairs
    ratios = held**3 * (mean / m) ** 2 / triples
    most = scipy.special.gammaincinv(held + 1, 1 - _TAIL) / n  # share of the samples, at most
    return RareBins(
        zeta1=_excess(ratios, total(coinciding * (counts - 2.0) * diagonal**2) / triples),
        tau=_excess(squares, total(coinciding * diagonal**2) / pairs),
        third=_excess(cubes, total(coinciding * diagonal**3) / pairs),
        reach=float((most**2 * mean / m - seen).max()),
    )


def _excess(even: FloatArray, seen: FloatArray) -> float:
    return float(np.maximum(even - seen, 0.0).sum())


@dataclass(frozen=True)
class _SamplingDistribution:
    """How the estimate is distributed for a supposed theta; see the module's docstring."""

    samples: int
    theta: float  # the estimate, not below 0
    degenerate: float  # 2 tau / (n (n - 1)) at the estimate
    growth: float  # of that with theta
    grows_below: bool  # the estimate
    noise: float  # s
    skewness: float  # gamma
    rare: float  # third cumulant of the degenerate part, at the estimate

    @classmethod
    def of(cls, statistic: UStatistic) -> _SamplingDistribution:
        n, tau = statistic.samples, max(statistic.tau, 0.0)
        theta, zeta1 = max(statistic.value, 0.0), max(statistic.zeta1, 0.0)
        factor = 2 / (float(n) * (n - 1))
        degenerate = factor * tau
        noise = tau / statistic.trace if statistic.trace > 0 else 0.0
        # What theta is divided by: where it is lost in the noise, the noise.
        size, growth, skewness = math.sqrt(theta**2 + degenerate), 0.0, 0.0
        if size > 0:
            growth = (degenerate - factor * min(tau, statistic.dimensions)) / size
            error = min(4 * zeta1 / n / size**2, 1.0)
            along = (zeta1 * (1 + _CORRECTION * error) + noise * (size - theta)) / size
            skewness = (along - noise + theta) / math.sqrt(size)
        return cls(
            samples=n,
            theta=theta,
            degenerate=degenerate,
            growth=growth,
            grows_below=statistic.whole,
            noise=noise,
            skewness=skewness,
            rare=8 * noise * tau / n**3 + 4 * max(statistic.third, 0.0) / float(n) ** 4,
        )

    def _along(self, theta: float) -> float:
        """Return r."""
        return max(self.noise + self.skewness * math.sqrt(theta) - theta, 0.0)

    def _degenerate(self, theta: float) -> float:
        if theta < self.theta and not self.grows_below:
            return self.degenerate
        return self.degenerate + self.growth * (theta - self.theta)

    def _variance(self, theta: float) -> float:
        return self._degenerate(theta) + 4 * self._along(theta) * theta / self.samples

    def _third_cumulant(self, theta: float) -> float:
        along, t, g = self._along(theta), math.sqrt(theta), self.skewness
        smooth = 24 * along**2 * theta
        if g > 0:
            smooth += 8 * max(g * t**3 + (g**2 - 2) * t**4 - 3 * g * t**5 + 2 * t**6, 0.0)
        share = self._degenerate(theta) / self.degenerate if self.degenerate > 0 else 1.0
        return share * self.rare + smooth / self.samples**2

    def tail(self, value: float, theta: float = 0.0) -> float:
        """Return the probability of an estimate above `value`."""
        variance = self._variance(theta)
        if variance <= 0:
            return float(value < theta)
        deviation = math.sqrt(variance)
        z = (value - theta) / deviation
        skew = self._third_cumulant(theta) / deviation**3
        if skew < _NO_SKEW:
            return float(scipy.special.ndtr(-z))
        shape = 4 / skew**2
        return float(scipy.special.gammaincc(shape, max(0.0, shape + z * math.sqrt(shape))))

    def solve(self, value: float, probability: float) -> float:
        """Return the theta >= 0 under which an estimate is below `value` so probably."""

        def excess(theta: float) -> float:
            return 1 - self.tail(value, theta) - probability

        start = max(value, 0.0)
        if self.degenerate <= 0 and self._along(start) <= 0:
            return start
        if excess(0.0) <= 0:
            return 0.0
        step = math.sqrt(max(self._variance(start), self.degenerate))
        upper = start + 4 * step
        while excess(upper) > 0:
            upper += 4 * step
            step *= 2
        return float(scipy.optimize.brentq(excess, 0.0, upper, xtol=1e-12 + 1e-9 * upper))
