"""`cscdarts draw`: a genotype's cells as a figure file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.commands.options.values import Line, PathName
from cscdarts.errors import CannotWrite, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@click.command()
@click.argument("genotype")
@click.option(
    "--out",
    type=PathName(),
    required=True,
    metavar="FILE",
    help="Where to: FILE.svg, FILE.pdf or FILE.png; an older file is replaced.",
)
@click.option("--title", type=Line(), default="", help="A line above the cells.")
def draw(genotype: str, out: Path, title: str) -> None:
    """Draw the cells of GENOTYPE. The same genotype and title give the same bytes.

    GENOTYPE is a known name (cscdarts cost --known lists them), its text as repositories print it, FILE, FILE:NAME or
    FILE:LINE (a log, notebook, JSON or YAML; the last cell in it), a run folder, an index of NAS-Bench-201, or - for
    standard input. Cells of the darts and of the nasbench201 space are drawn.
    """
    if out.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise UserError(
            "--out", str(out), "a file that ends in .svg, .pdf or .png", f"For example: --out {out.stem or 'cell'}.svg"
        )
    if out.is_dir():
        raise UserError("--out", str(out), "a file", "A folder has this name.")
    from ablations.run.given import given_genotype
    from cscdarts.records.run_folder import write_atomic
    from reports.figures.genotype import figure, layout
    from reports.figures.style import pdf, png, svg

    cell = given_genotype(genotype)
    writers: dict[str, Callable[[Figure], str | bytes]] = {".svg": svg, ".pdf": pdf, ".png": png}
    content = writers[out.suffix.lower()](figure(cell, title))
    try:
        write_atomic(out, content)
    except OSError as error:
        raise CannotWrite("--out", out, error) from error
    click.echo(str(out))
    for drawing in layout(cell):
        click.echo(drawing.words)
