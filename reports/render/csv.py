"""Tables as CSV (RFC 4180, UTF-8): full-precision numbers, spread and n in columns of their own, nothing for
missing."""

import csv
import io
import unicodedata

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
            cells = [cell(block.title)]
            marks: dict[str, None] = {}
            for position, column in shown:
                one = row.cells[position]
                cells.append(_name(one.value) if column.key in _NAMES else _value(one))
                cells += [_number(one.spread)] if column.spread else []
                cells += ["" if one.n is None else str(one.n)] if column.count else []
                marks |= dict.fromkeys(mark for mark in one.marks.split(",") if mark)
            writer.writerow([*cells, cell("; ".join(texts[mark] for mark in marks))])
    return buffer.getvalue()


def guard(text: str) -> str:
    """Text that no spreadsheet takes for a formula: one is quoted that begins with a tab or a return, or whose first
    sign that shows is `=`, `+`, `-` or `@`, in full width too."""
    shown = next((c for c in text if not c.isspace() and unicodedata.category(c) not in _UNSEEN), "")
    return f"'{text}" if shown in _FORMULA or text[:1] in ("\t", "\r") else text


def _name(value: float | str | None) -> str:
    """A name that no reader takes for a number: run 12345678 and commit 6e12952 (to pandas infinity) are quoted as
    formulas are."""
    text = "" if value is None else str(value)
    try:
        float(text)
    except ValueError:
        return cell(text)
    return f"'{text}"


def cell(text: str) -> str:
    """`guard`, with a space for each control character: a return would begin a row, and with it a formula."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in guard(text))


#: What begins a formula, and the categories of characters that do not show.
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_UNSEEN = frozenset(["Cc", "Cf", "Cs", "Cn", "Co", "Mn"])


def _value(content: TableCell) -> str:
    return cell(content.value) if isinstance(content.value, str) else _number(content.value)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.10g}"
