"""The driver of a grid: what is to run, where, and what became of it. Its memory is the runs folder and nothing else."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.run.stages import missing_stages
from ablations.run.state import JobView, RunState, Status, run_state
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from slurm.backends.local import LocalPool, usable_cores, visible_gpus
from slurm.freeze import Code, read_code
from slurm.job import Task
from slurm.lock import Lock, file_time

#: Runs in these states are taken up by `run`; the others are finished, in hand, or wait for a `retry`.
TAKEN_UP: tuple[Status, ...] = ("new", "lost", "cancelled")
#: A driver that has not touched its lock for so long is taken for dead by others.
DRIVER_STALE_S = 60.0

Tick = Callable[[list[RunState]], None]


@dataclass(frozen=True)
class Functions:
    """Import paths of what jobs call; tests put a small engine here."""

    run: str = "ablations.run.stages:run_task"
    hung: str = "ablations.run.stages:record_hang"


class Driver:
    """Runs a grid.

    Args:
        grid: the grid.
        runs: the folder that holds all grids' runs.
        functions: what a task calls.

    Errors:
        UserError: the runs folder cannot be written.
    """

    def __init__(self, grid: Grid, runs: Path, functions: Functions = Functions()) -> None:
        self.grid, self.runs, self.functions = grid, runs, functions
        self.folder = runs / grid.name
        self.lock = Lock(self.folder / "driver.lock", stale_s=DRIVER_STALE_S)
        self._points = {point.hash: point for point in grid.points}

    def path(self, point: Point) -> Path:
        """A run's folder."""
        return self.folder / point.hash

    def states(self, jobs: Mapping[str, Sequence[JobView]] | None = None) -> list[RunState]:
        """Every run's state, in the grid's order; `jobs` are the scheduler's views by run hash."""
        now = file_time(self.folder) if self.folder.exists() else time.time()
        views = jobs or {}
        return [run_state(p, self.path(p), now, views.get(p.hash, ())) for p in self.grid.points]

    def take(self) -> None:
        """Become the one driver of the grid.

        Errors:
            UserError: another driver holds it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            got = self.lock.acquire(f"driver of {self.grid.name}")
        except OSError as error:
            raise UserError(
                "--runs", str(self.runs), "a folder that can be written", f"{error.strerror}; choose another."
            ) from error
        if not got:
            owner, age = self.lock.owner(), self.lock.age() or 0.0
            since = "" if owner is None else time.strftime("%H:%M:%S", time.localtime(owner.since))
            raise UserError(
                self.grid.name,
                f"held by {owner} since {since}, last heard of {age:.0f} s ago",
                "one driver at a time",
                f"Wait for it; `cscdarts ablate status {self.grid.name}` shows how far it is.",
            )

    def write_manifest(self, code: Code) -> None:
        """Write `grid.json` where it differs from what is there."""
        present = read_json(self.folder / "grid.json") or {}
        wanted = self.grid.manifest(code.commit or None)
        if {key: present.get(key) for key in wanted} != wanted:
            write_json(self.folder / "grid.json", {**wanted, "dirty": code.dirty, "created_at": time.time()})

    def tasks(self, hashes: Iterable[str], stages: Sequence[str], since: float, threads: int | None) -> list[Task]:
        """The tasks of some runs: each holds only its config and folder."""
        points = [self._points[key] for key in hashes]
        return [
            Task(
                point.hash,
                str(self.path(point).resolve()),
                self.functions.run,
                self.functions.hung,
                _arguments(point, stages, since, threads, self.grid.plugins),
            )
            for point in points
        ]

    def run_here(self, hashes: Sequence[str], parallel: int | None, tick: Tick) -> None:
        """Work through runs on this machine; `tick` is called about once a second with all states.

        Ctrl-C (KeyboardInterrupt) stops the workers after their present step and keeps what they have saved. The lock
        must be held.
        """
        workers, threads = share_of_machine(parallel, len(hashes))
        pool = LocalPool(self.folder / "jobs", threads)
        left = list(hashes)
        try:
            while left:
                pool.start(self.tasks(left, ("search", "derive", "check", "retrain"), time.time(), threads), workers)
                while pool.alive():
                    time.sleep(1.0)
                    tick(self.states())
                states = {state.hash: state for state in self.states()}
                # A worker that was killed (by the kernel, for memory) leaves a run lost and others unbegun.
                killed = [key for key in left if states[key].status == "lost"]
                for key in killed:
                    self._record_killed(key, pool.errors())
                unbegun = [key for key in left if states[key].status == "new"]
                if not killed and unbegun == left:
                    raise UserError(
                        "workers", "; ".join(pool.errors()) or "all ended", "workers that start", "See the jobs folder."
                    )
                left = unbegun
                pool.forget()
        except BaseException:
            pool.stop()
            raise
        finally:
            tick(self.states())

    def _record_killed(self, key: str, said: Sequence[str]) -> None:
        folder = RunFolder(self.folder / key)
        config = folder.config()
        stage = (missing_stages(config, folder) or ("retrain",))[0]
        message = "the worker was killed, most likely for want of memory"
        write_json(
            folder.file("failure.json"),
            {"stage": stage, "kind": "memory", "message": message, "traceback": "\n".join(said), "time": time.time()},
        )


def share_of_machine(parallel: int | None, runs: int) -> tuple[int, int | None]:
    """How many workers, and how many threads each: one core a worker when there are several; a GPU a worker if there are GPUs."""
    gpus, cores = len(visible_gpus()), usable_cores()
    workers = max(1, min(parallel or gpus or cores, runs))
    return workers, max(1, cores // workers) if gpus else 1


def counts(states: Iterable[RunState]) -> Counter[Status]:
    """How many runs are in each state."""
    return Counter(state.status for state in states)


def chosen_for_retry(states: Iterable[RunState], failed: bool, lost: bool, timeout: bool) -> list[str]:
    """Hashes that `retry` takes up: `failed` all failures, `timeout` only those by time, `lost` the lost and the cancelled."""
    return [
        state.hash
        for state in states
        if (state.status == "failed" and (failed or (timeout and state.kind == "timeout")))
        or (state.status in ("lost", "cancelled") and lost)
    ]


def current_code() -> Code:
    """The state of the code that would run."""
    return read_code()


def _arguments(
    point: Point, stages: Sequence[str], since: float, threads: int | None, plugins: Sequence[str]
) -> Mapping[str, Any]:
    return {
        "config": point.config.model_dump(mode="json"),
        "stages": list(stages),
        "since": since,
        "threads": threads,
        "plugins": list(plugins),
    }
