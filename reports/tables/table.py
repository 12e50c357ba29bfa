"""A table as data: columns, blocks of rows, cells that know their value, spread, n and provenance. Renderers read
this."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from cscdarts.settings.metrics import METRICS, Direction, format_value
from reports import statistics
from reports.read.settings import Setting
from reports.read.shown import shown_value

DASH = "–"

Provenance = Literal["ours", "paper", ""]


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
        text: what is printed, not escaped; a dash for what is missing.
        value: what the CSV holds and sorting uses: a number, a text, or None.
        spread: standard deviation, where there is one.
        n: how many runs stand behind it, where it is a number of ours.
        link: where it came from, inside the report (`#anchor` or a relative path).
        marks: marks of footnotes.
        hint: one sentence for readers who point at it.
        source: whose number it is.
        links: several (text, target), where a cell lists things; `text` then holds them all.
    """

    text: str = DASH
    value: float | str | None = None
    spread: float | None = None
    n: int | None = None
    link: str = ""
    marks: str = ""
    hint: str = ""
    source: Provenance = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in CSV; carries the unit.
        label: its heading; `unit` is set beside it.
        numeric: right-aligned and sorted by value.
        spread, count: whether the CSV also gets `<key>_sd` and `<key>_n`.
        source: whose numbers stand in it, shown in the heading.
        only: the renderings that print it; empty for all.
        better: which of its numbers is the best of a block, where rows compete in it.
    """

    key: str
    label: str
    unit: str = ""
    numeric: bool = True
    spread: bool = False
    count: bool = False
    source: Provenance = ""
    only: frozenset[str] = frozenset()
    better: Direction = "none"

    def printed(self, form: str) -> bool:
        """Whether the rendering `form` (csv, tex, html, md) shows this column."""
        return not self.only or form in self.only

    @property
    def heading(self) -> str:
        """Label with source and unit, `ours: test error [%]`."""
        prefix = f"{self.source}: " if self.source else ""
        return prefix + self.label + (f" [{self.unit}]" if self.unit else "")


@dataclass(frozen=True)
class Row:
    """One row; `source` says whose it is, `anchor` makes it a link's target, `key` brings it out."""

    cells: tuple[TableCell, ...]
    source: Provenance = ""
    anchor: str = ""
    key: bool = False


@dataclass(frozen=True)
class Block:
    """Rows under one heading, such as a data set at a scale."""

    title: str
    rows: tuple[Row, ...]


def best_of(block: Block, position: int, better: Direction) -> list[TableCell]:
    """The cells of a column that print a block's best number; ours and published ones compete apart.

    None where nothing competes: fewer than two numbers, or all printed alike.
    """
    found: list[TableCell] = []
    for source in ("ours", "paper", ""):
        cells = [row.cells[position] for row in block.rows if row.cells[position].source == source]
        known = [(cell.value, cell) for cell in cells if isinstance(cell.value, int | float)]
        printed = {_centre(cell) for _, cell in known}
        if better != "none" and len(known) > 1 and len(printed) > 1:
            choose = min if better == "lower" else max
            best = choose(known, key=lambda one: one[0])[1]
            found += [cell for _, cell in known if _centre(cell) == _centre(best)]
    return found


def _centre(cell: TableCell) -> str:
    return cell.text.split(" ± ")[0]


@dataclass(frozen=True)
class ReportTable:
    """One table of the report.

    Attributes:
        number: `T3`.
        name: file name without suffix, `t3_ablation`.
        title, caption: heading and what a reader must know to read it.
        columns, blocks: its content.
        notes: (mark, text) of footnotes.
    """

    number: str
    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> list[Row]:
        """All rows of all blocks."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def has_ours(self) -> bool:
        """Whether any number of ours stands in it."""
        return any(cell.source == "ours" and cell.value is not None for row in self.rows for cell in row.cells)


@dataclass
class Notes:
    """Footnotes of a table under construction: the same text gets the same mark."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        """The mark for a text, `a`, `b`, ..."""
        if text not in self.texts:
            self.texts.append(text)
        return _letters(self.texts.index(text))

    def done(self) -> tuple[tuple[str, str], ...]:
        """All (mark, text)."""
        return tuple((_letters(position), text) for position, text in enumerate(self.texts))


def _letters(position: int) -> str:
    word = chr(ord("a") + position % 26)
    return word if position < 26 else _letters(position // 26 - 1) + word


def text_cell(text: str, **more: str) -> TableCell:
    """A cell of words."""
    return TableCell(text=text or DASH, value=text or None, link=more.get("link", ""), marks=more.get("marks", ""))


def parameter_cell(setting: Setting, name: str) -> TableCell:
    """A setting's value of a parameter; of a genotype a short name, with the whole text as value and hint."""
    value = setting.params.get(name, "")
    text = shown_value(name, value)
    return TableCell(text, value or None, hint=value if text not in (value, DASH) else "")


def number_cell(
    value: float | None, digits: int, source: Provenance = "", spread: float | None = None, marks: str = ""
) -> TableCell:
    """A published or derived number with fixed digits, `2.57 ± 0.07`; a dash for None."""
    if value is None or value != value:
        return TableCell(marks=marks, source=source)
    text = f"{value:.{digits}f}"
    if spread is not None:
        text += f" ± {spread:.{digits}f}"
    return TableCell(text.replace("-", "−"), value, spread, marks=marks, source=source)


def metric_cell(
    setting: Setting, metric: str, marks: str = "", values: Sequence[float] | statistics.Values | None = None
) -> TableCell:
    """Mean ± sd of a metric over a setting's finished runs, linked to them; a dash where no finite value is known."""
    known = setting.values(metric) if values is None else statistics.finite(values)
    centre, spread = statistics.mean(known), statistics.sd(known)
    label = METRICS[metric].label
    if centre is None:
        return TableCell(
            n=0, link=f"#{setting.anchor}", marks=marks, source="ours", hint=f"{label}: no finished run has it"
        )
    text = format_value(metric, centre)
    # A constant such as the parameter count of one network needs no spread; the CSV has it all the same.
    if spread is not None and (float(format_value(metric, spread)) > 0 or METRICS[metric].unit == "%"):
        text += f" ± {format_value(metric, spread)}"
    hint = f"{label}, {setting.data}, scale {setting.scale}, n = {known.size}"
    return TableCell(text, centre, spread, int(known.size), f"#{setting.anchor}", marks, hint, "ours")
