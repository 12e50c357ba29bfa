"""`cscdarts reproduce TABLE`: run what a table of the paper needs, then print that table beside the published one."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from ablations.commands.grid.choice import Choice, choice_options, require_grid_devices, require_inputs
from ablations.commands.grid.running import notify_option
from ablations.commands.options.values import MOST_PARALLEL, PathName, Whole
from ablations.drive.backend import backend_forms
from ablations.drive.tell.notify import Recipient, notified
from cscdarts.settings.protocols import DEFAULT_SCALE


@dataclass(frozen=True)
class Target:
    """A table of the paper.

    Attributes:
        grids: the grids whose runs stand in it.
        tables: its numbers in the report, `T3` meaning the ablation as a terminal shows it; T0 stands before each.
    """

    grids: tuple[str, ...]
    tables: tuple[str, ...]


def _together(targets: Iterable[Target]) -> Target:
    """The grids and tables of several targets, each once."""
    grids = dict.fromkeys(name for target in targets for name in target.grids)
    tables = dict.fromkeys(name for target in targets for name in target.tables)
    return Target(tuple(grids), tuple(tables))


TARGETS = {
    "cifar10": Target(("cifar10",), ("T1",)),
    "cifar100": Target(("cifar100",), ("T1",)),
    "imagenet": Target(("imagenet",), ("T2",)),
    "nasbench201": Target(("nasbench201",), ("T5", "T5b")),
    "ablations": Target(("split_ratio", "identity", "order", "factorial"), ("T3", "T4")),
}
TARGETS["all"] = _together(list(TARGETS.values()))
#: The rows that the paper's tables quote from others: no table needs them, so that `all` does not pay for them.
TARGETS["family"] = Target(("cifar10", "nasbench201", "family"), ("T1", "T5"))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("table", type=click.Choice(tuple(TARGETS)), metavar="|".join(TARGETS))
@choice_options(f"Size of the runs. [default: {DEFAULT_SCALE}]")
@click.option(
    "--on", "backend", default="local", show_default=True, metavar="|".join(backend_forms()), help="Where they go."
)
@click.option("--slurm", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the profile.")
@click.option("--parallel", type=Whole(1, MOST_PARALLEL), help="At most this many runs at once.")
@click.option("--allow-dirty", is_flag=True, help="On a cluster: submit uncommitted code, storing the difference.")
@click.option("--plan", "only_plan", is_flag=True, help="Count what is to be done, and run nothing.")
@click.option(
    "--forecast/--no-forecast", default=None,
    help="With --plan: what each kind of run takes of a GPU: memory, how many fit, hours. [where the runs get GPUs]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="With --plan: the counts as one JSON object.")
@click.option("--out", type=PathName(), help="Folder of the report; report-TABLE if not given.")
@notify_option
def reproduce(
    table: str,
    choice: Choice,
    backend: str,
    overrides: tuple[str, ...],
    parallel: int | None,
    allow_dirty: bool,
    only_plan: bool,
    forecast: bool | None,
    as_json: bool,
    out: Path | None,
    notify: Recipient | None,
) -> int:
    """Run the grids behind a table of the paper and print that table, ours beside the published numbers; `all` is every
    table, `family` the methods that they quote.

    What is finished already is not run again. Only `--scale paper` on the true data stands in the paper's rows; at any
    other scale our numbers have a block of their own.

    --plan counts what is to be done, each run, search and retraining once however many grids share it; see `cscdarts
    ablate plan --help` for the keys of its JSON object.
    """
    from rich.console import Console

    from ablations.commands.grid.planning import forecasting, tell_plan
    from ablations.drive.backend import Options, read_backend
    from ablations.drive.driver import Driver
    from ablations.drive.loop import run_grid
    from ablations.drive.tell.show import tally
    from cscdarts.errors import UserError

    target = TARGETS[table]
    make = read_backend(backend, overrides)
    if as_json and not only_plan:
        raise UserError("--json", "without --plan", "with --plan", "Add --plan: only its counts are JSON.")
    drivers = [Driver(choice.grid(name, recall=False), choice.runs) for name in target.grids]
    for driver in drivers:
        require_grid_devices(driver.grid, backend)
    if only_plan:
        where = make(drivers[0], Options(parallel))
        gpus = forecasting(forecast, where.gpus())
        states, told = tell_plan(drivers, choice.runs, as_json, where.nodes_of_run, gpus)
        if not as_json:
            for driver, own in zip(drivers, states, strict=True):
                click.echo(f"{driver.grid.name} ({driver.grid.scale}): {tally(own)}")
            click.echo(told)
        return 0
    from reports.build import build_report
    from reports.read.tracking import tracking_uri
    from reports.terminal import print_ablation, print_table

    for driver in drivers:
        require_inputs(driver.grid, backend)
    console = Console()
    # A failed run leaves a gap in the table, not a table unprinted.
    options = Options(parallel=parallel, wait=True, allow_dirty=allow_dirty)
    worst = max(notified(notify, driver, partial(run_grid, make(driver, options), console)) for driver in drivers)
    made = build_report(target.grids, out or Path(f"report-{table}"), scale=choice.scale or DEFAULT_SCALE)
    for number in ("T0", *target.tables):
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
