"""SLURM's words for the state of a job, translated into the neutral ones of `slurm.jobs`."""

from collections.abc import Mapping
from pathlib import Path

from slurm.backends.slurm.scheduler import JobState
from slurm.backends.slurm.shell import NO_PYTHON, SETUP_FAILED
from slurm.jobs import DISK_FULL, Cause, Phase, SubmittedJob, tail_of

PHASES: Mapping[str, Phase] = {
    "RUNNING": "running",
    "COMPLETING": "running",
    "CONFIGURING": "running",
    "REQUEUED": "requeued",
    "REQUEUE_HOLD": "requeued",
    "CANCELLED": "cancelled",
}
#: State -> why the job ended badly. What is missing here, such as COMPLETED, says nothing against the job.
CAUSES: Mapping[str, Cause] = {
    "OUT_OF_MEMORY": Cause("memory", "out of memory, killed by the scheduler"),
    "TIMEOUT": Cause("timeout", "time limit reached without an answer to the signal before it"),
    "DEADLINE": Cause("timeout", "deadline reached"),
    "NODE_FAIL": Cause("node", "node failed and the job was not requeued"),
    "BOOT_FAIL": Cause("node", "node did not boot"),
    "PREEMPTED": Cause("node", "preempted and not requeued"),
    "FAILED": Cause("error", "the job ended without a result"),
}
#: Reasons that every job of a chain has until its turn comes, and that need not be told.
ORDINARY = ("", "Dependency")
#: A job whose predecessor failed stays in the queue with this reason, and will never start.
NEVER = "DependencyNeverSatisfied"
#: Lines of SLURM's own that say that a task has ended, not why.
REMARKS = ("srun: error:", "srun: Terminating", "srun: launch/slurm", "srun: Job step", "srun: Force", "slurmstepd:")
#: Among so many last lines the shell's own sentence is looked for.
SAID_WITHIN = 5
#: Bytes of a job's standard error that are searched for the cause of its end.
TAIL_BYTES = 4096


def translate(
    key: str, job: str, group: str, state: JobState | None, submitted: float, stderr: Path, runs: int = 1
) -> SubmittedJob:
    """A job of a run, given SLURM's word on it (None where SLURM does not know the job)."""
    reason = state.reason if state is not None and state.live and state.reason not in ORDINARY else ""
    word = "unknown" if state is None else state.state
    return SubmittedJob(
        key, job, group, phase_of(state), submitted, stderr, reason, word, runs, lambda: cause_of(state, stderr)
    )


def phase_of(state: JobState | None) -> Phase:
    """Where a job stands."""
    if state is None:
        return "unknown"
    if state.reason == NEVER:
        return "ended"
    return PHASES.get(state.state, "queued" if state.live else "ended")


def cause_of(state: JobState | None, stderr: Path) -> Cause | None:
    """Why a job ended badly, by its state and, for a plain FAILED, by the end of its standard error."""
    cause = None if state is None else CAUSES.get(state.state)
    if cause is None or state is None or state.state != "FAILED":
        return cause
    tail = tail_of(stderr, TAIL_BYTES)
    # Without cgroups a job that is killed for its memory counts as failed by signal 9.
    said = any(words in tail for words in ("exceeded memory limit", "oom-kill", "Out Of Memory"))
    if said or (state.reason == "0:9" and "memory" in tail.lower()):
        return CAUSES["OUT_OF_MEMORY"]
    if "No space left" in tail:
        return DISK_FULL
    told = telling_line(tail)
    if told.startswith((SETUP_FAILED, NO_PYTHON)):
        return Cause(cause.kind, told)
    return Cause(cause.kind, f"{cause.sentence}: {told}") if told else cause


def telling_line(text: str) -> str:
    """Of a job's standard error the line that tells why it ended: the shell's own sentence on `setup` or python where
    there is one, else the last line that is not just SLURM's remark that a task has ended."""
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(REMARKS)]
    # An older life of the job, or what a site prints at the end of a job, may stand beside it.
    said = [line for line in own[-SAID_WITHIN:] if line.startswith((SETUP_FAILED, NO_PYTHON))]
    return (said or own or lines or [""])[-1]
