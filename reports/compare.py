"""A comparison of reports as a table, as JSON and as a page."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cscdarts.settings.metrics import METRICS, format_value
from reports import statistics
from reports.diff.lines import EQUAL, MOVED, NOISE, Line, Step, letter, lines
from reports.diff.sides import Side
from reports.read.comparison import signed
from reports.render import html
from reports.render.csv import table_csv
from reports.render.folder import new_report
from reports.render.latex import table_latex
from reports.render.markdown import table_markdown
from reports.tables.table import DASH, Block, Column, ReportTable, Row, TableCell, text_cell
from reports.words import counted, verb

_FORMAT = 1
_CSV = frozenset({"csv"})


def diff_table(sides: Sequence[Side], equal: bool = False) -> ReportTable:
    """One row for each setting and metric.

    Args:
        sides: two or more; differences are taken to the first that has a number.
        equal: whether cells that are the same on all sides are listed too.
    """
    found = lines(sides)
    blocks: dict[str, list[Row]] = {}
    for line in found:
        if equal or line.word != EQUAL:
            blocks.setdefault(line.block, []).append(_row(line))
    codes = " against ".join(", ".join(one.told("code")) or DASH for one in sides)
    same = sum(line.word == EQUAL for line in found)
    listed = "listed" if equal else "not listed"
    return ReportTable(
        "Diff",
        "diff",
        " against ".join(f"{letter(k)} {one.name}" for k, one in enumerate(sides)),
        f"Code {codes}. {counted(same, 'cell')} {verb(same, 'is', 'are')} the same to the last digit and {listed}. "
        "Moved: how much higher the mean is than on the first side that has one, with Welch's 95 % interval; in sd: in "
        "units of the seeds' pooled standard deviation. A step within noise has an interval that holds 0; it counts as "
        "moved where the interval leaves 0 out, and a quantity that no seed changes where it changes at all.",
        _columns(len(sides)),
        tuple(Block(title, tuple(rows)) for title, rows in blocks.items()),
    )


def _columns(count: int) -> tuple[Column, ...]:
    own = [Column(letter(k).lower(), letter(k), spread=True, count=True) for k in range(count)]
    steps = []
    for k in range(1, count):
        key, of = (f"{letter(k).lower()}_", f"{letter(k)} ") if count > 2 else ("", "")
        only = _CSV if count > 2 else frozenset[str]()
        steps += [
            Column(f"{key}moved", f"{of}moved"),
            Column(f"{key}interval_95", f"{of}95 % interval", numeric=False, only=only),
            Column(f"{key}in_sds", f"{of}in sd", only=only),
            Column(f"{key}word", f"{of}verdict", numeric=False),
        ]
    names = (Column("setting", "setting", numeric=False), Column("metric", "metric", numeric=False))
    return (*names, *own, *steps)


def _row(line: Line) -> Row:
    apart = len({place for place in line.places if place != ("", "")}) > 1
    own = [
        _mean(line.metric, values, f" ({place[0]}, {place[1]})" if apart else "")
        for values, place in zip(line.values, line.places, strict=True)
    ]
    steps = [cell for step in _told(line) for cell in _step_cells(line.metric, step)]
    name, metric = text_cell(line.setting), METRICS[line.metric]
    label = metric.label + (f" [{metric.unit}]" if metric.unit else "")
    return Row((name, text_cell(label), *own, *steps), key=any(step.word == MOVED for step in line.steps))


def _told(line: Line) -> list[Step]:
    """The steps of all sides but the first; that it alone has a number is said beside the second."""
    first, *others = line.steps
    return [first if first.word and k == 0 else step for k, step in enumerate(others)]


def _step_cells(metric: str, step: Step) -> tuple[TableCell, TableCell, TableCell, TableCell]:
    digits, interval = METRICS[metric].digits, step.interval
    span = f"{signed(interval.low, digits)} to {signed(interval.high, digits)}" if interval else DASH
    shown = step.moved is not None and step.word != EQUAL
    return (
        TableCell(signed(step.moved or 0.0, digits), step.moved, hint=span if interval else "")
        if shown
        else TableCell(),
        TableCell(span, span if interval else None),
        TableCell() if step.in_sds is None else TableCell(signed(step.in_sds, 2), step.in_sds),
        text_cell(step.word),
    )


def _mean(metric: str, values: statistics.Values, where: str) -> TableCell:
    centre, spread = statistics.mean(values), statistics.sd(values)
    if centre is None:
        return TableCell()
    text = format_value(metric, centre) + (f" ± {format_value(metric, spread)}" if spread else "")
    return TableCell(text + where, centre, spread, int(values.size), source="ours", hint=f"n = {values.size}")


def diff_json(sides: Sequence[Side]) -> str:
    """The comparison as JSON: `format`, `sides`, `cells`."""
    content = {
        "format": _FORMAT,
        "sides": [
            {
                "label": letter(k),
                "name": one.name,
                **{key: one.told(key) for key in ("data", "scale", "code", "hardware")},
            }
            for k, one in enumerate(sides)
        ],
        "cells": [_cell(line) for line in lines(sides)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(line: Line) -> dict[str, object]:
    values = {
        letter(k): {"mean": statistics.mean(one), "sd": statistics.sd(one), "n": int(one.size)}
        for k, one in enumerate(line.values)
        if one.size
    }
    steps = {
        letter(k): {
            "word": step.word,
            "moved": step.moved,
            "low": step.interval.low if step.interval else None,
            "high": step.interval.high if step.interval else None,
            "in_sds": step.in_sds,
        }
        for k, step in enumerate(line.steps)
        if step.word
    }
    return {"block": line.block, "setting": line.setting, "metric": line.metric, "values": values, "steps": steps}


#: A file's ending -> the comparison in that form; of all but JSON only what differs.
RENDERERS: Mapping[str, Callable[[Sequence[Side]], str]] = {
    ".csv": lambda sides: table_csv(diff_table(sides)),
    ".md": lambda sides: table_markdown(diff_table(sides)),
    ".tex": lambda sides: table_latex(diff_table(sides)),
    ".json": diff_json,
}


def sides_table(sides: Sequence[Side]) -> ReportTable:
    """What each side is: where it lies, how much it holds, of which scale, code and machine."""
    names = ("side", "report", "settings", "runs", "data", "scale", "code", "machine")
    numeric = ("settings", "runs")
    rows = []
    for k, one in enumerate(sides):
        runs = sum(len(entry["runs"]) for entry in one.settings.values())
        counts = (TableCell(str(n), n) for n in (len(one.settings), runs))
        told = (text_cell("; ".join(one.told(key))) for key in ("data", "scale", "code", "hardware"))
        rows.append(Row((text_cell(letter(k)), text_cell(one.name), *counts, *told)))
    return ReportTable(
        "Sides",
        "sides",
        "What is compared",
        "Only cells of one scale, on the same data, are compared; times and memory only on one machine.",
        tuple(Column(name, name, numeric=name in numeric) for name in names),
        (Block("reports", tuple(rows)),),
    )


def _cards(found: Sequence[Line]) -> list[html.Card]:
    groups: Counter[str] = Counter()
    for line in found:
        for word in {step.word for step in line.steps if step.word}:
            groups[next((start for start in ("only in", "not in", "not comp") if word.startswith(start)), word)] += 1
    said = {"only in": "on one side only", "not in": "missing on some side", "not comp": "not compared"}
    order = [EQUAL, NOISE, MOVED, *sorted(groups.keys() - {EQUAL, NOISE, MOVED})]
    of = f"of {counted(len(found), 'cell')}"
    return [html.Card(str(groups[word]), said.get(word, word), of) for word in order]


def write_diff(sides: Sequence[Side], out: Path) -> Path:
    """Write a folder with a page, and the table as CSV, Markdown, LaTeX and JSON; all of it appears at once.

    Returns:
        The page.

    Errors:
        UserError: the folder holds something else, or cannot be written.
    """
    whole, names = diff_table(sides, equal=True), sides_table(sides)
    with new_report(out) as writer:
        files = []
        for form, text in (
            ("CSV", table_csv(whole)), ("MD", table_markdown(whole)), ("TEX", table_latex(diff_table(sides))),
            ("JSON", diff_json(sides)),
        ):  # fmt: skip
            writer.text(f"diff.{form.lower()}", text)
            files.append((form, f"diff.{form.lower()}"))
        parts = [html.table_part(names, ()), html.table_part(whole, files)]
        title = "Reports side by side: " + ", ".join(one.name for one in sides)
        lead = "Cell by cell, each against the first report that has it."
        footer = "Written by cscdarts report diff. A dash means unknown, never 0."
        cards = _cards(lines(sides))
        writer.text("index.html", html.page(html.environment(), title, lead, cards, (), parts, footer))
    return out / "index.html"
