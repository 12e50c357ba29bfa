"""The callable that a scheduler runs: a list of tasks, each claimed, kept alive, stopped on a signal and requeued.

A task is a folder and a function named by import path, so the pickle holds no code and no weights. What a task has done
is told by its folder, never by the pickle's result: a dead job costs nobody a wait.
"""

import contextlib
import importlib
import os
import signal
import site
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slurm.control import Control, Stopping
from slurm.host import DISTRIBUTED, Host, NoHost, Rank
from slurm.jobs import Cause, cause_of_limit
from slurm.lock import Lock

#: Name of the lock in a task's folder; its modification time is the sign of life of the process at work.
CLAIM = "claim"
#: Left in a task's folder when its job goes back to the queue; holds how many starts in a row ended without a step.
REQUEUED = "requeued"
#: A task that is started this often in a row without one step hangs. Starts with steps never count: long runs have no
#: cap.
MAX_STARTS_WITHOUT_STEP = 5
#: Exit code of a scheduler's job that was stopped before its end (EX_TEMPFAIL of sysexits.h).
STOPPED_CODE = 75
#: Exit code of one worker among several whose task hung, which its folder says.
HUNG_CODE = 70
#: Seconds of silence after which a claim counts as dead when its process cannot be asked.
LOST_AFTER_S = 120.0

#: `busy`: another process works on what the task needs next, so it is to be tried again.
Outcome = Literal["done", "failed", "skipped", "busy"]
#: What became of a task: `held` by another process, `cancelled` by a person while its job went on.
Ending = Outcome | Literal["held", "cancelled"]
#: Seconds between two tries where all that is left is busy.
BUSY_PAUSE_S = 2.0


@dataclass(frozen=True)
class Task:
    """One unit of work.

    Attributes:
        key: names the task in messages.
        folder: where its claim and its output live.
        function: `module:attribute` of `function(folder, arguments, control) -> Outcome`; it skips what is done,
            records its own failures, and raises `Stopping` once it has saved its state after `control.should_stop()`
            was true.
        record: `module:attribute` of `record(folder, arguments, cause, output)`, which records a failure that the
            function cannot: it hangs, or its process is gone. What the function has recorded itself stays.
        arguments: JSON-like arguments.
    """

    key: str
    folder: str
    function: str
    record: str
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
        tasks: in order; a task that another process holds is passed over, one that is busy is tried again at the end.
        host: import path of the `slurm.host.Host` that answers for the scheduler; "" where none starts the job.
        stop_file, parent, stall_s, grace_s: see `Control`.
        variables: environment variables of the process, set before any numerics library is loaded; None unsets one.
        folder: where the output of the jobs lies, and the marks of tasks that were cancelled while their job goes on.
        requeues: whether the process puts its job back into the queue; not if it is one worker among several.
    """

    tasks: tuple[Task, ...]
    host: str = ""
    stop_file: str = ""
    parent: int = 0
    stall_s: float = 1800.0
    grace_s: float = 60.0
    variables: Mapping[str, str | None] = field(default_factory=dict)
    folder: str = ""
    requeues: bool = True

    def __call__(self) -> dict[str, str]:
        """Run the tasks; returns each task's outcome. Raises if every task failed, so that dependants do not start.

        Errors:
            RuntimeError: all tasks failed (their folders say why).
        """
        outcomes = self.work()
        if outcomes and set(outcomes.values()) == {"failed"}:
            raise RuntimeError("failed: " + ", ".join(outcomes))
        return outcomes

    def work(self) -> dict[str, str]:
        """Run the tasks; returns each task's outcome."""
        host, control = self._surroundings()
        rank = host.rank()
        _set(rank.variables())
        outcomes: dict[str, str] = {}
        with control.listening(ignore_after=host.job != ""):
            try:
                left = self.tasks
                while left:
                    for task in left:
                        if control.should_stop():
                            raise Stopping
                        outcomes[task.key] = self._run(task, control, host, rank)
                    # What others work on comes last, and is waited for where nothing else is left to do.
                    before, left = left, tuple(task for task in left if outcomes[task.key] == "busy")
                    if left == before:
                        control.pause(BUSY_PAUSE_S)
            except Stopping:
                self._stop(control, host, rank.leads)
        return outcomes

    def _surroundings(self) -> tuple[Host, Control]:
        """The scheduler and the control of this process, whose environment is put right."""
        host: Host = resolve(self.host)() if self.host else NoHost()
        # What a launcher around a driver left for its own processes is not for those that it starts.
        _set({**dict.fromkeys(DISTRIBUTED), **self.variables})
        stop_file = Path(self.stop_file) if self.stop_file else None
        control = Control(stop_file, self.parent or None, self.stall_s, self.grace_s, job=host.job, life=host.life)
        return host, control

    def _run(self, task: Task, control: Control, host: Host, rank: Rank) -> str:
        folder = Path(task.folder)
        mark = cancel_mark(self.folder, host.job, task.key) if self.folder and host.job else None
        if mark is not None and mark.exists():
            (folder / REQUEUED).unlink(missing_ok=True)
            return "cancelled"
        claim = Lock(folder / CLAIM, stale_s=LOST_AFTER_S)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            got = not rank.leads or claim.acquire("run", host.job, host.life)
        except OSError as error:
            # That this one cannot begin keeps no other from it.
            cause = cause_of_limit(error, folder)
            if rank.world > 1:
                raise
            if cause is not None:
                resolve(task.record)(folder, task.arguments, cause, "")
            else:  # say a file where its folder should be
                print(f"{task.key}: {folder} cannot be used: {error}", file=sys.stderr, flush=True)
            return "failed"
        if not got:
            if rank.world == 1:
                return "held"
            raise RuntimeError(f"{task.key} is held by {claim.owner()}")

        def hung(sentence: str, stalled: bool) -> None:
            # The main thread is stuck, so this thread ends the process. Work that was merely too slow to answer a
            # signal (it was starting, or in a long step) goes back to the queue and on from its last checkpoint.
            print(f"{task.key}: {sentence}", file=sys.stderr, flush=True)
            again = not stalled and to_requeue(control) and rank.leads and _may_start_again(folder, control)
            if again:
                claim.release()
                if self.requeues:
                    host.requeue()
            elif rank.leads:
                _record_hang(task, sentence)
                claim.release()
            os._exit(1 if self.requeues else STOPPED_CODE if again else HUNG_CODE)

        def beat() -> bool:
            return claim.refresh() if rank.leads else True

        try:
            with control.cancellable(mark):
                try:
                    with control.watching(beat, hung):
                        outcome: str = resolve(task.function)(folder, task.arguments, control)
                except Stopping:
                    if not control.cancelled:
                        raise
                    outcome = "cancelled"
        except OSError as error:
            cause = cause_of_limit(error, folder)
            if cause is None or rank.world > 1:
                raise
            resolve(task.record)(folder, task.arguments, cause, traceback.format_exc())
            return "failed"
        except Stopping:
            if rank.leads and to_requeue(control) and not _may_start_again(folder, control):
                sentence = f"hung: no step in {MAX_STARTS_WITHOUT_STEP} starts, each ended by {control.reason}"
                _record_hang(task, sentence)
                return "failed"
            raise
        finally:
            if rank.leads:
                claim.release()
        if rank.leads:
            (folder / REQUEUED).unlink(missing_ok=True)
        return outcome

    def _stop(self, control: Control, host: Host, leads: bool = True) -> None:
        """End a job that was asked to stop: back to the queue after the signal before a limit, otherwise just out.

        SIGTERM alone comes from a cancellation, or from a preemption after which the scheduler requeues by itself.
        """
        print(f"stopping: {control.reason}", flush=True)
        if to_requeue(control) and leads and self.requeues:
            host.requeue()
        # No result pickle may appear: to its submitter the job has not ended.
        raise SystemExit(STOPPED_CODE if host.job or not self.requeues else 0)


def _record_hang(task: Task, sentence: str) -> None:
    """Record a hang, with what each thread is at."""
    frames = sys._current_frames().items()
    stacks = "".join(f"thread {number}\n{''.join(traceback.format_stack(frame))}" for number, frame in frames)
    resolve(task.record)(Path(task.folder), task.arguments, Cause("timeout", sentence), stacks)
    (Path(task.folder) / REQUEUED).unlink(missing_ok=True)


def cancel_mark(folder: str | Path, job: str, key: str) -> Path:
    """The file by which one task of a job is cancelled while the job goes on with its others."""
    return Path(folder) / f"{job}_{key}.cancelled"


def task_output(folder: str | Path, job: str, key: str) -> tuple[Path, Path]:
    """Where standard output and error of one task go that has a process of its own among the workers of a job."""
    return Path(folder) / f"{job}_{key}_log.out", Path(folder) / f"{job}_{key}_log.err"


def worker_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment in which `python -m` finds the code that runs here, and nothing of the folder it starts in.

    A user's folder may hold a `slurm.py` or a `reports.py`; so may one that PYTHONPATH names, or an empty entry of it,
    which stands for the folder that python starts in.
    """
    root = str(Path(__file__).resolve().parents[3 if python_words() else 1])
    entries = [entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # An installed package is found by its own python; another one must not be shown this one's libraries.
    ours = [] if root in _installed() else [root]
    path = os.pathsep.join([*ours, *(entry for entry in entries if entry != root)])
    found = {**variables, "PYTHONSAFEPATH": "1"}
    found.pop("PYTHONPATH", None)
    return {**found, "PYTHONPATH": path} if path else found


def python_words() -> tuple[str, ...]:
    """What python is told before `-m MODULE`, so that it finds the code that runs here.

    Nothing where the code's folder is one that python looks in, or PYTHONPATH names it. Where the code lies inside an
    installed package, as it does to keep its names to itself, it is found through that package.
    """
    root = Path(__file__).resolve().parents[1]
    return ("-u", "-m", f"{root.parent.name}.{root.name}") if (root / "__main__.py").is_file() else ()


def _installed() -> set[str]:
    """The folders that any python of this environment looks in."""
    return {str(Path(path).resolve()) for path in (*site.getsitepackages(), site.getusersitepackages())}


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def to_requeue(control: Control) -> bool:
    """Whether a scheduler's job has received the signal before a time limit or a preemption."""
    return control.job != "" and signal.SIGUSR2 in control.signals


def _may_start_again(folder: Path, control: Control) -> bool:
    """Note a requeue; False when one start after the other has ended without a step."""
    path = folder / REQUEUED
    try:
        before = int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):
        before = 0
    without_step = 0 if control.progressed else before + 1
    with contextlib.suppress(OSError):  # a full disk: it is not counted, and goes on once there is room
        path.write_text(str(without_step))
    return without_step < MAX_STARTS_WITHOUT_STEP
