"""A grid's jobs on the cluster: submit chains of arrays, repair what a dead driver left, list and cancel them."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurm.backends.slurm.host import HOST
from slurm.backends.slurm.journal import Journal, Submission
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.scheduler import JobState, Scheduler
from slurm.backends.slurm.submit import Submitter, Unreached
from slurm.backends.slurm.words import translate
from slurm.errors import ClusterError
from slurm.job import Job, Task, cancel_mark, task_output
from slurm.jobs import SubmittedJob
from slurm.lock import file_time
from slurm.node import NodeJob

#: SLURM's default of MaxArraySize; the indices of an array lie below it.
MAX_ARRAY_SIZE = 1001
#: A run that was cancelled while its job goes on with others.
CANCELLED = JobState("CANCELLED")


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
        #: Where the jobs' output lies.
        self.folder = folder.absolute() / "jobs"
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
        packs = list(_packed(runs, profile.runs_of_job))
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
        files = self._files(submissions)
        found = []
        for one in submissions:
            for job, pack in zip(one.jobs, one.tasks, strict=True):
                for key in pack:
                    if keys is None or key in keys:
                        own = task_output(self.folder, job, key)[1]
                        error = own if own.name in files else self.submitter.stderr(job)
                        marked = cancel_mark(self.folder, job, key).name in files
                        state = CANCELLED if marked and job in states else states.get(job)
                        found.append(translate(key, job, one.group, state, one.time, error, len(pack)))
        return found

    def cancel(self, keys: set[str] | None = None) -> int:
        """Cancel the live jobs of the given runs (all if None); returns how many jobs.

        A job that has other runs too goes on with those.
        """
        submissions = [one for one in self.journal.read() if one.jobs and not one.withdrawn]
        states = self.scheduler.states([job for one in submissions for job in one.jobs]) if submissions else {}
        files = self._files(submissions)
        whole, part = set[str](), set[str]()
        for one in submissions:
            for job, pack in zip(one.jobs, one.tasks, strict=True):
                chosen = [key for key in pack if keys is None or key in keys]
                if not chosen or job not in states or not states[job].live:
                    continue
                marks = [cancel_mark(self.folder, job, key) for key in chosen]
                others = {cancel_mark(self.folder, job, key).name for key in pack} - {mark.name for mark in marks}
                # Several processes of one run could not agree on when to leave it.
                if others <= files or one.processes > 1:
                    whole.add(job)
                    continue
                part.add(job)
                self.folder.mkdir(parents=True, exist_ok=True)
                for mark in marks:
                    mark.touch()
        self.scheduler.cancel(sorted(whole))
        return len(whole) + len(part)

    def now(self) -> float:
        """The time of a new submission, later than that of each earlier one whatever the clocks of the machines that
        submit."""
        last = max((one.time for one in self.journal.read()), default=0.0)
        return max(file_time(self.journal.path.parent) or time.time(), last + 0.001)

    def _files(self, submissions: Sequence[Submission]) -> set[str]:
        """What lies beside the jobs' output, where some job has several runs or processes of its own for them."""
        if not submissions:
            return set()
        with contextlib.suppress(FileNotFoundError):
            return {entry.name for entry in os.scandir(self.folder)}
        return set()

    def _chain(
        self, packs: Sequence[Sequence[ChainedRun]], profile: Profile, label: str, groups: Sequence[str], throttle: int,
        after: Sequence[str], time: float,
    ) -> list[Submission]:  # fmt: skip
        keys = [[run.key for run in pack] for pack in packs]
        own_of = {group: profile.resources(group) for group in groups}
        processes = {group: own.processes for group, own in own_of.items()}
        chain = self.journal.record_intent(self.name, groups, keys, label, time, processes)
        done: list[Submission] = []
        try:
            dependency = "afterany:" + ":".join(after) if after else None
            for one in chain:
                own = own_of[one.group]
                blank = _blank(own, str(self.folder))
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


def _blank(profile: Profile, folder: str) -> Job:
    """A job without tasks."""
    stall_s, grace_s = 60 * profile.stall_min, 0.5 * profile.signal_s
    if profile.runs_at_once == 1:
        return Job((), HOST, stall_s=stall_s, grace_s=grace_s, folder=folder)
    return NodeJob(
        (), HOST, stall_s=stall_s, grace_s=grace_s, folder=folder, workers=profile.runs_at_once,
        per_gpu=profile.runs_per_gpu,
    )  # fmt: skip


def _packed(runs: Sequence[ChainedRun], size: int) -> Iterator[Sequence[ChainedRun]]:
    for start in range(0, len(runs), size):
        yield runs[start : start + size]
