"""What `ablate prune` does with the trash: bring back, and delete for good."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from ablations.drive.driver import Driver
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.drive.prune import counted
from ablations.grid.load import Grid
from ablations.mirror.rows import remember
from ablations.run.trash import empty, entries, restore
from cscdarts.errors import UserError


def restore_runs(runs: Path, grid: str, keys: Sequence[str]) -> int:
    """Bring back what prune took of a grid, or the runs whose hashes begin so; returns the exit code.

    Errors:
        UserError: no run in the trash has such a hash, or another command drives the grid.
    """
    found = [path for entry in reversed(entries(runs, grid)) for path in entry.runs]
    wanted = [path for path in found if not keys or any(map(path.name.startswith, keys))]
    if keys and not wanted:
        raise UserError("HASH", " ".join(keys), "the beginning of a hash in the trash", f"It holds {len(found)} runs.")
    if not entries(runs, grid):
        click.echo(f"{grid}: nothing in the trash")
        return DONE
    with sole_driver(runs, grid):
        back, left = restore(runs, grid, wanted, whole=not keys)
        remember(runs / grid, [path.name for path in back if path.parent.name == grid])
    for path in back:
        click.echo(f"{path} is back")
    for path in left:
        click.echo(f"{path} stays in the trash: something is at its place")
    click.echo(f"{grid}: {counted(len(back), 'folder')} restored")
    return UNFINISHED if left else DONE


def empty_trash(runs: Path, grid: str, yes: bool) -> int:
    """Delete for good what prune took of a grid, once a person has agreed; returns the exit code.

    Errors:
        UserError: another command drives the grid.
    """
    there = entries(runs, grid)
    number = sum(len(entry.runs) for entry in there)
    for entry in there:
        for path in (*entry.runs, *entry.stages.values()):
            click.echo(str(path))
    if not there:
        click.echo(f"{grid}: nothing in the trash")
        return DONE
    if not yes and not click.confirm(f"Delete {counted(number, 'run')} of {grid} for good?", default=False):
        return UNFINISHED
    with sole_driver(runs, grid):
        empty(runs, grid)
    click.echo(f"{grid}: {counted(number, 'run')} deleted for good")
    return DONE


@contextlib.contextmanager
def sole_driver(runs: Path, grid: str) -> Iterator[None]:
    """Keep others from running or pruning a grid for the length of a block."""
    driver = Driver(Grid(grid, "", {}, (), runs / grid), runs)
    driver.take()
    try:
        with driver.lock.refreshing():
            yield
    finally:
        driver.lock.release()
