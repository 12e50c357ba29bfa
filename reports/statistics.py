"""The numbers of the report as pure functions of arrays: no I/O, no plotting, no tracker, no global random state.

Intervals, tests and their adjustment are SciPy's and statsmodels'; what those lack is written out here.

One-dimensional inputs have shape (n,), one value per seed. A quantity that its n cannot give is None (the spread of one
value, say), so that it prints as a dash and never as 0.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

Values = NDArray[np.float64]

#: Below this n no test on paired signs can reach 0.05, so no mark of significance is printed.
SIGNIFICANCE_N = 6
#: Up to this n all 2^n sign patterns are enumerated; above it they are drawn.
EXACT_N = 16
#: From this n on the middle half of the values, and pairs of values, say more than single seeds do.
ROBUST_N = 5


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two settings over the seeds they share.

    Attributes:
        mean: mean of (a - b).
        sd: standard deviation of the differences, None below two pairs.
        interval: t interval of the mean, None below two pairs.
        p: exact two-sided sign-flip p-value, None without pairs.
        n: number of pairs.
    """

    mean: float | None
    sd: float | None
    interval: Interval | None
    p: float | None
    n: int


@dataclass(frozen=True)
class VarianceComponents:
    """One-way random-effects split of the variance over runs.

    Attributes:
        search_sd: standard deviation between searches, retraining noise taken out; never below 0.
        retrain_sd: standard deviation between retrainings of one search.
        searches: number of searches.
        retrainings: number of retrainings over all searches.
    """

    search_sd: float | None
    retrain_sd: float | None
    searches: int
    retrainings: int


def finite(values: ArrayLike) -> Values:
    """The finite values, in order, shape (m,) with m <= n; NaN and infinity are dropped, not turned into 0."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def mean(values: ArrayLike) -> float | None:
    """Arithmetic mean of the finite values; None where there are none."""
    kept = finite(values)
    return float(kept.mean()) if kept.size else None


def sd(values: ArrayLike) -> float | None:
    """Sample standard deviation, divisor n - 1; None below two values."""
    kept = finite(values)
    return float(kept.std(ddof=1)) if kept.size > 1 else None


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval | None:
    """Student's interval of the mean, mean ± t(n-1) * sd / sqrt(n); None below two values."""
    kept = finite(values)
    if kept.size < 2:
        return None
    if np.ptp(kept) == 0:
        return Interval(float(kept[0]), float(kept[0]))
    with _nearly_equal_values():
        low, high = distributions.ttest_1samp(kept, 0.0).confidence_interval(level)
    return Interval(float(low), float(high))


def welch_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval | None:
    """Welch's interval of mean(b) - mean(a) for unpaired samples; None where either has fewer than two values.

    Degrees of freedom: (u + v)^2 / (u^2 / (n_a - 1) + v^2 / (n_b - 1)) with u = sd_a^2 / n_a, v = sd_b^2 / n_b.
    """
    left, right = finite(a), finite(b)
    if left.size < 2 or right.size < 2:
        return None
    if np.ptp(left) == 0 and np.ptp(right) == 0:
        return Interval(float(right[0] - left[0]), float(right[0] - left[0]))
    with _nearly_equal_values():
        low, high = distributions.ttest_ind(right, left, equal_var=False).confidence_interval(level)
    return Interval(float(low), float(high))


@contextmanager
def _nearly_equal_values() -> Iterator[None]:
    """Values that differ in their last digits have a small spread and are no mistake, whatever SciPy warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss occurred", RuntimeWarning)
        yield


def bootstrap_interval(
    values: ArrayLike, generator: np.random.Generator, level: float = 0.95, draws: int = 2000
) -> Interval | None:
    """Percentile bootstrap interval of the mean.

    Args:
        generator: source of the resampling; the same state gives the same interval.
        draws: number of resamples.
    Returns:
        None below two values.
    """
    kept = finite(values)
    if kept.size < 2:
        return None
    made = distributions.bootstrap(
        (kept,), np.mean, n_resamples=draws, vectorized=True, confidence_level=level, method="percentile", rng=generator
    )
    return Interval(float(made.confidence_interval.low), float(made.confidence_interval.high))


def sign_flip_p(
    differences: ArrayLike, generator: np.random.Generator | None = None, draws: int = 65536
) -> float | None:
    """Two-sided sign-flip p-value of mean 0: the share of sign patterns with |sum| at least the observed.

    Exact up to `EXACT_N` pairs; above that, patterns are drawn and the observed one is counted among them.

    Args:
        generator: needed above `EXACT_N` pairs.
    """
    kept = finite(differences)
    if not kept.size:
        return None
    if kept.size == 1:
        return 1.0
    if kept.size > EXACT_N and generator is None:
        raise ValueError(f"sign_flip_p above {EXACT_N} pairs draws patterns; pass a generator")
    total = float(np.abs(kept).sum())

    def size(a: Values, b: Values, axis: int) -> Values:
        """|sum| as a share of the largest one, rounded: sums in another order of their terms are equal."""
        share = np.abs((a - b).sum(axis=axis)) / total if total else np.zeros(np.delete(a.shape, axis))
        return np.round(share, 12)

    # To swap a pair (d, 0) is to turn the sign of d.
    found = distributions.permutation_test(
        (kept, np.zeros_like(kept)),
        size,
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=2**EXACT_N if kept.size <= EXACT_N else draws,
        batch=2**12,
        rng=generator,
    )
    return float(found.pvalue)


def paired_difference(
    a: Sequence[float], b: Sequence[float], generator: np.random.Generator | None = None
) -> PairedDifference:
    """Compare two settings pair by pair: entry k of both has the same seed, shape (n,) each.

    A pair with a non-finite member is dropped.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"paired values have one shape (n,), not {left.shape} and {right.shape}")
    differences = finite(left - right)
    return PairedDifference(
        mean=mean(differences),
        sd=sd(differences),
        interval=t_interval(differences),
        p=sign_flip_p(differences, generator),
        n=int(differences.size),
    )


def minimum_p(n: int) -> float | None:
    """The smallest two-sided p-value that n paired signs can give, 2 / 2^n; None without pairs."""
    return min(1.0, 2.0 ** (1 - n)) if n > 0 else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment: sorted p(k) times (m - k), made monotone and cut at 1; None stays None.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979) 65-70.
    """
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    known = {place: p for place, p in enumerate(p_values) if p is not None and math.isfinite(p)}
    found = multipletests(list(known.values()), method="holm")[1] if known else []
    adjusted = dict(zip(known, (float(p) for p in found), strict=True))
    return [adjusted.get(place) for place in range(len(p_values))]


def interquartile_mean(values: ArrayLike) -> float | None:
    """Mean of the middle half: floor(n / 4) values are left out at either end; None below `ROBUST_N` values.

    Source: R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021
    (arXiv 2108.13264), section 4.3, as its rliable computes it.
    """
    kept = finite(values)
    return float(distributions.trim_mean(kept, 0.25)) if kept.size >= ROBUST_N else None


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float | None:
    """P(a < b) + P(a = b) / 2 over all pairs of a value of each, that is U / (n_a n_b) of Mann and Whitney.

    Source: as `interquartile_mean`, there for scores, of which more is better; here for errors. Unpaired: seeds play no
    part. None where either has fewer than `ROBUST_N` values.
    """
    left, right = finite(a), finite(b)
    if min(left.size, right.size) < ROBUST_N:
        return None
    found = distributions.mannwhitneyu(right, left, method="asymptotic").statistic
    return float(found) / (left.size * right.size)


def significance_mark(p: float | None, n: int) -> str:
    """`*` for an adjusted p below 0.05, and nothing at all below n = 6, where no test could reach it."""
    return "*" if p is not None and n >= SIGNIFICANCE_N and p < 0.05 else ""


def variance_components(values: Sequence[float], searches: Sequence[object]) -> VarianceComponents:
    """Split the variance of a result into that of the search and that of the retraining.

    Method of moments for the unbalanced one-way layout: with k searches, n_i retrainings of search i and N in all,
    n0 = (N - sum n_i^2 / N) / (k - 1), var_retrain = MS_within, var_search = max(0, (MS_between - MS_within) / n0).

    Args:
        values: shape (N,).
        searches: shape (N,), which search each value comes from.
    """
    groups: dict[object, list[float]] = {}
    for value, search in zip(values, searches, strict=True):
        if math.isfinite(value):
            groups.setdefault(search, []).append(value)
    sizes = [len(group) for group in groups.values()]
    total, k = sum(sizes), len(sizes)
    if k == 0 or total == k:  # one retraining per search: the two variances cannot be told apart
        return VarianceComponents(None, None, k, total)
    within = sum(float(((np.array(g) - np.mean(g)) ** 2).sum()) for g in groups.values()) / (total - k)
    if k == 1:
        return VarianceComponents(None, math.sqrt(within), k, total)
    grand = sum(sum(group) for group in groups.values()) / total
    between = sum(len(g) * (float(np.mean(g)) - grand) ** 2 for g in groups.values()) / (k - 1)
    n0 = (total - sum(size**2 for size in sizes) / total) / (k - 1)
    return VarianceComponents(math.sqrt(max(0.0, (between - within) / n0)), math.sqrt(within), k, total)


def pareto_front(costs: ArrayLike) -> list[int]:
    """Indices of the points that no other point beats in one coordinate without losing in the other, by first
    coordinate.

    Args:
        costs: shape (n, 2), both to be small. Of equal points the first stands for all.
    """
    points = np.asarray(costs, dtype=np.float64).reshape(-1, 2)
    order = sorted(range(len(points)), key=lambda k: (points[k, 0], points[k, 1], k))
    front: list[int] = []
    best = math.inf
    for k in order:
        if np.isfinite(points[k]).all() and points[k, 1] < best:
            best = float(points[k, 1])
            front.append(k)
    return front


def curve_band(curves: Sequence[Sequence[float]]) -> tuple[Values, Values, Values, NDArray[np.int64]]:
    """Mean, low, high and n at each epoch over runs, the band being one standard deviation each side.

    Args:
        curves: one sequence of values per run, lengths may differ; shape (runs, epochs) with NaN for a gap.
    Returns:
        four arrays of shape (epochs,); mean is NaN where n is 0, the band equals the mean where n is 1.
    """
    length = max((len(curve) for curve in curves), default=0)
    grid = np.full((len(curves), length), np.nan)
    for row, curve in enumerate(curves):
        grid[row, : len(curve)] = np.where(np.isfinite(np.asarray(curve, dtype=np.float64)), curve, np.nan)
    count = np.isfinite(grid).sum(axis=0)
    filled = np.where(np.isfinite(grid), grid, 0.0)
    centre = np.divide(filled.sum(axis=0), count, out=np.full(length, np.nan), where=count > 0)
    squares = np.where(np.isfinite(grid), (grid - centre) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(np.divide(squares, count - 1, out=np.zeros(length), where=count > 1))
    return centre, centre - spread, centre + spread, count
