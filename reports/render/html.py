"""The page: one self-contained HTML file. All text goes through jinja with autoescape on; only our own SVG is let
through."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import statistics
from reports.figures.style import Drawing, inline_svg
from reports.read.comparison import ERROR, differences, signed
from reports.read.doubts.caveats import Finding
from reports.read.settings import Study
from reports.read.store import Store
from reports.tables.table import Column, ReportTable, TableCell
from reports.words import compared, counted, span, verb

Files = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """A number in large type, what it is, and what it is of."""

    value: str
    what: str
    of: str


@dataclass(frozen=True)
class ShownTable:
    """A table as the template reads it: only the columns that the page prints."""

    number: str
    name: str
    title: str
    caption: str
    shown: list[tuple[int, Column]]
    blocks: object
    rows: object
    notes: object


@dataclass(frozen=True)
class ShownFigure:
    """A figure as the template reads it."""

    number: str
    name: str
    title: str
    caption: str
    alt: str
    svg: Markup
    wide: bool
    files: Files
    rest: str


@dataclass(frozen=True)
class Part:
    """A section: a table, or a group of figures with what could not be drawn."""

    name: str
    title: str
    table: ShownTable | None = None
    files: Files = ()
    figures: Sequence[ShownFigure] = ()
    lacking: Sequence[str] = field(default_factory=tuple)


def environment() -> Environment:
    """Jinja over `reports/templates`, autoescape always on, unknown names an error."""
    return Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def style_sheet(jinja: Environment) -> Markup:
    """The style sheet's text, for inlining."""
    assert jinja.loader is not None
    return Markup(jinja.loader.get_source(jinja, "style.css")[0])


def table_part(table: ReportTable, files: Files) -> Part:
    """A table as a section."""
    shown = [(position, column) for position, column in enumerate(table.columns) if column.printed("html")]
    view = ShownTable(
        table.number, table.name, table.title, table.caption, shown, table.blocks, table.rows, table.notes
    )
    return Part(table.name, f"{table.number} {table.title}", view, files)


def figure(drawing: Drawing, svg: str, files: Files) -> ShownFigure:
    """A figure with its SVG made part of the page."""
    inline = Markup(inline_svg(svg, drawing.name, f"{drawing.number} {drawing.title}"))
    return ShownFigure(
        drawing.number,
        drawing.name,
        drawing.title,
        drawing.caption,
        drawing.alt,
        inline,
        drawing.wide,
        files,
        drawing.rest,
    )


def page(
    jinja: Environment,
    title: str,
    lead: str,
    cards: Sequence[Card],
    findings: Sequence[Finding],
    parts: Sequence[Part],
    footer: str,
) -> str:
    """The whole page."""
    contents = [("summary", "In short", "In short")]
    contents += [(part.name, part.title, _brief(part)) for part in parts]
    return jinja.get_template("report.html").render(
        title=title, lead=lead, cards=cards, findings=findings, parts=parts, footer=footer, contents=contents
    )


#: What a table is called where there is no room for its title.
_BRIEF = {
    "T0": "claims",
    "T1": "CIFAR",
    "T2": "ImageNet",
    "T3": "ablation",
    "T3b": "spread",
    "T4": "cost",
    "T5": "benchmark",
    "T5b": "checks",
    "T6a": "settings",
    "T6b": "runs",
    "T6c": "missing",
    "T7": "checklists",
    "Sides": "and their code",
    "Diff": "cell by cell",
}


def _brief(part: Part) -> str:
    number = part.table.number if part.table else ""
    return f"{number} {_BRIEF[number]}" if number in _BRIEF else part.title


def cards(store: Store, studies: Sequence[Study]) -> list[Card]:
    """The numbers at the top: runs, then for each study the default setting and what it is held against."""
    frame = store.runs
    done = int((frame["status"] == "done").sum()) if len(frame) else 0
    wanted = {key for manifest in store.manifests for key in manifest.runs} | set(frame["hash"] if len(frame) else [])
    failed = int((frame["status"] == "failed").sum()) if len(frame) else 0
    of = f"{failed} failed; {verb(len(store.grids), 'grid', 'grids')} {', '.join(store.grids)}"
    found = [Card(f"{done} of {len(wanted)}", f"{verb(len(wanted), 'run', 'runs')} finished", of)]
    for study in studies[:3]:
        found += _study_cards(study)
    return found


def _study_cards(study: Study) -> list[Card]:
    reference = study.reference
    if reference is None:
        return []
    errors = reference.values(ERROR)
    centre, spread = statistics.mean(errors), statistics.sd(errors)
    if centre is None:
        return []
    value = f"{centre:.2f}" + (f" ± {spread:.2f}" if spread is not None else "") + " %"
    of = f"{study.title}, n = {errors.size}"
    found = [Card(value, f"test error, {reference.describe()}", of)]
    paired = differences(study)
    for setting in study.settings:
        if setting is reference or not {"darts1", "darts2", "pcdarts"} & set(setting.methods):
            continue
        difference = paired.get(setting.anchor)
        if difference and difference.mean is not None:
            name = setting.names.replace("CSC-DARTS = ", "")
            gap = compared(difference.mean, 2, "points more", "points less", "as much")
            than = "as" if gap == "as much" else "than"
            tail = f", 95 % interval {span(difference.interval, 2)}" if difference.interval else ""
            found.append(
                Card(
                    f"{signed(difference.mean, 2)} points",
                    f"{name} has {gap} test error {than} the default",
                    f"{counted(difference.n, 'pair')} of seeds{tail}; {study.title}",
                )
            )
    return found[:4]


__all__ = ["Card", "Part", "TableCell", "cards", "environment", "figure", "page", "style_sheet", "table_part"]
