"""Several tasks at once on this machine, through submitit's local executor: each worker drains one shared list.

Starting python with a numerics library takes seconds, so a worker takes task after task; claims keep two workers, or
two drivers, off the same task.
"""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from slurm.devices import DEVICES, visible_gpus
from slurm.job import Job, Task, python_words, worker_variables

#: Numerics libraries read their number of threads from these at import.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: What is said of a worker that left no word.
NO_WORD = "a worker ended without a message (killed?)"
#: submitit ends a local job after this time; a search may take weeks.
NO_LIMIT_MIN = 60 * 24 * 365


class LocalPool:
    """Workers on this machine.

    Args:
        folder: where submitit keeps pickles and output.
        stall_s: see `slurm.control.Control`.
    """

    def __init__(self, folder: Path, stall_s: float = 1800.0) -> None:
        self.folder, self.stall_s = folder, stall_s
        self.stop_file = folder / f"stop.{os.getpid()}"
        self._jobs: list[submitit.Job[Any]] = []

    def start(self, tasks: Sequence[Task], workers: int, threads: int | None) -> None:
        """Start workers on a list of tasks; those that have ended are forgotten.

        Args:
            tasks: shared by all workers.
            workers: how many.
            threads: of each worker's numerics libraries; None leaves them be.
        """
        self._jobs = [job for job in self._jobs if not job.done()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stop_file.unlink(missing_ok=True)
        devices = visible_gpus()
        job = Job(tuple(tasks), stop_file=str(self.stop_file), parent=os.getpid(), stall_s=self.stall_s)
        # submitit's own way takes numbers only, and hides every GPU where it is given none.
        shown = {DEVICES: os.environ.get(DEVICES)}
        python = shlex.join([sys.executable, *python_words()])
        for index in range(min(workers, len(tasks))):
            executor = submitit.LocalExecutor(self.folder, python=python)
            executor.update_parameters(timeout_min=NO_LIMIT_MIN, signal_delay_s=30)
            if devices:
                shown = {DEVICES: devices[index % len(devices)]}
            # Each worker begins elsewhere in the list, so that they do not race for the same claims.
            with _quiet_children(threads):
                own = replace(job, tasks=_rotated(job.tasks, index), variables=shown)
                self._jobs.append(executor.submit(own))

    def alive(self) -> int:
        """How many workers are at work."""
        return sum(not job.done() for job in self._jobs)

    def errors(self) -> list[str]:
        """The last line of the standard error of each worker that ended badly."""
        last = []
        for job in self._jobs:
            if job.done() and not job.paths.result_pickle.exists():
                lines = (job.stderr() or "").strip().splitlines()
                last.append(lines[-1] if lines else NO_WORD)
        return last

    def held(self) -> set[str]:
        """The tasks that workers which have ended passed over because another process held them."""
        found: set[str] = set()
        for job in self._jobs:
            if job.done() and job.paths.result_pickle.exists() and job.exception() is None:
                found |= {key for key, outcome in job.result().items() if outcome == "held"}
        return found

    def stop(self, patience_s: float = 60.0) -> None:
        """Let the workers save and stop, wait for them, and kill what is left after `patience_s`."""
        if not self.alive():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()
        end = time.monotonic() + patience_s
        while self.alive() and time.monotonic() < end:
            time.sleep(0.1)
        for job in self._jobs:
            if not job.done():
                job.cancel()
        self.stop_file.unlink(missing_ok=True)


def _rotated(tasks: Sequence[Task], index: int) -> tuple[Task, ...]:
    return (*tasks[index:], *tasks[:index])


@contextlib.contextmanager
def _quiet_children(threads: int | None) -> Iterator[None]:
    """Children started inside ignore Ctrl-C (the driver asks them to stop in order), have `threads` threads, and run
    this code whatever modules lie where they start."""
    before = dict(os.environ)
    handler = signal.getsignal(signal.SIGINT)
    try:
        wanted = worker_variables(os.environ)
        os.environ.clear()
        os.environ.update(wanted)
        if threads is not None:
            os.environ.update({name: str(threads) for name in THREAD_VARIABLES})
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, handler)
