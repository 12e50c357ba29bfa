"""A grid's runs on this machine: a pool of workers that ends with its driver."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from ablations.drive.backend import Factory, Options
from ablations.drive.driver import Driver, untouched
from ablations.grid.forecast import NO_GPUS, GpuOffer, Offers
from ablations.run.stages import STAGES, missing_stages
from ablations.run.state import RunState
from cscdarts.errors import OutsideFailure
from cscdarts.records.environment import Code
from cscdarts.records.run_folder import RunFolder, write_json
from slurm.backends.local import LocalPool, usable_cores, visible_gpus

#: A run that comes back untouched this often is left alone by this driver.
MAX_TRIES = 3
#: Workers of a driver that died let go of their runs a moment later: runs that others hold are awaited for this long.
RELEASE_S = 10.0


class LocalBackend:
    """See `ablations.drive.backend.Backend`.

    Args:
        driver: the grid's driver.
        options: of these `parallel` counts here.
    """

    outlives_driver = False
    every_s = 1.0

    def __init__(self, driver: Driver, options: Options) -> None:
        self.driver, self.options = driver, options
        self.pool = LocalPool(driver.folder / "jobs")
        self._submitted: list[str] = []
        self._tries: Counter[str] = Counter()
        self._at_work = self._killed = False

    @classmethod
    def configured(cls, label: str, profile: str, overrides: Sequence[str]) -> Factory:
        """The factory for `--on local`, which has no profile."""
        return partial(cls)

    def open(self) -> list[str]:
        """See `Backend`; this machine is always ready."""
        return []

    def freeze(self, code: Code) -> None:
        """See `Backend`; workers load the code at once, so none need be kept."""

    def submit(self, hashes: Sequence[str]) -> str:
        """See `Backend`; workers start on the runs at once."""
        self._submitted, self._killed = list(hashes), False
        if hashes:
            workers, threads = share_of_machine(self.options.parallel, len(hashes))
            tasks = self.driver.tasks(hashes, STAGES, time.time(), threads)
            self.pool.start(tasks, workers, threads)
        return f"{len(hashes)} to run here"

    def states(self) -> list[RunState]:
        """See `Backend`. A killed worker records nothing, so once all have ended its run is recorded as failed."""
        self._at_work = self.pool.alive() > 0
        states = self.driver.states()
        if self._at_work:
            return states
        killed = [state.hash for state in states if state.status == "lost" and state.hash in self._submitted]
        for key in killed:
            self._record_killed(key)
        self._killed = self._killed or bool(killed)
        return self.driver.states() if killed else states

    def wait_s(self, states: Sequence[RunState]) -> float:
        """See `Backend`."""
        if self._at_work:
            return float("inf")
        return RELEASE_S if any(state.status == "running" for state in states) else 0.0

    def left_over(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`: what workers that were killed left, and what a dead driver's workers have let go of."""
        if not self._submitted:
            return []
        unbegun = [state.hash for state in states if state.hash in self._submitted and state.status == "new"]
        if not self._killed:
            if len(unbegun) == len(self._submitted):
                why = "; ".join(self.pool.errors()) or "all ended"
                raise OutsideFailure("Starting workers", why, "See the jobs folder.")
            self._tries.update(self._submitted)
        return [key for key in untouched(states) if self._tries[key] < MAX_TRIES]

    def scripts(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`; workers need none."""
        return []

    def gpus(self) -> Offers:
        """See `Backend`: one each, where this machine has any."""
        return {"search": GpuOffer(), "retrain": GpuOffer()} if visible_gpus() else NO_GPUS

    def close(self) -> None:
        """See `Backend`."""
        self.pool.stop()

    def _record_killed(self, key: str) -> None:
        folder = RunFolder(self.driver.folder / key)
        stage = (missing_stages(folder.config(), folder) or (STAGES[-1],))[0]
        failure = {
            "stage": stage,
            "kind": "memory",
            "message": "the worker was killed, most likely because memory ran out",
            "traceback": "\n".join(self.pool.errors()),
            "time": time.time(),
        }
        write_json(folder.file("failure.json"), failure)


def share_of_machine(parallel: int | None, runs: int) -> tuple[int, int | None]:
    """How many workers and how many threads each: a GPU per worker where there are GPUs, otherwise a core per
    worker."""
    gpus, cores = len(visible_gpus()), usable_cores()
    workers = max(1, min(parallel or gpus or cores, runs))
    return workers, max(1, cores // workers) if gpus else 1
