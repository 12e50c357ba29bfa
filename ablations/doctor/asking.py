"""Asks the checks of a subject in a process of its own, so that one which hangs, crashes or fails is a finding and no
more.

A hanging mount or a scheduler that does not answer blocks whoever looks at it, and a library can end the process that
imports it. So each subject has a process; it says which check begins and what was found as lines of JSON, and one that
is silent for too long is killed, told of, and started again after that check.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ablations.doctor.finding import Piece, Refusal, bad, read, weak, written
from ablations.doctor.question import Question
from cscdarts.errors import UserError
from slurm.errors import ClusterError
from slurm.job import python_words, worker_variables

#: What a subject's module has under the name `CHECKS`: what is looked at, in a few words -> who looks.
Checks = Mapping[str, Callable[[Question], Iterable[Piece]]]
#: Subjects that are asked at once.
AT_ONCE = 4
#: Seconds that a process has until its first check begins: where Python lies on a busy file system that takes long.
START_S = 60.0
_END = "end"


@dataclass(frozen=True)
class Subject:
    """A module with checks.

    Attributes:
        name: as printed.
        module: its import path.
        limit_s: seconds that one check has for its answer.
    """

    name: str
    module: str
    limit_s: float


@dataclass
class Asking:
    """The processes at work, so that they end with us."""

    processes: set["subprocess.Popen[bytes]"] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: bool = False

    def ask_all(self, subjects: Sequence[Subject], question: Question) -> list[Piece]:
        """What all subjects say, in their order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = [pool.submit(self.ask, subject, question) for subject in subjects]
            try:
                return [piece for future in futures for piece in future.result()]
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End every process, and start no more."""
        with self.lock:
            self.over = True
            for process in self.processes:
                _kill(process)

    def ask(self, subject: Subject, question: Question) -> list[Piece]:
        """What one subject says; a check that does not answer, crashes or fails is a bad finding."""
        found: list[Piece] = []
        first = 0
        while not self.over:
            process = self._start(subject, first)
            if process is None:
                break
            try:
                last, label, why = _listen(process, question, subject, found)
            finally:
                _kill(process)
                with self.lock:
                    self.processes.discard(process)
            if why == "" or self.over:
                break
            what = f"{label}: " if label else ""
            found.append(bad(subject.name, f"{what}{why}.", _WAY_OUT))
            if last < first:
                break  # it did not even begin, and would not the next time
            first = last + 1
        return found

    def _start(self, subject: Subject, first: int) -> "subprocess.Popen[bytes] | None":
        command = [sys.executable, *python_words(), "-m", __name__, subject.module, subject.name, str(first)]
        with self.lock:
            if self.over:
                return None
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True, env=worker_variables(os.environ),
            )  # fmt: skip
            self.processes.add(process)
        return process


_WAY_OUT = "Try it by hand; a mount, a server or a driver that hangs or is broken keeps runs waiting too."


def _listen(
    process: "subprocess.Popen[bytes]", question: Question, subject: Subject, found: list[Piece]
) -> tuple[int, str, str]:
    """Read a process's lines to their end.

    Returns:
        Number and name of the check that began last (-1 and "" for none), and why it was the last: "" where all have
        answered.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(question.text().encode())
        process.stdin.close()
    number, label, rest = -1, "", b""
    limit, until = START_S, time.monotonic() + START_S
    with selectors.DefaultSelector() as selector, process.stdout:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, until - time.monotonic())):
                return number, label, f"no answer within {limit:g} s"
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                return number, label, _ended(process)
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                content = json.loads(line)
                if content == _END:
                    return number, label, ""
                if isinstance(content, list):
                    number, label = content
                    limit, until = subject.limit_s, time.monotonic() + subject.limit_s
                else:
                    found.append(read(content))


def _ended(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "it closed its output and did not end"
    if code >= 0:
        return f"its process ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process was ended by signal {-code}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it has started; one that the kernel holds, at a dead mount, is left to it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)


def main(words: Sequence[str]) -> None:
    """Answer for one subject: its checks from a given number on, each line said as soon as it is known."""
    module, name, first = words
    question = Question.read(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library or a grid prints is no answer

    def say(content: object) -> None:
        out.write(json.dumps(content) + "\n")
        out.flush()

    try:
        checks: Checks = importlib.import_module(module).CHECKS
    except Exception as error:
        say(written(failed(name, "its checks", error)))
        checks = {}
    for number, (label, check) in enumerate(checks.items()):
        if number >= int(first):
            say([number, label])
            try:
                for piece in check(question):
                    say(written(piece))
            except Exception as error:
                say(written(failed(name, label, error)))
    say(_END)


def failed(name: str, label: str, error: Exception) -> Piece:
    """A check's own failure as a finding; input that cannot be used as a refusal where the subject is the input."""
    if isinstance(error, UserError | ClusterError):
        return Refusal(str(error)) if name == INPUT else bad(name, str(error))
    if isinstance(error, subprocess.TimeoutExpired):
        return bad(name, f"{label}: no answer within {error.timeout:g} s.", _WAY_OUT)
    if isinstance(error, ModuleNotFoundError) and error.name:
        from ablations.doctor.packages import way_to_have

        package = error.name.split(".")[0]
        return weak(name, f"{label}: not looked at, as {package} is not installed.", way_to_have(package))
    said = " ".join(str(error).split())[:300]
    return weak(
        name, f"{label}: could not be looked at ({type(error).__name__}{': ' if said else ''}{said}).",
        "Look at it by hand; if nothing is wrong there, this check is: report it.",
    )  # fmt: skip


#: The subject that reads what the user gave.
INPUT = "input"


if __name__ == "__main__":
    # Under its own name, so that no class of a piece is there twice.
    assert __spec__ is not None
    importlib.import_module(__spec__.name).main(sys.argv[1:])
