"""F2, the derived cells drawn: the settings that differ in the factors alone, and all of them on demand."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from cscdarts.errors import UserError
from cscdarts.spaces.genotype import Genotype, parse_genotype
from reports.figures.genotype import draw, layout
from reports.figures.style import NARROW, WIDE, Drawing, styled
from reports.read.comparison import selected_search
from reports.read.settings import Setting, Study
from reports.words import counted

#: So many cells are seen at a glance, and so many still make a figure; every run's page has its own.
MOST_MAIN, MOST_CELLS = 16, 60


@dataclass(frozen=True)
class _Chosen:
    label: str
    seed: int
    genotype: Genotype


def cells_figures(study: Study, suffix: str) -> list[Drawing]:
    """F2: of each setting the cell of the seed chosen on validation, in the order of the ablation table.

    The first figure holds the main settings, those that differ from the default in the factors or the method alone; the
    second holds all, where that is more. A given cell was not derived and is in neither.
    """
    searched = [setting for setting in study.settings if not setting.given]
    alike = [setting for setting in searched if _is_main(study, setting)]
    main = _chosen(alike, Setting.label)[:MOST_MAIN]  # they differ in nothing else
    every = _chosen(searched, study.label)
    main = main or every[:MOST_MAIN]
    if not main:
        return []
    shown = every[:MOST_CELLS]
    cut = len(alike) > len(main)
    figures = [_cells(study, main, "", suffix, len(every), cut)]
    if len(shown) > len(main):
        figures.append(_cells(study, shown, "_all", suffix, len(every), True))
    return figures


def _is_main(study: Study, setting: Setting) -> bool:
    """Whether a setting has the default's values in all but the factors; of a baseline, whose own values differ,
    whether it is the first of its name."""
    if "csc" in setting.methods:
        reference = study.reference
        return reference is None or all(setting.params.get(n) == reference.params.get(n) for n in study.varied)
    return setting is next(other for other in study.settings if other.methods == setting.methods)


def _chosen(settings: Iterable[Setting], label: Callable[[Setting], str]) -> list[_Chosen]:
    found = []
    for setting in settings:
        done = [run for run in setting.done if run["genotype"]]
        if not done:
            continue
        best = selected_search(setting)
        run = next((run for run in done if best and run["hash"] == best.hash), done[0])
        try:
            found.append(_Chosen(label(setting), int(run["seed"]), parse_genotype(str(run["genotype"]))))
        except UserError:
            continue
    return found


@styled
def _cells(study: Study, chosen: Sequence[_Chosen], part: str, suffix: str, total: int, cut: bool) -> Drawing:
    drawn = [(one.label, one.seed, layout(one.genotype)) for one in chosen]
    small = max(len(cells) for _, _, cells in drawn) == 1
    down = -(-len(drawn) // 2) if small else len(drawn)
    figure = Figure(figsize=(NARROW if small else WIDE, (1.55 if small else 2.35) * down), layout="constrained")
    grid = figure.subplots(down, 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    rows = []
    for position, (label, seed, cells) in enumerate(drawn):
        for number, cell in enumerate(cells):
            axes = grid[position // 2][position % 2] if small else grid[position][number]
            title = f"{textwrap.fill(label, 36)}\nseed {seed}" if small else f"{label}, seed {seed}: {cell.kind}"
            draw(axes, cell, title)
            rows.append({"setting": label, "seed": seed, "cell": cell.kind, "operations": cell.words})
    what = "All derived cells" if part else "Derived cells"
    return Drawing(
        "F2",
        f"f2_cells{part}{suffix}",
        f"{what} ({study.title})",
        "One seed per setting, the one with the lowest validation error, in the order of T3. Dotted arcs carry no "
        f"operation.{_left_out(len(chosen), total, cut)}",
        f"{what}. " + " | ".join(f"{row['setting']}, seed {row['seed']}, {row['operations']}" for row in rows),
        figure,
        pd.DataFrame(rows),
        wide=not small,
        rest=f"All {counted(len(chosen), 'setting')}" if part else "",
    )


def _left_out(shown: int, total: int, cut: bool) -> str:
    if shown == total:
        return ""
    if cut:
        return f" The first {shown} of {counted(total, 'setting')} are drawn; every run's page has its own cell."
    return f" {shown} of {counted(total, 'setting')} are drawn: those that differ in the factors or the method alone."
