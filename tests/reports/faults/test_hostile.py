"""Names with quotes, markup, `%`, `_`, `&`, formulas and other scripts never break or inject into what is written."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.build import Report, build_report
from reports.render import csv as csvfile
from reports.render import latex, markdown
from reports.tables.table import Block, Column, ReportTable, Row, TableCell, text_cell
from tests.support.report_store import SyntheticStore, tiny

NASTY = "=cmd|' /C calc'!A0 \"quote\" <script>alert(1)</script> 100% a_b & {x} \\end{table} $y$ ~^# 中文 é | `z`"
GRID = "my grid & <b>100%_\"'"


@pytest.fixture
def hostile(store: SyntheticStore, tmp_path: Path) -> Report:
    tags = {
        f"cscdarts.{name}": NASTY
        for name in ("hardware", "host", "data", "commit", "torch", "failure", "genotype", "scale")
    }
    store.add(
        tiny(0), {"test_error_pct": 3.0}, grid=GRID, methods=(NASTY.replace(",", ""), "csc"), tags=tags, log=NASTY
    )
    store.add(tiny(1), grid=GRID, status="failed", tags=tags, log="\x1b[31mred\x00 </pre><script>alert(2)</script>\n")
    return build_report([GRID], tmp_path / "out <i> & 'x'", uri=store.finish())


class _Scripts(HTMLParser):
    """Collects what a browser would take for scripts, handlers or addresses outside."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.suspicious = 0, []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            outside = name in ("src", "href") and re.match(r"(?!data:,$)[a-z]+:", value or "")
            if name.startswith("on") or outside or tag in ("i", "b", "iframe", "object", "embed"):
                self.suspicious.append((tag, name, value))


def test_html_holds_only_our_own_script_and_nothing_from_outside(hostile: Report) -> None:
    for path in hostile.folder.rglob("*.html"):
        parser = _Scripts()
        text = path.read_text()
        parser.feed(text)
        assert parser.scripts == (1 if path.name == "index.html" else 0), path
        assert parser.suspicious == [], path
        assert "<script>alert" not in text
    page = (hostile.folder / "index.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "中文" in page


def test_csv_reads_back_and_starts_no_formula(hostile: Report) -> None:
    for path in hostile.folder.rglob("*.csv"):
        rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
        assert len({len(row) for row in rows}) <= 1, path
        for row in rows[1:]:
            for cell in row:
                assert not cell.startswith(("=", "+", "@", "\t")), (path, cell)
                assert not cell.startswith("-") or re.fullmatch(r"-[\d.]+(e[+-]?\d+)?", cell), (path, cell)
    assert NASTY in (hostile.folder / "tables" / "t6b_runs.csv").read_text().replace('""', '"')


def test_latex_escapes_all_that_means_something() -> None:
    escaped = latex.escape(NASTY)
    assert "\\end{table}" not in escaped
    assert r"\textbackslash{}end\{table\}" in escaped
    assert r"100\% a\_b \& \{x\}" in escaped
    assert r"\$y\$" in escaped
    assert "[U+4E2D]" in escaped
    assert escaped.isascii() or set(escaped) - set(map(chr, range(128))) == {"é"}


def test_markdown_cells_stay_cells(hostile: Report) -> None:
    text = (hostile.folder / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert "<script>" not in text


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_formulas_are_quoted(start: str) -> None:
    assert csvfile.guard(start) == "'" + start
    assert csvfile.guard("plain = text") == "plain = text"


_UNSEEN = ["\r", "\n", " ", "\x00", "\ufeff", "\u200b", "\x1b", "\r\n \t", "\u2028", "\xa0", "\u00ad"]


@pytest.mark.parametrize("before", _UNSEEN, ids=ascii)
@pytest.mark.parametrize("formula", ["=1", "+1", "-1", "@A1", "\uff1d1", "\uff0b1"], ids=ascii)
def test_formulas_behind_what_does_not_show_are_quoted(before: str, formula: str) -> None:
    assert csvfile.guard(before + formula).startswith("'")


@pytest.mark.parametrize("text", ["x\r=1", "x\n=1", "x\x0b=1", "x\x85=1", "x\u2028=1", "\r=1", "a,\r\n=1"], ids=ascii)
def test_no_text_begins_a_row_of_its_own(text: str) -> None:
    column = Column("label", "label", numeric=False)
    table = ReportTable("T0", "t0", "Title", "", (column,), (Block(text, (Row((text_cell(text),)),)),))
    written = csvfile.table_csv(table)
    assert len(written.splitlines()) == 2, "as every reader splits lines, not only Python's"
    for cell in next(csv.reader([written.splitlines()[1]])):
        assert not cell.lstrip().startswith("=")


def test_numbers_stay_numbers() -> None:
    column = Column("change", "change")
    table = ReportTable("T0", "t0", "Title", "", (column,), (Block("", (Row((TableCell(value=-0.5),)),)),))
    assert csvfile.table_csv(table).splitlines()[1] == ",-0.5,"


def test_markdown_escape_is_one_line() -> None:
    assert markdown.escape("a\nb|c <d> & `e`") == r"a b\|c &lt;d&gt; &amp; \`e\`"


def test_control_characters_of_a_log_are_made_visible(hostile: Report) -> None:
    page = (hostile.folder / "runs" / f"{tiny(1).hash}.html").read_text()
    assert "\x1b" not in page
    assert "\x00" not in page
    assert "red" in page
