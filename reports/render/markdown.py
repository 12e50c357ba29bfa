"""Tables and a summary page as GitHub Markdown; every text from outside is escaped."""

import re

from reports.tables.table import ReportTable, TableCell

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def escape(text: str) -> str:
    """Text with no Markdown or HTML meaning left in it, on one line."""
    return (
        _SPECIAL.sub(r"\\\1", " ".join(text.split()))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def table_markdown(table: ReportTable) -> str:
    """Heading, caption, one pipe table for each block, footnotes."""
    shown = [(position, column) for position, column in enumerate(table.columns) if column.printed("md")]
    lines = [f"## {table.number} {escape(table.title)}", "", escape(table.caption), ""]
    for block in table.blocks:
        lines += [f"### {escape(block.title)}", ""]
        lines.append("| " + " | ".join(escape(column.heading) for _, column in shown) + " |")
        lines.append("|" + "|".join("---:" if column.numeric else "---" for _, column in shown) + "|")
        lines += ["| " + " | ".join(_cell(row.cells[position]) for position, _ in shown) + " |" for row in block.rows]
        lines.append("")
    if not table.blocks:
        lines += ["No run of ours and nothing published stands here.", ""]
    lines += [f"<sup>{mark}</sup> {escape(text)}  " for mark, text in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _cell(cell: TableCell) -> str:
    text = escape(cell.text)
    if cell.source == "paper" and cell.value is not None:
        text = f"*{text}*"
    return text + (f"<sup>{cell.marks}</sup>" if cell.marks else "")
