"""A grid's runs on this machine: a pool of workers that ends with its driver."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from ablations.drive.backend import Factory, Options, in_hand_s
from ablations.drive.driver import Driver, untouched
from ablations.grid.estimate import ONE_NODE
from ablations.grid.forecast import NO_GPUS, GpuOffer, Offers
from ablations.run.stages import STAGES
from ablations.run.state import RunState
from cscdarts.errors import OutsideFailure, UserError
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, write_json
from slurm.backends.local import NO_WORD, LocalPool
from slurm.devices import usable_cores, visible_gpus

#: A run that comes back untouched this often is left alone by this driver.
MAX_TRIES = 3


class LocalBackend:
    """See `ablations.drive.backend.Backend`.

    Args:
        driver: the grid's driver.
        options: of these `parallel` counts here.
    """

    outlives_driver = False
    nodes_of_run = ONE_NODE
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

    @staticmethod
    def require_devices(names: Iterable[str]) -> None:
        """Refuse devices that the workers will lack: each sees one GPU and calls it `cuda:0`.

        Errors:
            UserError: CUDA is named and not there, or a second GPU where each worker sees one.
        """
        for name in sorted(name for name in set(names) if name.startswith("cuda")):
            from cscdarts.training.distributed import World, resolve_device

            resolve_device("cuda", World())
            if name not in ("cuda", "cuda:0"):
                raise UserError(
                    "runtime.device", name, "auto, cpu, cuda or cuda:0 in a grid on this machine",
                    "Each worker sees a GPU of its own; CUDA_VISIBLE_DEVICES chooses which GPUs take part.",
                )  # fmt: skip

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
        """See `Backend`. A killed worker records nothing, so once all have ended its run is recorded as failed.

        One that was killed before its run began left nothing, and the run is taken up again.
        """
        self._at_work = self.pool.alive() > 0
        states = self.driver.states()
        if self._at_work:
            return states
        own = set(self._submitted) - self.pool.held()
        lost = [state for state in states if state.status == "lost" and state.hash in own]
        killed = [state for state in lost if self._has_begun(state.hash) or self._tries[state.hash] + 1 >= MAX_TRIES]
        for state in killed:
            self._record_killed(state)
        self._killed = self._killed or bool(lost)
        return self.driver.states() if killed else states

    def wait_s(self, states: Sequence[RunState]) -> float:
        """See `Backend`."""
        # What others hold is awaited as long as their claims are fresh: workers of a driver that died stop at their
        # next step, and a job of a cluster ends its run.
        return float("inf") if self._at_work else in_hand_s(states)

    def left_over(self, states: Sequence[RunState]) -> list[str]:
        """See `Backend`: what workers that were killed left, and what a dead driver's workers have let go of."""
        held = self.pool.held()
        unbegun = [state.hash for state in states if state.hash in self._submitted and state.status == "new"]
        if not self._killed:
            errors, none_began = self.pool.errors(), len(unbegun) == len(self._submitted) > 0 and not held
            # Killed before they said a word: started again. Anything else that keeps all of them from starting is told.
            silent = bool(errors) and set(errors) == {NO_WORD}
            if none_began and (self._tries[self._submitted[0]] + 1 >= MAX_TRIES if silent else not self._tries):
                why = "; ".join(errors) or "all ended"
                raise OutsideFailure("Starting workers", why, "See the jobs folder.")
            # A worker that found its run in other hands has not tried it.
            self._tries.update(key for key in self._submitted if key not in held)
        else:
            self._tries.update(s.hash for s in states if s.status == "lost" and s.hash in self._submitted)
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

    def _has_begun(self, key: str) -> bool:
        return RunFolder(self.driver.folder / key).file("config.json").exists()

    def _record_killed(self, state: RunState) -> None:
        folder = RunFolder(self.driver.folder / state.hash)
        failure = {
            "stage": state.stage,
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
