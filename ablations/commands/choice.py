"""Which runs a command is about: the options that all commands on grids share, and what must be there before they
run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ablations.commands.options.values import PathName, Whole
from ablations.drive.backend import LOCAL, require_devices
from ablations.grid.load import MOST_RETRAININGS, Grid, load_grid, recorded_choice
from benchmarks.sources import require_benchmark
from cscdarts.data.limits import require_data
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES

Command = Callable[..., Any]


@dataclass(frozen=True)
class Choice:
    """Which runs of a grid are meant, and where they lie: what the options of all commands on a grid say."""

    scale: str | None
    assignments: tuple[str, ...]
    data_root: Path | None
    retrainings: int | None
    runs: Path

    def grid(self, source: str, recall: bool = True) -> Grid:
        """The grid; with `recall`, scale, overrides and retrainings default to those it was last run with."""
        assignments = self.assignments
        if self.data_root is not None:
            assignments = (*assignments, f"runtime.data_root={self.data_root.absolute()}")
        if recall and self.scale is None and not assignments and self.retrainings is None:
            recorded = recorded_choice(source, self.runs)
            if recorded is not None:
                return load_grid(source, *recorded)
        return load_grid(source, self.scale or DEFAULT_SCALE, assignments, self.retrainings)


def choice_options(scale_help: str) -> Callable[[Command], Command]:
    """The options that say which runs of a grid are meant; they reach the function as `choice`."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(
            scale: str | None, assignments: tuple[str, ...], data_root: Path | None, retrainings: int | None,
            runs: Path, **others: Any,
        ) -> Any:  # fmt: skip
            return function(choice=Choice(scale, assignments, data_root, retrainings, runs), **others)

        chosen: Command = command
        for option in reversed(
            (
                click.option("--scale", type=click.Choice(SCALES), help=scale_help),
                click.option(
                    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of all runs."
                ),
                click.option("--data-root", type=PathName(), help="Where data sets lie or are downloaded to."),
                click.option(
                    "--retrainings",
                    type=Whole(1, MOST_RETRAININGS),
                    metavar="N",
                    help="Retrain each cell N times, with seeds of their own; the search is shared. "
                    "[what the grid says]",
                ),
                click.option(
                    "--runs",
                    type=PathName(),
                    default=Path("runs"),
                    show_default=True,
                    help="Folder of run folders.",
                ),
            )
        ):
            chosen = option(chosen)
        return chosen

    return decorate


def require_grid_devices(grid: Grid, backend: str) -> None:
    """Make sure that this machine has the devices of a grid's runs where it is to run them.

    Errors:
        UserError: see `require_devices`.
    """
    require_devices(backend, (point.config.runtime.device for point in grid.points))


def require_inputs(grid: Grid, backend: str = LOCAL) -> None:
    """Make sure that the data, benchmarks and devices of a grid's runs are there before the first one begins.

    Errors:
        UserError: see `require_data`, `require_benchmark` and `require_devices`.
    """
    require_grid_devices(grid, backend)
    for point in grid.points:
        require_data(point.config)
    for benchmark in sorted({point.config.runtime.benchmark for point in grid.points}):
        require_benchmark(benchmark)
