"""`cscdarts report GRID...` and `cscdarts report diff A B`."""

from pathlib import Path

import click


class _GridsOrCommand(click.Group):
    """A group whose first word is a subcommand or, when it is none, the first grid."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the hidden command `build` before anything that names no subcommand."""
        if not args or args[0] not in self.commands:
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_GridsOrCommand)
def report() -> None:
    """Write tables, figures and the HTML page of some grids, or compare two reports."""


@report.command(
    "build",
    hidden=True,
    epilog="Compare two reports with: cscdarts report diff A B",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("grids", nargs=-1, metavar="GRID...", required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("report"), show_default=True, help="Folder to write."
)
@click.option("--scale", help="Only runs at this scale.")
@click.option("--formats", default="csv,tex,html,md,pdf,png", show_default=True, help="What to write.")
@click.option("--quiet", is_flag=True, help="Print only where the report is.")
def build(grids: tuple[str, ...], out: Path, scale: str | None, formats: str, quiet: bool) -> None:
    """Read the runs of GRID... from MLflow and write a report: tables, figures, one HTML page, a page for each run."""
    from rich.console import Console

    from reports.build import build_report
    from reports.store import tracking_uri
    from reports.terminal import print_report

    wanted = [form.strip() for form in formats.split(",") if form.strip()]
    made = build_report(
        grids, out, scale=scale, formats=wanted, tell=lambda line: None if quiet else click.echo(line, err=True)
    )
    if quiet:
        click.echo(str(made.page or made.folder))
    else:
        print_report(Console(), made, tracking_uri())
