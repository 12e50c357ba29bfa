"""How well one scoring of architectures agrees with another: pure functions of two score vectors."""

import math
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.tabular.table import BenchmarkTable, Floats, Split


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


#: Points within which two accuracies count as equal: sources round to two decimals and more.
EQUAL = 0.005


def shared_split(first: BenchmarkTable, second: BenchmarkTable) -> Split:
    """The split to compare two tables by: test, or validation where one of them has no test accuracy."""
    lacking = [table for table in (first, second) if all(table.ranked_by(name) == "valid" for name in table.datasets)]
    return "valid" if lacking else "test"


def agreement_of(first: BenchmarkTable, second: BenchmarkTable, split: Split = "test") -> list[dict[str, Any]]:
    """How alike two tables rank the cells that both hold, one entry per pair of data sets (longest trainings).

    `top_1_overlap_pct` and `top_10_overlap_pct` are shares of the best 1 % and 10 % that are common; None where
    undefined. Where both tell of one data set and one training length, also their values are compared: `equal_pct` is
    the share of cells within `EQUAL` points, `mean_difference` and `largest_difference` are of the absolute difference.
    """
    rows = []
    for one in first.datasets:
        for other in second.datasets:
            a, b = first.accuracy(one, split), second.accuracy(other, split)
            both = np.isfinite(a) & np.isfinite(b)
            a, b = a[both], b[both]
            numbers = {"spearman": spearman_rho(a, b), "kendall": kendall_tau(a, b)}
            for share in (1, 10):
                k = len(a) * share // 100
                numbers[f"top_{share}_overlap_pct"] = top_k_overlap_pct(a, b, k) if k else float("nan")
            comparable = one == other and first.resolve(one) == second.resolve(other) and len(a) > 0
            apart = np.abs(a - b) if comparable else np.full(1, np.nan)
            numbers["equal_pct"] = 100.0 * float((apart <= EQUAL).mean()) if comparable else float("nan")
            numbers |= {"mean_difference": float(apart.mean()), "largest_difference": float(apart.max())}
            shown = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
            rows.append({"first": one, "second": other, "split": split, "cells": int(both.sum()), **shown})
    return rows


def _membership(scores: Floats, k: int) -> Floats:
    """Probability of each to be among the k best when ties are broken at random, shape (n,)."""
    border = np.sort(scores)[-k]
    above, tied = scores > border, scores == border
    out: Floats = above + tied * ((k - above.sum()) / tied.sum())
    return out
