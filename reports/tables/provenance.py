"""T6: where every number comes from, and what is missing or failed."""

from collections.abc import Sequence

from cscdarts.settings.metrics import format_value
from reports.read.comparison import ERROR
from reports.read.settings import FACTORS, Run, Setting, Study, code, column, method_title, number
from reports.read.store import Store
from reports.tables.table import Block, Column, ReportTable, Row, TableCell, text_cell


def settings_table(studies: Sequence[Study]) -> ReportTable:
    """T6a: each setting with its runs; the numbers of all other tables link here."""
    columns = (
        Column("setting", "setting", numeric=False),
        Column("done", "finished"),
        Column("of", "runs"),
        Column("seeds", "seeds", numeric=False),
        Column("hashes", "runs", numeric=False),
        Column("code", "code", numeric=False),
        Column("hardware", "machine", numeric=False),
    )
    blocks = [
        Block(study.title, tuple(_setting_row(setting, study) for setting in study.settings)) for study in studies
    ]
    return ReportTable(
        "T6a",
        "t6a_settings",
        "The runs behind each number",
        "One row per setting. Numbers in the tables above lead to their row here, the row leads to its runs.",
        columns,
        tuple(blocks),
    )


def _setting_row(setting: Setting, study: Study) -> Row:
    hashes = [str(run["hash"]) for run in setting.runs]
    name = f"{setting.names} ({setting.describe((*FACTORS, *study.varied))})"
    cells = (
        text_cell(name),
        TableCell(str(len(setting.done)), len(setting.done)),
        TableCell(str(len(setting.runs)), len(setting.runs)),
        text_cell(" ".join(str(run["seed"]) for run in setting.runs)),
        TableCell(" ".join(hashes), " ".join(hashes), links=tuple((key, f"#run-{key}") for key in hashes)),
        text_cell(", ".join(setting.codes)),
        text_cell("; ".join(setting.hardware)),
    )
    return Row(cells, "ours", setting.anchor)


def runs_table(store: Store, studies: Sequence[Study]) -> ReportTable:
    """T6b: every run with hash, seed, what its data hold, code, machine, wall time and MLflow run."""
    columns = (
        Column("hash", "run", numeric=False),
        Column("methods", "method", numeric=False),
        *(
            Column(name, label, numeric=False)
            for name, label in zip(FACTORS, ("ratio", "identity", "order"), strict=True)
        ),
        Column("seed", "seed"),
        Column("status", "status", numeric=False),
        Column("test_error_pct", "test error", "%", source="ours"),
        Column("wall_time_s", "wall time", "s"),
        Column("contents", "images", numeric=False),
        Column("code", "code", numeric=False),
        Column("torch", "torch", numeric=False),
        Column("hardware", "machine", numeric=False),
        Column("host", "host", numeric=False),
        Column("grid", "grid", numeric=False),
        Column("mlflow_run", "MLflow run", numeric=False),
    )
    blocks = []
    for study in studies:
        rows = []
        for setting in study.settings:
            for run in setting.runs:
                value = number(run, ERROR)
                known = value == value and run["status"] == "done"
                cells = (
                    TableCell(str(run["hash"]), str(run["hash"]), link=f"runs/{run['hash']}.html"),
                    text_cell(" = ".join(method_title(m) for m in str(run["methods"]).split(",") if m)),
                    *(text_cell(setting.params.get(name, "")) for name in FACTORS),
                    TableCell(str(run["seed"]), int(run["seed"])) if int(run["seed"]) >= 0 else TableCell(),
                    text_cell(str(run["status"])),
                    TableCell(format_value(ERROR, value), value, n=1, source="ours") if known else TableCell(),
                    wall_time(run["start_ms"], run["end_ms"]),
                    text_cell(str(run["contents"])),
                    text_cell(code(run)),
                    text_cell(str(run["torch"])),
                    text_cell(str(run["hardware"])),
                    text_cell(str(run["host"])),
                    text_cell(str(run["grid"])),
                    text_cell(str(run["run_id"])),
                )
                rows.append(Row(cells, "ours", f"run-{run['hash']}"))
        blocks.append(Block(study.title, tuple(rows)))
    return ReportTable(
        "T6b",
        "t6b_runs",
        "All runs",
        f"Read from {store.uri.split('@')[-1].rsplit('/', 1)[-1]}, experiments {', '.join(store.grids)}. Each run has "
        "a "
        "page of its own beside this file, with config, curves, cell and log. Wall time is from the first to the last "
        "record, waiting in a queue included.",
        columns,
        tuple(blocks),
    )


def wall_time(start: object, end: object) -> TableCell:
    """Seconds from start to end, a dash while a run is open."""
    try:
        seconds = (float(str(end)) - float(str(start))) / 1000
    except ValueError:
        return TableCell()
    return TableCell(f"{seconds:.0f}", seconds) if seconds == seconds and seconds >= 0 else TableCell()


def missing_table(store: Store, studies: Sequence[Study]) -> ReportTable:
    """T6c: runs that failed, are not finished, gave no number, or are not in the store, and which cells they weaken."""
    columns = (
        Column("hash", "run", numeric=False),
        Column("what", "what", numeric=False),
        Column("seed", "seed"),
        Column("weakens", "weakens", numeric=False),
        Column("reason", "reason", numeric=False),
    )
    blocks = []
    for study in studies:
        rows = []
        for setting in study.settings:
            for run in setting.runs:
                what, reason = _trouble(store, run)
                if what:
                    left = int(column(setting.done, ERROR).size)
                    weak = f"{study.label(setting)}: n = {left} of {len(setting.runs)}"
                    cells = (
                        TableCell(str(run["hash"]), str(run["hash"]), link=f"runs/{run['hash']}.html"),
                        text_cell(what),
                        TableCell(str(run["seed"]), int(run["seed"])) if int(run["seed"]) >= 0 else TableCell(),
                        TableCell(weak, weak, link=f"#{setting.anchor}"),
                        text_cell(reason),
                    )
                    rows.append(Row(cells, "ours"))
        if rows:
            blocks.append(Block(study.title, tuple(rows)))
    for manifest in store.manifests:
        present = set(store.runs["hash"]) if len(store.runs) else set()
        gone = [key for key in manifest.runs if key not in present]
        rows = [
            Row(
                (
                    text_cell(key),
                    text_cell("not in the store"),
                    TableCell(),
                    text_cell(", ".join(method_title(m) for m in manifest.runs[key]) or "unknown setting"),
                    text_cell("never started, or not mirrored yet"),
                ),
                "ours",
            )
            for key in sorted(gone)
        ]
        if rows:
            blocks.append(Block(f"grid {manifest.grid} · scale {manifest.scale}", tuple(rows)))
    return ReportTable(
        "T6c",
        "t6c_missing",
        "Missing and failed runs",
        "Each line names the setting whose mean it weakens." if blocks else "None: every run of these grids finished.",
        columns,
        tuple(blocks),
    )


def _trouble(store: Store, run: Run) -> tuple[str, str]:
    status = str(run["status"])
    if status == "failed":
        return "failed", str(run["failure"]) or "no reason recorded"
    if status != "done":
        return f"not finished ({status or 'unknown'})", ""
    value = number(run, ERROR)
    if value != value:
        bad = (str(run["hash"]), ERROR) in store.not_a_number
        return "no test error", "recorded as NaN or infinite" if bad else "not recorded"
    return "", ""
