"""Submission of one array of jobs through submitit, and the script that it would submit."""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from slurm.backends.slurm.options.sbatch import submission_variables
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.shell import require_plain
from slurm.errors import ClusterError
from slurm.job import Job, worker_variables

#: What sbatch says where the cluster cannot be reached, whatever the job asks for.
UNREACHED = (
    "Unable to contact slurm controller", "configuration source", "Socket timed out", "Connection refused",
    "Zero Bytes were transmitted", "Unable to resolve", "Invalid authentication credential", "Protocol authentication",
    "resolve_ctls_from_dns_srv", "fetch_config", "slurm_conf", "slurm.conf", "Unexpected message received",
)  # fmt: skip


class Unreached(ClusterError):
    """The scheduler did not answer, so it is not known whether it took a job."""


class Submitter(Protocol):
    """Turns jobs into scheduler jobs."""

    def submit(
        self, jobs: Sequence[Job], profile: Profile, name: str, parallel: int, dependency: str | None
    ) -> list[str]:
        """Submit an array, held; returns the id of each element."""
        ...

    def stderr(self, job: str) -> Path:
        """Where a job's standard error goes."""
        ...


class SubmititSubmitter:
    """The cluster's own.

    Args:
        folder: where submitit keeps pickles and output; shared by all nodes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def submit(
        self, jobs: Sequence[Job], profile: Profile, name: str, parallel: int, dependency: str | None
    ) -> list[str]:
        """See `Submitter`.

        Errors:
            Unreached: the scheduler did not answer.
            ClusterError: sbatch refused.
        """
        require_plain(str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        parameters = profile.sbatch(name, parallel, dependency, hold=True)
        with _environment(submission_variables(os.environ, _said(parameters))):
            executor = submitit.SlurmExecutor(self.folder, python=profile.command_python(sys.executable))
            executor.update_parameters(**parameters)
            try:
                # submitit repeats sbatch's complaint on stderr; it is said once, in our own sentence.
                with contextlib.redirect_stderr(io.StringIO()):
                    handles = executor.submit_array(list(jobs))
            except (FailedJobError, FailedSubmissionError) as error:
                raise _refused(str(error)) from None
        return [handle.job_id for handle in handles]

    def stderr(self, job: str) -> Path:
        """See `Submitter`."""
        return self.folder / f"{job}_0_log.err"


def sbatch_script(profile: Profile, folder: Path, name: str, jobs: int, parallel: int, dependency: str | None) -> str:
    """The script that would be submitted, for a dry run; needs no cluster.

    Errors:
        ClusterError: the folder's name is none for SLURM.
    """
    require_plain(str(folder.absolute()))
    parameters = profile.sbatch(name, parallel, dependency, hold=True)
    if jobs > 1:
        parameters["map_count"] = jobs
    python = profile.command_python(sys.executable)
    command = f"{python} -u -m submitit.core._submit {shlex.quote(str(folder.absolute()))}"
    return str(_make_sbatch_string(command=command, folder=folder.absolute(), **parameters))


def _said(parameters: Mapping[str, Any]) -> set[str]:
    """The options of the script, by long name."""
    given = {name for name, value in parameters.items() if value is not None}
    return (given | set(parameters["additional_parameters"])) - {"setup", "additional_parameters"}


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's environment for a block, and where jobs find the code that runs here."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(worker_variables(variables))
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _refused(said: str) -> ClusterError:
    """What sbatch said, with the way out that it calls for."""
    lines = [line for line in said.splitlines() if "error:" in line]
    reason = lines[0].partition("error: ")[2] if lines else " ".join(said.split())
    if any(words in said for words in UNREACHED):
        conf = os.environ.get("SLURM_CONF")
        where = f"SLURM_CONF={conf}" if conf else "SLURM_CONF is not set"
        fix = f"Is the scheduler up, and does this machine know its place ({where})?"
        sentence = f"sbatch does not reach the cluster: {reason.rstrip('.')}. {fix}"
        return Unreached("sbatch", reason, "a cluster that answers", fix, sentence)
    fix = "Correct the profile or use --slurm KEY=VALUE."
    return ClusterError(
        "sbatch", reason, "a job that the cluster takes", fix, f"sbatch refuses the job: {reason}. {fix}"
    )
