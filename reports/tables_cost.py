"""T4: what the search costs in parameters, MACs, memory and time, machine by machine."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.published import primary_rows
from cscdarts.metrics import METRICS
from reports import statistics
from reports.settings import FACTORS, Setting, Study, code, factor_label
from reports.table import Block, Cell, Column, Notes, Row, Table, metric_cell, number_cell, text_cell

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


def cost_table(studies: Sequence[Study]) -> Table:
    """T4: one row a setting and machine; ratios are taken to ratio 1 without identity on the same machine and code."""
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
        rows = [row for setting in study.settings for row in _rows(setting, study, extra, notes)]
        if rows:
            blocks.append(Block(study.title, tuple(rows)))
    return Table(
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
        blanks = [Cell() for _ in range(len(FACTORS) + extra)]
        ours = [Cell(source="ours") for _ in (*COUNTED, *MEASURED)]
        cells = [text_cell(row.method), *blanks, number_cell(value, 1, "paper", marks=mark), *ours]
        cells += [Cell(), Cell(), Cell("0", 0), Cell(), text_cell(row.source)]
        rows.append(Row(tuple(cells), "paper"))
    return Block("Published search memory", tuple(rows))


def _rows(setting: Setting, study: Study, extra: Sequence[str], notes: Notes) -> list[Row]:
    names = [name for name in (*COUNTED, *MEASURED) if name in setting.done]
    known = setting.done[setting.done[names].notna().any(axis=1)] if names else setting.done.iloc[:0]
    rows = []
    for machine, runs in known.groupby(known["hardware"].astype(str), sort=True):
        base = _plain(study, setting, str(machine))
        cells = [
            text_cell(setting.names, link=f"#{setting.anchor}"),
            *(text_cell(setting.params.get(name, "")) for name in (*FACTORS, *extra)),
            Cell(source="paper"),
            *(
                metric_cell(setting, name, values=runs[name].to_numpy(dtype=float) if name in runs else [])
                for name in (*COUNTED, *MEASURED)
            ),
            _ratio(runs, base, "peak_memory_mib", notes),
            _ratio(runs, base, "search_time_s", notes),
            Cell(str(len(runs)), len(runs)),
            text_cell(str(machine)),
            text_cell("this report"),
        ]
        rows.append(Row(tuple(cells), "ours"))
    return rows


def _plain(study: Study, setting: Setting, machine: str) -> pd.DataFrame | None:
    """The runs of ratio 1 without identity at the setting's order and other parameters, on this machine."""
    ratio, identity, _ = FACTORS
    for other in study.ablation:
        wanted = {**setting.params, ratio: "1", identity: "none"}
        if "csc" in setting.methods and dict(other.params) == wanted:
            return other.done[other.done["hardware"].astype(str) == machine]
    return None


def _ratio(runs: pd.DataFrame, base: pd.DataFrame | None, metric: str, notes: Notes) -> Cell:
    if base is None or base.empty or metric not in runs:
        return Cell()
    versions = {code(run) for frame in (runs, base) for run in frame.to_dict("records")}
    if len(versions) > 1:
        return Cell(marks=notes.mark("runs of several code versions are not compared"))
    ours, plain = statistics.mean(runs[metric]), statistics.mean(base[metric])
    return (
        Cell() if ours is None or not plain else Cell(f"{ours / plain:.2f}", ours / plain, source="ours", n=len(runs))
    )
