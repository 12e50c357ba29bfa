"""T4: what the search costs in parameters, MACs, memory and time, machine by machine."""

from collections.abc import Mapping, Sequence

from benchmarks.published.rows import primary_rows
from cscdarts.settings.metrics import METRICS
from reports import statistics
from reports.read.searches import one_of_each
from reports.read.settings import FACTORS, Run, Setting, Study, by_machine, code, column, factor_label, number
from reports.tables.table import (
    Block,
    Column,
    Notes,
    ReportTable,
    Row,
    TableCell,
    metric_cell,
    number_cell,
    parameter_cell,
    text_cell,
)

#: The same on every machine.
COUNTED = ("supernet_params_m", "supernet_macs_m", "memory_access_mb")
#: Measured, and so bound to a machine and a code version.
MEASURED = ("saved_mb", "peak_memory_mib", "search_time_s")
_LABELS = {
    "supernet_params_m": "params",
    "supernet_macs_m": "MACs",
    "memory_access_mb": "memory access",
    "saved_mb": "saved for backward",
    "peak_memory_mib": "peak memory",
    "search_time_s": "search time",
}


def cost_table(studies: Sequence[Study]) -> ReportTable:
    """T4: one row per setting and machine; ratios are taken to ratio 1 without identity on the same machine and
    code."""
    notes = Notes()
    extra = tuple(sorted({name for study in studies for name in study.varied}))
    columns = (
        Column("method", "method", numeric=False),
        *(Column(name, factor_label(name), numeric=False) for name in (*FACTORS, *extra)),
        Column("paper_peak_memory", "memory", "GB", source="paper"),
        *(Column(m, _LABELS[m], METRICS[m].unit, spread=True, source="ours") for m in (*COUNTED, *MEASURED)),
        Column("memory_ratio", "memory, × plain DARTS"),
        Column("time_ratio", "time, × plain DARTS"),
        Column("n", "n"),
        Column("hardware", "machine", numeric=False),
        Column("source", "source", numeric=False, only=frozenset({"csv", "html", "md"})),
    )
    blocks = [_published_block(notes, len(extra))]
    for study in studies:
        plain = _plain_settings(study)
        rows = [row for setting in study.settings for row in _rows(setting, plain, extra, notes)]
        if rows:
            blocks.append(Block(study.title, tuple(rows)))
    return ReportTable(
        "T4",
        "t4_cost",
        "Cost of the search",
        "Counted: parameters, MACs (multiply-accumulates, convolutions and linear layers) and memory access by the "
        "ShuffleNetV2 equation. Measured: bytes saved for backward, peak memory, wall time. Plain DARTS is ratio 1 "
        "without identity at the same order; ratios compare runs of one machine and one code version only. The paper "
        "claims fewer GPU resources and gives no figure.",
        columns,
        tuple(blocks),
        notes.done(),
    )


def _published_block(notes: Notes, extra: int) -> Block:
    rows = []
    for row in primary_rows("memory"):
        value = row.numbers["memory_gb"]
        mark = "" if value is not None else notes.mark("not public: the abstract gives no figure")
        if value is not None:
            mark = notes.mark(f"batch 64, C=16, 8 cells; {row.note}")
        blanks = [TableCell() for _ in range(len(FACTORS) + extra)]
        ours = [TableCell(source="ours") for _ in (*COUNTED, *MEASURED)]
        cells = [text_cell(row.method), *blanks, number_cell(value, 1, "paper", marks=mark), *ours]
        cells += [TableCell(), TableCell(), TableCell("0", 0), TableCell(), text_cell(row.source)]
        rows.append(Row(tuple(cells), "paper"))
    return Block("Published search memory", tuple(rows))


def _rows(
    setting: Setting, plain: Mapping[tuple[tuple[str, str], ...], Setting], extra: Sequence[str], notes: Notes
) -> list[Row]:
    measured = [run for run in setting.done if any(number(run, m) == number(run, m) for m in (*COUNTED, *MEASURED))]
    known = one_of_each(measured)  # a search that several retrainings share was paid once
    rows = []
    for machine, runs in by_machine(known).items():
        other = plain.get(_rest(setting)) if "csc" in setting.methods else None
        base = by_machine(one_of_each(other.done)).get(machine, []) if other else []
        cells = [
            text_cell(setting.names, link=f"#{setting.anchor}"),
            *(parameter_cell(setting, name) for name in (*FACTORS, *extra)),
            TableCell(source="paper"),
            *(metric_cell(setting, name, values=column(runs, name)) for name in (*COUNTED, *MEASURED)),
            _ratio(runs, base, "peak_memory_mib", notes),
            _ratio(runs, base, "search_time_s", notes),
            TableCell(str(len(runs)), len(runs)),
            text_cell(machine),
            text_cell("this report"),
        ]
        rows.append(Row(tuple(cells), "ours"))
    return rows


def _rest(setting: Setting) -> tuple[tuple[str, str], ...]:
    """All parameters but ratio and identity: what plain DARTS must have in common with a setting."""
    return tuple(sorted((name, value) for name, value in setting.params.items() if name not in FACTORS[:2]))


def _plain_settings(study: Study) -> dict[tuple[tuple[str, str], ...], Setting]:
    """The settings of ratio 1 without identity, by their other parameters."""
    ratio, identity, _ = FACTORS
    return {
        _rest(setting): setting
        for setting in study.ablation
        if setting.params.get(ratio) == "1" and setting.params.get(identity) == "none"
    }


def _ratio(runs: Sequence[Run], base: Sequence[Run], metric: str, notes: Notes) -> TableCell:
    if not base:
        return TableCell()
    versions = {code(run) for run in (*runs, *base)}
    if len(versions) > 1:
        return TableCell(marks=notes.mark("runs of several code versions are not compared"))
    ours, plain = statistics.mean(column(runs, metric)), statistics.mean(column(base, metric))
    return (
        TableCell()
        if ours is None or not plain
        else TableCell(f"{ours / plain:.2f}", ours / plain, source="ours", n=len(runs))
    )
