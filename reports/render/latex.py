"""Tables as LaTeX (booktabs) that compiles under pdflatex in a two-column document; every text is escaped."""

import math
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.figures.style import Drawing
from reports.tables.table import Column, ReportTable, Row, TableCell, best_of

#: A float cannot break over pages, so longer tables go on in a further float; counted in printed lines.
LINES_PER_FLOAT = 44
#: Words longer than this are set in lines of their column, which is so many ems wide.
_LONGEST, _EMS = 30, (14.0, 18.0)
#: Characters of text in an em, on average; fewer than there are, so that no line count is too low.
_PER_EM = 1.8
#: Words are never broken; the widest are names of digits and capitals.
_EM_OF_A_DIGIT = 0.62
#: Characters of a caption over both columns, and ems of text columns that one column of the page can take.
_CAPTION_LINE, _COLUMN_EMS = 90, 20.0
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "²": r"$^2$",
    "−": r"$-$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "ξ": r"$\xi$",
    "τ": r"$\tau$",
    "Δ": r"$\Delta$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
}
#: What the T1 fonts hold beyond ASCII, as far as inputenc reads it without further packages.
_T1 = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿĂăĄąĆćČčĎďĐđĘęĚěĞğĹĺĽľŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŤťŮůŰűŸŹźŻżŽž£§¡¿«»"
)
_NARROW = 7
_BOLD = (
    "Bold: the best number of each block, ours and published ones apart, whether or not the difference is significant."
)


def escape(text: str) -> str:
    """Text as LaTeX. A character the T1 fonts lack is printed as its code point, so that nothing is lost or breaks."""
    parts: list[str] = []
    for char in unicodedata.normalize("NFC", text):
        if char == "-" and parts[-1:] in (["-"], ["{}-"]):
            parts.append("{}-")  # two of them would be set as a dash, and options are written with two
        elif char in _ESCAPES:
            parts.append(_ESCAPES[char])
        elif " " <= char <= "~" or char in _T1:
            parts.append(char)
        elif char.isspace():
            parts.append(" ")
        else:
            parts.append(rf"{{\footnotesize[U+{ord(char):04X}]}}")
    return "".join(parts)


def table_latex(table: ReportTable, bold_best: bool = False) -> str:
    """The table as one or more floats; needs `booktabs` and `graphicx`, T1 fonts and UTF-8 input.

    Args:
        bold_best: set the best number of each block in bold, in the columns that rows compete in.
    """
    shown = [(position, column) for position, column in enumerate(table.columns) if column.printed("tex")]
    widths = _widths(table, shown)
    floats: list[list[tuple[str, Row]]] = [[]]
    lines_so_far = math.ceil(len(table.title + table.caption) / _CAPTION_LINE)
    for block in table.blocks:
        for row in block.rows:
            height = _height(row, widths)
            if floats[-1] and lines_so_far + height > LINES_PER_FLOAT:
                floats.append([])
                lines_so_far = 0
            floats[-1].append((block.title, row))
            lines_so_far += height
    lines = [
        f"% {table.number}: written by cscdarts report; needs \\usepackage{{booktabs,graphicx}}, "
        "\\usepackage[T1]{fontenc}",
    ]
    best = (
        [cell for block in table.blocks for k, column in shown for cell in best_of(block, k, column.better)]
        if bold_best
        else []
    )
    caption = f"{table.caption} {_BOLD}" if best else table.caption
    bold = frozenset(map(id, best))
    for number, rows in enumerate(floats):
        lines += _float(replace(table, caption=caption), shown, rows, number, len(floats), bold, widths)
    return "\n".join(lines) + "\n"


def _float(
    table: ReportTable, shown: list[tuple[int, Column]], rows: list[tuple[str, Row]], number: int, count: int,
    bold: frozenset[int], widths: Mapping[int, float],
) -> list[str]:  # fmt: skip
    kind = "table" if len(shown) <= _NARROW and sum(widths.values()) <= _COLUMN_EMS else "table*"
    width = r"\columnwidth" if kind == "table" else r"\textwidth"
    part = f" (part {number + 1} of {count})" if count > 1 else ""
    caption = (
        f"{escape(table.title)}{part}. {escape(table.caption)}" if number == 0 else f"{escape(table.title)}{part}."
    )
    label = f"tab:{table.name.replace('_', '-')}" + (f"-{number + 1}" if number else "")
    aligns = "".join("r" if column.numeric else "l" for _, column in shown)
    lines = [
        rf"\begin{{{kind}}}[tp]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        r"\par\vspace{3pt}\small",
        r"\setlength{\tabcolsep}{4pt}",
        # A table narrower than the page keeps its size; a wider one is scaled down to it.
        r"\sbox0{%",
        rf"\begin{{tabular}}{{@{{}}{aligns}@{{}}}}",
        r"\toprule",
        " & ".join(_heading(column) for _, column in shown) + r" \\",
    ]
    before: str | None = None
    for title, row in rows:
        if title != before:
            lines += [r"\midrule", rf"\multicolumn{{{len(shown)}}}{{@{{}}l}}{{\textbf{{{escape(title)}}}}} \\"]
            before = title
        lines.append(
            " & ".join(_cell(row.cells[position], bold, widths.get(position)) for position, _ in shown) + r" \\"
        )
    lines += [
        r"\bottomrule",
        r"\end{tabular}}%",
        rf"\ifdim\wd0>{width}\resizebox{{{width}}}{{!}}{{\usebox0}}\else\usebox0\fi",
    ]
    used = {mark for _, row in rows for cell in row.cells for mark in cell.marks.split(",") if mark}
    notes = [rf"\textsuperscript{{{mark}}}~{escape(text)}" for mark, text in table.notes if mark in used]
    if notes:
        lines += [r"\par\smallskip", rf"\parbox{{{width}}}{{\footnotesize\raggedright {'; '.join(notes)}.}}"]
    return [*lines, rf"\end{{{kind}}}"]


def _heading(column: Column) -> str:
    """Source, label and unit on lines of their own: a heading must not be wider than its numbers."""
    lines = [f"{column.source}:"] if column.source else []
    lines += textwrap.wrap(column.label, 10, break_long_words=False) or [""]
    lines += [f"[{column.unit}]"] if column.unit else []
    # Braces, because a bracket after a line break would be taken for a length.
    stacked = r" \\ ".join(f"{{{escape(line)}}}" for line in lines)
    return rf"\shortstack[{'r' if column.numeric else 'l'}]{{{stacked}}}"


def _widths(table: ReportTable, shown: Sequence[tuple[int, Column]]) -> dict[int, float]:
    """Position of each column of long texts -> its width in ems, by the length of its texts."""
    found = {}
    for position, column in shown:
        texts = [row.cells[position].text for row in table.rows]
        longest = max((len(text) for text in texts), default=0)
        word = max((len(word) for text in texts for word in text.split()), default=0)
        if not column.numeric and longest > _LONGEST and word < longest:
            low, high = _EMS
            found[position] = max(low, min(high, longest / _PER_EM / 3), word * _EM_OF_A_DIGIT)
    return found


def _height(row: Row, widths: Mapping[int, float]) -> int:
    """How many lines a row takes at most."""
    set_in_lines = (textwrap.wrap(row.cells[k].text, int(_PER_EM * width)) for k, width in widths.items())
    return max([1, *map(len, set_in_lines)])


def _cell(cell: TableCell, bold: frozenset[int], width: float | None) -> str:
    text = escape(cell.text)
    if id(cell) in bold:
        text = rf"\textbf{{{text}}}"
    if cell.source == "paper" and cell.value is not None:
        text = rf"\textit{{{text}}}"
    text += rf"\textsuperscript{{{cell.marks}}}" if cell.marks else ""
    if width is None:
        return text
    return rf"\parbox[t]{{{width:.1f}em}}{{\raggedright\strut {text}\strut}}"


def figure_latex(drawing: Drawing) -> str:
    """A float that shows a figure's PDF; a wide figure spans both columns."""
    kind, width = ("figure*", r"\textwidth") if drawing.wide else ("figure", r"\columnwidth")
    return "\n".join(
        [
            f"% {drawing.number}: written by cscdarts report; needs \\usepackage{{graphicx}}",
            rf"\begin{{{kind}}}[tp]",
            r"\centering",
            rf"\includegraphics[width={width},height=.8\textheight,keepaspectratio]{{figures/{drawing.name}.pdf}}",
            rf"\caption{{{escape(drawing.title)}. {escape(drawing.caption)}}}",
            rf"\label{{fig:{drawing.name.replace('_', '-')}}}",
            rf"\end{{{kind}}}",
            "",
        ]
    )
