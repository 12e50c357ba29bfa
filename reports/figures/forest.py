"""F8, the ablation's differences as a forest plot."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns

from reports.figures.style import INK, NARROW, PALETTE, Drawing, panels, styled
from reports.read.comparison import ERROR, differences
from reports.read.pairs import pairs
from reports.read.settings import FACTORS, Setting, Study, factor_label
from reports.read.shown import shown_value
from reports.statistics import PairedDifference

#: More rows than this make no readable figure; the table holds all of them.
MOST_ROWS = 40


def forest_figure(study: Study, suffix: str) -> Drawing | None:
    """F8: paired difference of the test error to the default setting, with t interval and each seed's own
    difference."""
    compared = differences(study)
    shown = [
        (setting, compared[setting.anchor])
        for setting in study.settings
        if setting.anchor in compared and compared[setting.anchor].n and not setting.nameless
    ]
    return _forest(study, shown[:MOST_ROWS], suffix, len(shown)) if shown else None


@styled
def _forest(study: Study, shown: Sequence[tuple[Setting, PairedDifference]], suffix: str, total: int) -> Drawing:
    figure, grid = panels(1, 1, NARROW, 0.75 + 0.235 * len(shown))
    axes = grid[0][0]
    rows = []
    dots: list[tuple[float, float]] = []
    for position, (setting, difference) in enumerate(shown):
        interval = difference.interval
        if interval:
            axes.plot([interval.low, interval.high], [position, position], color=INK, linewidth=1.2, zorder=2)
        assert study.reference is not None
        both = pairs(setting, study.reference, ERROR)
        seeds = [a - b for a, b in zip(both.a, both.b, strict=True)]
        dots += [(value, position + 0.24) for value in seeds]
        rows.append(
            {
                "setting": _name(setting, study),
                "n": difference.n,
                "mean": difference.mean,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "each_seed": " ".join(f"{value:.4g}" for value in seeds),
            }
        )
    data = pd.DataFrame(rows)
    sns.scatterplot(
        x=[dot[0] for dot in dots],
        y=[dot[1] for dot in dots],
        ax=axes,
        color=PALETTE[5],
        s=9,
        legend=False,
        linewidth=0,
    )
    sns.scatterplot(
        x=data["mean"], y=range(len(data)), ax=axes, color=PALETTE[0], s=34, marker="D", legend=False, zorder=3
    )
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_yticks(range(len(data)), data["setting"])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("difference in test error [points]\n(left of 0 is better)")
    axes.set_ylabel("")
    reference = study.reference.describe((*FACTORS, *study.varied)) if study.reference else ""
    more = f" Only the first {len(shown)} of {total} are drawn." if total > len(shown) else ""
    return Drawing(
        "F8",
        f"f8_forest{suffix}",
        f"Differences to the default setting ({study.title})",
        f"Default: {reference}. Diamonds: mean paired difference; lines: 95 % t interval; dots: each seed.{more}",
        "Paired differences in test error to the default: "
        + "; ".join(f"{row['setting']}: {row['mean']:+.2f}" for row in rows),
        figure,
        data,
    )


def _name(setting: Setting, study: Study) -> str:
    if "csc" not in setting.methods:
        return setting.names
    ratio, identity, order = (setting.params.get(name, "–") for name in FACTORS)
    name = f"{ratio}, {identity}, order {order}"
    assert study.reference is not None
    differing = [
        f"{factor_label(key)} {shown_value(key, setting.params.get(key, ''))}"
        for key in study.varied
        if setting.params.get(key) != study.reference.params.get(key)
    ]
    return ", ".join([name, *differing[:2]])
