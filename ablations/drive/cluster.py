"""A grid on a SLURM cluster: which runs need which jobs, and what the scheduler says of them."""

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.drive.driver import Driver
from ablations.grid.load import Point
from ablations.run.stages import GROUPS, STAGES, missing_stages
from ablations.run.state import JobView, RunState
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.backends.slurm.queue import Queue, Work
from slurm.backends.slurm.scheduler import SlurmScheduler
from slurm.backends.slurm.submit import SubmititSubmitter, sbatch_script
from slurm.errors import ClusterError
from slurm.freeze import Code, require_clean, snapshot, store_difference

#: Group that holds all stages, for profiles with `graph: single`.
WHOLE = "all"


@dataclass(frozen=True)
class Place:
    """Where a grid runs: this machine (no profile), or a cluster."""

    label: str
    profile: Profile | None


def read_place(text: str, overrides: Sequence[str] = ()) -> Place:
    """Read `local` or `slurm:PROFILE`.

    Errors:
        UserError: anything else; overrides without a cluster.
        ClusterError: a profile that cannot be used.
    """
    kind, _, name = text.partition(":")
    if text == "local":
        if overrides:
            raise UserError("--slurm", overrides[0], "only with --on slurm:PROFILE", "Add --on or drop --slurm.")
        return Place("local", None)
    if kind != "slurm" or not name:
        raise UserError("--on", text, "local or slurm:PROFILE", "For example: --on slurm:cpu")
    return Place(name, load_profile(name, overrides))


def queue_of(folder: Path, name: str) -> Queue:
    """The queue of a grid on the cluster that this machine belongs to."""
    return Queue(folder, f"cscdarts-{name}", SlurmScheduler(), SubmititSubmitter(folder / "jobs"))


class Cluster:
    """One grid's driver on a cluster.

    Args:
        driver: the grid's driver.
        queue: its queue.
    """

    def __init__(self, driver: Driver, queue: Queue) -> None:
        self.driver, self.queue = driver, queue

    def states(self) -> list[RunState]:
        """Every run's state, the scheduler asked only for runs that are not done."""
        states = self.driver.states()
        open_keys = {state.hash for state in states if state.status != "done"}
        views = self.views(open_keys)
        return self.driver.states(views) if views else states

    def views(self, keys: set[str]) -> dict[str, list[JobView]]:
        """The jobs of some runs, by hash."""
        views: dict[str, list[JobView]] = {}
        for seen in self.queue.see(keys):
            view = JobView(seen.job, seen.group, seen.state, seen.submitted, seen.stderr)
            views.setdefault(seen.key, []).append(view)
        return views

    def submit(self, hashes: Iterable[str], place: Place, parallel: int | None, environment: Mapping[str, str]) -> int:
        """Submit what the given runs still need; returns how many arrays.

        Args:
            environment: further variables for the jobs, such as the path of a snapshot.
        """
        assert place.profile is not None
        profile = place.profile.model_copy(update={"environment": {**place.profile.environment, **environment}})
        wanted, now = set(hashes), time.time()
        by_need: dict[tuple[str, ...], list[Point]] = {}
        for point in self.driver.grid.points:
            if point.hash in wanted:
                by_need.setdefault(self._groups(point, profile), []).append(point)
        arrays = 0
        for groups, points in by_need.items():
            if groups:
                work = [self._work(point, groups, now, profile) for point in points]
                arrays += len(self.queue.submit(work, profile, place.label, groups, parallel, now))
        return arrays

    def _groups(self, point: Point, profile: Profile) -> tuple[str, ...]:
        missing = missing_stages(point.config, RunFolder(self.driver.path(point)))
        if profile.graph == "single":
            return (WHOLE,) if missing else ()
        return tuple(name for name, stages in GROUPS.items() if set(stages) & set(missing))

    def _work(self, point: Point, groups: Sequence[str], now: float, profile: Profile) -> Work:
        tasks = {}
        for group in groups:
            stages = STAGES if group == WHOLE else GROUPS[group]
            threads = profile.resources(group).cpus_per_task
            (tasks[group],) = self.driver.tasks([point.hash], stages, now, threads)
        return Work(point.hash, tasks)


def frozen_environment(code: Code, folder: Path, allow_dirty: bool, from_snapshot: bool) -> dict[str, str]:
    """Refuse a tree that its commit does not tell, keep the difference, and point jobs at a snapshot if asked.

    Errors:
        ClusterError: the tree is dirty and that was not allowed; a snapshot without a git checkout.
    """
    require_clean(code, allow_dirty)
    store_difference(code, folder / "code")
    if not from_snapshot:
        return {}
    path = snapshot(code, folder / "code")
    before = os.environ.get("PYTHONPATH", "")
    return {
        "PYTHONPATH": f"{path.absolute()}:{before}".rstrip(":"),
        # Else `python -m` would import from the folder the job starts in, which may be the checkout.
        "PYTHONSAFEPATH": "1",
        "CSCDARTS_COMMIT": code.commit + ("+dirty" if code.dirty else ""),
    }


def dry_run(driver: Driver, place: Place, states: Sequence[RunState], parallel: int | None) -> list[str]:
    """The scripts that `run` would submit for runs that nobody has in hand, one for each array of the graph."""
    assert place.profile is not None
    runs = sum(state.status in ("new", "lost", "cancelled") for state in states)
    jobs = -(-runs // place.profile.runs_per_job)
    if jobs == 0:
        return []
    groups = (WHOLE,) if place.profile.graph == "single" else tuple(GROUPS)
    scripts, dependency = [], None
    for group in groups:
        own = place.profile.resources(group)
        throttle = parallel or own.parallel or jobs
        name = f"cscdarts-{driver.grid.name}-{group}"
        scripts.append(sbatch_script(own, driver.folder / "jobs", name, jobs, throttle, dependency))
        dependency = "aftercorr:JOB_OF_" + group.upper()
    return scripts


def cluster_here() -> bool:
    """Whether this machine has SLURM's commands."""
    return all(shutil.which(command) is not None for command in ("squeue", "sacct", "sbatch"))


def best_states(driver: Driver) -> tuple[list[RunState], str]:
    """All states, with the scheduler's word where the grid has jobs and SLURM is at hand; and a caveat, or ""."""
    queue = queue_of(driver.folder, driver.grid.name)
    if not queue.journal.read():
        return driver.states(), ""
    if not cluster_here():
        return driver.states(), "no SLURM on this machine: what waits in its queue cannot be seen from here"
    try:
        return Cluster(driver, queue).states(), ""
    except ClusterError as error:
        return driver.states(), f"the scheduler does not answer: {error}"
