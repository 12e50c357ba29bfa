"""What moved between two reports, or between two commits of ours: each cell's step against the noise of its seeds."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_json
from cscdarts.settings.metrics import METRICS, format_value
from reports import statistics
from reports.read.comparison import MACHINE_BOUND, signed
from reports.read.searches import by_search
from reports.read.settings import FACTORS, Study, code, number, studies
from reports.read.store import load
from reports.tables.table import DASH, Block, Column, ReportTable, Row, TableCell, text_cell

#: The machine-readable part of a report.
SNAPSHOT = "report.json"
_FORMAT = 1
_METRICS = (
    "test_error_pct",
    "test_top5_error_pct",
    "supernet_valid_error_pct",
    "params_m",
    "macs_m",
    "supernet_params_m",
    "supernet_macs_m",
    "peak_memory_mib",
    "search_time_s",
    "retrain_time_s",
    "kendall_tau",
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a name and its settings by anchor."""

    name: str
    settings: Mapping[str, Mapping[str, Any]]


def snapshot(studies_found: Sequence[Study], commit: str = "") -> dict[str, Any]:
    """The finished runs' numbers by setting, as plain data.

    Args:
        commit: keep only runs whose commit begins so.
    """
    settings = []
    for study in studies_found:
        for setting in study.settings:
            runs = [
                {
                    "hash": str(run["hash"]),
                    "seed": int(run["seed"]),
                    **({"search.strategy": "given"} if setting.given else {}),
                    **({"search": str(run["search"])} if run.get("search") else {}),
                    "code": code(run),
                    "hardware": str(run["hardware"]),
                    "values": {name: number(run, name) for name in _METRICS if number(run, name) == number(run, name)},
                }
                for run in setting.done
                if str(run["commit"]).startswith(commit)
            ]
            if runs:
                name = f"{setting.names} ({setting.describe((*FACTORS, *study.varied))})"
                settings.append({"anchor": setting.anchor, "block": study.title, "name": name, "runs": runs})
    return {"format": _FORMAT, "settings": settings}


def snapshot_json(studies_found: Sequence[Study]) -> str:
    """`snapshot` as JSON text, keys sorted."""
    return json.dumps(snapshot(studies_found), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def side(name: str, grids: Sequence[str], uri: str | None = None) -> Side:
    """Read one side: a report's folder, or the runs of a commit among some grids in the store.

    Errors:
        UserError: neither a report nor a commit with finished runs.
    """
    path = Path(name)
    if path.is_dir() or path.name == SNAPSHOT:
        content = read_json(path if path.name == SNAPSHOT else path / SNAPSHOT)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise UserError(
                "report diff", name, f"a folder with {SNAPSHOT}", "Write it with: cscdarts report GRID --out DIR"
            )
        return Side(name, {entry["anchor"]: entry for entry in content["settings"]})
    if not re.fullmatch(r"[0-9a-f]{7,40}", name):
        raise UserError(
            "report diff", name, "a report's folder, or a commit of 7 to 40 hexadecimal digits", "Check the path."
        )
    if not grids:
        raise UserError("--grid", "", "the grid whose runs of that commit are meant", "For example: --grid quickstart")
    content = snapshot(studies(load(grids, uri)), name)
    if not content["settings"]:
        raise UserError(
            "report diff", name, f"a commit with finished runs in {', '.join(grids)}", "See T6b of a report."
        )
    return Side(name, {entry["anchor"]: entry for entry in content["settings"]})


def diff_table(a: Side, b: Side) -> ReportTable:
    """One row for each setting and metric that is in both and differs, then what is only in one."""
    columns = (
        Column("setting", "setting", numeric=False),
        Column("metric", "metric", numeric=False),
        Column("a", "A", spread=True, count=True),
        Column("b", "B", spread=True, count=True),
        Column("moved", "moved"),
        Column("interval_95", "95 % interval", numeric=False),
        Column("in_sds", "in sd"),
        Column("word", "verdict", numeric=False),
    )
    blocks: dict[str, list[Row]] = {}
    same = 0
    for anchor in sorted(
        a.settings.keys() & b.settings.keys(), key=lambda key: (a.settings[key]["block"], a.settings[key]["name"])
    ):
        before, after = a.settings[anchor], b.settings[anchor]
        for metric in _METRICS:
            row = _row(str(after["name"]), metric, before["runs"], after["runs"])
            if row is not None:
                blocks.setdefault(str(after["block"]), []).append(row)
            elif any(metric in run["values"] for run in after["runs"]):
                same += 1
    for mine, other, where in ((a, b, "A"), (b, a, "B")):
        for anchor in sorted(
            mine.settings.keys() - other.settings.keys(), key=lambda key: str(mine.settings[key]["name"])
        ):
            entry = mine.settings[anchor]
            blank = [TableCell() for _ in columns[2:-1]]
            row = Row((text_cell(str(entry["name"])), text_cell(DASH), *blank, text_cell(f"only in {where}")))
            blocks.setdefault(f"only in {where}", []).append(row)
    codes = " against ".join(
        ", ".join(sorted({str(run["code"]) for entry in s.settings.values() for run in entry["runs"]})) or DASH
        for s in (a, b)
    )
    return ReportTable(
        "Diff",
        "diff",
        f"{a.name} against {b.name}",
        f"Code {codes}. {same} cells are the same to the last digit and not listed. Moved: B less A, with Welch's 95 % "
        "interval; in sd: in units of the seeds' pooled standard deviation. A step counts as moved when its interval "
        "leaves "
        "out 0, and a quantity that no seed changes when it changes at all.",
        columns,
        tuple(Block(title, tuple(rows)) for title, rows in blocks.items()),
    )


def _row(name: str, metric: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Row | None:
    left = {(r["seed"], r["hash"]): r["values"][metric] for r in before if metric in r["values"]}
    right = {(r["seed"], r["hash"]): r["values"][metric] for r in after if metric in r["values"]}
    if left == right:
        return None
    x, y = _by_search(before, metric), _by_search(after, metric)
    cells = [text_cell(name), text_cell(METRICS[metric].label), _mean(metric, x), _mean(metric, y)]
    if not x.size or not y.size:
        return Row((*cells, TableCell(), TableCell(), TableCell(), text_cell("only in A" if x.size else "only in B")))
    if metric in MACHINE_BOUND and len({r["hardware"] for r in (*before, *after)}) > 1:
        return Row((*cells, TableCell(), TableCell(), TableCell(), text_cell("not comparable: several machines")))
    moved = float(y.mean() - x.mean())
    interval = statistics.welch_interval(x, y)
    pooled = _pooled(x, y)
    span = (
        f"{signed(interval.low, METRICS[metric].digits)} to {signed(interval.high, METRICS[metric].digits)}"
        if interval
        else DASH
    )
    in_sds = TableCell(f"{moved / pooled:+.2f}".replace("-", "−"), moved / pooled) if pooled else TableCell()
    if interval is None:
        word = "one value: no noise known"
    elif interval.low <= 0 <= interval.high:
        word = "same mean, other seeds" if moved == 0 else "within noise"
    else:
        word = "moved"
    return Row(
        (
            *cells,
            TableCell(signed(moved, METRICS[metric].digits), moved),
            TableCell(span, span if interval else None),
            in_sds,
            text_cell(word),
        )
    )


def _by_search(runs: Sequence[Mapping[str, Any]], metric: str) -> statistics.Values:
    """A metric's mean over the retrainings of each search, shape (searches,)."""
    known = ([run["values"][metric] for run in same if metric in run["values"]] for same in by_search(runs))
    return statistics.finite([value for values in known if (value := statistics.mean(values)) is not None])


def _mean(metric: str, values: statistics.Values) -> TableCell:
    centre, spread = statistics.mean(values), statistics.sd(values)
    if centre is None:
        return TableCell()
    text = format_value(metric, centre) + (f" ± {format_value(metric, spread)}" if spread else "")
    return TableCell(text, centre, spread, int(values.size), source="ours")


def _pooled(x: statistics.Values, y: statistics.Values) -> float:
    freedom = x.size + y.size - 2
    if freedom < 1:
        return 0.0
    squares = float(((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum())
    return math.sqrt(squares / freedom)
