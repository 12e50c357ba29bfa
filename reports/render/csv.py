"""Tables as CSV (RFC 4180, UTF-8): full-precision numbers, spread and n in columns of their own, nothing for
missing."""

import csv
import io

from reports.tables.table import ReportTable, TableCell

#: Columns of names that may look like numbers.
_NAMES = frozenset({"code", "grid", "hash", "hashes", "host", "mlflow_run"})


def table_csv(table: ReportTable) -> str:
    """The table's CSV; the first column names the block, footnotes follow each row's cells as plain text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    shown = [(position, column) for position, column in enumerate(table.columns) if column.printed("csv")]
    header = ["block"]
    for _, column in shown:
        header.append(column.key)
        header += [f"{column.key}_sd"] if column.spread else []
        header += [f"{column.key}_n"] if column.count else []
    writer.writerow([*header, "notes"])
    texts = dict(table.notes)
    for block in table.blocks:
        for row in block.rows:
            cells = [guard(block.title)]
            marks: dict[str, None] = {}
            for position, column in shown:
                cell = row.cells[position]
                cells.append(_name(cell.value) if column.key in _NAMES else _value(cell))
                cells += [_number(cell.spread)] if column.spread else []
                cells += ["" if cell.n is None else str(cell.n)] if column.count else []
                marks |= dict.fromkeys(mark for mark in cell.marks.split(",") if mark)
            writer.writerow([*cells, guard("; ".join(texts[mark] for mark in marks))])
    return buffer.getvalue()


def guard(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading `=`, `+`, `-`, `@`, tab or return is quoted."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _name(value: float | str | None) -> str:
    """A name that no reader takes for a number: run 12345678 and commit 6e12952 (to pandas infinity) are quoted as
    formulas are."""
    text = "" if value is None else str(value)
    try:
        float(text)
    except ValueError:
        return guard(text)
    return f"'{text}"


def _value(cell: TableCell) -> str:
    return guard(cell.value) if isinstance(cell.value, str) else _number(cell.value)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.10g}"
