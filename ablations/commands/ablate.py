"""`cscdarts ablate`: plan, run, status, watch, logs, cancel, retry and prune of a grid."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from ablations.commands.grid.choice import Choice, Command, choice_options
from ablations.commands.grid.planning import tell_whole_plan
from ablations.commands.grid.running import Where, backend_options, begin, notify_option
from ablations.commands.grid.trash import empty_trash, restore_runs
from ablations.commands.options.pager import paged
from ablations.commands.options.values import Whole
from ablations.drive.backend import Cluster, Observer, clusters_of
from ablations.drive.driver import Driver, chosen_for_retry, mended
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.drive.loop import exit_code, follow, tell_end
from ablations.drive.mirroring import mirroring
from ablations.drive.prune import runs_of, summary, survey, take, told, unused_stages
from ablations.drive.tell.notify import Recipient, notified
from ablations.drive.tell.show import following, print_states, states_record, tally
from ablations.grid.file import grid_names
from ablations.mirror.rows import forget
from ablations.run.state import RunState
from cscdarts.errors import UserError
from cscdarts.records.grid_names import require_grid_name
from cscdarts.records.runs_folder import TRASH
from cscdarts.settings.protocols import DEFAULT_SCALE


@click.group()
def ablate() -> None:
    """Plan, run, watch and repair an ablation grid, here or on a cluster.

    GRID is a grid's name (see `cscdarts ablate list`) or the path of your own grid file.
    """


_choice_options = choice_options(
    f"Size of the runs: {DEFAULT_SCALE} for run and plan, the last used one for the others."
)


def _grid_options(function: Command) -> Command:
    """The argument GRID and the options that say which of its runs."""
    return _choice_options(click.argument("source", metavar="GRID")(function))


@ablate.command("list")
@paged
def list_grids() -> None:
    """List the grids that come with the distribution."""
    for name in grid_names():
        click.echo(name)


@ablate.command()
@click.argument("sources", metavar="GRID...", nargs=-1, required=True)
@_choice_options
@backend_options
@click.option("--script/--no-script", default=True, help="Print the scripts that would be submitted to the cluster.")
@click.option(
    "--forecast/--no-forecast", default=None,
    help="What each kind of run takes of a GPU: memory, how many fit, hours. [where the runs get GPUs]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Only the counts, as one JSON object.")
@paged
def plan(
    sources: Sequence[str], choice: Choice, where: Where, script: bool, forecast: bool | None, as_json: bool
) -> None:  # fmt: skip
    """Show what is to be done for some grids together and what it would cost; nothing is submitted or written.

    Runs that share a search or a retraining share its cost, and what is done costs nothing. In the JSON object `runs`
    and `done` count distinct runs, `searches` and `retrainings` what is still to be done (`searches_total` and
    `retrainings_total` also count what is done); a random architecture counts as a search, a given one does not.
    `node_hours` is null where nothing like it was measured; `unmeasured` counts the searches and retrainings that it
    leaves out. With --forecast, `gpu` has the kinds of searches and retrainings, each with its GPU memory, how many fit
    one GPU at once, and GPU-hours, which are an estimate until a finished one replaces it.
    """
    make = where.factory()
    drivers = [Driver(choice.grid(source, recall=False), choice.runs) for source in dict.fromkeys(sources)]
    tell_whole_plan(drivers, choice.runs, where, make, script, forecast, as_json)


@ablate.command()
@_grid_options
@backend_options
@notify_option
def run(source: str, choice: Choice, where: Where, notify: Recipient | None) -> int:
    """Run what has not been run; a second call runs nothing again."""
    make = where.factory()
    driver = Driver(choice.grid(source, recall=False), choice.runs)
    return begin(driver, where, make, notify)


@ablate.command()
@_grid_options
@backend_options
@notify_option
@click.option("--failed", is_flag=True, help="All that failed (the default).")
@click.option("--lost", is_flag=True, help="Those that vanished or were cancelled.")
@click.option("--timeout", is_flag=True, help="Those that ran out of time or hung.")
def retry(
    source: str, choice: Choice, where: Where, notify: Recipient | None, failed: bool, lost: bool, timeout: bool
) -> int:  # fmt: skip
    """Run again what failed, and nothing else; each goes on from its last checkpoint.

    Damaged files of a run are set aside into a folder `damaged` beside them, never deleted, and what they said is made
    again.
    """
    make = where.factory()
    driver = Driver(choice.grid(source), choice.runs)
    which = (failed or not (lost or timeout), lost, timeout)

    def choose(states: Sequence[RunState]) -> list[str]:
        return mended(driver, states, chosen_for_retry(states, *which), click.echo)

    return begin(driver, where, make, notify, choose)


@ablate.command()
@_grid_options
@click.option("--brief", is_flag=True, help="Only the counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: counts, and each run's state.")
@click.option("--watch", "live", is_flag=True, help="Stay, and keep showing the table until no run is in hand.")
@paged
def status(
    source: str,
    choice: Choice,
    brief: bool,
    as_json: bool,
    live: bool,
) -> None:
    """Show what has become of each run."""
    driver = Driver(choice.grid(source), choice.runs)
    console = Console()
    observer = Observer(driver)
    if live:
        with following(driver.grid, console, whole_screen=True) as progress:
            follow(observer, progress, lambda states: progress.say(observer.caveat) if observer.caveat else None)
    states = observer.states()
    if as_json:
        click.echo(json.dumps(states_record(driver.grid, states, observer.caveat), indent=1))
        return
    if not brief:
        print_states(console, driver.grid, states)
    console.print(f"{driver.grid.name} ({driver.grid.scale}): {tally(states)}", highlight=False, soft_wrap=True)
    if observer.caveat:
        click.echo(observer.caveat, err=True)


@ablate.command()
@_grid_options
@click.option("--once", is_flag=True, help="Mirror what is there and leave.")
@notify_option
def watch(source: str, choice: Choice, once: bool, notify: Recipient | None) -> int:
    """Mirror a grid into MLflow until no run is in hand; it can start late, stop and start again."""
    driver = Driver(choice.grid(source), choice.runs)
    if not (driver.folder / "grid.json").exists():
        raise UserError("GRID", source, "a grid that was run", f"cscdarts ablate run {source}")
    observer = Observer(driver)

    def look_on() -> int:
        with following(driver.grid, Console()) as progress, mirroring(driver, progress.say) as mirror:
            mirror.open()
            states = observer.states() if once else follow(observer, progress, mirror)
            mirror.mirror.sync(states)
            tell_end(driver, states, progress)
            return exit_code(states)

    # One look is no end, and may be taken every five minutes.
    return look_on() if once else notified(notify, driver, look_on)


@ablate.command()
@_grid_options
@click.argument("key", metavar="HASH")
@click.option("--lines", default=40, show_default=True, type=Whole(1, 1_000_000), help="How many of the last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on as the log grows.")
@paged
def logs(
    source: str,
    choice: Choice,
    key: str,
    lines: int,
    follow: bool,
) -> None:
    """Show a run's log, its failure if there is one, and what its last job wrote to standard error."""
    driver = Driver(choice.grid(source), choice.runs)
    matches = [point for point in driver.grid.points if point.hash.startswith(key)]
    if len(matches) != 1:
        raise UserError("HASH", key, "the beginning of one run's hash", f"cscdarts ablate status {source} lists them.")
    folder = driver.path(matches[0])
    for name in ("log.txt", "failure.json"):
        if (folder / name).is_file():
            click.echo(f"== {folder / name}")
            click.echo("\n".join((folder / name).read_text(errors="replace").splitlines()[-lines:]))
    for cluster in _clusters_here(driver):
        for job in cluster.jobs({matches[0].hash})[-2:]:
            if job.stderr.exists():
                click.echo(f"== {job.stderr} ({job.word})")
                click.echo("\n".join(job.stderr.read_text(errors="replace").splitlines()[-lines:]))
    if not folder.exists():
        click.echo(f"{matches[0].hash} has not begun")
    elif follow:
        _follow(folder / "log.txt")


def _clusters_here(driver: Driver) -> list[Cluster]:
    return [cluster for cluster in clusters_of(driver) if cluster.available()]


def _follow(path: Path) -> None:
    with path.open(errors="replace") as file:
        file.seek(0, 2)
        while True:
            line = file.readline()
            if line:
                click.echo(line, nl=False)
            else:
                time.sleep(0.5)


@ablate.command()
@_grid_options
@click.argument("keys", metavar="[HASH]...", nargs=-1)
def cancel(source: str, choice: Choice, keys: Sequence[str]) -> None:
    """Cancel a grid's jobs on the cluster, or only the runs named; `run` submits them again.

    A job that has other runs too goes on with those.
    """
    driver = Driver(choice.grid(source), choice.runs)
    clusters = _clusters_here(driver)
    if not clusters:
        names = " or ".join(cluster.name for cluster in clusters_of(driver))
        raise UserError("cancel", source, f"a machine with {names}", "End a local driver with Ctrl-C instead.")
    named = runs_of(driver, every_scale=choice.scale is None)
    live = {one.key for cluster in clusters if cluster.used() for one in cluster.jobs() if one.live}
    chosen = {key for key in named | live if any(key.startswith(one) for one in keys)} if keys else named
    if keys and not chosen:
        raise UserError("HASH", " ".join(keys), "the beginnings of runs' hashes", f"cscdarts ablate status {source}")
    jobs = sum(cluster.cancel(chosen) for cluster in clusters)
    click.echo(f"{len(chosen)} runs cancelled in {jobs} jobs" if keys else f"{jobs} jobs cancelled")
    left = len(live - chosen)
    if left and not keys:
        click.echo(f"jobs of {left} runs stay: this grid has not named them (as recorded); name their hashes", err=True)


@ablate.command()
@_grid_options
@click.argument("keys", metavar="[HASH]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--superseded", is_flag=True, help="Also take runs that only other recorded overrides still name.")
@click.option("--stages", "every", is_flag=True, help="Also take searches and retrainings that no grid's run uses.")
@click.option("--restore", "back", is_flag=True, help="Bring back from the trash what prune took of this grid.")
@click.option("--empty-trash", "final", is_flag=True, help="Delete for good what prune took of this grid.")
def prune(
    source: str, choice: Choice, keys: Sequence[str], yes: bool, superseded: bool, every: bool, back: bool, final: bool
) -> int:  # fmt: skip
    """Move the runs that the grid once named and names no more to the trash, after confirmation.

    Taken is only what this source at this scale named when it was run, and does not name today; of other folders it is
    said how many stay, and why. With them go the searches and retrainings that only they used. All lies in
    runs/.trash/ until --empty-trash; --restore brings it back. HASH... limits each of these to some runs.

    Ends with 1 where something that was to be taken was not: the answer was no, or a process works on it.
    """
    if back and final:
        raise UserError("--restore", "with --empty-trash", "one of the two", "Leave one out.")
    name = require_grid_name(source)
    if final and keys:
        raise UserError("--empty-trash", " ".join(keys), "no HASH: it empties all of the grid's trash", "Leave it out.")
    if back:
        return restore_runs(choice.runs, name, keys)
    if final:
        return empty_trash(choice.runs, name, yes)
    driver = Driver(choice.grid(source), choice.runs)
    found = survey(driver, superseded)
    if keys:
        found.taken = {path: done for path, done in found.taken.items() if any(map(path.name.startswith, keys))}
    stages, trouble = unused_stages(driver, found.taken, every)
    for line in (*told(found, stages), *trouble):
        click.echo(line)
    label_ = f"{driver.grid.name} ({driver.grid.scale})"
    if not found.taken and not stages:
        click.echo(f"{label_}: {'nothing to take' if found.left else 'every run folder is named by the grid'}")
        return UNFINISHED if found.busy else DONE
    what = summary(found, stages)
    if not yes and not click.confirm(f"Move {what} to {choice.runs / TRASH}?", default=False):
        return UNFINISHED
    driver.take()
    try:
        with driver.lock.refreshing():
            # While the question stood somebody may have run the grid: only what is to go now as before goes.
            again = survey(driver, superseded)
            again.taken = {path: done for path, done in again.taken.items() if path in found.taken}
            stages = {key: path for key, path in unused_stages(driver, again.taken, every)[0].items() if key in stages}
            entry, moved = take(driver, again, stages, lambda hashes: forget(driver.folder, hashes))
    finally:
        driver.lock.release()
    ways = "--restore brings it back, --empty-trash deletes it"
    click.echo(f"{label_}: {summary(again, moved)} moved to {entry.path}; {ways}")
    return UNFINISHED if again.busy or len(again.taken) < len(found.taken) else DONE
