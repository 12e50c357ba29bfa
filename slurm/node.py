"""A job that works on several tasks at once: one process for each, on a GPU of its own or shared by a few.

Each process claims its task, hears signals, saves and records what becomes of it as a lone job's does
(`slurm.job.Job`). The process that the scheduler started works on nothing: it hands the tasks out, passes signals on,
and puts the job back into the queue, once, when the last process has saved.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from slurm.control import Control
from slurm.devices import DEVICES, visible_gpus
from slurm.host import Host
from slurm.job import (
    CLAIM,
    HUNG_CODE,
    STOPPED_CODE,
    Ending,
    Job,
    Task,
    cancel_mark,
    python_words,
    resolve,
    task_output,
    to_requeue,
)
from slurm.jobs import DISK_FULL, Cause, cause_of_limit, tail_of
from slurm.lock import Lock

#: Seconds between two looks at the processes.
LOOK_S = 0.1
#: Seconds between two signals to a process that is to stop: it may not have been ready to hear the first.
REPEAT_S = 1.0
#: Seconds until a task is tried again that waits for another process's work; doubled each time, up to the second.
BUSY_PAUSES_S = (4.0, 60.0)
#: A process has this many times `grace_s` to save and end before it is killed; it gives up on itself after once that.
PATIENCE = 1.5
#: A process that is ended from outside this often, while its job goes on, is not started again.
MAX_STOPS = 5
#: Bytes of a process's standard error that are looked at when it ended without a word.
TAIL_BYTES = 4096
#: A process that starts with this signal ignored is not ended by it before it can hear it.
_START = ("sh", "-c", 'trap "" USR2; exec "$@"', "sh")
_OUTCOMES = frozenset(name for part in get_args(Ending) for name in get_args(part))


@dataclass(frozen=True)
class NodeJob(Job):
    """What one job does that has a whole node, or a GPU for several tasks; see `slurm.job.Job`.

    Attributes:
        workers: at most this many processes at once. Where there are more tasks each process that ends makes room for
            the next.
        per_gpu: how many of them share a GPU. On a node that shows fewer GPUs than the workers need there are fewer.
    """

    workers: int = 1
    per_gpu: int = 1

    def work(self) -> dict[str, str]:
        """Run the tasks; returns each task's outcome."""
        host, control = self._surroundings()
        with control.listening(ignore_after=host.job != ""):
            outcomes = _Node(self, host, control).work()
            if control.should_stop() and len(outcomes) < len(self.tasks):
                self._stop(control, host)
        return outcomes

    def slots(self) -> list[str | None]:
        """The GPU of each worker; None where there are none to choose from."""
        gpus, wanted = visible_gpus(), max(1, self.workers // self.per_gpu)
        if not gpus:
            return [None] * self.workers
        if len(gpus) < wanted:
            print(
                f"{os.uname().nodename} shows {len(gpus)} GPUs where {wanted} were expected: "
                f"{len(gpus) * self.per_gpu} runs at once instead of {self.workers}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        # One on each GPU before there is a second on any.
        return [gpu for _ in range(self.per_gpu) for gpu in gpus[:wanted]]


@dataclass
class _Worker:
    """A process at work on a task."""

    task: Task
    process: "subprocess.Popen[bytes]"
    told: int
    error: Path
    slot: int


class _Node:
    """The processes of a job."""

    def __init__(self, job: NodeJob, host: Host, control: Control) -> None:
        self.job, self.host, self.control = job, host, control
        self.slots = job.slots()
        self.free = list(range(len(self.slots)))
        self.waiting: list[tuple[Task, float]] = [(task, 0.0) for task in job.tasks]
        self.tries: Counter[str] = Counter()
        self.stops: Counter[str] = Counter()
        self.workers: list[_Worker] = []
        self.outcomes: dict[str, str] = {}
        #: Signals that the processes were sent: one that is ended by them has not crashed.
        self.sent: set[int] = set()

    def work(self) -> dict[str, str]:
        """Until all tasks have ended, or all processes have after a request to stop."""
        stopped_at = signalled_at = 0.0
        while self.workers or (self.waiting and not stopped_at):
            now = time.monotonic()
            for worker in tuple(self.workers):
                if worker.process.poll() is not None:
                    self._ended(worker)
            if not stopped_at and self.control.should_stop():
                stopped_at = now
            if stopped_at:
                if now - signalled_at >= REPEAT_S:
                    self._signal(first=not signalled_at, last=now - stopped_at > PATIENCE * self.job.grace_s)
                    signalled_at = now
            else:
                self._fill(now)
            if self.workers or self.waiting:
                time.sleep(LOOK_S)
        return {task.key: self.outcomes[task.key] for task in self.job.tasks if task.key in self.outcomes}

    def _fill(self, now: float) -> None:
        for entry in tuple(self.waiting):
            task, ready = entry
            if not self.free:
                return
            if ready > now:
                continue
            self.waiting.remove(entry)
            folder, job = self.job.folder, self.host.job
            if folder and job and cancel_mark(folder, job, task.key).exists():
                self._note(task, "cancelled")
            else:
                self._start(task, self.free.pop(0))

    def _start(self, task: Task, slot: int) -> None:
        own = Job(
            (task,), self.job.host, self.job.stop_file, os.getpid(), self.job.stall_s, self.job.grace_s,
            folder=self.job.folder, requeues=False,
        )  # fmt: skip
        gpu = self.slots[slot]
        if gpu is not None:
            own = replace(own, variables={DEVICES: gpu})
        output, error = task_output(self.job.folder or task.folder, self.host.job or "local", task.key)
        told, tell = os.pipe()
        os.set_blocking(told, False)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with output.open("ab") as out, error.open("ab") as err:
                process = subprocess.Popen(
                    [*_START, sys.executable, *python_words(), "-u", "-m", "slurm.node", str(tell)],
                    stdin=subprocess.PIPE, stdout=out, stderr=err, pass_fds=(tell,),
                )  # fmt: skip
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(pickle.dumps(own))
        except OSError as problem:
            os.close(told)
            self.free.insert(0, slot)
            sentence = f"its process could not be started: {problem.strerror}: {problem.filename or error}"
            self._crashed(task, cause_of_limit(problem, error) or Cause("error", sentence), "")
            return
        finally:
            os.close(tell)
        self.workers.append(_Worker(task, process, told, error, slot))
        where = "" if gpu is None else f" on GPU {gpu}"
        print(f"{task.key}: process {process.pid}{where}, errors in {error.name}", flush=True)

    def _ended(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        self.free.append(worker.slot)
        self.free.sort()
        outcome = ""
        with contextlib.suppress(BlockingIOError):
            outcome = os.read(worker.told, 64).decode(errors="replace")
        os.close(worker.told)
        task, code = worker.task, worker.process.returncode
        stopped = not outcome and self._merely_stopped(code)
        if stopped and not self.control.should_stop():
            # Somebody ended this one only; it is tried again, but not for ever.
            self.stops[task.key] += 1
        if outcome == "busy" or (stopped and self.stops[task.key] < MAX_STOPS):
            # Not counted as an outcome: it is tried again here or, after a request to stop, in the job's next life.
            first, most = BUSY_PAUSES_S
            pause = min(most, first * 2 ** min(10, self.tries[task.key]))
            self.tries[task.key] += 1
            self.waiting.append((task, time.monotonic() + pause))
        elif outcome in _OUTCOMES:
            self._note(task, outcome)
        elif code == HUNG_CODE:
            self._note(task, "failed")
        else:
            _release(task, worker.process.pid)
            output = tail_of(worker.error, TAIL_BYTES)
            self._crashed(task, _cause(code, output), output)

    def _merely_stopped(self, code: int) -> bool:
        """Whether a process that says nothing was asked to end, before it had begun or once it had saved. The
        scheduler's signals reach it, too, and may do so before they are known here."""
        return code == STOPPED_CODE or -code in self.sent | {signal.SIGTERM, signal.SIGUSR2}

    def _crashed(self, task: Task, cause: Cause, output: str) -> None:
        print(f"{task.key}: {cause.sentence}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            resolve(task.record)(Path(task.folder), task.arguments, cause, output)
        self._note(task, "failed")

    def _note(self, task: Task, outcome: str) -> None:
        self.outcomes[task.key] = outcome
        print(f"{task.key}: {outcome}", flush=True)

    def _signal(self, first: bool, last: bool) -> None:
        """Pass on what asked this process to stop. The signal before a limit is repeated: who has saved ignores it,
        and who was just starting has not heard it."""
        signals = {signal.SIGUSR2} if to_requeue(self.control) else set()
        if first and not signals:
            signals = {signal.SIGTERM}
        for worker in self.workers:
            for number in {signal.SIGKILL} if last else signals:
                self.sent.add(number)
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(number)


def _release(task: Task, pid: int) -> None:
    """Take away the claim that a dead process has left, so that nobody waits for it."""
    claim = Lock(Path(task.folder) / CLAIM)
    owner = claim.owner()
    if owner is not None and owner.pid == pid and owner.host == os.uname().nodename:
        claim.path.unlink(missing_ok=True)


def _cause(code: int, output: str) -> Cause:
    lines = [line.strip()[:300] for line in output.splitlines() if line.strip()]
    if "No space left" in output or "Disk quota exceeded" in output:
        return DISK_FULL
    if code == -signal.SIGKILL:
        return Cause("memory", "its process was killed, most likely because memory ran out")
    if code == STOPPED_CODE:
        return Cause("error", f"its process was asked to end {MAX_STOPS} times while its job went on")
    how = f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"code {code}"
    return Cause("error", f"its process ended with {how}" + (f": {lines[-1]}" if lines else ""))


def main(words: Sequence[str]) -> None:
    """One of the processes: the job on standard input, the outcome to the pipe that the one word names."""
    (tell,) = map(int, words)
    os.set_inheritable(tell, False)
    job = cast("Job", pickle.load(sys.stdin.buffer))
    (outcome,) = job.work().values()
    os.write(tell, outcome.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
