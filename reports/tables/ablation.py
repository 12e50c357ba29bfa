"""T3, the ablation: ratio x identity x order, with paired differences to the default setting; and its variance
split."""

from collections.abc import Sequence

import numpy as np

from cscdarts.settings.metrics import METRICS, format_value
from reports import statistics
from reports.read.comparison import ERROR, MACHINE_BOUND, adjusted_p, differences, selected_search, signed
from reports.read.doubts.surroundings import mixed
from reports.read.pairs import pairs
from reports.read.settings import FACTORS, Setting, Study, column, factor_label, number
from reports.tables.table import (
    DASH,
    Block,
    Column,
    Notes,
    ReportTable,
    Row,
    TableCell,
    metric_cell,
    parameter_cell,
    text_cell,
)
from reports.words import counted, verb

#: At most this many seeds are spelled out in one cell.
SHOWN_SEEDS = 6
_WIDE = frozenset({"html", "csv", "md"})
_CSV = frozenset({"csv"})
_ROBUST = (
    Column("iqm_test_error_pct", "IQM", "%", source="ours", only=_WIDE, better="lower"),
    Column("p_improvement", "P(better)", source="ours", only=_WIDE),
)
_ROBUST_CAPTION = (
    f" From n = {statistics.ROBUST_N} on, after Agarwal et al. 2021: IQM, the mean of the middle half of a setting's "
    "seeds; P(better), of all pairs of one of its seeds and one of the default's the share in which its error is the "
    "lower one, equal ones counted half."
)


def ablation_table(found: Sequence[Study]) -> ReportTable:
    """T3 over all studies that hold a CSC-DARTS setting; each data set and scale is a block of its own."""
    notes = Notes()
    not_public = notes.mark("not public: the paper's ablation tables could not be read")
    shown = [study for study in found if study.settings]
    extra = tuple(sorted({name for study in shown for name in study.varied}))
    robust = any(s.values(ERROR).size >= statistics.ROBUST_N for study in shown for s in study.settings)
    columns = (
        Column("method", "method", numeric=False),
        *(Column(name, factor_label(name), numeric=False) for name in FACTORS),
        *(Column(name, factor_label(name), numeric=False) for name in extra),
        Column("paper_test_error_pct", "test error", "%", source="paper", better="lower"),
        Column(ERROR, "test error", "%", spread=True, source="ours", better="lower"),
        Column("n", "n"),
        Column("each_seed", "each seed", "%", numeric=False, only=_WIDE),
        Column("difference_pct", "difference to default", "points", spread=True),
        Column("interval_95", "95 % interval", numeric=False),
        Column("p_holm", "p (Holm)", only=_WIDE),
        *(_ROBUST if robust else ()),
        *(_metric_column(name) for name in ("params_m", "macs_m", "peak_memory_mib", "search_time_s")),
        Column("bootstrap_low_pct", "bootstrap low", only=_CSV),
        Column("bootstrap_high_pct", "bootstrap high", only=_CSV),
        Column("hardware", "hardware", numeric=False, only=_CSV),
        Column("code", "code", numeric=False, only=_CSV),
    )
    blocks = []
    for study in shown:
        compared = differences(study)
        adjusted = adjusted_p(study, compared)
        for title, group in ((study.title, study.ablation), (f"{study.title} · baselines", study.baselines)):
            rows = tuple(
                _row(study, setting, extra, compared, adjusted, notes, not_public, robust) for setting in group
            )
            if rows:
                blocks.append(Block(title, rows))
    return ReportTable(
        "T3",
        "t3_ablation",
        "Ablation: split ratio × identity × order",
        _caption(shown) + (_ROBUST_CAPTION if robust else ""),
        columns,
        tuple(blocks),
        notes.done(),
    )


def _metric_column(name: str) -> Column:
    metric = METRICS[name]
    label = {"params_m": "params", "peak_memory_mib": "peak memory"}.get(name, metric.label)
    return Column(name, label, metric.unit, spread=True, source="ours")


def _caption(found: Sequence[Study]) -> str:
    text = "Mean ± standard deviation over n seeds of the test error of the retrained network."
    references = [study for study in found if study.reference is not None]
    if references:
        names = "; ".join(f"{s.title}: {s.reference.describe()}" for s in references if s.reference)
        text += (
            f" Differences are paired by seed and taken to the setting nearest the defaults ({names}). "
            "Below 0 a setting has less error than the default."
        )
    compared = [d.n for study in references for d in differences(study).values() if d.n]
    if compared:
        low = statistics.minimum_p(max(compared))
        text += (
            f" p: exact sign-flip test, Holm within each block. With {counted(max(compared), 'pair')} p is "
            f"{low:.3g} or more"
        )
        below = max(compared) < statistics.SIGNIFICANCE_N
        text += ", too much to call a difference significant." if below else "; * marks p < 0.05 at n of 6 or more."
    return text


def _row(
    study: Study,
    setting: Setting,
    extra: Sequence[str],
    compared: dict[str, statistics.PairedDifference],
    adjusted: dict[str, float | None],
    notes: Notes,
    not_public: str,
    robust: bool,
) -> Row:
    errors = setting.values(ERROR)
    low_high = statistics.bootstrap_interval(errors, np.random.default_rng(0))
    link = f"#{setting.anchor}"
    cells = [
        text_cell(
            setting.names, link=link, marks=notes.mark("the default setting") if setting is study.reference else ""
        ),
        *(parameter_cell(setting, name) for name in (*FACTORS, *extra)),
        TableCell(source="paper", marks=not_public),
        metric_cell(setting, ERROR, lacks(setting, notes)),
        TableCell(str(errors.size), int(errors.size)),
        each_seed(setting, ERROR),
        *_difference_cells(study, setting, compared.get(setting.anchor), adjusted.get(setting.anchor), notes),
        *(_robust_cells(study, setting) if robust else ()),
        *(machine_cell(setting, name, notes) for name in ("params_m", "macs_m", "peak_memory_mib", "search_time_s")),
        TableCell(f"{low_high.low:.2f}", low_high.low) if low_high else TableCell(),
        TableCell(f"{low_high.high:.2f}", low_high.high) if low_high else TableCell(),
        text_cell(" | ".join(setting.hardware)),
        text_cell(" | ".join(setting.codes)),
    ]
    return Row(tuple(cells), "ours", key=setting is study.reference)


def _difference_cells(
    study: Study,
    setting: Setting,
    difference: statistics.PairedDifference | None,
    p: float | None,
    notes: Notes,
) -> tuple[TableCell, TableCell, TableCell]:
    if setting is study.reference or difference is None or study.reference is None:
        return TableCell(), TableCell(), TableCell()
    both = pairs(setting, study.reference, ERROR)
    marks = []
    if both.other_code:
        marks.append(notes.mark("seeds whose two runs are of different code versions are not compared"))
    if both.unpaired and difference.n:
        marks.append(notes.mark("only the seeds that both settings finished are paired"))
    if difference.mean is None:
        return TableCell(marks=",".join(marks)), TableCell(), TableCell()
    star = statistics.significance_mark(p, difference.n)
    text = signed(difference.mean, METRICS[ERROR].digits) + star
    hint = counted(difference.n, "pair")
    interval = difference.interval
    span = f"{signed(interval.low, 2)} to {signed(interval.high, 2)}" if interval else DASH
    return (
        TableCell(text, difference.mean, difference.sd, difference.n, marks=",".join(marks), hint=hint, source="ours"),
        TableCell(span, span if interval else None),
        TableCell(f"{p:.3g}", p, hint=hint) if p is not None else TableCell(),
    )


def _robust_cells(study: Study, setting: Setting) -> tuple[TableCell, TableCell]:
    """Interquartile mean, and the probability of improvement over the default where both have the seeds for it."""
    errors, reference = setting.values(ERROR), study.reference
    middle = statistics.interquartile_mean(errors)
    better = None
    if reference is not None and setting is not reference and reference.codes == setting.codes:
        better = statistics.probability_of_improvement(errors, reference.values(ERROR))
    hint = f"n = {errors.size}"
    return (
        TableCell(hint=hint, source="ours")
        if middle is None
        else TableCell(format_value(ERROR, middle), middle, n=int(errors.size), hint=hint, source="ours"),
        TableCell() if better is None else TableCell(f"{better:.2f}", better, hint=hint, source="ours"),
    )


def each_seed(setting: Setting, metric: str) -> TableCell:
    """The values of all seeds in seed order; beyond six, the range, while the CSV keeps them all."""
    values = setting.values(metric)
    if not values.size:
        return TableCell()
    texts = [format_value(metric, float(value)) for value in values]
    short = " · ".join(texts) if len(texts) <= SHOWN_SEEDS else f"{min(values):.2f} to {max(values):.2f}"
    return TableCell(short, " ".join(texts))


def machine_cell(setting: Setting, metric: str, notes: Notes) -> TableCell:
    """A metric's mean, or a dash where it hangs on the machine and the runs come from several."""
    if metric in MACHINE_BOUND and len(setting.hardware) > 1 and setting.values(metric).size:
        mark = notes.mark("runs of several machines: times and memory are not averaged, see T4 by machine")
        return TableCell(marks=mark, link=f"#{setting.anchor}")
    return metric_cell(setting, metric)


def lacks(setting: Setting, notes: Notes) -> str:
    """Marks for what weakens a setting's mean: failed or unfinished runs, numbers that are none, mixed code."""
    marks = []
    failed = sum(run["status"] == "failed" for run in setting.runs)
    waiting = len(setting.runs) - len(setting.done) - failed
    gone = len(setting.done) - column(setting.done, ERROR).size
    if failed:
        marks.append(notes.mark(f"{failed} of {counted(len(setting.runs), 'run')} failed, see T6"))
    if waiting:
        runs = counted(len(setting.runs), "run")
        marks.append(notes.mark(f"{waiting} of {runs} {verb(waiting, 'is', 'are')} not finished, see T6"))
    if gone:
        runs = counted(len(setting.done), "finished run")
        marks.append(notes.mark(f"{gone} of {runs} {verb(gone, 'has', 'have')} no finite test error, see T6"))
    if len(setting.done) > len(setting.searches):
        marks.append(notes.mark("n counts searches: retrainings of one search are averaged first, see T3b"))
    if setting.given and len(setting.done) > 1:
        marks.append(notes.mark("a given cell: n counts its retrainings, whose spread says nothing of a search"))
    if len(setting.codes) > 1:
        marks.append(notes.mark("runs of several code versions in one mean"))
    marks += [notes.mark(f"runs of several {words} in one mean") for words in mixed(setting)]
    if any("+" in version for version in setting.codes):
        marks.append(notes.mark("made from a tree with uncommitted changes"))
    return ",".join(marks)


def variance_table(found: Sequence[Study]) -> ReportTable:
    """How much of the spread comes from the search and how much from the retraining, where the design can tell."""
    notes = Notes()
    columns = (
        Column("method", "setting", numeric=False),
        Column("searches", "searches"),
        Column("retrainings", "retrainings"),
        Column("total_sd_pct", "sd of all runs", "points", source="ours"),
        Column("means_sd_pct", "sd of searches' means", "points", source="ours"),
        Column("search_sd_pct", "search sd", "points", source="ours"),
        Column("retrain_sd_pct", "retraining sd", "points", source="ours"),
        Column("selected_test_error_pct", "test error of the cell chosen on validation", "%", source="ours"),
    )
    blocks = []
    for study in found:
        rows = tuple(
            _variance_row(setting, study.label(setting), notes)
            for setting in study.settings
            if setting.values(ERROR).size
        )
        if rows:
            blocks.append(Block(study.title, rows))
    return ReportTable(
        "T3b",
        "t3b_variance",
        "Where the spread comes from",
        "Of k searches with N retrainings in all, search i has n_i of them with test errors x_ij and mean m_i. Sd of "
        "searches' means: sqrt(sum_i (m_i − mean m)² / (k − 1)). Retraining sd, pooled within searches: "
        "sqrt(W), W = sum_ij (x_ij − m_i)² / (N − k). Search sd, with retraining noise taken out: "
        "sqrt(max(0, (B − W) / n_0)), B = sum_i n_i (m_i − mean x)² / (k − 1), n_0 = (N − sum_i n_i² / N) / (k − 1) "
        "(random effects, method of moments). A design with one retraining a search cannot tell the two apart and "
        "shows a dash. The last column takes of the searches in its row the one whose cell has the lowest validation "
        "error, and gives the mean test error of its retrainings; the test set chooses nothing.",
        columns,
        tuple(blocks),
        notes.done(),
    )


def _variance_row(setting: Setting, name: str, notes: Notes) -> Row:
    # The retrainings of a given cell are a sample of their own, as if of one search.
    groups = (setting.done,) if setting.given else setting.searches
    labelled = [(number(run, ERROR), place) for place, same in enumerate(groups) for run in same]
    parts = statistics.variance_components([value for value, _ in labelled], [place for _, place in labelled])
    mark = ""
    if setting.given:
        mark = notes.mark("a given cell: nothing was searched")
    elif parts.retrain_sd is None:
        mark = notes.mark("one retraining a search: search and retraining vary together")

    def cell(value: float | None, marks: str = "") -> TableCell:
        return (
            TableCell(marks=marks)
            if value is None
            else TableCell(f"{value:.2f}", value, source="ours", n=parts.retrainings)
        )

    chosen = selected_search(setting)
    picked = (
        TableCell()
        if chosen is None
        else TableCell(
            format_value(ERROR, chosen.error), chosen.error, link=f"#run-{chosen.hash}", source="ours", n=chosen.n
        )
    )
    return Row(
        (
            text_cell(name, link=f"#{setting.anchor}"),
            TableCell(marks=mark) if setting.given else TableCell(str(parts.searches), parts.searches),
            TableCell(str(parts.retrainings), parts.retrainings),
            cell(statistics.sd(column(setting.done, ERROR))),
            cell(None if setting.given else statistics.sd(setting.values(ERROR)), mark if setting.given else ""),
            cell(parts.search_sd, mark),
            cell(parts.retrain_sd, "" if setting.given and parts.retrain_sd is not None else mark),
            picked,
        ),
        "ours",
    )
