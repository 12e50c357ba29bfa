"""A grid's runs on a SLURM cluster: which of them need which jobs, and what the scheduler knows of those."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ablations.drive.backend import Cluster, Factory, Options, in_hand_s, open_runs
from ablations.drive.driver import Driver, untouched
from ablations.grid.forecast import GpuOffer, Offers
from ablations.grid.load import Point
from ablations.run.stages import GROUPS, STAGES, missing_stages
from ablations.run.state import RunState
from ablations.run.visible import VISIBLE_S
from cscdarts.records.code import COMMIT_VARIABLE, Code
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.keys import search_key, searches
from slurm.backends.slurm.journal import Submission
from slurm.backends.slurm.profile import Profile, load_profile, profile_names
from slurm.backends.slurm.queue import ChainedRun, Queue
from slurm.backends.slurm.scheduler import SlurmScheduler, installed
from slurm.backends.slurm.submit import SubmititSubmitter, sbatch_script
from slurm.freeze import require_clean, snapshot, store_difference
from slurm.job import Task
from slurm.jobs import SubmittedJob

#: Group that holds all stages, for profiles with `graph: single`.
WHOLE = "all"
#: Accounting lags behind a job's end: what looks ended without a result is looked at again after this time; what looks
#: lost, so long that a shared file system shows the result too.
LAG_S = 10.0


class SlurmBackend(Cluster):
    """See `ablations.drive.backend.Cluster`.

    Args:
        driver: the grid's driver.
        options: how to submit.
        profile: what jobs ask for; all defaults if None.
        label: the profile's name as it was given.
        queue: the grid's jobs; those of the cluster that this machine belongs to if None.
    """

    name = "SLURM"

    def __init__(
        self,
        driver: Driver,
        options: Options,
        profile: Profile | None = None,
        label: str = "slurm",
        queue: Queue | None = None,
    ) -> None:
        self.driver, self.options, self.profile, self.label = driver, options, profile or Profile(), label
        search, retrain = (self.profile.resources(group).nodes_of_run for group in self._stage_groups())
        self.nodes_of_run = (search, retrain)
        self.queue = queue or Queue(
            driver.folder, f"cscdarts-{driver.grid.name}", SlurmScheduler(), SubmititSubmitter(driver.folder / "jobs")
        )

    @classmethod
    def configured(cls, label: str, profile: str, overrides: Sequence[str]) -> Factory:
        """The factory for `--on slurm:PROFILE`.

        Errors:
            ClusterError: no such profile, or one that cannot be used.
        """
        return partial(cls, profile=load_profile(profile, overrides), label=label)

    @staticmethod
    def profiles() -> dict[str, str]:
        """See `Cluster`."""
        return {name: load_profile(name, variables={}).description for name in profile_names()}

    @staticmethod
    def profile_keys() -> list[str]:
        """See `Cluster`."""
        return list(Profile.model_fields)

    def available(self) -> bool:
        """See `Cluster`."""
        return installed()

    def used(self) -> bool:
        """See `Cluster`."""
        return bool(self.queue.journal.read())

    def open(self) -> list[str]:
        """See `Backend`."""
        scheduler = SlurmScheduler()
        scheduler.check()
        self.queue.max_array = scheduler.limit("MaxArraySize", self.queue.max_array)
        repaired = self.queue.repair()
        return [f"{repaired} half-submitted arrays of an earlier driver were put in order"] if repaired else []

    def freeze(self, code: Code) -> None:
        """See `Backend`: refuses a tree that its commit does not tell, keeps the difference, makes a snapshot if
        asked."""
        require_clean(code, self.options.allow_dirty)
        store_difference(code, self.driver.folder / "code")
        if self.options.snapshot:
            path = snapshot(code, self.driver.folder / "code").absolute()
            variables = {
                "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
                # Otherwise `python -m` would import from the folder the job starts in, which may be the checkout.
                "PYTHONSAFEPATH": "1",
                COMMIT_VARIABLE: code.frozen,
            }
            self.profile = self.profile.model_copy(update={"environment": {**self.profile.environment, **variables}})

    def submit(self, hashes: Sequence[str]) -> str:
        """See `Backend`: one chain of arrays for the runs that lack the same stages.

        Of runs that share a search which is not done, all but one wait for the chains of the others: a job that would
        only look on while another searches holds no GPU for it.
        """
        wanted, now = set(hashes), self.queue.now()
        by_need: dict[tuple[str, ...], list[Point]] = {}
        for point in self.driver.grid.points:
            if point.hash in wanted:
                by_need.setdefault(self._groups(point), []).append(point)
        arrays, searching = 0, set[str]()
        first: list[str] = []
        second: list[tuple[tuple[str, ...], list[Point]]] = []
        for groups, points in by_need.items():
            leading = [point for point in points if groups and self._leads(point, searching)]
            if leading:
                made = self._submit(leading, groups, now)
                first += [one.jobs[0].split("_")[0] for one in made if one.group == groups[0]]
                arrays += len(made)
            if groups and len(leading) < len(points):
                second.append((groups, [point for point in points if point not in leading]))
        for groups, points in second:
            arrays += len(self._submit(points, groups, now, first))
        return f"{len(hashes)} runs submitted as {arrays} arrays" if hashes else "nothing to submit"

    def _submit(
        self, points: Sequence[Point], groups: tuple[str, ...], now: float, after: Sequence[str] = ()
    ) -> list[Submission]:
        runs = [ChainedRun(point.hash, self._tasks(point, groups, now)) for point in points]
        return self.queue.submit(runs, self.profile, self.label, groups, self.options.parallel, now, after)

    def _leads(self, point: Point, searching: set[str]) -> bool:
        """Whether a run has a search of its own to make, or none; notes which searches are being made."""
        if "search" not in missing_stages(point.config, RunFolder(self.driver.path(point))):
            return True
        keys = {search_key(one).id for one in searches(point.config)}
        leads = keys.isdisjoint(searching)
        searching |= keys
        return leads

    def jobs(self, hashes: Iterable[str] | None = None) -> list[SubmittedJob]:
        """See `Cluster`."""
        return self.queue.jobs(None if hashes is None else set(hashes))

    def cancel(self, hashes: Iterable[str] | None = None) -> int:
        """See `Cluster`."""
        return self.queue.cancel(None if hashes is None else set(hashes))

    def wait_s(self, states: Sequence[RunState]) -> float:
        """See `Backend`."""
        if any(state.status == "lost" for state in states):
            return in_hand_s(states) or VISIBLE_S
        return in_hand_s(states) or (0.0 if not open_runs(states) else LAG_S)

    def scripts(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`: one script per array of the chain."""
        jobs = -(-len(untouched(states)) // self.profile.runs_of_job)
        if jobs == 0:
            return []
        groups = (WHOLE,) if self.profile.graph == "single" else tuple(GROUPS)
        scripts, dependency = [], None
        for group in groups:
            own = self.profile.resources(group)
            throttle = self.options.parallel or own.parallel or jobs
            name = f"cscdarts-{self.driver.grid.name}-{group}"
            scripts.append(sbatch_script(own, self.driver.folder / "jobs", name, jobs, throttle, dependency))
            dependency = "aftercorr:JOB_OF_" + group.upper()
        return scripts

    def _stage_groups(self) -> tuple[str, str]:
        """The groups whose jobs hold searches and retrainings."""
        return (WHOLE, WHOLE) if self.profile.graph == "single" else ("search", "retrain")

    def gpus(self) -> Offers:
        """See `Backend`: what the profile asks for and says of its GPUs."""
        search, retrain = (GpuOffer.of_profile(self.profile.resources(group)) for group in self._stage_groups())
        return {"search": search, "retrain": retrain}

    def _groups(self, point: Point) -> tuple[str, ...]:
        missing = missing_stages(point.config, RunFolder(self.driver.path(point)))
        if self.profile.graph == "single":
            return (WHOLE,) if missing else ()
        return tuple(name for name, stages in GROUPS.items() if set(stages) & set(missing))

    def _tasks(self, point: Point, groups: Sequence[str], now: float) -> Mapping[str, Task]:
        tasks = {}
        for group in groups:
            stages = STAGES if group == WHOLE else GROUPS[group]
            threads = self.profile.resources(group).cpus_per_task
            (tasks[group],) = self.driver.tasks([point.hash], stages, now, threads)
        return tasks
