"""What one job asks for: the part of a profile that a group may have of its own."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slurm.backends.slurm.options.values import Count, Gib, Minutes, OptionalText
from slurm.backends.slurm.options.wording import Sentence

#: Keys of which sbatch takes one.
MEMORY = {"mem_gb": "mem", "mem_per_cpu_gb": "mem_per_cpu", "mem_per_gpu_gb": "mem_per_gpu"}


class Strict(BaseModel):
    """Known keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(Strict):
    """What a job asks for; a group's own values replace the profile's where they are given."""

    time_min: Minutes | None = Field(default=None, ge=1, description="time limit, minutes")
    nodes: Count | None = Field(default=None, ge=1)
    tasks_per_node: Count | None = Field(default=None, ge=1, description="processes per node, one per GPU for DDP")
    cpus_per_task: Count | None = Field(default=None, ge=1)
    gpus_per_node: Count | None = Field(default=None, ge=0)
    mem_gb: Gib | None = Field(default=None, ge=0, description="memory per node, GiB; None takes the cluster's default")
    mem_per_cpu_gb: Gib | None = Field(default=None, gt=0)
    mem_per_gpu_gb: Gib | None = Field(default=None, gt=0)
    partition: OptionalText = None
    constraint: OptionalText = None
    gres: OptionalText = None
    runs_per_node: Count | None = Field(default=None, ge=1)
    runs_per_gpu: Count | None = Field(default=None, ge=1)
    gpu_mem_gb: Gib | None = Field(default=None, gt=0, description="memory of one GPU, GiB; for plans only")

    @model_validator(mode="after")
    def _one_memory(self) -> Self:
        require_one_memory(self)
        return self


def require_one_memory(asked: Any) -> None:
    """Refuse two amounts of memory.

    Errors:
        Sentence: see above.
    """
    given = [key for key in MEMORY if getattr(asked, key) is not None]
    if len(given) > 1:
        raise Sentence(f"{' and '.join(given)} cannot both hold: sbatch takes one of them. Remove one.")
