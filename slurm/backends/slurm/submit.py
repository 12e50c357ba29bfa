"""Submission of one array of jobs through submitit, and the script that it would submit."""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env
from submitit.slurm.slurm import _make_sbatch_string

from slurm.backends.slurm.profile import Profile
from slurm.errors import ClusterError
from slurm.job import Job


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
            ClusterError: sbatch refused.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Inside of a job, its own SLURM variables would leak into the new one.
        with clean_env():
            executor = submitit.SlurmExecutor(self.folder, python=profile.command_python(sys.executable))
            executor.update_parameters(**profile.sbatch(name, parallel, dependency, hold=True))
            try:
                # submitit repeats sbatch's complaint on stderr; it is said once, in our own sentence.
                with contextlib.redirect_stderr(io.StringIO()):
                    handles = executor.submit_array(list(jobs))
            except (FailedJobError, FailedSubmissionError) as error:
                lines = [line for line in str(error).splitlines() if "error:" in line]
                reason = lines[0].partition("error: ")[2] if lines else " ".join(str(error).split())
                fix = "Correct the profile or use --slurm KEY=VALUE."
                raise ClusterError(
                    "sbatch", reason, "a job that the cluster takes", fix, f"sbatch refuses the job: {reason}. {fix}"
                ) from None
        return [handle.job_id for handle in handles]

    def stderr(self, job: str) -> Path:
        """See `Submitter`."""
        return self.folder / f"{job}_0_log.err"


def sbatch_script(profile: Profile, folder: Path, name: str, jobs: int, parallel: int, dependency: str | None) -> str:
    """The script that would be submitted, for a dry run; needs no cluster."""
    parameters = profile.sbatch(name, parallel, dependency, hold=True)
    if jobs > 1:
        parameters["map_count"] = jobs
    python = profile.command_python(sys.executable)
    command = f"{python} -u -m submitit.core._submit {folder.absolute()}"
    return str(_make_sbatch_string(command=command, folder=folder.absolute(), **parameters))
