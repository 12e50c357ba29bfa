"""A grid's jobs on the cluster: submit chains of arrays, repair what a dead driver left, list and cancel them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurm.backends.slurm.host import HOST
from slurm.backends.slurm.journal import Journal, Submission
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.scheduler import Scheduler
from slurm.backends.slurm.submit import Submitter, Unreached
from slurm.backends.slurm.words import translate
from slurm.errors import ClusterError
from slurm.job import Job, Task
from slurm.jobs import SubmittedJob

#: SLURM's default of MaxArraySize; the indices of an array lie below it.
MAX_ARRAY_SIZE = 1001


@dataclass(frozen=True)
class ChainedRun:
    """One run's part in a chain: its key and one task per group of the chain."""

    key: str
    tasks: Mapping[str, Task]


class Queue:
    """The jobs of one grid.

    Args:
        folder: the grid's folder.
        name: begins the jobs' names.
        scheduler, submitter: the cluster, or a fake of it.
        max_array: the cluster's MaxArraySize.
    """

    def __init__(
        self, folder: Path, name: str, scheduler: Scheduler, submitter: Submitter, max_array: int = MAX_ARRAY_SIZE
    ) -> None:
        self.journal = Journal(folder / "submissions.jsonl")
        self.name, self.scheduler, self.submitter, self.max_array = name, scheduler, submitter, max_array

    def repair(self) -> int:
        """Finish or withdraw what a driver left half-submitted; returns how many chains. The driver's lock must be
        held."""
        chains: dict[str, list[Submission]] = {}
        for submission in self.journal.read():
            if not submission.released and not submission.withdrawn:
                chains.setdefault(submission.chain, []).append(submission)
        for name, chain in chains.items():
            if len(chain) == chain[0].size and all(one.jobs for one in chain):
                self._release(name, chain)
            else:
                for one in chain:
                    self.scheduler.cancel([*{job.split("_")[0] for job in one.jobs}, *self.scheduler.find(one.token)])
                self.journal.record_withdrawal(name)
        return len(chains)

    def submit(
        self,
        runs: Sequence[ChainedRun],
        profile: Profile,
        label: str,
        groups: Sequence[str],
        parallel: int | None,
        time: float,
        after: Sequence[str] = (),
    ) -> list[Submission]:
        """Submit a chain of arrays, one per group, split where the cluster limits arrays.

        Args:
            runs: each has a task for every group.
            label: the profile's name, for the journal.
            parallel: at most this many jobs at once over all parts; the profile's own where None.
            time: the moment that failures must be newer than to count.
            after: ids of jobs or arrays that must have ended, well or not, before the first array starts.
        """
        packs = list(_packed(runs, profile.runs_per_job))
        parts = [packs[start : start + self.max_array] for start in range(0, len(packs), self.max_array)]
        limit = parallel or profile.parallel or len(packs)
        submitted: list[Submission] = []
        before: list[str] = []
        for part in parts:
            throttle = max(1, limit // len(parts))
            # Fewer slots than parts: then the parts go one after the other.
            waits = [*after, *(before if limit < len(parts) else ())]
            chain = self._chain(part, profile, label, groups, throttle, waits, time)
            before = [chain[0].jobs[0].split("_")[0]]
            submitted += chain
        return submitted

    def jobs(self, keys: set[str] | None = None) -> list[SubmittedJob]:
        """The jobs of the given runs (all if None), in the order of submission, as the scheduler sees them now."""
        submissions = [one for one in self.journal.read() if one.jobs and not one.withdrawn]
        if keys is not None:
            submissions = [one for one in submissions if any(key in keys for pack in one.tasks for key in pack)]
        if not submissions:
            return []
        states = self.scheduler.states([job for one in submissions for job in one.jobs])
        return [
            translate(key, job, one.group, states.get(job), one.time, self.submitter.stderr(job))
            for one in submissions
            for job, pack in zip(one.jobs, one.tasks, strict=True)
            for key in pack
            if keys is None or key in keys
        ]

    def cancel(self, keys: set[str] | None = None) -> int:
        """Cancel the live jobs of the given runs (all if None); returns how many jobs."""
        submissions = [one for one in self.journal.read() if one.jobs and not one.withdrawn]
        states = self.scheduler.states([job for one in submissions for job in one.jobs]) if submissions else {}
        wanted = {
            job
            for one in submissions
            for job, pack in zip(one.jobs, one.tasks, strict=True)
            if job in states and states[job].live and (keys is None or not keys.isdisjoint(pack))
        }
        self.scheduler.cancel(sorted(wanted))
        return len(wanted)

    def _chain(
        self, packs: Sequence[Sequence[ChainedRun]], profile: Profile, label: str, groups: Sequence[str], throttle: int,
        after: Sequence[str], time: float,
    ) -> list[Submission]:  # fmt: skip
        keys = [[run.key for run in pack] for pack in packs]
        chain = self.journal.record_intent(self.name, groups, keys, label, time)
        done: list[Submission] = []
        try:
            dependency = "afterany:" + ":".join(after) if after else None
            for one in chain:
                own = profile.resources(one.group)
                blank = Job((), HOST, stall_s=60 * own.stall_min, grace_s=0.5 * own.signal_s)
                jobs = [replace(blank, tasks=tuple(run.tasks[one.group] for run in pack)) for pack in packs]
                ids = self.submitter.submit(jobs, own, one.token, throttle, dependency)
                self.journal.record_jobs(one.token, ids)
                done.append(replace(one, jobs=tuple(ids)))
                first = ids[0].split("_")[0]
                dependency = f"aftercorr:{first}" if len(ids) > 1 else f"afterok:{first}"
        except ClusterError as error:
            # Nothing of this chain has started: it is withdrawn, so that the next try begins clean. What a scheduler
            # took before it fell silent shows up later, by its name only: that is left to the next driver's repair.
            with contextlib.suppress(ClusterError):
                self.scheduler.cancel([one.jobs[0].split("_")[0] for one in done])
                if not isinstance(error, Unreached):
                    self.journal.record_withdrawal(chain[0].chain)
            raise
        self._release(chain[0].chain, done)
        return done

    def _release(self, name: str, chain: Sequence[Submission]) -> None:
        # Dependants first: once the first array may start, nothing is left to do for them.
        self.scheduler.release([one.jobs[0].split("_")[0] for one in reversed(chain)])
        self.journal.record_release(name)


def _packed(runs: Sequence[ChainedRun], size: int) -> Iterator[Sequence[ChainedRun]]:
    for start in range(0, len(runs), size):
        yield runs[start : start + size]
