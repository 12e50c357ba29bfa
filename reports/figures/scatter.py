"""F3, error against memory with Pareto front; F7, rank in the supernet against rank in the benchmark."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

from cscdarts.settings.metrics import METRICS
from reports import statistics
from reports.figures.style import INK, MARKERS, NARROW, PALETTE, PAPER, Drawing, panels, styled
from reports.read.searches import by_search
from reports.read.settings import FACTORS, Run, Setting, Study, by_machine, column

ERROR, MEMORY = "test_error_pct", "peak_memory_mib"
#: None of those that stand for an identity. When all are taken they come again, open.
_FORMS = ("v", "P", "X", "*", "D", "<", ">", "p", "h", "d", "8", "H")


#: With more marks than this, bars of spread would hide them.
MOST_BARS = 60


def error_memory_figure(study: Study, suffix: str) -> Drawing | None:
    """F3: one panel per machine, because memory of two machines is not comparable; None without both numbers."""
    machines: dict[str, list[tuple[Setting, list[Run]]]] = {}
    for setting in study.settings:
        known = [run for run in setting.done if column([run], ERROR).size and column([run], MEMORY).size]
        for machine, runs in by_machine(known).items():
            machines.setdefault(machine, []).append((setting, runs))
    return _error_memory(study, machines, suffix) if machines else None


@styled
def _error_memory(study: Study, machines: dict[str, list[tuple[Setting, list[Run]]]], suffix: str) -> Drawing:
    figure, grid = panels(len(machines), 1, NARROW, 1.5 + 2.6 * len(machines))
    settings = [setting for group in machines.values() for setting, _ in group]
    ratios = list(dict.fromkeys(s.params.get(FACTORS[0], "–") for s in settings if "csc" in s.methods))
    baselines = list(dict.fromkeys(s.names for s in settings if "csc" not in s.methods))
    frames = []
    for axes, (machine, group) in zip([row[0] for row in grid], machines.items(), strict=True):
        points = pd.DataFrame(
            {
                "machine": machine,
                "setting": study.label(setting),
                "n": len(by_search(runs)),
                "peak_memory_mib": float(_by_search(runs, MEMORY).mean()),
                "test_error_pct": float(_by_search(runs, ERROR).mean()),
                "test_error_sd": statistics.sd(_by_search(runs, ERROR)),
            }
            for setting, runs in group
        )
        front = statistics.pareto_front(points[[MEMORY, ERROR]])
        points["on_front"] = ["yes" if k in set(front) else "" for k in range(len(points))]
        looks: dict[tuple[str, str, bool], list[int]] = {}
        for position, (setting, _) in enumerate(group):
            looks.setdefault(_look(setting, ratios, baselines), []).append(position)
        for (colour, marker, filled), positions in looks.items():
            same = points.iloc[positions]
            if len(points) <= MOST_BARS:
                spread = same["test_error_sd"].astype(float).fillna(0.0)
                room = [np.minimum(spread, same[ERROR]), np.minimum(spread, 100 - same[ERROR])]  # an error is a share
                axes.errorbar(
                    same[MEMORY], same[ERROR], yerr=room, fmt="none", color=colour, linewidth=0.8, alpha=0.6, zorder=2
                )
            sns.scatterplot(
                data=same,
                x=MEMORY,
                y=ERROR,
                ax=axes,
                marker=marker,
                s=44,
                facecolor=colour if filled else PAPER,
                edgecolor=colour,
                linewidth=1.3,
                legend=False,
                zorder=3,
            )
        steps = points.iloc[front]
        axes.step(steps[MEMORY], steps[ERROR], where="post", color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        axes.set_xlabel("peak memory of the search [MiB]")
        axes.set_ylabel("test error [%]")
        axes.tick_params(labelbottom=True)
        axes.set_title(machine, loc="left")
        frames.append(points)
    figure.legend(handles=_keys(ratios, baselines, settings), loc="outside lower center", ncols=2)
    data = pd.concat(frames, ignore_index=True)
    best = data[data["on_front"] == "yes"]["setting"].tolist()
    named = "; ".join(best[:12]) + (f"; and {len(best) - 12} more" if len(best) > 12 else "")
    return Drawing(
        "F3",
        f"f3_error_memory{suffix}",
        f"Test error against memory of the search ({study.title})",
        "Each mark is the mean over searches of one setting, bars are one standard deviation of the error; the dashed "
        "line "
        "joins the settings that no other one beats in both. Machines are kept apart.",
        f"Scatter of mean test error against peak memory of the search. On the Pareto front: {named}.",
        figure,
        data,
    )


def _by_search(runs: Sequence[Run], metric: str) -> statistics.Values:
    """A metric's mean over each search's retrainings, shape (searches,)."""
    return statistics.finite([column(same, metric).mean() for same in by_search(runs)])


def _look(setting: Setting, ratios: Sequence[str], baselines: Sequence[str]) -> tuple[str, str, bool]:
    """Colour by ratio, marker by identity, filled at second order; baselines grey with markers of their own."""
    if "csc" not in setting.methods:
        return ("#666666", *_baseline_mark(baselines.index(setting.names)))
    colour = PALETTE[ratios.index(setting.params.get(FACTORS[0], "–")) % 6]
    identity = {"cell": 0, "edge": 2, "none": 1}.get(setting.params.get(FACTORS[1], ""), 3)
    return (colour, MARKERS[identity], setting.params.get(FACTORS[2]) != "1")


def _baseline_mark(place: int) -> tuple[str, bool]:
    return _FORMS[place % len(_FORMS)], place // len(_FORMS) % 2 == 0


def _keys(ratios: Sequence[str], baselines: Sequence[str], settings: Sequence[Setting]) -> list[Line2D]:
    def key(label: str, marker: str, colour: str, filled: bool = True) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="none",
            marker=marker,
            color=colour,
            markerfacecolor=colour if filled else PAPER,
            markersize=6,
            label=label,
        )

    csc = [s for s in settings if "csc" in s.methods]
    keys = [key(f"ratio {ratio}", "o", PALETTE[k % 6]) for k, ratio in enumerate(ratios)]
    for name, marker in (("cell", MARKERS[0]), ("none", MARKERS[1]), ("edge", MARKERS[2])):
        if any(s.params.get(FACTORS[1]) == name for s in csc):
            keys.append(key(f"identity {name}", marker, INK))
    for name, filled in (("1", False), ("2", True)):
        if any(s.params.get(FACTORS[2]) == name for s in csc):
            keys.append(key(f"order {name}", "o", INK, filled))
    for place, name in enumerate(baselines):
        form, filled = _baseline_mark(place)
        keys.append(key(name, form, "#666666", filled))
    return [*keys, Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="Pareto front")]


def rank_figure(study: Study, cells: Sequence[Sequence[tuple[str, float, float]]], suffix: str) -> Drawing | None:
    """F7: benchmark rank against the supernet's rank, for the reference setting.

    Args:
        cells: for each seed, (cell, accuracy under shared weights, benchmark accuracy); the first seed's are drawn.
    """
    kept = [[cell for cell in seed if math.isfinite(cell[1]) and math.isfinite(cell[2])] for seed in cells]
    kept = [seed for seed in kept if len(seed) >= 3]
    return _rank_figure(study, kept, suffix) if kept else None


@styled
def _rank_figure(study: Study, cells: Sequence[Sequence[tuple[str, float, float]]], suffix: str) -> Drawing:
    from scipy.stats import kendalltau

    def tau(seed: Sequence[tuple[str, float, float]]) -> str:
        value = float(kendalltau([cell[1] for cell in seed], [cell[2] for cell in seed]).statistic)
        return f"{value:.{METRICS['kendall_tau'].digits}f}".replace("-", "−") if math.isfinite(value) else "undefined"

    data = pd.DataFrame(cells[0], columns=["cell", "supernet_valid_acc_pct", "benchmark_valid_acc_pct"])
    for side in ("supernet", "benchmark"):
        data[f"{side}_rank"] = data[f"{side}_valid_acc_pct"].rank(ascending=False, method="average")
    figure, grid = panels(1, 1, NARROW, 3.4)
    axes = grid[0][0]
    most = len(data) + 0.5
    axes.plot([0.5, most], [0.5, most], color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    sns.scatterplot(
        data=data, x="supernet_rank", y="benchmark_rank", ax=axes, color=PALETTE[0], s=20, alpha=0.7, legend=False
    )
    axes.set_xlabel("rank in the supernet (1 is best)")
    axes.set_ylabel("rank in the benchmark")
    values = ", ".join(tau(seed) for seed in cells)
    return Drawing(
        "F7",
        f"f7_rank{suffix}",
        f"Supernet rank against benchmark rank ({study.title})",
        f"Each point is one of {len(data)} sampled cells under the default setting, first seed; a perfect proxy lies "
        "on the "
        f"dashed line. Kendall's τ by seed: {values}.",
        f"Scatter of benchmark rank against supernet rank of {len(data)} cells; Kendall's tau by seed {values}.",
        figure,
        data,
    )
