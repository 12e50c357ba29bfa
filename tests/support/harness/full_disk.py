"""A disk without room, or a system without files to open, from a chosen write on: every place where something is
written is seen by the interpreter's own audit events, and refused as the system would."""

import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGES = ("os.rename", "os.link", "os.mkdir")
_disk: "FullDisk | None" = None
_hooked = False


class FullDisk:
    """While it is entered the `at`-th write below `root` and all later ones fail.

    Args:
        root: the file system; nothing elsewhere fails.
        at: from 1; 0 for never, to count.
        only: whether there is room again after the one that fails.
        error: what the system says.
        reads: whether files cannot be opened for reading either.
    """

    def __init__(
        self, root: Path, at: int = 0, only: bool = False, error: int = errno.ENOSPC, reads: bool = False
    ) -> None:
        self.root, self.at, self.only, self.error, self.reads = str(root.resolve()), at, only, error, reads
        self.writes = 0
        self._fsync = os.fsync

    def __enter__(self) -> Self:
        global _disk, _hooked
        if not _hooked:
            sys.addaudithook(_seen)  # for good: it costs a comparison where no disk is full
            _hooked = True
        _disk = self
        os.fsync = self._synced  # type: ignore[assignment]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _disk
        _disk = None
        os.fsync = self._fsync

    def write(self, path: str) -> None:
        """One write; it fails if it is to."""
        if not path.startswith(self.root):
            return
        self.writes += 1
        if self.at and (self.writes == self.at if self.only else self.writes >= self.at):
            raise OSError(self.error, os.strerror(self.error), path)

    def _synced(self, number: int) -> None:
        """What was written into a buffer meets the disk here; the system's error then names no file."""
        path = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - a number, no path
        try:
            self.write(path)
        except OSError as full:
            raise OSError(full.errno, full.strerror) from None
        self._fsync(number)


def _seen(event: str, arguments: tuple[Any, ...]) -> None:
    disk = _disk
    if disk is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | os.PathLike) and (disk.reads or int(flags or 0) & _WRITES):
            disk.write(os.path.abspath(os.fspath(path)))  # noqa: PTH100 - nothing may be asked of the disk here
    elif event in _CHANGES:
        path = os.fspath(arguments[1] if event != "os.mkdir" else arguments[0])
        if event != "os.mkdir" or not os.path.isdir(path):  # noqa: PTH112 - the system says first that it is there
            disk.write(os.path.abspath(path))  # noqa: PTH100
