"""`cscdarts reproduce TABLE`: run what a table of the paper needs, then print that table beside the published one."""

from dataclasses import dataclass
from pathlib import Path

import click

from ablations.drive.backend import backend_forms
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES


@dataclass(frozen=True)
class Target:
    """A table of the paper.

    Attributes:
        grids: the grids whose runs stand in it.
        tables: its numbers in the report, `T3` meaning the ablation as a terminal shows it.
    """

    grids: tuple[str, ...]
    tables: tuple[str, ...]


TARGETS = {
    "cifar10": Target(("cifar10",), ("T1",)),
    "cifar100": Target(("cifar100",), ("T1",)),
    "imagenet": Target(("imagenet",), ("T2",)),
    "nasbench201": Target(("nasbench201",), ("T5", "T5b")),
    "ablations": Target(("split_ratio", "identity", "order", "factorial"), ("T3", "T4")),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("table", type=click.Choice(tuple(TARGETS)), metavar="cifar10|cifar100|imagenet|nasbench201|ablations")
@click.option("--scale", type=click.Choice(SCALES), default=DEFAULT_SCALE, show_default=True, help="Size of the runs.")
@click.option(
    "--on", "backend", default="local", show_default=True, metavar="|".join(backend_forms()), help="Where they go."
)
@click.option("--slurm", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the profile.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of all runs.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Where data sets lie or are downloaded to.")
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of runs."
)
@click.option("--parallel", type=click.IntRange(min=1), help="At most this many runs at once.")
@click.option("--allow-dirty", is_flag=True, help="On a cluster: submit uncommitted code, storing the difference.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report; report-TABLE if not given.")
def reproduce(
    table: str,
    scale: str,
    backend: str,
    overrides: tuple[str, ...],
    assignments: tuple[str, ...],
    data_root: Path | None,
    runs: Path,
    parallel: int | None,
    allow_dirty: bool,
    out: Path | None,
) -> int:
    """Run the grids behind a table of the paper and print that table, ours beside the published numbers.

    What is finished already is not run again. Only `--scale paper` on the true data stands in the paper's rows; at any
    other scale our numbers have a block of their own.
    """
    from rich.console import Console

    from ablations.drive.backend import Options, read_backend
    from ablations.drive.driver import Driver
    from ablations.drive.loop import run_grid
    from ablations.grid.load import load_grid
    from benchmarks.sources import require_benchmark
    from cscdarts.data.limits import require_data
    from reports.build import build_report
    from reports.read.tracking import tracking_uri
    from reports.terminal import print_ablation, print_table

    target = TARGETS[table]
    make = read_backend(backend, overrides)
    if data_root is not None:
        assignments = (*assignments, f"runtime.data_root={data_root.absolute()}")
    drivers = [Driver(load_grid(name, scale, assignments), runs) for name in target.grids]
    for driver in drivers:
        for point in driver.grid.points:
            require_data(point.config)
        for benchmark in sorted({point.config.runtime.benchmark for point in driver.grid.points}):
            require_benchmark(benchmark)
    console = Console()
    # A failed run leaves a gap in the table, not a table unprinted.
    options = Options(parallel=parallel, wait=True, allow_dirty=allow_dirty)
    worst = max(run_grid(make(driver, options), console) for driver in drivers)
    made = build_report(target.grids, out or Path(f"report-{table}"), scale=scale)
    for number in target.tables:
        if number == "T3":
            for study in made.studies:
                print_ablation(console, study)
            continue
        found = next((shown for shown in made.tables if shown.number == number), None)
        if found is not None:
            print_table(console, found)
    for finding in made.findings:
        console.print(f"{finding.title}. {finding.text}", markup=False, highlight=False)
    console.print(f"page:  {made.page}\nstore: {tracking_uri()}", markup=False, highlight=False, soft_wrap=True)
    return worst
