"""The callable that a scheduler runs: a list of tasks, each claimed, beaten for, stopped on a signal and requeued.

A task is a folder and a function named by import path, so the pickle holds no code and no weights. What a task has done
is told by its folder, never by the pickle's result: a dead job costs nobody a wait.
"""

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slurm.control import Control, Stopping
from slurm.lock import Lock
from slurm.ranks import Rank, export_rank

#: Name of the lock in a task's folder; its modification time is the sign of life of the process at work.
CLAIM = "claim"
#: Left in a task's folder when its job gave it back to the scheduler; holds how many lives in a row made no step.
REQUEUED = "requeued"
#: So many lives without a single step are no bad luck. Lives that make steps are never counted: long runs have no cap.
FRUITLESS_LIVES = 5
#: Seconds of silence after which a claim counts as dead when its process cannot be asked.
LOST_AFTER_S = 120.0

Outcome = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class Task:
    """One unit of work.

    Attributes:
        key: names the task in messages.
        folder: where its claim and its output live.
        function: `module:attribute` of `function(folder, arguments, control) -> Outcome`; it skips what is done, records
            its own failures, and raises `Stopping` once it has saved its state after `control.stop()` was true.
        hung: `module:attribute` of `hung(folder, sentence)`, which records a hang.
        arguments: JSON-like arguments.
    """

    key: str
    folder: str
    function: str
    hung: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def resolve(path: str) -> Callable[..., Any]:
    """The object that `module:attribute` names."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


@dataclass(frozen=True)
class Job:
    """What one job (one array element, or one local worker) works through.

    Attributes:
        tasks: in order; a task that another process holds is passed over.
        stop_file, parent: see `Control`.
        stall_s, grace_s: see `Control`.
        requeue: whether a stop signal puts the job back into the scheduler's queue.
    """

    tasks: tuple[Task, ...]
    stop_file: str = ""
    parent: int = 0
    stall_s: float = 1800.0
    grace_s: float = 60.0
    requeue: bool = True

    def __call__(self) -> dict[str, str]:
        """Run the tasks; returns each task's outcome. Raises if every task failed, so that dependants do not start.

        Errors:
            RuntimeError: all tasks failed (their folders say why).
        """
        control = Control(
            Path(self.stop_file) if self.stop_file else None, self.parent or None, self.stall_s, self.grace_s
        )
        rank = export_rank()
        outcomes: dict[str, str] = {}
        with control.listening(deaf_after=job_id() != ""):
            try:
                for task in self.tasks:
                    if control.stop():
                        raise Stopping
                    outcomes[task.key] = self._run(task, control, rank)
            except Stopping:
                self._give_back(control, rank)
        if outcomes and set(outcomes.values()) == {"failed"}:
            raise RuntimeError("failed: " + ", ".join(outcomes))
        return outcomes

    def _run(self, task: Task, control: Control, rank: Rank) -> str:
        folder = Path(task.folder)
        folder.mkdir(parents=True, exist_ok=True)
        claim = Lock(folder / CLAIM, stale_s=LOST_AFTER_S)
        if rank.world == 1 and not claim.acquire("run", job_id()):
            return "held"
        if rank.world > 1 and rank.rank == 0 and not claim.acquire("run", job_id()):
            raise RuntimeError(f"{task.key} is held by {claim.owner()}")
        main = rank.rank == 0

        def hung(sentence: str, stalled: bool) -> None:
            # The main thread is stuck, so this thread ends the process. Work that was merely too slow to answer a signal
            # (it was starting, or in a long step) goes back to the queue and on from its last checkpoint.
            if not stalled and self._signalled(control) and main and _another_life(folder, control):
                claim.release()
                self._requeue()
            elif main:
                resolve(task.hung)(folder, sentence)
                (folder / REQUEUED).unlink(missing_ok=True)
                claim.release()
            print(f"{task.key}: {sentence}", file=sys.stderr, flush=True)
            os._exit(1)

        def beat() -> bool:
            return claim.refresh() if main else True

        try:
            with control.watching(beat, hung):
                outcome: str = resolve(task.function)(folder, task.arguments, control)
        except Stopping:
            if main and self._signalled(control) and not _another_life(folder, control):
                resolve(task.hung)(folder, f"hung: no step in {FRUITLESS_LIVES} starts, each ended by {control.reason}")
                (folder / REQUEUED).unlink(missing_ok=True)
                return "failed"
            raise
        finally:
            if main:
                claim.release()
        if main:
            (folder / REQUEUED).unlink(missing_ok=True)
        return outcome

    def _give_back(self, control: Control, rank: Rank) -> None:
        """End a job that was asked to stop: back to the queue after the signal before a limit, else just out.

        SIGTERM alone comes from a cancellation, or from a preemption after which the scheduler requeues by itself.
        """
        print(f"stopping: {control.reason}", flush=True)
        if self._signalled(control) and rank.rank == 0:
            self._requeue()
        # No result pickle may appear: to its submitter the job has not ended.
        raise SystemExit(0 if not job_id() else 75)

    def _signalled(self, control: Control) -> bool:
        """Whether the scheduler's signal before a limit or a preemption was heard, in a job that may requeue itself."""
        return job_id() != "" and self.requeue and signal.SIGUSR2 in control.signals

    @staticmethod
    def _requeue() -> None:
        for attempt in range(5):
            done = subprocess.run(["scontrol", "requeue", job_id()], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                print(f"requeued job {job_id()}", flush=True)
                return
            print(f"scontrol requeue {job_id()}: {done.stderr.strip()}", file=sys.stderr, flush=True)
            threading.Event().wait(2.0**attempt)


def _another_life(folder: Path, control: Control) -> bool:
    """Note a requeue; False when one life after the other has ended without a step."""
    path = folder / REQUEUED
    try:
        before = int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):
        before = 0
    fruitless = 0 if control.progressed else before + 1
    path.write_text(str(fruitless))
    return fruitless < FRUITLESS_LIVES


def job_id() -> str:
    """The scheduler's id of the job this process runs in, `123` or `123_4`; "" outside of one."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID", "") if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else ""
