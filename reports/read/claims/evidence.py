"""What the runs of a study say of one claim: an effect with its interval, and a verdict by a rule fixed beforehand."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reports import statistics
from reports.read.claims.contrasts import Contrast
from reports.words import counted

Word = Literal["upheld", "refuted", "undecided", "not testable", "not run"]
LEVEL = 0.95
#: Below this n no interval is trusted to decide anything.
FEWEST = 6
_DRAWS = 4000


@dataclass(frozen=True)
class Evidence:
    """What was found.

    Attributes:
        word: the verdict at this scale.
        effect, interval: in the unit of the test, None where there is none.
        seeds, pairs: how many seeds, and pairs of settings under each.
        needed: how many seeds would decide at the effect and spread seen, None where that is not known.
        why: in words.
    """

    word: Word
    effect: float | None = None
    interval: statistics.Interval | None = None
    seeds: int = 0
    pairs: int = 0
    needed: int | None = None
    why: str = ""


def few(n: int, unit: str) -> str:
    """That n is too small for a verdict, in words."""
    return f"only {counted(n, unit)}; a verdict takes {FEWEST}"


def lower(values: statistics.Values, contrast: Contrast) -> Evidence:
    """Upheld where the whole interval of the mean lies below 0, refuted where it lies above.

    Args:
        values: one number per seed, shape (n,).
    """
    return _decided(values, contrast, 0.0, 0.0)


def lower_ratio(log_ratios: statistics.Values, contrast: Contrast) -> Evidence:
    """As `lower`, of logarithms of with / without; effect and interval are given as ratios."""
    found = lower(log_ratios, contrast)
    if found.effect is None:
        return found
    span = found.interval
    ratios = None if span is None else statistics.Interval(math.exp(span.low), math.exp(span.high))
    return replace(found, effect=math.exp(found.effect), interval=ratios)


def counted_lower(log_ratios: statistics.Values, contrast: Contrast) -> Evidence:
    """Of a count, which no seed changes: upheld where every ratio with / without lies below 1, refuted where none
    does."""
    if not log_ratios.size:
        return Evidence("not run", pairs=len(contrast.pairs), why="no seed that all settings of the test finished")
    word: Word = "upheld" if log_ratios.max() < 0 else "refuted" if log_ratios.min() >= 0 else "undecided"
    effect = math.exp(float(log_ratios.mean()))
    return Evidence(word, effect, None, int(log_ratios.size), len(contrast.pairs), why="counted, not measured")


def no_loss(values: statistics.Values, contrast: Contrast, margin: float) -> Evidence:
    """Upheld where the whole interval of the mean lies below the margin, refuted where there is a loss (the interval
    lies above 0) that is not shown to stay below the margin."""
    return _decided(values, contrast, margin, 0.0)


def _decided(values: statistics.Values, contrast: Contrast, below: float, above: float) -> Evidence:
    interval, effect = statistics.t_interval(values, LEVEL), statistics.mean(values)
    found = Evidence("undecided", effect, interval, int(values.size), len(contrast.pairs))
    if effect is None:
        return Evidence("not run", pairs=len(contrast.pairs), why="no seed that all settings of the test finished")
    if interval is None or values.size < FEWEST:
        return replace(found, why=few(int(values.size), "seed"))
    if interval.high < below:
        return replace(found, word="upheld")
    if interval.low > above and interval.high >= below:
        return replace(found, word="refuted")
    # The half width goes with 1 / sqrt(n): at which n would it be less than the distance to the nearer bound?
    distance = max(below - effect, effect - above)
    half = (interval.high - interval.low) / 2
    needed = math.ceil(values.size * (half / distance) ** 2) if distance > 0 else None
    return replace(found, needed=needed)


def lower_variance(contrast: Contrast, metric: str) -> Evidence:
    """Ratio of the variances over seeds, with / without, pooled over the pairs of settings.

    ratio = sum_k s^2(with_k) / sum_k s^2(without_k). Its interval is the percentile bootstrap over seeds, each drawn
    with all its runs, so that pairing by seed and the settings' dependence are kept. Upheld where the interval lies
    below 1, refuted where it lies above.
    """
    rows = np.array(list(contrast.by_seed(metric).values()), dtype=np.float64)  # (seeds, pairs, 2)
    if not rows.size:
        return Evidence("not run", pairs=len(contrast.pairs), why="no seed that all settings of the test finished")
    seeds = len(rows)
    if seeds < FEWEST:
        effect = _variance_ratio(rows) if seeds > 1 else None
        return Evidence("undecided", effect, None, seeds, len(contrast.pairs), None, few(seeds, "seed"))
    generator = np.random.default_rng(0)
    drawn = [_variance_ratio(rows[generator.integers(0, seeds, seeds)]) for _ in range(_DRAWS)]
    known = statistics.finite([value for value in drawn if value is not None])
    effect = _variance_ratio(rows)
    if effect is None or known.size < _DRAWS // 2:
        return Evidence("undecided", effect, None, seeds, len(contrast.pairs), None, "a variance of 0")
    low, high = (float(value) for value in np.quantile(known, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]))
    interval = statistics.Interval(low, high)
    if high < 1:
        return Evidence("upheld", effect, interval, seeds, len(contrast.pairs))
    if low > 1:
        return Evidence("refuted", effect, interval, seeds, len(contrast.pairs))
    distance = abs(math.log(effect)) if effect > 0 else 0.0
    half = (math.log(high) - math.log(low)) / 2 if low > 0 else math.inf
    needed = math.ceil(seeds * (half / distance) ** 2) if distance > 0 and math.isfinite(half) else None
    return Evidence("undecided", effect, interval, seeds, len(contrast.pairs), needed)


def _variance_ratio(rows: statistics.Values) -> float | None:
    with_it, without = rows.var(axis=0, ddof=1).sum(axis=0)
    return float(with_it / without) if without > 0 else None


def joined(first: Evidence, second: Evidence, names: tuple[str, str]) -> Evidence:
    """Of two measures of one claim: upheld or refuted where both are; the numbers are the first one's."""
    word: Word = first.word if first.word == second.word else "undecided"
    if "not run" in (first.word, second.word):
        word = "not run"
    why = "; ".join(f"{name}: {_told(one)}" for name, one in zip(names, (first, second), strict=True))
    return replace(first, word=word, why=why)


def _told(one: Evidence) -> str:
    if one.effect is None:
        return one.word
    span = f", 95 % {one.interval.low:.2f} to {one.interval.high:.2f}" if one.interval else ""
    return f"{one.effect:.2f} ×{span}, {one.word}"
