"""The scheduler as the layer above sees it: states of jobs, hold, release, cancel, requeue.

`squeue` knows what lives, `sacct` what has ended. Both are asked once for all jobs of a grid: a thousand runs cost two
calls. SLURM's own view of `NODE_FAIL` is not final (it requeues), and states carry suffixes (`CANCELLED by 0`).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slurm.backends.slurm.options.sbatch import telling_variables
from slurm.errors import ClusterError

LIVE = frozenset(
    {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING",
     "SIGNALING", "STAGE_OUT", "STOPPED", "REQUEUE_FED", "SPECIAL_EXIT"}
)  # fmt: skip
#: The commands of a machine that can submit jobs and ask for them.
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun")
#: At most this many job numbers in one command line.
BATCH = 500
#: Seconds after which a command counts as failed.
TIMEOUT_S = 120


@dataclass(frozen=True)
class JobState:
    """What the scheduler says of one job or array element.

    Attributes:
        state: SLURM's word, without suffix.
        reason: why it waits, or its exit code once it has ended.
        live: whether it is in the queue or at work.
    """

    state: str
    reason: str = ""
    live: bool = False


class Scheduler(Protocol):
    """Operations on submitted jobs. Ids read `123` or `123_4`; a plain `123` names the whole array in `cancel`."""

    def states(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """The state of each job that the scheduler knows."""
        ...

    def find(self, name: str) -> list[str]:
        """Numbers of live jobs (whole arrays) by job name."""
        ...

    def cancel(self, ids: Iterable[str]) -> None:
        """Cancel jobs; those that have ended are left alone."""
        ...

    def release(self, ids: Iterable[str]) -> None:
        """Let held jobs start."""
        ...


class SlurmScheduler:
    """The cluster's own, through its command-line tools."""

    def states(self, ids: Sequence[str]) -> dict[str, JobState]:
        """See `Scheduler`."""
        arrays = sorted({i.split("_")[0] for i in ids})
        found: dict[str, JobState] = {}
        for start in range(0, len(arrays), BATCH):
            batch = ",".join(arrays[start : start + BATCH])
            ended = ask(["sacct", "-n", "-X", "-P", "-D", "-j", batch, "-o", "JobID,State,ExitCode"])
            # With -D a requeued job has one line per life; the last one counts.
            found.update(parse_sacct(ended))
            found.update(parse_squeue(self._queue(batch)))
        return found

    @staticmethod
    def _queue(batch: str) -> str:
        """What of these jobs is in the queue; a lone number that is not there makes squeue fail, a dead controller
        too."""
        try:
            return ask(["squeue", "-h", "-r", "-j", batch, "-o", "%i|%T|%r"])
        except ClusterError as error:
            if "Invalid job id" in str(error):
                return ""
            raise

    def find(self, name: str) -> list[str]:
        """See `Scheduler`."""
        return sorted(set(ask(["squeue", "-h", "-n", name, "-o", "%F"]).split()))

    def cancel(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        _batched(["scancel"], ids)

    def release(self, ids: Iterable[str]) -> None:
        """See `Scheduler`."""
        for number in ids:
            try:
                ask(["scontrol", "release", number])
            except ClusterError as error:
                # Released before, by a driver that died right then, and done in the meantime.
                if "already finished" not in str(error):
                    raise

    def limit(self, key: str, default: int) -> int:
        """A number out of `scontrol show config`, such as MaxArraySize."""
        match = re.search(rf"^{key}\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.MULTILINE)
        return int(match.group(1)) if match else default

    def check(self) -> None:
        """Make sure that jobs can be submitted and their end be learned.

        Errors:
            ClusterError: a command is missing, the controller does not answer, or there is no accounting.
        """
        for command in COMMANDS:
            if shutil.which(command) is None:
                raise _missing(command)
        ask(["squeue", "-h", "-n", "nothing-has-this-name"])
        try:
            ask(["sacct", "-n", "-X", "-o", "JobID"])
        except ClusterError as error:
            raise ClusterError(
                "--on", "slurm without accounting", "a cluster where `sacct` answers", str(error),
                f"This cluster is without accounting, and only `sacct` tells how jobs ended: {error}",
            ) from None  # fmt: skip


def installed() -> bool:
    """Whether this machine has the commands that tell of jobs."""
    return all(shutil.which(command) is not None for command in ("sbatch", "squeue", "sacct"))


def parse_sacct(text: str) -> dict[str, JobState]:
    """`JobID|State|ExitCode` lines; a pending part of an array reads `12_[3-5,8%2]`."""
    found: dict[str, JobState] = {}
    for line in text.splitlines():
        number, state, code = [*line.split("|"), "", ""][:3]
        word = state.split(" ")[0].rstrip("+")
        if word:
            for one in expand(number):
                found[one] = JobState(word, code, False)
    return found


def parse_squeue(text: str) -> dict[str, JobState]:
    """`id|state|reason` lines of what is in the queue."""
    found: dict[str, JobState] = {}
    for line in text.splitlines():
        number, state, reason = [*line.split("|"), "", ""][:3]
        if state in LIVE:
            for one in expand(number):
                found[one] = JobState(state, "" if reason == "None" else reason, True)
    return found


def expand(number: str) -> list[str]:
    """`12` -> 12; `12_3` -> 12_3; `12_[3-5,8%2]` -> 12_3, 12_4, 12_5, 12_8."""
    match = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", number)
    if match is None:
        return [number]
    ids: list[str] = []
    for part in match.group(2).split(","):
        first, _, last = part.partition("-")
        ids += [f"{match.group(1)}_{i}" for i in range(int(first), int(last or first) + 1)]
    return ids


def _batched(command: list[str], ids: Iterable[str]) -> None:
    every = list(ids)
    for start in range(0, len(every), BATCH):
        try:
            ask([*command, *every[start : start + BATCH]])
        except ClusterError as error:
            # Jobs may end between a look and the command.
            if "already" not in str(error) and "Invalid job id" not in str(error):
                raise


def ask(command: list[str], limit_s: float = TIMEOUT_S) -> str:
    """What a command that tells of the cluster says.

    Errors:
        ClusterError: it is missing, fails, or does not answer within `limit_s` seconds.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, errors="replace",
            env=telling_variables(os.environ),
        )  # fmt: skip
    except FileNotFoundError:
        raise _missing(command[0]) from None
    except subprocess.TimeoutExpired:
        raise _failed(command[0], f"no answer within {limit_s:g} s") from None
    if done.returncode != 0:
        raise _failed(command[0], done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def _missing(command: str) -> ClusterError:
    fix = "Use a login node, or try `make slurm-up`."
    return ClusterError(
        "--on",
        "slurm",
        f"a machine with {command}",
        fix,
        f"--on slurm needs {command}, which this machine lacks. {fix}",
    )


def _failed(command: str, reason: str) -> ClusterError:
    fix = "Is the scheduler up?"
    return ClusterError(command, reason, "an answer", fix, f"{command} failed: {reason.rstrip('.')}. {fix}")
