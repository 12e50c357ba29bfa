"""Which runs a command is about: the options that all commands on grids share, and what must be there before they
run."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ablations.commands.options.values import PathName, Whole
from ablations.drive.backend import LOCAL, require_devices
from ablations.grid.file import grid_names
from ablations.grid.load import MOST_RETRAININGS, Grid, load_grid, setting_keys, source_now
from ablations.grid.past import MANIFEST, Past, read_past, recalled
from benchmarks.sources import require_benchmark
from cscdarts.data.limits import require_data
from cscdarts.errors import MissingFile
from cscdarts.records.grid_names import is_file, require_grid_name
from cscdarts.records.runs_folder import run_folders_of, scale_of
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
        """The grid.

        Args:
            source: its name, or the path of its file. A name that is no shipped grid's stands for the file that
                `runs/NAME` was last run from.
            recall: take each of scale, retrainings and single overrides that is not given from what the grid was last
                run with (at the given scale, if it was run at that).

        Errors:
            UserError: see `load_grid`; or with `recall`: there are runs, and nothing says at which scale.
        """
        folder = self.runs / require_grid_name(source)
        past = read_past(folder)
        source = _file_of(source, past)
        given = self._given()
        last = recalled(past, source_now(source, self.runs), self.scale) if recall else None
        if last is not None:
            keys = setting_keys(given)
            kept = [f"{key}={value}" for key, value in last.overrides.items() if key not in keys]
            times = last.retrainings if self.retrainings is None else self.retrainings
            return load_grid(source, self.scale or last.scale, (*kept, *given), times)
        if recall and self.scale is None and not past:
            _require_no_runs(folder)
        return load_grid(source, self.scale or DEFAULT_SCALE, given, self.retrainings)

    def _given(self) -> tuple[str, ...]:
        if self.data_root is None:
            return self.assignments
        return (*self.assignments, f"runtime.data_root={self.data_root.absolute()}")


def _file_of(source: str, past: Sequence[Past]) -> str:
    if is_file(source) or source in grid_names():
        return source
    recorded = past[-1].source if past else None
    return recorded.path if recorded is not None and recorded.path else source


def _require_no_runs(folder: Path) -> None:
    """Make sure that a folder without a record holds no runs either.

    Errors:
        MissingFile: it does.
    """
    scales = sorted({scale_of(path) or "one that cannot be read" for path in run_folders_of(folder)})
    if scales:
        raise MissingFile(
            folder / MANIFEST,
            f"The folder holds runs (scale: {', '.join(scales)}); say with --scale, --set and --data-root which are "
            "meant.",
        )  # fmt: skip


def choice_options(scale_help: str, overrides: bool = True) -> Callable[[Command], Command]:
    """The options that say which runs of a grid are meant; they reach the function as `choice`.

    Args:
        overrides: whether `--set` is one of them; a command may have a `--set` of its own.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(
            scale: str | None, data_root: Path | None, retrainings: int | None, runs: Path, **others: Any
        ) -> Any:  # fmt: skip
            given: tuple[str, ...] = others.pop("assignments") if overrides else ()
            return function(choice=Choice(scale, given, data_root, retrainings, runs), **others)

        chosen: Command = command
        own = click.option(
            "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of all runs."
        )
        for option in reversed(
            (
                click.option("--scale", type=click.Choice(SCALES), help=scale_help),
                *([own] if overrides else []),
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
    asked = {(p.config.runtime.benchmark, p.config.supernet.space, p.config.supernet.ops): p for p in grid.points}
    for point in asked.values():
        require_benchmark(point.config.runtime.benchmark, point.config.supernet)
