"""Rank and rendezvous of a job with several processes, in the environment variables that `torch.distributed` reads."""

import os
import subprocess
from dataclasses import dataclass

#: Base of the rendezvous ports; the job's number spreads jobs that share a node.
PORT = 29500


@dataclass(frozen=True)
class Rank:
    """Place of this process in its job."""

    rank: int = 0
    local_rank: int = 0
    world: int = 1


def export_rank() -> Rank:
    """Set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT from SLURM's variables, where a job has several tasks."""
    world = int(os.environ.get("SLURM_NTASKS", "1") or 1)
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or world == 1:
        return Rank()
    rank = Rank(int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_LOCALID"]), world)
    number = int(os.environ["SLURM_JOB_ID"])
    os.environ.update(
        RANK=str(rank.rank),
        LOCAL_RANK=str(rank.local_rank),
        WORLD_SIZE=str(rank.world),
        MASTER_ADDR=_first_host(os.environ["SLURM_JOB_NODELIST"]),
        MASTER_PORT=str(PORT + number % 2000),
    )
    return rank


def _first_host(nodes: str) -> str:
    """The address of the first node of a SLURM node list: `scontrol` knows it where names do not resolve."""
    names = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True).stdout
    first = names.split()[0]
    shown = subprocess.run(["scontrol", "show", "node", first], capture_output=True, text=True, check=False).stdout
    for word in shown.split():
        if word.startswith("NodeAddr="):
            return word.removeprefix("NodeAddr=")
    return first
