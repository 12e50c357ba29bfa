"""The worked example of the statistics page, computed by the functions that compute the report."""

import math

from docs.hooks.markdown import DASH, table
from reports import statistics

#: Made-up test errors, in percent, of six seeds.
ERRORS: dict[str, tuple[float, ...]] = {
    "default": (2.61, 2.70, 2.58, 2.66, 2.73, 2.63),
    "no identity": (2.79, 2.81, 2.64, 2.86, 2.80, 2.77),
    "order 1": (2.65, 2.66, 2.62, 2.75, 2.71, 2.69),
}
#: Made-up test errors of three searches, each retrained three times.
RETRAININGS: dict[str, tuple[float, ...]] = {
    "search 0": (2.61, 2.66, 2.58),
    "search 1": (2.70, 2.74, 2.69),
    "search 2": (2.58, 2.60, 2.65),
}


def number(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign; a dash for none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def _span(interval: statistics.Interval | None) -> str:
    return DASH if interval is None else f"{number(interval.low)} to {number(interval.high)}"


def pairs_needed() -> str:
    """How many pairs a paired t test at 0.05 needs, to find a difference four times in five."""
    from statsmodels.stats.power import TTestPower

    rows = [
        [number(size, 1), str(math.ceil(TTestPower().solve_power(effect_size=size, power=0.8, alpha=0.05)))]
        for size in (0.5, 1.0, 1.5, 2.0)
    ]
    return table(["true difference, in standard deviations of the differences", "pairs"], rows, (0, 1))


def statistics_example() -> str:
    """The example: settings, paired differences, p-values, Holm, robust numbers, variance split."""
    n = len(ERRORS["default"])
    seeds = table(
        ["setting", *(f"seed {seed}" for seed in range(n)), "mean", "sd", "95 % interval of the mean"],
        [
            [name, *(number(one, 2) for one in values), number(statistics.mean(values)),
             number(statistics.sd(values)), _span(statistics.t_interval(values))]
            for name, values in ERRORS.items()
        ],
        range(1, n + 4),
    )  # fmt: skip
    others = {name: values for name, values in ERRORS.items() if name != "default"}
    pairs = {name: statistics.paired_difference(values, ERRORS["default"]) for name, values in others.items()}
    adjusted = dict(zip(pairs, statistics.holm([pair.p for pair in pairs.values()]), strict=True))
    compared = table(
        ["less the default", "differences seed by seed", "mean", "95 % interval", "p", "p by Holm", "mark"],
        [
            [name, ", ".join(number(a - b, 2) for a, b in zip(values, ERRORS["default"], strict=True)),
             number(pairs[name].mean), _span(pairs[name].interval), number(pairs[name].p), number(adjusted[name]),
             statistics.significance_mark(adjusted[name], n).replace("*", "\\*") or "none"]
            for name, values in others.items()
        ],
        (2, 4, 5),
    )  # fmt: skip
    first = pairs["no identity"]
    assert first.sd is not None
    assert first.interval is not None
    assert first.p is not None
    half = (first.interval.high - first.interval.low) / 2
    quantile = half * math.sqrt(n) / first.sd
    robust = table(
        ["setting", "interquartile mean", "P(its error is below the default's)"],
        [
            [name, number(statistics.interquartile_mean(values)),
             "" if name == "default" else number(statistics.probability_of_improvement(values, ERRORS["default"]))]
            for name, values in ERRORS.items()
        ],
        (1, 2),
    )  # fmt: skip
    split = statistics.variance_components(
        [value for values in RETRAININGS.values() for value in values],
        [name for name, values in RETRAININGS.items() for _ in values],
    )
    retrained = table(
        ["search", "its retrainings", "mean"],
        [
            [name, ", ".join(number(value, 2) for value in values), number(statistics.mean(values))]
            for name, values in RETRAININGS.items()
        ],
        (2,),
    )
    patterns = round(first.p * 2**n)
    fewest = ", ".join(f"{number(statistics.minimum_p(k), 4)} with {k}" for k in (2, 3, 5, 6))
    return f"""## One number a setting

{seeds}

The standard deviation has the divisor n − 1. The interval is Student's: mean ± t × sd / √n, with t of n − 1 = {n - 1}
degrees of freedom.

## Two settings, seed by seed

The same seed gives both settings the same draw of images and of first weights, so each seed is a pair, and what a seed
adds to both falls out of the difference.

{compared}

By hand, for "no identity": the mean of its six differences is {number(first.mean)}, their standard deviation
{number(first.sd)}. The t value for {n - 1} degrees of freedom is {number(quantile, 2)}, so the half-width is
{number(quantile, 2)} × {number(first.sd)} / √{n} = {number(half)}, and the interval {_span(first.interval)}.

The p-value asks: if the sign of each difference were a coin's throw, how often would their sum be at least this far
from 0? Of 2^{n} = {2**n} patterns of signs it is {patterns}, so p = {patterns}/{2**n} = {number(first.p)}. Up to
{statistics.EXACT_N} pairs all patterns are counted; with more they are drawn.

So few pairs cannot give a small p, whatever they hold: the smallest is {fewest} pairs. Below
n = {statistics.SIGNIFICANCE_N} no table marks anything as significant.

Two comparisons were made, so their p-values are adjusted by Holm: the smaller one times 2, the larger one times 1, and
none below the one before. The mark is set for an adjusted p below 0.05.

## Numbers that one seed cannot move far

{robust}

The interquartile mean leaves out a quarter of the values at either end. The last column compares every value with every
value of the default, unpaired: 0.5 says that neither is better. Both need {statistics.ROBUST_N} values.

## Which noise is it?

Other numbers, also made up: three searches, each cell retrained three times.

{retrained}

The variance of a result is split in two (one-way random effects, method of moments): between searches a standard
deviation of {number(split.search_sd)} points, between retrainings of one search {number(split.retrain_sd)}. A mean over
such runs is taken within a search first, and `n` counts searches ({split.searches} here), not retrainings
({split.retrainings}): retraining one cell often does not make up for one search."""
