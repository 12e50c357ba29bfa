"""`cscdarts report GRID...`, `cscdarts report record GRID` and `cscdarts report diff A B...`."""

from pathlib import Path

import click

from ablations.commands.options.pager import paged
from ablations.commands.options.values import PathName


class _GridsOrCommand(click.Group):
    """A group whose first argument is a subcommand or, when it is none, the first grid."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the hidden command `build` before anything that names no subcommand."""
        if not args or args[0] not in self.commands:
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_GridsOrCommand)
def report() -> None:
    """Write tables, figures and the HTML page of some grids, or compare reports."""


@report.command(
    "build",
    hidden=True,
    epilog="Compare reports: cscdarts report diff A B. Export look-ups: cscdarts report record GRID --out FILE",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("grids", nargs=-1, metavar="GRID...", required=True)
@click.option("--out", type=PathName(), default=Path("report"), show_default=True, help="Folder to write.")
@click.option("--scale", help="Only runs at this scale.")
@click.option("--formats", default="csv,tex,html,md,pdf,png", show_default=True, help="What to write.")
@click.option("--bold-best", is_flag=True, help="Set the best number of each block in bold in the LaTeX tables.")
@click.option("--quiet", is_flag=True, help="Print only where the report is.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@paged
def build(
    grids: tuple[str, ...], out: Path, scale: str | None, formats: str, bold_best: bool, quiet: bool, opens: bool
) -> None:  # fmt: skip
    """Read the runs of GRID... from MLflow and write a report: tables, figures, one HTML page, a page for each run."""
    from rich.console import Console

    from ablations.commands.options.browser import open_page
    from ablations.commands.options.progress import progress_bar
    from cscdarts.errors import UserError
    from reports.build import build_report
    from reports.read.tracking import tracking_uri
    from reports.terminal import print_report

    wanted = [form.strip() for form in formats.split(",") if form.strip()]
    if bold_best and "tex" not in wanted:
        raise UserError("--bold-best", True, "with tex among --formats", "Add tex to --formats, or leave it out.")
    if opens and "html" not in wanted:
        raise UserError("--open", True, "with html among --formats", "Add html to --formats, or leave it out.")
    with progress_bar(not quiet) as advance:
        made = build_report(
            grids,
            out,
            scale=scale,
            formats=wanted,
            tell=lambda line: None if quiet else click.echo(line, err=True),
            bold_best=bold_best,
            advance=advance,
        )
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    if quiet:
        click.echo(str(made.page or made.folder))
    else:
        print_report(Console(), made, tracking_uri())
    if opens and made.page is not None:
        open_page(made.page)


@report.command("record", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("grid", metavar="GRID")
@click.option("--out", type=PathName(), required=True, help="The JSON file to write.")
@click.option("--scale", help="Only runs at this scale.")
def record(grid: str, out: Path, scale: str | None) -> None:
    """Write the runs of GRID that a benchmark answered for, with their look-ups, as one JSON record."""
    from reports.record import write_record
    from reports.words import counted

    found = write_record(grid, out, scale)
    runs, settings = counted(found["runs_planned"], "run"), counted(len(found["summary"]), "setting")
    click.echo(f"{out}: {len(found['runs'])} of {runs}, {settings}")


@report.command("diff", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("reports", nargs=-1, metavar="A B...", required=True)
@click.option("--grid", "grids", multiple=True, help="Where a side is a commit: the grid whose runs are meant.")
@click.option(
    "--out",
    type=PathName(),
    help="Also write it here: a folder with a page that has all cells, or a .csv, .md, .tex or .json file.",
)
@paged
def diff(reports: tuple[str, ...], grids: tuple[str, ...], out: Path | None) -> None:
    """What moved from A to B and to further reports: report folders, or commits among the runs of --grid.

    A setting is compared with the same one at the same scale on the same data. Where only the scale or the data differ,
    the numbers stand side by side and are not compared.
    """
    from rich.console import Console

    from cscdarts.errors import UserError
    from cscdarts.records.run_folder import write_atomic
    from reports.compare import RENDERERS, diff_table, write_diff
    from reports.diff.sides import MOST_SIDES, side
    from reports.terminal import print_table

    if not 2 <= len(reports) <= MOST_SIDES:
        raise UserError("report diff", " ".join(reports), f"2 to {MOST_SIDES} reports", "Name their folders.")
    if out is not None and out.suffix and out.suffix not in RENDERERS:
        forms = ", ".join(RENDERERS)
        raise UserError("--out", str(out), f"a folder, or a name that ends in {forms}", "Choose one of these.")
    sides = [side(name, grids) for name in reports]
    print_table(Console(), diff_table(sides))
    if out is None:
        return
    if out.suffix:
        write_atomic(out, RENDERERS[out.suffix](sides))
    else:
        click.echo(f"page: {write_diff(sides, out)}")
