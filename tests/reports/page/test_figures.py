"""Figures: F2 in the table's order with the rest on demand, axes of counts from 0, bands within what can be."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.lines import Line2D

from cscdarts.settings.methods import PRESETS
from reports.build import Report, all_figures
from reports.figures.cells import cells_figures
from reports.figures.curves import EPOCH_FIGURES, epoch_figure
from reports.figures.scatter import error_memory_figure
from reports.figures.style import Drawing
from reports.read.curves import CurveBook
from reports.read.settings import studies
from reports.read.store import Store, load
from reports.tables.benchmark import CheckBook
from tests.support.report_store import SyntheticStore, tiny

OTHER_CELL = "|skip_connect~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Store:
    """Two factorial settings, two that differ in more, a given cell; counts near 0 and accuracies near 100."""
    store = SyntheticStore(tmp_path_factory.mktemp("figures"), empty_store)
    for seed in range(3):
        curves = [("search", epoch, {"skip_count": float(2 * (seed == 0))}) for epoch in range(4)]
        curves += [("check", epoch, {"benchmark_test_acc_pct": 99.5 if seed else 90.0}) for epoch in range(4)]
        values = {"test_error_pct": 0.1 + 3.0 * (seed == 0), "peak_memory_mib": 100.0}
        for changed in ({}, {"supernet__identity": "none"}, {"supernet__identity_phases": "search"}):
            store.add(tiny(seed, **changed), values, curves=curves)
        store.add(tiny(seed, search__strategy="random"), values, methods=("random",))
        given = tiny(seed, search__strategy="given", search__genotype=OTHER_CELL)
        store.add(given, values, methods=("cell",), genotype=OTHER_CELL)
    return load(["quickstart"], store.finish())


def _cells(drawing: Drawing) -> list[str]:
    return list(dict.fromkeys(drawing.data["setting"]))


def test_cells_stand_in_the_order_of_the_table_and_all_on_demand(made: Store) -> None:
    (study,) = studies(made)
    main, every = cells_figures(study, "")
    assert _cells(main) == [
        "ratio 1/2, identity cell, order 2", "ratio 1/2, identity none, order 2", "Random architectures"
    ]  # fmt: skip
    labels = [study.label(setting) for setting in study.settings if not setting.given]
    assert _cells(every) == labels
    assert len(labels) == 4
    assert (main.rest, every.rest) == ("", "All 4 settings")
    assert "3 of 4 settings are drawn" in main.caption
    assert "are drawn" not in every.caption


def test_counts_begin_at_0_and_bands_end_where_values_do(made: Store) -> None:
    (study,) = studies(made)
    book = CurveBook(made)
    plans = {plan.number: epoch_figure(plan, study, book, "") for plan in EPOCH_FIGURES}
    skips, accuracy = plans["F4"], plans["F6"]
    assert skips is not None
    assert accuracy is not None
    # Counts 2, 0, 0: the mean is 2/3 and the standard deviation above 1, so the band would begin below 0.
    assert skips.data["mean"].iloc[0] == pytest.approx(2 / 3)
    assert set(skips.data["low"]) == {0.0}
    assert all(axes.get_ylim()[0] == 0 for axes in skips.figure.axes if axes.get_visible())
    assert skips.caption.endswith("one standard deviation, cut at 0.")
    assert accuracy.data["high"].max() == 100
    assert accuracy.caption.endswith("cut at 0 and 100.")


def test_bars_of_a_share_stay_within_it(made: Store) -> None:
    """Errors 3.1, 0.1, 0.1 %: mean 1.1, standard deviation 1.7, so a bar would reach below 0."""
    (study,) = studies(made)
    drawing = error_memory_figure(study, "")
    assert drawing is not None
    collections = [bars for axes in drawing.figure.axes for bars in axes.collections]
    lines = [np.asarray(path.vertices) for bars in collections for path in bars.get_paths()]
    ends = np.concatenate([line[:, 1] for line in lines if len(line) == 2])
    assert ends.size
    assert ends.min() >= 0


def test_what_was_not_searched_is_in_no_figure_of_searches(made: Store) -> None:
    found = studies(made)
    drawn, _ = all_figures(found, CurveBook(made), CheckBook(made))
    assert {"F2", "F4", "F6", "F8"} <= {drawing.number for drawing in drawn}
    for drawing in drawn:
        if drawing.number in ("F2", "F8"):
            assert not any(name.startswith("cell") for name in drawing.data["setting"]), drawing.name
        elif drawing.number != "F3":
            assert "cell" not in set(drawing.data["line"]), drawing.name


def test_the_claims_and_the_ablation_come_before_the_figures_and_then_the_tables_by_number(
    quick_report: Report,
) -> None:
    page = (quick_report.folder / "index.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert sections == [
        "summary", "t0_claims", "t3_ablation", "t3b_variance", "figures", "t1_cifar", "t2_imagenet", "t4_cost",
        "t5_benchmark", "t5b_checks", "t6a_settings", "t6b_runs", "t6c_missing", "t7_checklists",
    ]  # fmt: skip


def test_sixteen_baselines_are_told_apart_and_none_is_left_out(tmp_path: Path, empty_store: Path) -> None:
    store = SyntheticStore(tmp_path, empty_store)
    names = [name for name in PRESETS if name != "csc"]
    assert len(names) >= 15
    for place, name in enumerate(names):
        config = tiny(0, search__epochs=3 + place)
        curves = [("search", epoch, {"skip_count": float(epoch * place)}) for epoch in range(2)]
        store.add(config, {"test_error_pct": 5.0, "peak_memory_mib": 100.0 + place}, methods=(name,), curves=curves)
    found = load(["quickstart"], store.finish())
    (study,) = studies(found)
    (plan,) = [one for one in EPOCH_FIGURES if one.number == "F4"]
    drawing = epoch_figure(plan, study, CurveBook(found), "")
    assert drawing is not None
    assert drawing.data["line"].nunique() == len(study.baselines) == len(names)
    lines = {line.get_label(): line for axes in drawing.figure.axes for line in axes.lines}
    # The panels share one scale, and no line leaves it.
    assert min(axes.get_ylim()[1] for axes in drawing.figure.axes) >= len(names) - 1
    looks = {(line.get_color(), str(vars(line)["_dash_pattern"])) for line in lines.values()}
    assert len(looks) == len(names)
    spread = error_memory_figure(study, "")
    assert spread is not None
    (legend,) = spread.figure.legends
    handles = [handle for handle in legend.legend_handles if isinstance(handle, Line2D)]
    kept = [handle for handle in handles if handle.get_label() != "Pareto front"]
    marks = {(str(handle.get_marker()), str(handle.get_markerfacecolor())) for handle in kept}
    assert len(marks) == len(names)
