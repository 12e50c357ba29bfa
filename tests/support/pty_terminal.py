"""A terminal of some size, in which a test runs a program and types."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Terminal:
    """A program in a terminal of its own.

    Attributes:
        seen: all that it has written, standard error too.
        process: the program.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process, self.seen, self._master = process, "", master

    def read(self, until: Callable[[str], bool] = lambda seen: False, seconds: float = 60.0) -> str:
        """Read until something has been seen, or the program has ended; returns all that was seen."""
        end = time.monotonic() + seconds
        while not until(self.seen):
            if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(self.seen)
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the other side is closed
                part = b""
            if not part:
                break
            self.seen += part.decode(errors="replace")
        return self.seen

    def type(self, text: str) -> None:
        """Type; `\\x03` is Ctrl-C."""
        os.write(self._master, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size, of which the program is told."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self.read()
        return self.process.wait(60)


@contextlib.contextmanager
def terminal(
    words: list[str], cwd: Path, columns: int = 80, rows: int = 24, variables: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run a Python program (`-m MODULE ...`) in a terminal; it is ended with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    own = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(variables or {})}
    for name in ("CI", "COLUMNS", "LINES", "NO_COLOR", "PAGER", "LESS", "CSCDARTS_PAGER", "CSCDARTS_NOTIFY"):
        if name not in (variables or {}):
            own.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, *words], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=own, close_fds=True,
        preexec_fn=_controls,
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)


def _controls() -> None:
    """Make the terminal the new session's own, so that Ctrl-C reaches the program."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
