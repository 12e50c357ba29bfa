"""`cscdarts benchmark`: index the official archives, verify the index, build and export the embedded benchmark."""

import math
from pathlib import Path

import click

from ablations.commands.options.pager import paged
from ablations.commands.options.progress import can_redraw, progress_bar
from ablations.commands.options.values import PathName, Whole


def _say(line: str) -> None:
    click.echo(line, err=True)


def _say_without_bar(line: str) -> None:
    if not can_redraw():
        _say(line)


@click.group()
def benchmark() -> None:
    """Make, inspect and compare architecture benchmarks."""


@benchmark.command()
@click.option("--nats", type=PathName(), help="NATS-tss-*-simple folder or NATS-tss-*.pickle.pbz2 file.")
@click.option("--nasbench201", type=PathName(), help="NAS-Bench-201-v1_1-096897.pth")
@click.option("--csv", "table", type=PathName(), help="CSV (.gz or not) with columns like cifar10_test_acc_200.")
@click.option("--pip", "installed", is_flag=True, help="The validation results that cscdarts[nasbench201] installs.")
@click.option("--out", type=PathName(), default=Path("nasbench201.parquet"), show_default=True)
def index(nats: Path | None, nasbench201: Path | None, table: Path | None, installed: bool, out: Path) -> None:
    """Turn one source into one small Parquet file; ask it with `cscdarts check ARCH --benchmark index:FILE`."""
    from benchmarks.sources import open_table
    from benchmarks.tabular.index import write_index
    from cscdarts.errors import UserError

    given = [
        f"{form}:{path}"
        for form, path in (("nats", nats), ("nasbench201", nasbench201), ("csv", table))
        if path is not None
    ] + ["pip"] * installed
    if len(given) != 1:
        raise UserError(
            "source",
            " and ".join(given) or "none",
            "one of --nats, --nasbench201, --csv and --pip",
            "Give exactly one of them.",
        )
    with progress_bar() as advance:
        found = open_table(given[0], _say_without_bar, advance)
        advance("writing", 0, 0)
        write_index(found, out)
    click.echo(f"{out}: {found.holds:,} architectures, {', '.join(found.datasets)}, {out.stat().st_size / 1e6:.2f} MB")


@benchmark.command()
@click.argument("index_file", type=PathName())
@click.option("--against", required=True, metavar="NAME", help="nats:DIR, nats:FILE or nasbench201:FILE.")
@click.option("--sample", type=Whole(1, 15_625), default=100, show_default=True, help="Architectures to compare.")
@click.option("--seed", type=Whole(0, 2**31 - 1), default=0, show_default=True)
def verify(index_file: Path, against: str, sample: int, seed: int) -> None:
    """Compare a random sample of an index with the official answers."""
    from benchmarks.official.table import compare
    from benchmarks.sources import open_official
    from benchmarks.tabular.index import read_index

    compared = compare(read_index(index_file), open_official(against), sample, seed, _say)
    click.echo(f"{compared} numbers agree")


@benchmark.command()
@click.option(
    "--work",
    type=PathName(),
    default=Path("embedded-build"),
    show_default=True,
    help="Where trained chunks are kept.",
)
@click.option(
    "--out",
    type=PathName(),
    default=Path("embedded-benchmark"),
    show_default=True,
    help="Where the finished files go.",
)
@click.option("--jobs", type=Whole(1, 4096), default=1, show_default=True, help="Processes, of one thread each.")
@click.option("--seeds", default="777,888,999", show_default=True, help="Training seeds, in this order.")
@click.option("--assemble-only", is_flag=True, help="Train nothing; pack the seeds that are complete.")
def build(work: Path, out: Path, jobs: int, seeds: str, assemble_only: bool) -> None:
    """Train every cell of the space on digits and pack the embedded benchmark.

    Can be stopped and run again: what is trained is not trained twice. All seeds take about an hour of one core. The
    package's own copy is `benchmarks/embedded/`.
    """
    from benchmarks.embedded.build import assemble
    from benchmarks.embedded.training_recipe import TrainingRecipe
    from cscdarts.errors import UserError
    from cscdarts.settings.values import Unreadable, whole

    try:
        numbers = [whole(part) for part in seeds.split(",")]
    except Unreadable:
        numbers = []
    if not numbers or len(set(numbers)) != len(numbers) or not all(0 <= number < 2**31 for number in numbers):
        raise UserError("--seeds", seeds, "different whole numbers with commas between", "For example: --seeds 777,888")
    if not assemble_only:
        from benchmarks.embedded.trainer import train_all

        train_all(work, TrainingRecipe(seeds=tuple(numbers)), jobs, _say)
    made = assemble(work, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    click.echo(f"{out}: {made['architectures']:,} architectures, seeds {made['seeds']}, {size / 1e6:.2f} MB")


@benchmark.command()
@click.option("--out", type=PathName(), required=True, help="Folder to write to.")
@click.option("--form", type=click.Choice(["folder", "file"]), default="file", show_default=True)
def export(out: Path, form: str) -> None:
    """Write the embedded benchmark in the official NATS-Bench form, for `nats_bench.create`."""
    from benchmarks.embedded.nats_form import export as write

    with progress_bar() as advance:
        written = write(out, "folder" if form == "folder" else "file", _say_without_bar, advance=advance)
    click.echo(f"nats_bench.create({str(written)!r}, 'tss', fast_mode={form == 'folder'}, verbose=False)")


@benchmark.command()
@click.argument("name", metavar="BENCHMARK", default="embedded")
@click.option("--top", type=Whole(1, 100), default=5, show_default=True, help="Best cells to list.")
@paged
def show(name: str, top: int) -> None:
    """What a benchmark holds, where it comes from, and its best cells."""
    import numpy as np

    from benchmarks.sources import open_table
    from benchmarks.tabular.space import SIZE, official_archs

    table = open_table(name, _say)
    for key, value in table.provenance.items():
        click.echo(f"{key:14}{value}")
    click.echo(f"{'holds':14}{table.holds:,} of {SIZE:,} cells")
    for dataset in table.datasets:
        for epochs in table.epochs(dataset):
            valid, test = table.accuracy(dataset, "valid", epochs), table.accuracy(dataset, "test", epochs)
            ranked = test if table.ranked_by(dataset, epochs) == "test" else valid
            click.echo(f"\n{dataset}, {epochs} epochs, trials {list(table.trials(dataset, epochs)) or 'only means'}")
            for place in np.argsort(-np.nan_to_num(ranked, nan=-1.0), kind="stable")[: min(top, table.holds)].tolist():
                click.echo(
                    f"  {place:6d}  {official_archs()[place]}  "
                    f"valid {_points(valid[place])}  test {_points(test[place])}"
                )


@benchmark.command()
@click.argument("first", metavar="BENCHMARK")
@click.argument("second", metavar="BENCHMARK")
@click.option(
    "--split", type=click.Choice(["valid", "test"]), help="Accuracy to compare (default: test, if both have it)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@paged
def compare(first: str, second: str, split: str | None, as_json: bool) -> None:
    """How alike two benchmarks rank the cells that both hold, per pair of their data sets, and whether their values
    are equal where both tell of the same data set. They are compared, never mixed."""
    import json

    from benchmarks.sources import open_table
    from benchmarks.tabular.agreement import EQUAL, agreement_of, shared_split

    one, other = open_table(first, _say), open_table(second, _say)
    chosen = shared_split(one, other) if split is None else "valid" if split == "valid" else "test"
    rows = agreement_of(one, other, chosen)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(
        f"{chosen} accuracy; equal: within {EQUAL} points, gap: mean and largest difference of the same data set\n"
        f"{'first':16}{'second':16}{'cells':>7}{'Spearman':>10}{'Kendall':>9}{'top 1 %':>9}{'top 10 %':>9}"
        f"{'equal %':>9}{'mean gap':>10}{'largest':>9}"
    )
    for row in rows:
        ranks = [_points(row[key], 3) for key in ("spearman", "kendall")]
        shares = [_points(row[key], 1) for key in ("top_1_overlap_pct", "top_10_overlap_pct", "equal_pct")]
        gaps = [_points(row[key], 3) for key in ("mean_difference", "largest_difference")]
        click.echo(
            f"{row['first']:16}{row['second']:16}{row['cells']:>7}{ranks[0]:>10}{ranks[1]:>9}{shares[0]:>9}"
            f"{shares[1]:>9}{shares[2]:>9}{gaps[0]:>10}{gaps[1]:>9}"
        )


def _points(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
