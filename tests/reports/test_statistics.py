"""Every statistic of the report against values worked out by hand on tiny arrays."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as distributions

from reports import statistics
from reports.statistics import Interval, PairedDifference

NAN = float("nan")


def test_mean_and_sd_by_hand() -> None:
    assert statistics.mean([1.0, 2.0, 6.0]) == 3.0
    # squares of (-2, -1, 3) sum to 14, divided by n - 1 = 2
    assert statistics.sd([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt(7.0))


def test_what_n_cannot_give_is_none_and_never_zero() -> None:
    assert statistics.mean([]) is None
    assert statistics.mean([NAN, math.inf]) is None
    assert statistics.sd([3.0]) is None
    assert statistics.t_interval([3.0]) is None
    assert statistics.bootstrap_interval([3.0], np.random.default_rng(0)) is None
    assert statistics.minimum_p(0) is None
    assert statistics.sign_flip_p([]) is None
    assert statistics.welch_interval([1.0], [1.0, 2.0]) is None


def test_non_finite_values_are_dropped_not_counted() -> None:
    assert statistics.mean([1.0, NAN, 3.0]) == 2.0
    assert statistics.sd([1.0, NAN, 3.0]) == pytest.approx(math.sqrt(2.0))


def test_t_interval_by_hand() -> None:
    # mean 3, sd sqrt(7), n 3; t(0.975, 2) = 4.302652729911275 (tables), half = 4.30265 * sqrt(7) / sqrt(3)
    interval = statistics.t_interval([1.0, 2.0, 6.0])
    half = 4.302652729911275 * math.sqrt(7.0) / math.sqrt(3.0)
    assert interval is not None
    assert interval.low == pytest.approx(3.0 - half)
    assert interval.high == pytest.approx(3.0 + half)


def test_welch_interval_by_hand() -> None:
    # a: mean 2, var 1, n 3; b: mean 5, var 4, n 3: se^2 = 5/3, df = (5/3)^2 / ((1/3)^2/2 + (4/3)^2/2) = 2.9411764...
    interval = statistics.welch_interval([1.0, 2.0, 3.0], [3.0, 5.0, 7.0])
    assert interval is not None
    assert (interval.low + interval.high) / 2 == pytest.approx(3.0)
    # t(0.975) at 2.9412 degrees lies between those at 3 (3.18245) and 2 (4.30265)
    half = (interval.high - interval.low) / 2 / math.sqrt(5.0 / 3.0)
    assert 3.18245 < half < 3.35
    assert statistics.welch_interval([2.0, 2.0], [5.0, 5.0]) == Interval(3.0, 3.0)


def test_bootstrap_interval_of_two_values_by_hand() -> None:
    # Means of resamples of {0, 1} are 0, 1/2 or 1 with probability 1/4, 1/2, 1/4: the 2.5 % and 97.5 % points are 0 and
    # 1.
    assert statistics.bootstrap_interval([0.0, 1.0], np.random.default_rng(1)) == Interval(0.0, 1.0)
    # A level of 0.2 looks at the 40 % and 60 % points, both 1/2.
    assert statistics.bootstrap_interval([0.0, 1.0], np.random.default_rng(1), level=0.2) == Interval(0.5, 0.5)


def test_bootstrap_draws_only_from_its_generator() -> None:
    values = [math.sqrt(k) for k in range(1, 12)]
    np.random.seed(0)  # noqa: NPY002 (the global state must not matter)
    first = statistics.bootstrap_interval(values, np.random.default_rng(3))
    np.random.seed(1)  # noqa: NPY002
    assert statistics.bootstrap_interval(values, np.random.default_rng(3)) == first
    assert statistics.bootstrap_interval(values, np.random.default_rng(4)) != first


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),  # only +++ and --- reach 3
        ([1.0, 2.0, 3.0], 2 / 8),  # only all of one sign reach 6
        ([1.0, -2.0, 3.0], 6 / 8),  # |2| is reached by all sign patterns but +-(1+2-3) = 0
        ([1.0, -1.0], 1.0),  # sum 0 is reached by all
        ([5.0], 1.0),
        ([1.0] * 6, 2 / 64),
    ],
)
def test_sign_flip_p_by_counting_patterns(differences: list[float], p: float) -> None:
    assert statistics.sign_flip_p(differences) == pytest.approx(p)


def test_sign_flip_p_beyond_exact_needs_a_generator_and_is_never_zero() -> None:
    many = [1.0] * (statistics.EXACT_N + 1)
    with pytest.raises(ValueError, match="pass a generator"):
        statistics.sign_flip_p(many)
    p = statistics.sign_flip_p(many, np.random.default_rng(0), draws=1000)
    assert p is not None
    assert 0 < p <= 0.01


def test_no_sign_flip_p_falls_below_the_minimum() -> None:
    for n in range(1, 9):
        smallest = statistics.sign_flip_p(list(range(1, n + 1)))
        assert smallest == statistics.minimum_p(n)
    assert statistics.minimum_p(5) == 0.0625  # above 0.05
    assert statistics.minimum_p(6) == 0.03125  # below: the first n that can be significant


def test_paired_difference_by_hand() -> None:
    found = statistics.paired_difference([2.0, 4.0, 9.0, NAN], [1.0, 2.0, 3.0, 4.0])
    assert found.n == 3
    assert found.mean == 3.0
    assert found.sd == pytest.approx(math.sqrt(7.0))
    assert found.p == pytest.approx(2 / 8)
    assert found.interval == statistics.t_interval([1.0, 2.0, 6.0])
    with pytest.raises(ValueError, match="one shape"):
        statistics.paired_difference([1.0], [1.0, 2.0])


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.04 -> 3*0.01, max(0.03, 2*0.02), max(0.04, 0.04)
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert statistics.holm([]) == []


def test_no_mark_below_six() -> None:
    assert statistics.significance_mark(0.001, 5) == ""
    assert statistics.significance_mark(0.04, 6) == "*"
    assert statistics.significance_mark(0.06, 6) == ""
    assert statistics.significance_mark(None, 60) == ""


def test_variance_components_by_hand() -> None:
    # Two searches, two retrainings each: {0, 2} and {10, 12}. MS_within = 2, MS_between = 100, n0 = 2 -> var = 49.
    parts = statistics.variance_components([0.0, 2.0, 10.0, 12.0], ["a", "a", "b", "b"])
    assert parts.retrain_sd == pytest.approx(math.sqrt(2.0))
    assert parts.search_sd == pytest.approx(7.0)
    assert (parts.searches, parts.retrainings) == (2, 4)
    # Equal group means: the moment estimate is negative and is cut at 0.
    assert statistics.variance_components([0.0, 2.0, 2.0, 0.0], ["a", "a", "b", "b"]).search_sd == 0.0


def test_variance_components_unbalanced_by_hand() -> None:
    # {1, 3} and {5}: N = 3, k = 2, MS_within = 2, grand mean 3, MS_between = 2*1 + 4 = 6, n0 = 3 - 5/3 = 4/3 -> var = 3
    parts = statistics.variance_components([1.0, 3.0, 5.0], [0, 0, 1])
    assert parts.search_sd == pytest.approx(math.sqrt(3.0))
    assert parts.retrain_sd == pytest.approx(math.sqrt(2.0))


def test_variance_components_that_cannot_be_told_apart() -> None:
    parts = statistics.variance_components([1.0, 2.0, 3.0], [0, 1, 2])
    assert (parts.search_sd, parts.retrain_sd) == (None, None)
    one = statistics.variance_components([1.0, 3.0], [0, 0])
    assert one.search_sd is None
    assert one.retrain_sd == pytest.approx(math.sqrt(2.0))
    assert statistics.variance_components([], []).searches == 0


def test_pareto_front_by_hand() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 4.0), (3.0, 4.5), (4.0, 1.0), (0.5, NAN)]
    assert statistics.pareto_front(points) == [0, 1, 4]
    assert statistics.pareto_front([]) == []


def test_curve_band_by_hand() -> None:
    centre, low, high, count = statistics.curve_band([[1.0, 2.0, 3.0], [3.0, NAN]])
    np.testing.assert_array_equal(centre, [2.0, 2.0, 3.0])
    np.testing.assert_allclose(low, [2.0 - math.sqrt(2.0), 2.0, 3.0])
    np.testing.assert_allclose(high, [2.0 + math.sqrt(2.0), 2.0, 3.0])
    np.testing.assert_array_equal(count, [2, 1, 1])


# --- the same against other ways of computing it, and the edges of each definition


def bounds(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def test_finite_takes_whole_numbers_and_what_is_missing() -> None:
    found = statistics.finite([[3, 1], [None, 2]])  # type: ignore[arg-type]
    assert found.tolist() == [3.0, 1.0, 2.0]
    assert found.dtype == np.float64
    assert statistics.finite([1, 2]).dtype == np.float64


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_t_interval_equals_scipys(level: float) -> None:
    values = [1.0, 2.0, 6.0, 4.5]
    found = distributions.ttest_1samp(values, 0.0).confidence_interval(level)
    assert bounds(statistics.t_interval(values, level)) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize(("a", "b"), [([1.0, 3.0], [2.0, 4.0]), ([1.0, 2.5], [7.0, 3.0, 4.0, 8.0])])
def test_welch_interval_equals_scipys(a: list[float], b: list[float], level: float) -> None:
    """Also where both have the same variance, and with different numbers of values."""
    found = distributions.ttest_ind(b, a, equal_var=False).confidence_interval(level)
    assert bounds(statistics.welch_interval(a, b, level)) == pytest.approx((found.low, found.high))
    assert statistics.welch_interval(a, b) == statistics.welch_interval(a, b, 0.95)


def test_welch_interval_of_one_constant_sample() -> None:
    found = statistics.welch_interval([1.0, 3.0], [5.0, 5.0])
    assert found is not None
    assert (found.low + found.high) / 2 == pytest.approx(3.0)
    assert found.high - found.low > 10  # one degree of freedom: t(0.975, 1) = 12.7
    assert statistics.welch_interval([1.0, 2.0], [1.0]) is None


def test_bootstrap_interval_is_two_quantiles_of_resampled_means() -> None:
    values = np.sqrt(np.arange(1.0, 12.0))

    def quantiles(low: float, high: float, draws: int) -> Any:
        picks = np.random.default_rng(5).integers(0, 11, (draws, 11))
        return pytest.approx(tuple(np.quantile([np.mean([values[k] for k in row]) for row in picks], [low, high])))

    first = statistics.bootstrap_interval(values, np.random.default_rng(5))
    assert bounds(first) == quantiles(0.025, 0.975, 2000)
    second = statistics.bootstrap_interval(values, np.random.default_rng(5), 0.6, 300)
    assert bounds(second) == quantiles(0.2, 0.8, 300)
    assert statistics.bootstrap_interval([1.0, 2.0], np.random.default_rng(5)) is not None


def test_sign_flip_p_is_exact_up_to_sixteen() -> None:
    assert statistics.sign_flip_p([1.0] * 16) == 2 / 2**16
    with pytest.raises(ValueError, match="above 16 pairs draws patterns; pass a generator"):
        statistics.sign_flip_p([1.0] * 17)


def test_drawn_sign_flip_p_counts_the_observed_among_the_draws() -> None:
    # None of a thousand draws of 40 signs is all of one sign.
    assert statistics.sign_flip_p([1.0] * 40, np.random.default_rng(0), draws=1000) == 1 / 1001
    assert statistics.sign_flip_p([1.0] * 40, np.random.default_rng(0)) == 1 / 65537


def test_drawn_sign_flip_p_comes_near_the_exact_one() -> None:
    values = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, -6.0, 5.0, 3.0, 5.0, -8.0, 9.0, 7.0, 9.0, 3.0, -2.0])
    patterns = np.array(np.meshgrid(*[[-1, 1]] * 17)).reshape(17, -1)
    exact = float((np.abs(values @ patterns) >= abs(values.sum())).mean())
    assert 0.05 < exact < 0.3
    found = statistics.sign_flip_p(values, np.random.default_rng(2), draws=20000)
    assert found == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_rounding_does_not_break_ties_of_sign_patterns(unit: float) -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point; both patterns count, in any unit."""
    values = [0.1 * unit, 0.2 * unit, -0.3 * unit, 0.3 * unit, 0.7 * unit]
    # |sum| = 1.0; patterns that reach 1.0 in tenths, of 32:
    tenths = np.array([1, 2, -3, 3, 7])
    patterns = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    assert statistics.sign_flip_p(values) == float((np.abs(tenths @ patterns) >= 10).mean())


def test_paired_difference_passes_its_generator_on() -> None:
    a, b = [2.0] * 17, [1.0] * 17
    assert statistics.paired_difference(a, b, np.random.default_rng(0)).p == pytest.approx(1 / 65537, rel=5)
    with pytest.raises(ValueError, match="pass a generator"):
        statistics.paired_difference(a, b)
    with pytest.raises(ValueError, match=r"not \(1, 1\) and \(1, 1\)"):
        statistics.paired_difference([[1.0]], [[2.0]])  # type: ignore[list-item]
    assert statistics.paired_difference([], []) == PairedDifference(None, None, None, None, 0)


def test_holm_is_cut_at_one_and_monotone() -> None:
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    # sorted 0.01, 0.03, 0.031 -> 0.03, 0.06, 0.031 made monotone: 0.06
    assert statistics.holm([0.03, 0.01, 0.031]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm([NAN, 0.04, None]) == [None, 0.04, None]


def test_a_mark_needs_p_strictly_below_five_hundredths() -> None:
    assert statistics.significance_mark(0.05, 6) == ""
    assert statistics.significance_mark(0.0499, 6) == "*"
    assert statistics.significance_mark(0.06, 100) == ""


def test_minimum_p_by_counting() -> None:
    assert [statistics.minimum_p(n) for n in (-1, 0, 1, 2, 3)] == [None, None, 1.0, 0.5, 0.25]


def test_variance_components_count_what_was_finite() -> None:
    parts = statistics.variance_components([1.0, NAN, 3.0, 5.0], [0, 0, 1, 1])
    assert (parts.searches, parts.retrainings) == (2, 3)
    lone = statistics.variance_components([1.0, 2.0, 3.0], [0, 1, 2])
    assert (lone.searches, lone.retrainings) == (3, 3)
    one = statistics.variance_components([1.0, 3.0], [0, 0])
    assert (one.searches, one.retrainings) == (1, 2)
    none = statistics.variance_components([], [])
    assert (none.search_sd, none.retrain_sd, none.searches, none.retrainings) == (None, None, 0, 0)
    with pytest.raises(ValueError, match="zip"):
        statistics.variance_components([1.0, 2.0], [0])


def test_variance_components_of_three_searches_by_hand() -> None:
    # {0, 2}, {10, 12}, {20, 22}: MS_within 2, grand mean 11, MS_between 2 * (100 + 0 + 100) / 2 = 200, n0 2 -> var 99.
    parts = statistics.variance_components([0.0, 2.0, 10.0, 12.0, 20.0, 22.0], ["a", "a", "b", "b", "c", "c"])
    assert parts.search_sd == pytest.approx(math.sqrt(99.0))
    assert parts.retrain_sd == pytest.approx(math.sqrt(2.0))


def test_pareto_front_is_ordered_by_the_first_cost() -> None:
    assert statistics.pareto_front([(4.0, 1.0), (1.0, 5.0), (2.0, 4.0), (3.0, 4.0)]) == [1, 2, 0]
    assert statistics.pareto_front([(1.0, 5.0), (1.0, 3.0)]) == [1]
    assert statistics.pareto_front([(1.0, 2.0), (math.inf, 1.0), (2.0, 1.5)]) == [0, 2]
    assert statistics.pareto_front([(2.0, 2.0), (2.0, 2.0)]) == [0]


def test_curve_band_of_runs_with_gaps() -> None:
    """Three runs, one with a gap, and an epoch that nobody has."""
    curves = [[1.0, 2.0, NAN, 4.0], [3.0, None, NAN, 8.0], [5.0, 4.0, NAN]]
    centre, low, high, count = statistics.curve_band(curves)  # type: ignore[arg-type]
    np.testing.assert_allclose(centre, [3.0, 3.0, NAN, 6.0])
    spread = np.array([2.0, math.sqrt(2.0), NAN, math.sqrt(8.0)])  # of (1, 3, 5), (2, 4) and (4, 8)
    np.testing.assert_allclose(high - centre, spread)
    np.testing.assert_allclose(centre - low, spread)
    assert count.tolist() == [3, 2, 0, 2]
    assert [part.shape for part in statistics.curve_band([])] == [(0,)] * 4


# --- the same by counting, where a library computes it


def flipped_by_counting(differences: np.ndarray) -> float:
    patterns = np.array(np.meshgrid(*[[-1, 1]] * len(differences))).reshape(len(differences), -1)
    sums = np.abs(differences @ patterns)
    return float((sums >= abs(differences.sum()) - 1e-9).mean())


@pytest.mark.parametrize("n", [2, 3, 7, 11])
def test_sign_flip_p_is_a_count_of_patterns(n: int) -> None:
    draw = np.random.default_rng(n)
    for values in (draw.normal(size=n), np.round(draw.normal(size=n), 1), draw.integers(-2, 3, n).astype(float)):
        assert statistics.sign_flip_p(values) == flipped_by_counting(values)
    assert statistics.sign_flip_p([0.0] * n) == 1.0


def test_holm_is_step_down_by_hand_for_random_values() -> None:
    draw = np.random.default_rng(0)
    for m in (1, 2, 9):
        p = draw.uniform(size=m) ** 3
        expected, running = np.empty(m), 0.0
        for rank, place in enumerate(np.argsort(p)):
            running = max(running, min(1.0, p[place] * (m - rank)))
            expected[place] = running
        assert statistics.holm(p.tolist()) == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("values", [[2.5] * 3, [0.0, 0.0], [100.0, 100.0 + 1e-13, 100.0]])
def test_intervals_of_equal_values_are_points_without_a_warning(values: list[float]) -> None:
    found = statistics.t_interval(values)
    assert found is not None
    assert found.low == pytest.approx(values[0])
    assert found.high == pytest.approx(values[0])
    moved = statistics.welch_interval(values, values)
    assert moved is not None
    assert (moved.low, moved.high) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_interquartile_mean_by_hand() -> None:
    assert statistics.interquartile_mean([1.0, 2.0, 3.0, 4.0]) is None
    assert statistics.interquartile_mean([90.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(3.0)  # 1 and 90 are left out
    assert statistics.interquartile_mean([8, 7, 6, 5, 4, 3, 2, 100]) == pytest.approx((4 + 5 + 6 + 7) / 4)
    assert statistics.interquartile_mean([1.0, 2.0, 3.0, 4.0, NAN]) is None


def test_probability_of_improvement_by_counting() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 3.0, 6.0, 7.0, 0.0, 9.0]
    counted = sum((x < y) + 0.5 * (x == y) for x in a for y in b) / 30
    assert statistics.probability_of_improvement(a, b) == pytest.approx(counted)
    assert statistics.probability_of_improvement(b, a) == pytest.approx(1 - counted)
    assert statistics.probability_of_improvement(a, a) == pytest.approx(0.5)
    assert statistics.probability_of_improvement(a, b[:4]) is None
    assert statistics.probability_of_improvement([1.0] * 5, [2.0] * 5) == 1.0
