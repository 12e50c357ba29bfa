"""The standing of submitted jobs, in words that belong to no scheduler; each backend translates its own into these."""

import errno
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: `queued`: waits to start; `requeued`: ran before and waits to go on; `running`; `ended`: by itself or by force, see
#: `SubmittedJob.explain`; `cancelled`: by a person; `unknown`: the scheduler has no record of it.
Phase = Literal["queued", "requeued", "running", "ended", "cancelled", "unknown"]
LIVE: frozenset[Phase] = frozenset({"queued", "requeued", "running"})


@dataclass(frozen=True)
class Cause:
    """Why a job ended badly.

    Attributes:
        kind: `memory`, `timeout`, `node`, `disk` or `error`.
        sentence: for people.
    """

    kind: str
    sentence: str


#: For a job that tells no more than that.
DISK_FULL = Cause(
    "disk",
    "disk full: no space left on the device. Free space there, and run the same command again; "
    "what has finished is kept.",
)


def no_cause() -> Cause | None:
    """Nothing is known against the job."""
    return None


@dataclass(frozen=True)
class SubmittedJob:
    """One job of a run.

    Attributes:
        key: the run.
        job: the scheduler's id.
        group: which stages of the run it holds.
        phase: where it stands.
        submitted: when it was intended, seconds since the epoch.
        stderr: where its standard error goes.
        reason: why it waits, as the scheduler says it; "" where there is nothing to say.
        word: the scheduler's own word for its state, for people.
        runs: how many runs the job has; those that it has not begun, or has done with, are not at work.
        explain: why it ended badly, or None. Asked only where no file of the run tells, as it may read the job's
            output.
    """

    key: str
    job: str
    group: str
    phase: Phase
    submitted: float
    stderr: Path
    reason: str = ""
    word: str = ""
    runs: int = 1
    explain: Callable[[], Cause | None] = field(default=no_cause, compare=False)

    @property
    def live(self) -> bool:
        """Whether it is in the queue or at work."""
        return self.phase in LIVE


def cause_of_limit(error: BaseException, place: object = "") -> Cause | None:
    """What stands in the way where the system has no more room, files or right to write; None for other errors.

    Args:
        place: what was written to where the error does not say; "" for unknown.
    """
    if not isinstance(error, OSError):
        return None
    path, why = error.filename or place or "a file", error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return Cause(
            "error",
            f"too many open files: {path} cannot be opened ({why}; the limit, `ulimit -n`, is {limit}). Raise it, for "
            "example by `ulimit -n 4096`, and run the same command again; what has finished is kept.",
        )
    ways = {
        errno.ENOSPC: ("disk full", "Free space there"),
        errno.EDQUOT: ("disk full", "Free space there or have the quota raised"),
        errno.EFBIG: ("file too large", "Raise the limit, `ulimit -f`"),
        errno.EROFS: ("read-only file system", "Make it writable"),
    }
    if error.errno not in ways:
        return None
    what, way = ways[error.errno]
    sentence = (
        f"{what}: {path} cannot be written ({why}). {way}, and run the same command again; what has finished is kept."
    )
    return Cause("disk", sentence)


def tail_of(path: Path, size: int) -> str:
    """The last bytes of a text file; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
