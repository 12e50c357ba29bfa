"""SLURM as a running job sees it: the one place that reads SLURM's environment variables."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping

from slurm.backends.slurm.shell import REQUEUE_CODE, REQUEUE_TRIES
from slurm.host import Rank

#: Import path of the class below, which jobs carry.
HOST = "slurm.backends.slurm.host:SlurmHost"
#: Base of the rendezvous ports; the job's number spreads jobs that share a node.
PORT, PORTS = 29500, 2000


class SlurmHost:
    """Answers for the job that this process runs in.

    Args:
        variables: the job's environment; the process's own if None.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables

    @property
    def job(self) -> str:
        """See `slurm.host.Host`: `123`, or `123_4` for an array's element."""
        array, element = (self._variables.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
        return f"{array}_{element}" if array and element else self._variables["SLURM_JOB_ID"]

    @property
    def life(self) -> int | None:
        """See `slurm.host.Host`; a job's first life has no count."""
        count = self._variables.get("SLURM_RESTART_COUNT") or "0"
        return int(count) if count.isdecimal() else None

    def rank(self) -> Rank:
        """See `slurm.host.Host`."""
        world = int(self._variables.get("SLURM_NTASKS") or 1)
        if world == 1:
            return Rank()
        return Rank(
            int(self._variables["SLURM_PROCID"]),
            int(self._variables["SLURM_LOCALID"]),
            world,
            self._first_address(),
            PORT + int(self._variables["SLURM_JOB_ID"]) % PORTS,
        )

    def requeue(self) -> None:
        """See `slurm.host.Host`.

        In a container, which has no `scontrol`, this ends the process: the shell around it does the rest (see
        `slurm.backends.slurm.shell.start_python`).
        """
        if shutil.which("scontrol") is None:
            print(f"no scontrol here: the shell around the container puts job {self.job} back", flush=True)
            sys.stderr.flush()
            os._exit(REQUEUE_CODE)
        for attempt in range(REQUEUE_TRIES):
            done = subprocess.run(["scontrol", "requeue", self.job], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                print(f"requeued job {self.job}", flush=True)
                return
            print(f"scontrol requeue {self.job}: {done.stderr.strip()}", file=sys.stderr, flush=True)
            threading.Event().wait(2.0**attempt)

    def _first_address(self) -> str:
        """The address of the job's first node: `scontrol` knows it where names do not resolve. In a container without
        it, the address that srun was started on, which for a job's script is its first node's."""
        if shutil.which("scontrol") is None:
            return self._variables["SLURM_LAUNCH_NODE_IPADDR"]
        return _first_address(self._variables["SLURM_JOB_NODELIST"])


def _first_address(nodes: str) -> str:
    """The address of the first node of a node list: `scontrol` knows it where names do not resolve."""
    names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True).stdout
    first = names.split()[0]
    shown = subprocess.run(["scontrol", "show", "node", first], capture_output=True, text=True, check=False).stdout
    for word in shown.split():
        if word.startswith("NodeAddr="):
            return word.removeprefix("NodeAddr=")
    return first
