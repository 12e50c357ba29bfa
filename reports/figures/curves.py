"""Figures over epochs: F1 alpha, F4 skip connections, F5 Hessian eigenvalue, F6 benchmark accuracy, F9 discretisation
gap."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cscdarts.settings.metrics import METRICS
from cscdarts.spaces import SPACES
from reports.figures.genotype import is_zero, op_colour, op_label
from reports.figures.style import LINES, NARROW, PALETTE, WIDE, Drawing, panels, styled
from reports.read.curves import CurveBook
from reports.read.settings import FACTORS, Setting, Study
from reports.words import counted

#: A panel with more lines than this cannot be read.
MOST_LINES = 8
MOST_PANELS = 9


@dataclass(frozen=True)
class EpochFigure:
    """A metric over epochs.

    Attributes:
        number, name, title: as in `Drawing`.
        metric: the curve.
        caption: how to read it.
        lack: what to do where no run recorded it.
        low, high: what its values cannot leave; bands are cut there, and an axis of counts begins there.
        count: whether it counts things.
    """

    number: str
    name: str
    title: str
    metric: str
    caption: str
    lack: str
    low: float = -math.inf
    high: float = math.inf
    count: bool = False


EPOCH_FIGURES = (
    EpochFigure(
        "F4",
        "f4_skip_count",
        "Skip connections over the search",
        "skip_count",
        "Skip connections in the cell that would be derived after each epoch. A rise toward all edges is the collapse "
        "that plain DARTS is known for.",
        "no run recorded skip_count",
        low=0,
        count=True,
    ),
    EpochFigure(
        "F5",
        "f5_hessian_eigenvalue",
        "Sharpness of the validation loss in α",
        "alpha_hessian_eigenvalue",
        "Largest eigenvalue of the Hessian of the validation loss in the architecture parameters (R-DARTS's sign of a "
        "search about to collapse).",
        "no run recorded it; set search.hessian_every above 0",
    ),
    EpochFigure(
        "F6",
        "f6_benchmark_accuracy",
        "Benchmark accuracy of the derived cell over the search",
        "benchmark_test_acc_pct",
        "Test accuracy that the benchmark knows for the cell that would be derived after each epoch. The benchmark's "
        "cells have neither split nor identity, so this judges the search only.",
        "no run was checked against a benchmark",
        low=0,
        high=100,
    ),
    EpochFigure(
        "F9",
        "f9_discretisation_gap",
        "Discretisation gap over the search",
        "discretisation_gap_pct",
        "How many points more validation error the derived cell has under shared weights than the supernet: what is "
        "lost by keeping one operation per edge.",
        "no run recorded discretisation_gap_pct",
    ),
)


def epoch_figure(plan: EpochFigure, study: Study, book: CurveBook, suffix: str) -> Drawing | None:
    """One panel for each (order, identity), one line a split ratio, a last panel for the baselines; None without
    curves."""
    groups = [(title, lines) for title, lines in _groups(study) if any(_has(book, s, plan.metric) for _, s in lines)]
    if not groups:
        return None
    return _epoch_figure(plan, study, book, suffix, groups[:MOST_PANELS])


def _has(book: CurveBook, setting: Setting, metric: str) -> bool:
    return book.band(setting, metric) is not None


@styled
def _epoch_figure(
    plan: EpochFigure,
    study: Study,
    book: CurveBook,
    suffix: str,
    groups: list[tuple[str, list[tuple[str, Setting]]]],
) -> Drawing:
    across = min(len(groups), 2 if len(groups) <= 6 else 3)
    down = -(-len(groups) // across)
    width = NARROW if across <= 2 else WIDE
    figure, grid = panels(down, across, width, 0.75 + 1.65 * down)
    frames = []
    names = list(dict.fromkeys(name for _, lines in groups for name, _ in lines))
    for position, (title, lines) in enumerate(groups):
        axes = grid[position // across][position % across]
        axes.set_title(title, loc="left")
        for name, setting in lines:
            found = book.band(setting, plan.metric)
            if found is None:
                continue
            epochs, centre = found[:2]
            low, high = (np.clip(edge, plan.low, plan.high) for edge in found[2:])
            look = names.index(name)
            sns.lineplot(
                x=epochs,
                y=centre,
                ax=axes,
                color=PALETTE[look % len(PALETTE)],
                # From the palette's end on each colour comes again with another dash.
                linestyle=LINES[(look + look // len(PALETTE)) % len(LINES)],
                label=name,
                legend=False,
                errorbar=None,
            )
            axes.fill_between(epochs, low, high, color=PALETTE[look % len(PALETTE)], alpha=0.15, linewidth=0)
            frames.append(
                pd.DataFrame({"panel": title, "line": name, "epoch": epochs, "mean": centre, "low": low, "high": high})
            )
        if plan.count:
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            for line in axes.lines:
                line.set_clip_on(False)  # a line at 0 keeps its width
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("epoch" if position + across >= len(groups) else "")
        axes.xaxis.label.set_visible(True)
        axes.set_ylabel("")
    for position in range(len(groups), down * across):
        grid[position // across][position % across].set_visible(False)
    for position in range(max(0, len(groups) - across), len(groups)):
        grid[position // across][position % across].tick_params(labelbottom=True)
    if plan.count:  # once for all panels: they share the scale, and a limit that is set ends its growing
        grid[0][0].set_ylim(0, max(1.0, grid[0][0].get_ylim()[1]))
    metric = METRICS[plan.metric]
    label = metric.label + (f" [{metric.unit}]" if metric.unit else "")
    figure.supylabel(textwrap.fill(label, 18 + 16 * down), fontsize=8.5)
    _legend(figure, [axes for row in grid for axes in row])
    data = pd.concat(frames, ignore_index=True)
    ends = data.drop_duplicates(["panel", "line"], keep="last")
    alt = f"{plan.title}, {study.title}. Last value of each line: " + "; ".join(
        f"{row['panel']}, {row['line']}: {row['mean']:.{metric.digits}f}" for row in ends.to_dict("records")
    )
    return Drawing(
        plan.number,
        plan.name + suffix,
        f"{plan.title} ({study.title})",
        f"{plan.caption} Lines: mean over seeds; bands: one standard deviation{_cut(plan)}.",
        alt,
        figure,
        data,
        wide=width == WIDE,
    )


def _cut(plan: EpochFigure) -> str:
    ends = [f"{end:g}" for end in (plan.low, plan.high) if math.isfinite(end)]
    return f", cut at {' and '.join(ends)}" if ends else ""


def _groups(study: Study) -> list[tuple[str, list[tuple[str, Setting]]]]:
    """Panels with their lines; where further parameters vary, only those at the reference's values are drawn."""
    ratio, identity, order = FACTORS
    anchor = study.reference or next(iter(study.ablation), None)
    found: dict[str, list[tuple[str, Setting]]] = {}
    for setting in study.ablation:
        if setting.given:  # not searched, so nothing is over epochs
            continue
        if anchor is not None and any(setting.params.get(n) != anchor.params.get(n) for n in study.varied):
            continue
        title = f"identity {setting.params.get(identity, '–')}, order {setting.params.get(order, '–')}"
        found.setdefault(title, []).append((f"ratio {setting.params.get(ratio, '–')}", setting))
    baselines = [setting for setting in study.baselines if not setting.given]
    if baselines:
        seen: dict[str, Setting] = {}
        for setting in baselines:
            seen.setdefault(setting.names, setting)
        lines = list(seen.items())
        for start in range(0, len(lines), MOST_LINES):
            found[f"baselines, {start + 1} and on" if start else "baselines"] = lines[start : start + MOST_LINES]
    return [(title, lines[:MOST_LINES]) for title, lines in found.items()]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend under all panels."""
    handles: dict[str, Artist] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    longest = max((len(label) for label in handles), default=1)
    columns = max(1, min(len(handles), int(62 / (longest + 6))))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def alpha_figures(study: Study, book: CurveBook, suffix: str) -> list[Drawing]:
    """F1: softmax of alpha on each edge over epochs, for the reference setting; one figure a kind of cell."""
    setting = study.reference
    if setting is None or setting.space not in SPACES:
        return []
    found = []
    for kind, runs in sorted(book.alphas(setting).items()):
        length = min(len(run) for run in runs)
        shapes = {run.shape[1:] for run in runs}
        if length and len(shapes) == 1:
            found.append(_alpha_figure(study, setting, kind, np.stack([run[:length] for run in runs]), suffix))
    return found


@styled
def _alpha_figure(study: Study, setting: Setting, kind: str, weights: Any, suffix: str) -> Drawing:
    runs, epochs, edges, columns = weights.shape
    space = SPACES[setting.space]
    given = tuple(
        part.strip(" []'\"") for part in setting.params.get("supernet.ops", "").split(",") if part.strip(" []'\"")
    )
    ops = given if len(given) == columns else space.ops[:columns]
    across = 3 if edges <= 6 else 4
    down = -(-edges // across)
    figure, grid = panels(down, across, NARROW if across == 3 else WIDE, 0.9 + 1.15 * down)
    centre = weights.mean(axis=0)
    spread = weights.std(axis=0, ddof=1) if runs > 1 else np.zeros_like(centre)
    steps = np.arange(epochs)
    frames = []
    for edge in range(edges):
        axes = grid[edge // across][edge % across]
        source, target = space.edges[edge] if edge < len(space.edges) else (0, edge)
        name = f"edge {source} → {target}"
        axes.set_title(name, loc="left")
        for column, op in enumerate(ops):
            line = "#8a8a90" if is_zero(op) else op_colour(op, column)
            sns.lineplot(
                x=steps,
                y=centre[:, edge, column],
                ax=axes,
                color=line,
                linestyle=LINES[column % len(LINES)],
                label=op_label(op),
                legend=False,
                errorbar=None,
            )
            axes.fill_between(
                steps,
                np.clip(centre[:, edge, column] - spread[:, edge, column], 0, 1),
                np.clip(centre[:, edge, column] + spread[:, edge, column], 0, 1),
                color=line,
                alpha=0.13,
                linewidth=0,
            )
            frames.append(
                pd.DataFrame(
                    {
                        "edge": name,
                        "op": op,
                        "epoch": steps,
                        "mean": centre[:, edge, column],
                        "sd": spread[:, edge, column],
                    }
                )
            )
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("epoch" if edge + across >= edges else "")
        axes.xaxis.label.set_visible(True)
        axes.set_ylabel("")
    for position in range(edges, down * across):
        grid[position // across][position % across].set_visible(False)
    for position in range(max(0, edges - across), edges):
        grid[position // across][position % across].tick_params(labelbottom=True)
    figure.supylabel("softmax(α)", fontsize=8.5)
    _legend(figure, [axes for row in grid for axes in row])
    last = centre[-1]
    strongest = "; ".join(
        f"{space.edges[edge][0]} to {space.edges[edge][1]}: {op_label(ops[int(last[edge].argmax())])} "
        f"{last[edge].max():.2f}"
        for edge in range(min(edges, len(space.edges)))
    )
    title = "" if kind == "cell" else f", {kind} cell"
    return Drawing(
        "F1",
        f"f1_alpha_{kind}{suffix}",
        f"Architecture weights over the search{title} ({study.title})",
        f"Softmax of α on each edge, setting {setting.describe()}; mean over {counted(runs, 'search', 'searches')}"
        + (", bands one standard deviation." if runs > 1 else "."),
        f"Weights of operations on each edge over {epochs} epochs. Strongest at the end: {strongest}.",
        figure,
        pd.concat(frames, ignore_index=True),
        wide=across > 3,
    )
