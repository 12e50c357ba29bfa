"""What a running job asks of the scheduler that started it; each scheduler's backend answers with a class of its own.

A job carries the import path of that class. It is never guessed from the environment: a worker of this machine's pool
that happens to run inside a scheduler's job would find that job's variables there and take its number for its own.
"""

from dataclasses import dataclass
from typing import Protocol

#: What `torch.distributed` reads, and what launchers leave for it.
DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rank:
    """Place of one process among the processes of its job, and where they meet.

    Attributes:
        rank, local_rank: among all processes, and among those of this node.
        world: how many processes there are.
        address, port: of the rendezvous on the first node; "" and 0 for a lone process.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    address: str = ""
    port: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes for all of them."""
        return self.rank == 0

    def variables(self) -> dict[str, str]:
        """The environment variables that `torch.distributed` reads; none for a lone process."""
        if self.world == 1:
            return {}
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


class Host(Protocol):
    """The scheduler as a running job sees it."""

    @property
    def job(self) -> str:
        """The scheduler's id of this job; equal in each of the job's lives."""
        ...

    @property
    def life(self) -> int | None:
        """How often the scheduler has started this job again; None where it does not tell."""
        ...

    def rank(self) -> Rank:
        """This process among those of the job."""
        ...

    def requeue(self) -> None:
        """Put this job back into the queue; it starts again from its pickle. Tries for a while, then says why not."""
        ...


class NoHost:
    """For a process that no scheduler started: it has no job, is alone, and cannot be requeued."""

    job = ""
    life: int | None = None

    def rank(self) -> Rank:
        """See `Host`."""
        return Rank()

    def requeue(self) -> None:
        """See `Host`; a job without a host ends instead."""
