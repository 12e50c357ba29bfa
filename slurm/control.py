"""What reaches a running job from outside: signals before a limit, a request to stop, the end of its driver; and its
stalls.

Work calls `control.should_stop()` at every step. A thread sends heartbeats, keeps the claim fresh and receives signals
even while the main thread sits in C code: signals reach it through a wake-up pipe, not through a Python handler.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
#: Reason of a stop that is meant for one piece of work, not for the process.
CANCELLED = "cancelled"


class Stopping(BaseException):
    """Raised by work that has saved its state because `control.should_stop()` said so.

    A `BaseException`, so that no layer between mistakes it for a failure.
    """


class Control:
    """Connects one process with its surroundings.

    Args:
        stop_file: when it exists the work is to stop; None for no such file.
        parent: pid of the driver; when that process is gone the work stops. None to outlive it.
        stall_s: seconds without a call of `should_stop()`, inside `watching()`, after which the work counts as hung.
        grace_s: seconds from a signal to giving up on the main thread.
        beat_s: seconds between heartbeats.
        job, life: the scheduler's id of the job that this process runs in, "" outside of one, and how often that was
            started again.
    """

    def __init__(
        self,
        stop_file: Path | None = None,
        parent: int | None = None,
        stall_s: float = 1800.0,
        grace_s: float = 60.0,
        beat_s: float = 15.0,
        job: str = "",
        life: int | None = None,
    ) -> None:
        self.stop_file, self.parent, self.job, self.life = stop_file, parent, job, life
        self.stall_s, self.grace_s, self.beat_s = stall_s, grace_s, beat_s
        self.reason = ""
        self.signals: set[int] = set()
        self._requested = threading.Event()
        self._requested_at = 0.0
        self._last_step = time.monotonic()
        self._calls = 0
        self._stepping = False
        self._looked = 0.0
        self._mark: Path | None = None
        self._beats: list[Callable[[], bool]] = []
        self._hung: Callable[[str, bool], None] | None = None
        self._end = threading.Event()

    def should_stop(self) -> bool:
        """Whether to save and stop now. Cheap: call it at every step; each call is also a sign of progress."""
        now = time.monotonic()
        self._calls += 1
        self._last_step = now
        if not self._requested.is_set() and now - self._looked > 0.5:
            self._looked = now
            if self.stop_file is not None and self.stop_file.exists():
                self.request_stop("asked to stop")
            elif self.parent is not None and not _alive(self.parent):
                self.request_stop("the driver is gone")
            elif self._mark is not None and self._mark.exists():
                self.request_stop(CANCELLED)
        return self._requested.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for something that is not this process's.

        Errors:
            Stopping: asked to stop meanwhile.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.should_stop():
                raise Stopping
            time.sleep(0.1)

    def request_stop(self, reason: str) -> None:
        """Let the work stop at its next step."""
        if not self._requested.is_set():
            self.reason, self._requested_at = reason, time.monotonic()
            self._requested.set()

    @contextlib.contextmanager
    def watching(self, beat: Callable[[], bool], hung: Callable[[str, bool], None]) -> Iterator[None]:
        """While the block runs call `beat` every `beat_s` seconds, and `hung(sentence, stalled)` if the steps cease.

        `stalled` is true after `stall_s` without a step, false where a step merely outlasts `grace_s` after a request
        to stop.

        `beat` returns False when the claim was lost to another process: then the work is asked to stop.
        """
        self._beats.append(beat)
        before, self._hung = self._hung, hung
        self._last_step, self._stepping, self._calls = time.monotonic(), True, 0
        try:
            yield
        finally:
            self._stepping, self._hung = False, before
            self._beats.remove(beat)

    @contextlib.contextmanager
    def cancellable(self, mark: Path | None) -> Iterator[None]:
        """While the block runs a file at `mark` asks its work, and no other, to stop."""
        self._mark = mark
        try:
            yield
        finally:
            self._mark = None
            if self.cancelled:
                self.reason = ""
                self._requested.clear()

    @property
    def cancelled(self) -> bool:
        """Whether the work under way alone is to stop, and nothing has asked the process to."""
        return self.reason == CANCELLED and not self.signals

    @contextlib.contextmanager
    def without_steps(self) -> Iterator[None]:
        """Suspend the watch for stalls during work that has no steps."""
        before, self._stepping = self._stepping, False
        try:
            yield
        finally:
            self._last_step, self._stepping = time.monotonic(), before

    @contextlib.contextmanager
    def listening(self, ignore_after: bool = False) -> Iterator[None]:
        """Receive stop signals and send heartbeats, for the length of the block. Main thread only.

        `ignore_after` leaves SIGUSR2 ignored: work that is done must not be ended, as failed, by a signal that comes
        while the interpreter shuts down.
        """
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.set_blocking(read, False)
        handlers = {number: signal.signal(number, self._ignore) for number in STOP_SIGNALS}
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._watch, args=(read,), name="control", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(timeout=10)
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, signal.SIG_IGN if ignore_after and number == signal.SIGUSR2 else handler)
            os.close(read)
            os.close(write)

    @staticmethod
    def _ignore(number: int, frame: object) -> None:
        """The wake-up pipe has told the thread already; a handler must exist for the pipe to be written."""

    def _watch(self, read: int) -> None:
        beaten = 0.0
        while not self._end.wait(0.1):
            with contextlib.suppress(BlockingIOError):
                for number in os.read(read, 64):
                    if number in STOP_SIGNALS:
                        self.signals.add(number)
                        self.request_stop(f"signal {signal.Signals(number).name}")
            now = time.monotonic()
            if now - beaten >= self.beat_s:
                beaten = now
                for beat in tuple(self._beats):
                    with contextlib.suppress(OSError):
                        # One whose block has ended meanwhile has let go of its claim itself.
                        if not beat() and beat in self._beats:
                            self.request_stop("another process has taken the work over")
            self._check_stall(now)

    def _check_stall(self, now: float) -> None:
        if self._hung is None or not self._stepping:
            return
        idle = now - self._last_step
        if idle > self.stall_s:
            self._hung(f"hung: no step for {idle / 60:.1f} min", True)
        elif self._requested.is_set() and now - self._requested_at > self.grace_s and idle > self.grace_s:
            self._hung(f"hung: no step within {self.grace_s:.0f} s of {self.reason}", False)

    @property
    def progressed(self) -> bool:
        """Whether the work under way has made a step since it began."""
        return self._calls >= 2


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
