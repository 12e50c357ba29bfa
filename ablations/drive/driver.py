"""The driver of a grid: what is to run and what became of it. Its memory is the runs folder and nothing else."""

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid.identify import identified_grid
from ablations.grid.load import Grid, Point
from ablations.grid.past import MANIFEST, PAST, read_past, remembered
from ablations.run.stages import known_failure
from ablations.run.state import RunState, Status, run_state
from cscdarts.errors import CannotWrite, UserError
from cscdarts.records.code import Code
from cscdarts.records.damage import repair, set_aside
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from slurm.job import Task
from slurm.jobs import SubmittedJob
from slurm.lock import Lock, file_time

#: Runs in these states are taken up by `run`; the others are finished, in hand, or wait for a `retry`.
TAKEN_UP: tuple[Status, ...] = ("new", "lost", "cancelled")
#: A driver that has not touched its lock for this long is taken for dead by others.
DRIVER_STALE_S = 60.0


@dataclass(frozen=True)
class TaskFunctions:
    """Import paths of what jobs call; tests put a small engine here."""

    run: str = "ablations.run.stages:run_task"
    record: str = "ablations.run.stages:record_end"


class Driver:
    """A grid, its folder, and the lock of the one process that may submit runs.

    Args:
        grid: the grid; the driver's own has the fingerprints of the data in each run.
        runs: the folder that holds all grids' runs.
        functions: what a task calls.
        identify: puts the fingerprints of the data into a grid, given the folder of its runs; made from the data
            themselves if None.

    Errors:
        UserError: the runs folder cannot be written.
    """

    def __init__(
        self, grid: Grid, runs: Path, functions: TaskFunctions = TaskFunctions(),
        identify: Callable[[Grid, Path], Grid] | None = None,
    ) -> None:  # fmt: skip
        self.folder = runs / grid.name
        self.grid, self.runs, self.functions = (identify or identified_grid)(grid, self.folder), runs, functions
        self.lock = Lock(self.folder / "driver.lock", stale_s=DRIVER_STALE_S)
        self._points = {point.hash: point for point in self.grid.points}

    def path(self, point: Point) -> Path:
        """A run's folder."""
        return self.folder / point.hash

    def states(self, jobs: Iterable[SubmittedJob] = ()) -> list[RunState]:
        """Every run's state, in the grid's order; `jobs` are those that schedulers have of its runs."""
        now = file_time(self.folder) or _latest(self.folder)
        by_run: dict[str, list[SubmittedJob]] = {}
        for job in jobs:
            by_run.setdefault(job.key, []).append(job)
        return [run_state(p, self.path(p), now, by_run.get(p.hash, ())) for p in self.grid.points]

    def take(self) -> None:
        """Become the one driver of the grid.

        Errors:
            UserError: another driver holds it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            got = self.lock.acquire(f"driver of {self.grid.name}")
        except OSError as error:
            raise CannotWrite("--runs", str(self.runs), error) from error
        if not got:
            owner, age = self.lock.owner(), self.lock.age() or 0.0
            since = "" if owner is None else time.strftime("%H:%M:%S", time.localtime(owner.since))
            held = f"held by {owner} since {since}, last heard of {age:.0f} s ago"
            wait = f"Wait for it; `cscdarts ablate status {self.grid.name}` shows how far it is."
            raise UserError(
                self.grid.name, held, "one driver at a time", wait,
                f"{self.grid.name} is {held}; a grid has one driver at a time. {wait}",
            )  # fmt: skip

    def write_manifest(self, code: Code) -> None:
        """Write `grid.json` where it differs from what is there; what the grid was run with before stays in it.

        One that cannot be read is set aside.
        """
        try:
            before = read_past(self.folder)
            present = read_record(self.folder / MANIFEST) or {}
        except UserError:
            set_aside(self.folder / MANIFEST)
            before, present = [], {}
        past = remembered(before, self.grid.choice(self.runs))
        wanted = {
            **self.grid.manifest(code.commit or None),
            "home": present.get("home") or secrets.token_hex(8),
            PAST: [one.plain() for one in past],
        }
        if {key: present.get(key) for key in wanted} != wanted:
            write_json(self.folder / MANIFEST, {**wanted, "dirty": code.dirty, "created_at": time.time()})

    def tasks(self, hashes: Iterable[str], stages: Sequence[str], since: float, threads: int | None) -> list[Task]:
        """The tasks of some runs: each holds only its config and folder."""
        points = [self._points[key] for key in hashes]
        return [
            Task(
                point.hash,
                str(self.path(point).resolve()),
                self.functions.run,
                self.functions.record,
                _arguments(point, stages, since, threads, self.grid.plugins, known_failure(self.path(point))),
            )
            for point in points
        ]


def counts(states: Iterable[RunState]) -> Counter[Status]:
    """How many runs are in each state."""
    return Counter(state.status for state in states)


def untouched(states: Sequence[RunState]) -> list[str]:
    """Runs that nobody has in hand, that have not failed and are not done."""
    return [state.hash for state in states if state.status in TAKEN_UP]


def chosen_for_retry(states: Iterable[RunState], failed: bool, lost: bool, timeout: bool) -> list[str]:
    """Hashes that `retry` takes up: `failed` all failures and what is damaged, `timeout` only those by time, `lost` the
    lost and the cancelled."""
    return [
        state.hash
        for state in states
        if (state.status in ("failed", "damaged") and (failed or (timeout and state.kind == "timeout")))
        or (state.status in ("lost", "cancelled") and lost)
    ]


def _latest(folder: Path) -> float:
    """The latest time that a folder's entries tell: where nothing can be written, as by a colleague who only looks, the
    present is no earlier than that by the file system's clock, whatever this host's own says."""
    try:
        return max(float(entry.stat(follow_symlinks=False).st_mtime) for entry in os.scandir(folder))
    except (OSError, ValueError):
        return 0.0


def mended(driver: Driver, states: Sequence[RunState], chosen: Iterable[str], say: Callable[[str], None]) -> list[str]:
    """Set the damaged files of some runs aside, and say so; returns the runs that can be taken up.

    Args:
        chosen: hashes, damaged or not.
    """
    wanted, usable = set(chosen), []
    for point, state in zip(driver.grid.points, states, strict=True):
        if state.hash not in wanted:
            continue
        try:
            for damage, place in repair(RunFolder(driver.path(point)), point.config) if state.damage else ():
                say(f"{state.hash[:8]} {damage} is set aside as {place}")
            usable.append(state.hash)
        except OSError as error:
            say(f"{state.hash[:8]} {state.detail}; it cannot be set aside: {error}")
    return usable


def _arguments(
    point: Point, stages: Sequence[str], since: float, threads: int | None, plugins: Sequence[str], known: float | None
) -> Mapping[str, Any]:
    return {
        "config": point.config.model_dump(mode="json"),
        "stages": list(stages),
        "since": since,
        "threads": threads,
        "plugins": list(plugins),
        "known": known,
    }
