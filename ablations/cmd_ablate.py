"""`cscdarts ablate`: plan, run, status, watch, logs, cancel, retry and prune of a grid."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ablations.driver import TAKEN_UP, Driver, chosen_for_retry, counts, current_code
from ablations.grid import DEFAULT_SCALE, SCALES, Grid, grid_names, load_grid, recorded_choice
from ablations.mirror import Mirror
from ablations.show import Progress, duration, following, status_table, tally
from ablations.state import RunState
from cscdarts.errors import UserError

#: The mirror is given at most this share of the driver's time.
MIRROR_SHARE = 0.1
MIRROR_EVERY_S = 5.0


@click.group()
def ablate() -> None:
    """Plan, run, watch and repair an ablation grid, here or on a cluster.

    GRID is a grid's name or the path of your own grid file.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.argument("source", metavar="GRID"),
            click.option(
                "--scale",
                type=click.Choice(SCALES),
                help=f"Size of the runs; {DEFAULT_SCALE} by default, or the last used.",
            ),
            click.option(
                "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of all runs."
            ),
            click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True),
        )
    ):
        function = option(function)
    return function


def _grid(source: str, scale: str | None, assignments: Sequence[str], runs: Path, recall: bool) -> Grid:
    """The grid; with `recall`, scale and overrides default to those it was last run with."""
    if recall and scale is None and not assignments:
        recorded = recorded_choice(source, runs)
        if recorded is not None:
            return load_grid(source, *recorded)
    return load_grid(source, scale or DEFAULT_SCALE, assignments)


class _Mirroring:
    """Mirrors now and then while a driver waits; a tracker that fails never stops a run."""

    def __init__(self, mirror: Mirror, say: Callable[[str], None]) -> None:
        self.mirror, self.say = mirror, say
        self.ready, self._next, self._failed = False, 0.0, False

    def __call__(self, states: Sequence[RunState], last: bool = False) -> None:
        now = time.monotonic()
        if not last and now < self._next:
            return
        try:
            if not self.ready:
                self.mirror.open()
                self.ready = True
            self.mirror.sync(states)
        except Exception as error:
            if not self._failed or last:
                self._failed = True
                grid = self.mirror.grid.name
                self.say(
                    f"mirror: {' '.join(str(error).split())} The runs go on; `cscdarts ablate watch {grid}` mirrors later."
                )
        spent = time.monotonic() - now
        self._next = time.monotonic() + max(MIRROR_EVERY_S, spent / MIRROR_SHARE)

    def close(self) -> None:
        if self.ready:
            self.mirror.close()


@contextlib.contextmanager
def _mirroring(driver: Driver, say: Callable[[str], None]) -> Iterator[_Mirroring]:
    mirroring = _Mirroring(Mirror(driver.grid, driver.folder), say)
    try:
        yield mirroring
    finally:
        mirroring.close()


@ablate.command("list")
def list_grids() -> None:
    """List the grids that come with the distribution."""
    for name in grid_names():
        click.echo(name)


@ablate.command()
@_options
@click.option("--on", "place", default="local", show_default=True, metavar="local|slurm:PROFILE")
@click.option("--parallel", type=click.IntRange(min=1), help="At most so many runs at once.")
def run(
    source: str, scale: str | None, assignments: Sequence[str], runs: Path, place: str, parallel: int | None
) -> int:
    """Run what has not been run; a second call runs nothing again."""
    grid = _grid(source, scale, assignments, runs, recall=False)
    return run_grid(Driver(grid, runs), place, parallel, console=Console())


@ablate.command()
@_options
@click.option("--failed", is_flag=True, help="All that failed (the default).")
@click.option("--lost", is_flag=True, help="Those that vanished or were cancelled.")
@click.option("--timeout", is_flag=True, help="Those that ran out of time or hung.")
@click.option("--on", "place", default="local", show_default=True, metavar="local|slurm:PROFILE")
@click.option("--parallel", type=click.IntRange(min=1), help="At most so many runs at once.")
def retry(
    source: str, scale: str | None, assignments: Sequence[str], runs: Path, failed: bool, lost: bool, timeout: bool,
    place: str, parallel: int | None,
) -> int:  # fmt: skip
    """Run again what failed, and nothing else; each goes on from its last checkpoint."""
    grid = _grid(source, scale, assignments, runs, recall=True)
    driver = Driver(grid, runs)
    which = (failed or not (lost or timeout), lost, timeout)
    return run_grid(driver, place, parallel, console=Console(), choose=lambda states: chosen_for_retry(states, *which))


def run_grid(
    driver: Driver,
    place: str,
    parallel: int | None,
    console: Console,
    choose: Callable[[Sequence[RunState]], list[str]] | None = None,
) -> int:
    """Run a grid and mirror it; returns 0, or 1 where runs have failed.

    Args:
        choose: which runs to take up, by their states; those that nobody has or had in hand if None.
    """
    with following(driver.grid, console) as progress:
        if place != "local":
            raise UserError("--on", place, "local", "Choose it.")
        return _run_here(driver, parallel, progress, choose or _untouched)


def _untouched(states: Sequence[RunState]) -> list[str]:
    return [state.hash for state in states if state.status in TAKEN_UP]


def _run_here(
    driver: Driver, parallel: int | None, progress: Progress, choose: Callable[[Sequence[RunState]], list[str]]
) -> int:
    driver.take()
    try:
        with _mirroring(driver, progress.say) as mirroring:
            driver.write_manifest(current_code())
            states = driver.states()
            wanted = choose(states)
            progress.say(f"{driver.grid.name} ({driver.grid.scale}): {tally(states)}; {len(wanted)} to run here")
            states_now = states

            def tick(states: list[RunState]) -> None:
                nonlocal states_now
                states_now = states
                progress(states)
                mirroring(states)

            try:
                if wanted:
                    driver.run_here(wanted, parallel, tick)
            finally:
                mirroring(states_now, last=True)
            return finish(driver, states_now, progress)
    finally:
        driver.lock.release()


def finish(driver: Driver, states: Sequence[RunState], progress: Progress) -> int:
    """Say how the grid ended; 1 where runs have failed."""
    number = counts(states)
    progress.say(f"{driver.grid.name}: {tally(states)}; {duration(time.monotonic() - progress.started)}")
    bad = [(p, s) for p, s in zip(driver.grid.points, states, strict=True) if s.status == "failed"]
    for point, state in bad[:20]:
        progress.say(f"  {state.hash[:8]} {'/'.join(point.methods)} failed ({state.kind}): {state.detail}")
    if bad:
        progress.say(f"`cscdarts ablate retry {driver.grid.name}` runs the failed ones again.")
    return 1 if number["failed"] else 0


@ablate.command()
@_options
@click.option("--brief", is_flag=True, help="Only the counts.")
def status(source: str, scale: str | None, assignments: Sequence[str], runs: Path, brief: bool) -> None:
    """Show what has become of each run."""
    grid = _grid(source, scale, assignments, runs, recall=True)
    states = Driver(grid, runs).states()
    console = Console()
    if not brief:
        console.print(status_table(grid, states, limit=10_000))
    console.print(f"{grid.name} ({grid.scale}): {tally(states)}", highlight=False)
