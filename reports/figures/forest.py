"""F8, the ablation's differences as a forest plot; F2, the derived cells drawn."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cscdarts.errors import UserError
from cscdarts.spaces.genotype import Genotype, parse_genotype
from reports.figures.genotype import draw, layout
from reports.figures.style import INK, NARROW, PALETTE, WIDE, Drawing, panels, styled
from reports.read.comparison import ERROR, differences, selected_search
from reports.read.pairs import pairs
from reports.read.settings import FACTORS, Setting, Study, factor_label
from reports.statistics import PairedDifference

#: More rows or cells than this make no readable figure; the table and the run pages hold all of them.
MOST_ROWS, MOST_CELLS = 40, 12


def forest_figure(study: Study, suffix: str) -> Drawing | None:
    """F8: paired difference of the test error to the default setting, with t interval and each seed's own
    difference."""
    compared = differences(study)
    shown = [(s, compared[s.anchor]) for s in study.settings if s.anchor in compared and compared[s.anchor].n]
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
        f"{factor_label(key)} {setting.params.get(key)}"
        for key in study.varied
        if setting.params.get(key) != study.reference.params.get(key)
    ]
    return ", ".join([name, *differing[:2]])


def cells_figure(study: Study, suffix: str) -> Drawing | None:
    """F2: of each setting the cell of the seed chosen on validation (the first finished seed where none is
    recorded)."""
    chosen: list[tuple[str, int, Genotype]] = []
    ordered = sorted(study.settings, key=lambda setting: setting is not study.reference)
    for setting in ordered:
        done = [run for run in setting.done if run["genotype"]]
        if not done:
            continue
        best = selected_search(setting)
        run = next((run for run in done if best and run["hash"] == best.hash), done[0])
        try:
            chosen.append((study.label(setting), int(run["seed"]), parse_genotype(str(run["genotype"]))))
        except UserError:
            continue
    if not chosen:
        return None
    return _cells(study, chosen[:MOST_CELLS], suffix, len(chosen))


@styled
def _cells(study: Study, chosen: Sequence[tuple[str, int, Genotype]], suffix: str, total: int) -> Drawing:
    drawn = [(label, seed, layout(genotype)) for label, seed, genotype in chosen]
    kinds = max(len(cells) for _, _, cells in drawn)
    small = kinds == 1
    across = 2
    down = -(-len(drawn) // 2) if small else len(drawn)
    figure = Figure(figsize=(NARROW if small else WIDE, (1.55 if small else 2.35) * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    rows = []
    for position, (label, seed, cells) in enumerate(drawn):
        for number, cell in enumerate(cells):
            axes = grid[position // 2][position % 2] if small else grid[position][number]
            title = f"{label}\nseed {seed}" if small else f"{label}, seed {seed}: {cell.kind}"
            draw(axes, cell, title)
            rows.append({"setting": label, "seed": seed, "cell": cell.kind, "operations": cell.words})
    more = (
        f" The first {len(chosen)} of {total} settings are drawn; every run's page has its own."
        if total > len(chosen)
        else ""
    )
    return Drawing(
        "F2",
        f"f2_cells{suffix}",
        f"Derived cells ({study.title})",
        f"One seed per setting, the one with the lowest validation error. Dotted arcs carry no operation.{more}",
        "Derived cells. " + " | ".join(f"{row['setting']}, seed {row['seed']}, {row['operations']}" for row in rows),
        figure,
        pd.DataFrame(rows),
        wide=not small,
    )
