"""How well one scoring of architectures agrees with another: pure functions of two score vectors."""

import numpy as np
from scipy import stats

from benchmarks.table import Floats


def kendall_tau(first: Floats, second: Floats) -> float:
    """Kendall's tau-b of two score vectors of shape (n,); NaN where one of them is constant or n < 2."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.kendalltau(first, second).statistic)


def spearman_rho(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two score vectors of shape (n,); NaN where one of them is constant or n < 2."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def top_k_overlap_pct(first: Floats, second: Floats, k: int) -> float:
    """Share in percent of the k best of `first` that are among the k best of `second`, shape (n,) each.

    Where values are equal at the border, the expectation over all ways to choose k of them counts, so that the order of
    the vectors does not matter. For independent scorings the expectation is 100 k / n.
    """
    if not 1 <= k <= len(first):
        raise ValueError(f"k={k}: from 1 to the {len(first)} scores")
    return 100.0 * float((_membership(first, k) * _membership(second, k)).sum()) / k


def _membership(scores: Floats, k: int) -> Floats:
    """Probability of each to be among the k best when ties are broken at random, shape (n,)."""
    border = np.sort(scores)[-k]
    above, tied = scores > border, scores == border
    out: Floats = above + tied * ((k - above.sum()) / tied.sum())
    return out
