"""How the runs of a grid are begun: the options that say where they go and whom to tell, and the way from a grid to its
driver's end."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from ablations.commands.grid.choice import Command, require_grid_devices, require_inputs
from ablations.commands.options.values import MOST_PARALLEL, Whole
from ablations.drive.backend import Factory, Options, backend_forms, read_backend
from ablations.drive.driver import Driver, untouched
from ablations.drive.loop import Choose, run_grid
from ablations.drive.prune import other_sources
from ablations.drive.tell.notify import DESKTOP, VARIABLE, Recipient, notified, read_target


@dataclass(frozen=True)
class Where:
    """Where runs go, and how: what `--on` and the options beside it say."""

    backend: str
    overrides: tuple[str, ...]
    options: Options

    def factory(self) -> Factory:
        """What makes the backend of a grid.

        Errors:
            UserError, ClusterError: see `read_backend`.
        """
        return read_backend(self.backend, self.overrides)


def backend_options(function: Command) -> Command:
    """The options that say where runs go; they reach the function as `where`."""

    @functools.wraps(function)
    def command(
        backend: str, overrides: tuple[str, ...], parallel: int | None, wait: bool, allow_dirty: bool, snapshot: bool,
        **others: Any,
    ) -> Any:  # fmt: skip
        return function(where=Where(backend, overrides, Options(parallel, wait, allow_dirty, snapshot)), **others)

    chosen: Command = command
    for option in reversed(
        (
            click.option(
                "--on", "backend", default="local", show_default=True, metavar="|".join(backend_forms()),
                help="Where the runs go.",
            ),
            click.option(
                "--slurm", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the profile."
            ),
            click.option("--parallel", type=Whole(1, MOST_PARALLEL), help="At most this many runs at once."),
            click.option(
                "--wait/--no-wait", default=True, help="On a cluster: stay and mirror until the jobs have ended."
            ),
            click.option(
                "--allow-dirty", is_flag=True, help="On a cluster: submit uncommitted code, storing the difference."
            ),
            click.option("--snapshot", is_flag=True, help="On a cluster: run jobs from a copy of the code."),
        )
    ):  # fmt: skip
        chosen = option(chosen)
    return chosen


class _Notify(click.ParamType[Recipient | None]):
    """What `--notify` takes."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Recipient | None:
        """The target.

        Errors:
            UserError: see `read_target`.
        """
        return read_target(value) if isinstance(value, str) else value


def notify_option(function: Command) -> Command:
    """The option `--notify`, which reaches the function as `notify`."""
    return click.option(
        "--notify", type=_Notify(), envvar=VARIABLE, metavar=f"{DESKTOP}|URL",
        help=f"Tell when this command ends: on the desktop, or by JSON posted to a web hook; off by default. Better in "
        f"{VARIABLE}, as other users see a command's words.",
    )(function)  # fmt: skip


def begin(driver: Driver, where: Where, make: Factory, notify: Recipient | None, choose: Choose | None = None) -> int:
    """Run a grid, or what `choose` takes of it, to its end; returns the exit code.

    Errors:
        UserError, ClusterError: what the runs need is not there, or see `run_grid`.
    """
    if choose is None:
        require_inputs(driver.grid, where.backend)
        for line in other_sources(driver):
            click.echo(line, err=True)
    else:
        require_grid_devices(driver.grid, where.backend)
    work: Callable[[], int] = lambda: run_grid(make(driver, where.options), Console(), choose or untouched)  # noqa: E731
    return notified(notify, driver, work, where.options.wait or where.backend == "local")
