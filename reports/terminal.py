"""Tables on the terminal, and where the report is."""

import textwrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table as Grid
from rich.text import Text

from cscdarts.settings.metrics import format_value
from reports import statistics
from reports.build import Report
from reports.read.comparison import ERROR, MACHINE_BOUND, differences, signed
from reports.read.settings import FACTORS, METHODS, Setting, Study, method_rank
from reports.read.shown import shown_value
from reports.tables.table import DASH, ReportTable

#: (metric, heading) of the ablation's last columns.
_COSTS = (
    ("params_m", "params\nM"),
    ("macs_m", "MACs\nM"),
    ("peak_memory_mib", "memory\nMiB"),
    ("search_time_s", "search\ns"),
)


def print_ablation(console: Console, study: Study) -> None:
    """The ablation of one study in 80 columns: means only but for the error; the page has spreads and intervals."""
    grid = Grid(
        box=SIMPLE_HEAD, padding=0, show_edge=False, title=Text(f"Ablation: {study.title}"), title_justify="left"
    )
    extra = study.varied[:2]
    for heading in ("method", "ratio", "ident.", "ord.", *(name.rsplit(".", 1)[-1] for name in extra)):
        grid.add_column(Text(heading), no_wrap=True)
    for heading in ("test error\n%", "n", "diff.\npoints", *(heading for _, heading in _COSTS)):
        grid.add_column(Text(heading, justify="right"), justify="right", no_wrap=True)
    compared = differences(study)
    last: list[str] | None = None
    for setting in study.settings:
        kind = ["csc"] if "csc" in setting.methods else ["other"]
        if last is not None and kind != last:
            grid.add_section()
        last = kind
        difference = compared.get(setting.anchor)
        gap = signed(difference.mean, 2) if difference and difference.mean is not None else DASH
        cells = [_short(setting), *(shown_value(name, setting.params.get(name, "")) for name in (*FACTORS, *extra))]
        cells += [_error(setting), str(setting.values(ERROR).size), "default" if setting is study.reference else gap]
        cells += [_mean(setting, metric) for metric, _ in _COSTS]
        grid.add_row(*(Text(cell) for cell in cells), style="bold" if setting is study.reference else "")
    console.print(grid)


def _short(setting: Setting) -> str:
    # Ratio 1 without identity is both; the factors beside it say so, and 80 columns are few.
    names = sorted(set(setting.methods) - {"csc"} or setting.methods, key=method_rank)
    return "=".join(METHODS[name][1] if name in METHODS else name for name in names) or DASH


def _error(setting: Setting) -> str:
    values = setting.values(ERROR)
    centre, spread = statistics.mean(values), statistics.sd(values)
    return format_value(ERROR, centre) + (f" ± {format_value(ERROR, spread)}" if spread is not None else "")


def _mean(setting: Setting, metric: str) -> str:
    if metric in MACHINE_BOUND and len(setting.hardware) > 1:
        return DASH
    return format_value(metric, statistics.mean(setting.values(metric)))


def print_table(console: Console, table: ReportTable) -> None:
    """Print a table, one grid per block, with its caption and footnotes; nothing in the texts is taken for markup."""
    console.print(Text(f"{table.number} {table.title}", style="bold"))
    console.print(Text(table.caption))
    for block in table.blocks:
        grid = Grid(
            box=SIMPLE_HEAD, padding=0, show_edge=False, title=Text(block.title, style="bold"), title_justify="left"
        )
        shown = [(position, column) for position, column in enumerate(table.columns) if column.printed("tex")]
        for _, column in shown:
            side: JustifyMethod = "right" if column.numeric else "left"
            lines = [f"{column.source}:"] if column.source else []
            lines += textwrap.wrap(column.label, 11) + ([column.unit] if column.unit else [])
            grid.add_column(Text("\n".join(lines), justify=side), justify=side, no_wrap=True)
        for row in block.rows:
            cells = []
            for position, _ in shown:
                cell = row.cells[position]
                text = Text(cell.text, style="italic" if cell.source == "paper" else "")
                cells.append(text.append(f" ({cell.marks})", style="dim") if cell.marks else text)
            grid.add_row(*cells)
        # A table wider than the terminal keeps its lines whole: cut or folded cells could be misread.
        wide = grid.__rich_measure__(console, console.options.update(max_width=1000)).maximum
        narrow = console.width
        console.width = max(wide, narrow)
        console.print(grid, crop=False)
        console.width = narrow
    for mark, note in table.notes:
        console.print(Text(f"({mark}) {note}"))


def print_report(console: Console, report: Report, uri: str) -> None:
    """The ablation table, what to keep in mind, and where page and store are."""
    for study in report.studies:
        print_ablation(console, study)
    for finding in report.findings:
        console.print(Text.assemble((f"{finding.title}. ", "bold"), finding.text))
    console.print()
    if report.page is not None:
        console.print(Text(f"page:   {report.page}"), soft_wrap=True)
    console.print(Text(f"tables: {report.folder / 'tables'}"), soft_wrap=True)
    console.print(Text(f"store:  {uri} (cscdarts mlflow opens it)"), soft_wrap=True)
