"""From a store to files: tables, figures, the page and a page for each run. The same store gives the same bytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cscdarts.errors import UserError
from reports.diff.sides import SNAPSHOT, snapshot_json
from reports.figures.cells import cells_figures
from reports.figures.curves import EPOCH_FIGURES, alpha_figures, epoch_figure
from reports.figures.forest import forest_figure
from reports.figures.scatter import error_memory_figure, rank_figure
from reports.figures.style import Drawing, pdf, png, svg
from reports.read import tracking
from reports.read.curves import CurveBook
from reports.read.doubts import trust
from reports.read.doubts.caveats import Finding, findings
from reports.read.settings import Study, studies
from reports.read.store import Store, load
from reports.render import csv as csvfile
from reports.render import html, latex, markdown
from reports.render.folder import Writer, new_report
from reports.render.run_page import moment, run_page
from reports.tables.ablation import ablation_table, variance_table
from reports.tables.benchmark import CheckBook, benchmark_table, check_table
from reports.tables.checklist import checklist_table
from reports.tables.claims import claims_table
from reports.tables.cost import cost_table
from reports.tables.provenance import missing_table, runs_table, settings_table
from reports.tables.published import cifar_table, imagenet_table
from reports.tables.table import ReportTable
from reports.words import counted

FORMATS = ("csv", "tex", "html", "md", "pdf", "png")


@dataclass
class Report:
    """What was made.

    Attributes:
        folder: where it lies.
        tables, findings, studies: its content.
        written: all files, relative to the folder, sorted.
        lacking: figures that could not be drawn, and why.
        warnings: what the store lacks, for whoever called: files of runs that are gone, runs that were refused.
    """

    folder: Path
    tables: list[ReportTable]
    findings: list[Finding]
    studies: list[Study]
    written: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def table(self, number: str) -> ReportTable:
        """The table with a number such as `T3`."""
        return next(table for table in self.tables if table.number == number)

    @property
    def page(self) -> Path | None:
        """The HTML page, None where it was not asked for."""
        return self.folder / "index.html" if "index.html" in self.written else None


def build_report(
    grids: Sequence[str],
    out: Path,
    *,
    scale: str | None = None,
    formats: Sequence[str] = FORMATS,
    uri: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    bold_best: bool = False,
    advance: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Report:
    """Read the grids' runs from MLflow and write the report; all of it appears at once, or nothing does.

    Args:
        out: folder to write; an earlier report there is replaced, anything else is left alone.
        scale: keep only runs at this scale.
        formats: of csv, tex, html, md, pdf, png.
        uri: tracking URI, the environment's if None.
        tell: receives one line for each step.
        bold_best: set the best number of each block of a LaTeX table in bold.
        advance: receives what is being written, how many of it are done, and of how many.

    Errors:
        UserError: unknown format, unknown grid, no store, a folder that is not a report or cannot be written.
    """
    for form in formats:
        if form not in FORMATS:
            raise UserError("--formats", form, ", ".join(FORMATS), "Name some of these, separated by commas.")
    where = uri or tracking.tracking_uri()
    if tracking.is_server(where):
        tell(f"asking {tracking.shown(where)}, which may take a minute to answer")
    store = load(grids, uri, scale)
    tell(f"{counted(len(store.runs), 'run')} of {', '.join(store.grids)}")
    with new_report(out) as writer:
        report = _write(store, writer, set(formats), tell, bold_best, advance)
    report.folder = out
    return report


def all_tables(store: Store, found: Sequence[Study], checks: CheckBook) -> list[ReportTable]:
    """All tables in the report's order, by number but for the ablation, which follows the claims."""
    checked = sum(len(checks.of(setting)) for study in found for setting in study.settings)
    return [
        claims_table(found),
        ablation_table(found),
        variance_table(found),
        cifar_table(found),
        imagenet_table(found),
        cost_table(found),
        benchmark_table(found, checks),
        *([check_table(found, checks)] if checked else []),
        settings_table(found),
        runs_table(store, found),
        missing_table(store, found),
        checklist_table(store, found, checked),
    ]


def all_figures(found: Sequence[Study], book: CurveBook, checks: CheckBook) -> tuple[list[Drawing], list[str]]:
    """All figures that the records allow, and for the others a sentence each."""
    drawn: list[Drawing] = []
    lacking: list[str] = []
    for position, study in enumerate(found):
        suffix = "" if len(found) == 1 else f"_{position + 1}"
        alphas = alpha_figures(study, book, suffix)
        if not alphas:
            lacking.append(f"F1 ({study.title}): the default setting left no architecture parameters")
        cells = cells_figures(study, suffix)
        if not cells:
            lacking.append(f"F2 ({study.title}): no derived cell is recorded")
        single: list[tuple[str, str, Drawing | None]] = [
            ("F3", "no finished run has both test error and peak memory", error_memory_figure(study, suffix)),
            *((plan.number, plan.lack, epoch_figure(plan, study, book, suffix)) for plan in EPOCH_FIGURES),
            ("F7", "the default setting's supernet was not ranked against a benchmark", _ranks(study, checks, suffix)),
            ("F8", "no setting shares a seed and a code version with the default", forest_figure(study, suffix)),
        ]
        mine = [*alphas, *cells, *(drawing for _, _, drawing in single if drawing)]
        drawn += sorted(mine, key=lambda drawing: drawing.number)
        lacking += [f"{number} ({study.title}): {why}" for number, why, drawing in single if drawing is None]
    return drawn, lacking


def _ranks(study: Study, checks: CheckBook, suffix: str) -> Drawing | None:
    found = checks.of(study.reference) if study.reference else []
    return rank_figure(study, [check.one_shot() for check in found], suffix)


def _write(
    store: Store, writer: Writer, formats: set[str], tell: Callable[[str], None], bold_best: bool,
    advance: Callable[[str, int, int], None],
) -> Report:  # fmt: skip
    found = studies(store)
    checks = CheckBook(store)
    doubts = trust.findings(store, bool(formats & {"html", "pdf", "png"}))
    tables = all_tables(store, found, checks)
    report = Report(writer.folder, tables, [*doubts, *findings(store, found)], found, writer.written)
    report.warnings = [f"{one.title}: {one.text}" for one in doubts]
    files: dict[str, list[tuple[str, str]]] = {}
    for table in report.tables:
        for form, render in (("csv", csvfile.table_csv), ("tex", partial(latex.table_latex, bold_best=bold_best))):
            if form in formats:
                path = f"tables/{table.name}.{form}"
                writer.text(path, render(table))
                files.setdefault(table.name, []).append((form.upper() if form == "csv" else "LaTeX", path))
    tell(f"{len(report.tables)} tables")
    book = CurveBook(store)
    drawn: list[Drawing] = []
    if formats & {"html", "pdf", "png"}:
        drawn, report.lacking = all_figures(found, book, checks)
    shown = []
    for number, drawing in enumerate(drawn, start=1):
        shown.append((drawing, _figure_files(drawing, formats, writer)))
        advance("figures", number, len(drawn))
    tell(f"{counted(len(drawn), 'figure')}, {len(report.lacking)} not drawn")
    writer.text(SNAPSHOT, snapshot_json(found))
    if "md" in formats:
        writer.text("report.md", _markdown(store, report, found))
    if "html" in formats:
        jinja = html.environment()
        by_name = {drawing.name: (drawing, links) for drawing, links in shown}
        figures = [html.figure(drawing, svg(drawing.figure), links) for drawing, links in by_name.values()]
        parts = [html.table_part(table, files.get(table.name, ())) for table in report.tables]
        place = next(k for k, table in enumerate(report.tables) if table.number == "T1")  # right after the ablation
        parts.insert(place, html.Part("figures", "Figures", figures=figures, lacking=report.lacking))
        text = html.page(
            jinja, _title(store), _lead(store, found), html.cards(store, found), report.findings, parts, _footer(store)
        )
        writer.text("index.html", text)
        tell("page")
        style = html.style_sheet(jinja)
        name = tracking.shown(store.uri).rsplit("/", 1)[-1]
        for number, run in enumerate(_runs(found), start=1):
            place_of = store.folder(str(run["run_id"]), str(run["artifact_uri"]))
            writer.text(f"runs/{run['hash']}.html", run_page(jinja, style, run, place_of, book.of(run), name))
            book.forget(run)
            advance("run pages", number, len(store.runs))
        tell(counted(len(store.runs), "run page"))
    report.written.sort()
    return report


def _runs(found: Sequence[Study]) -> Iterator[Mapping[str, Any]]:
    for study in found:
        for setting in study.settings:
            for run in setting.runs:
                yield run | {"data": setting.data}


def _figure_files(drawing: Drawing, formats: set[str], writer: Writer) -> list[tuple[str, str]]:
    links = []
    if "pdf" in formats:
        writer.data(f"figures/{drawing.name}.pdf", pdf(drawing.figure))
        links.append(("PDF", f"figures/{drawing.name}.pdf"))
    if "png" in formats:
        writer.data(f"figures/{drawing.name}.png", png(drawing.figure))
        links.append(("PNG", f"figures/{drawing.name}.png"))
    if "csv" in formats:
        rows = drawing.data.map(lambda value: csvfile.cell(value) if isinstance(value, str) else value)
        rows.columns = [csvfile.cell(str(name)) for name in rows.columns]
        writer.text(f"figures/{drawing.name}.csv", rows.to_csv(index=False, lineterminator="\n", float_format="%.10g"))
        links.append(("CSV", f"figures/{drawing.name}.csv"))
    if "tex" in formats and "pdf" in formats:
        writer.text(f"figures/{drawing.name}.tex", latex.figure_latex(drawing))
        links.append(("LaTeX", f"figures/{drawing.name}.tex"))
    return links


def _title(store: Store) -> str:
    return f"CSC-DARTS report: {', '.join(store.grids)}"


def _lead(store: Store, found: Sequence[Study]) -> str:
    frame = store.runs
    if frame.empty:
        return "No run is recorded."
    commits = sorted({version for study in found for setting in study.settings for version in setting.codes})
    where = "; ".join(study.title for study in found)
    ends = frame["end_ms"].dropna()
    until = f", last record {moment(ends.max())}" if len(ends) else ""
    return f"{counted(len(frame), 'run')} on {where}. Code {', '.join(commits[:4])}{until}."


def _footer(store: Store) -> str:
    return (
        "Written by cscdarts report. Numbers in italics are published ones, with their source; all others are of the "
        "runs "
        "listed here. A dash means unknown, never 0."
    )


def _markdown(store: Store, report: Report, found: Sequence[Study]) -> str:
    lines = [
        f"# {markdown.escape(_title(store))}",
        "",
        markdown.escape(_lead(store, found)),
        "",
        "What to keep in mind:",
        "",
    ]
    lines += [f"- **{markdown.escape(f.title)}.** {markdown.escape(f.text)}" for f in report.findings]
    return "\n".join(lines) + "\n\n" + "\n".join(markdown.table_markdown(table) for table in report.tables)
