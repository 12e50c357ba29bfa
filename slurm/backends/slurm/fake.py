"""A SLURM cluster in memory, for tests: arrays, holds, dependencies and cancellation work, and jobs run inline."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.scheduler import JobState
from slurm.control import Control
from slurm.errors import ClusterError
from slurm.job import Job, resolve


class FakeCluster:
    """Scheduler and submitter in one. `work()` runs what may run; `jobs`, `states_by_id` and `calls` are open to tests.

    Args:
        limit: how many jobs the cluster takes before it refuses.
    """

    def __init__(self, limit: int = 1_000_000) -> None:
        self.limit = limit
        self.jobs: dict[str, Job] = {}
        self.states_by_id: dict[str, JobState] = {}
        self.names: dict[str, str] = {}
        self.waits_for: dict[str, str] = {}
        self.calls: list[str] = []
        self._number = 0

    def submit(
        self, jobs: Sequence[Job], profile: Profile, name: str, parallel: int, dependency: str | None
    ) -> list[str]:
        """See `slurm.backends.slurm.submit.Submitter`."""
        self.calls.append(f"submit {name} x{len(jobs)} %{parallel}" + (f" {dependency}" if dependency else ""))
        if len(self.jobs) + len(jobs) > self.limit:
            raise ClusterError("sbatch", "QOSMaxSubmitJobPerUserLimit", "fewer jobs", "Wait.")
        self._number += 1
        ids = [f"{self._number}_{i}" for i in range(len(jobs))] if len(jobs) > 1 else [str(self._number)]
        for index, (one, job) in enumerate(zip(ids, jobs, strict=True)):
            self.jobs[one], self.names[one] = job, name
            self.states_by_id[one] = JobState("PENDING", "JobHeldUser", True)
            if dependency is not None and dependency.startswith("after"):
                kind, _, first = dependency.partition(":")
                self.waits_for[one] = f"{first}_{index}" if kind == "aftercorr" else first
        return ids

    def stderr(self, job: str) -> Path:
        """See `slurm.backends.slurm.submit.Submitter`."""
        return Path("/nonexistent") / job

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """See `slurm.backends.slurm.scheduler.Scheduler`."""
        self.calls.append("states")
        return {one: self.states_by_id[one] for one in ids if one in self.states_by_id}

    def find(self, name: str) -> list[str]:
        """See `slurm.backends.slurm.scheduler.Scheduler`."""
        return sorted(
            {one.split("_")[0] for one, given in self.names.items() if given == name and self.states_by_id[one].live}
        )

    def cancel(self, ids: Iterable[str]) -> None:
        """See `slurm.backends.slurm.scheduler.Scheduler`."""
        for one in self._expanded(ids):
            if self.states_by_id[one].live:
                self.states_by_id[one] = JobState("CANCELLED", "0:0")

    def release(self, ids: Iterable[str]) -> None:
        """See `slurm.backends.slurm.scheduler.Scheduler`."""
        for one in self._expanded(ids):
            if self.states_by_id[one].reason == "JobHeldUser":
                self.states_by_id[one] = JobState("PENDING", "Priority", True)

    def end(self, job: str, state: str, code: str = "0:0") -> None:
        """Let a job end without running, as a dead node or a time limit would."""
        self.states_by_id[job] = JobState(state, code)

    def work(self) -> int:
        """Run released jobs inline, until none is left that may start; returns how many ran."""
        ran = 0
        while True:
            ready = [
                one for one, state in self.states_by_id.items() if state.state == "PENDING" and self._may_start(one)
            ]
            if not ready:
                return ran
            for one in ready:
                ran += 1
                self.states_by_id[one] = self._run(self.jobs[one])

    def _may_start(self, one: str) -> bool:
        if self.states_by_id[one].reason == "JobHeldUser":
            return False
        first = self.waits_for.get(one)
        if first is None or first not in self.states_by_id:
            return True
        if not self.states_by_id[first].live and self.states_by_id[first].state != "COMPLETED":
            self.states_by_id[one] = JobState("CANCELLED", "0:0")
            return False
        return self.states_by_id[first].state == "COMPLETED"

    @staticmethod
    def _run(job: Job) -> JobState:
        outcomes = []
        for task in job.tasks:
            Path(task.folder).mkdir(parents=True, exist_ok=True)
            outcomes.append(resolve(task.function)(Path(task.folder), task.arguments, Control()))
        failed = bool(outcomes) and set(outcomes) == {"failed"}
        return JobState("FAILED", "1:0") if failed else JobState("COMPLETED", "0:0")

    def _expanded(self, ids: Iterable[str]) -> list[str]:
        wanted = set(ids)
        return [one for one in self.states_by_id if one in wanted or one.split("_")[0] in wanted]
