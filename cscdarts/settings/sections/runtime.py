"""Where and how fast a run goes, and what it is called: nothing of it is hashed."""

from typing import Literal

from pydantic import Field

from cscdarts.settings.values import Device, Frozen


class RuntimeConfig(Frozen):
    """Where and how fast a run goes, and how far: what is computed is the same, so nothing here is hashed.

    Threads, kind of device, kernels and determinism (and the number of processes) round otherwise, which a search can
    amplify; they are recorded and compared, see `docs/identity.md`.

    Attributes:
        kernels: how the supernet's mixed operations are computed: `auto`, on a CPU by its own kernels and elsewhere by
            the portable ones; `portable`, by these anywhere; `plain`, by plain autograd, which keeps far more memory.
        benchmark: the table that the check looks derived cells up in, as `cscdarts check --benchmark` names it; its
            fingerprint stands in `check.json`.
        retrain: whether the derived network is trained from scratch; without it the run ends with the check.
        cut_off: what becomes of a cell that gives one answer to all images: it is refused before it is retrained, or
            trained all the same.
        standstill_epochs: after how many epochs in a row without any progress a run says so, see
            `cscdarts.training.guards.standstill`.
    """

    device: Device = "auto"
    data_root: str = Field(default="data", min_length=1, max_length=4096, description="the path of a folder")
    threads: int | None = Field(default=None, ge=1, le=4096)
    workers: int = Field(default=2, ge=0, le=4096)
    checkpoint_minutes: float = Field(default=5.0, ge=0, le=525_600)
    deterministic: bool = True
    kernels: Literal["auto", "portable", "plain"] = "auto"
    benchmark: str = Field(
        default="embedded",
        min_length=1,
        max_length=4096,
        description="a benchmark, as `cscdarts check --benchmark` names it",
    )
    retrain: bool = True
    cut_off: Literal["refuse", "train"] = "refuse"
    standstill_epochs: int = Field(default=5, ge=1, le=10_000)


class Labels(Frozen):
    """What a run is called in tables. Not hashed: a name changes no number."""

    method: str = "csc"
    scale: str = "custom"
    data: str = ""
    note: str = ""
