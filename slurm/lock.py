"""A lock that is a file with an owner and an age: it works on shared file systems and outlives a dead owner visibly.

The file appears whole by `link` (atomic on POSIX and NFS, where `O_EXCL` and `flock` may not be), is touched while its
owner lives, and may be taken over once the owner is known to be dead or has been silent for `stale_s`. Ages compare two
times of the file system, never a time of the file system and a node's clock.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

#: A take-over takes milliseconds; a guard older than this was left by a process that died inside one.
GUARD_STALE_S = 60.0
#: No time or number of a process is beyond this.
MOST = 2.0**63
_TEXTS = ("host", "job", "nonce", "what")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host, pid: the process.
        started: when that process started (seconds since the epoch), so that a reused pid is not mistaken for it.
        job: scheduler's id of the job it runs in, or "".
        nonce: distinguishes two holdings by one process.
        since: when the lock was taken.
        what: what it does, for people.
        life: how often the scheduler has started that job again; None where it does not tell, or there is none.
    """

    host: str
    pid: int
    started: float
    job: str
    nonce: str
    since: float
    what: str
    life: int | None = None

    def dead_here(self) -> bool:
        """Whether the owner ran on this host and its process is gone; False for another host's, which cannot be
        asked."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.started) > 5.0
        except (psutil.NoSuchProcess, OverflowError):  # no process can have a number beyond the system's
            return True
        except psutil.AccessDenied:
            return False

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"{self.what or 'process'} {self.pid} on {self.host}{job}"


def read_owner(path: Path) -> Owner | None:
    """The owner that a lock's file names; None where there is no file, or it names nobody who could be asked.

    Errors:
        OSError: it cannot be read, which says nothing of its owner.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    values: dict[str, Any] = {name: found.get(name) for name in Owner.__dataclass_fields__}
    texts = all(isinstance(values[name], str) and _can_be_shown(values[name]) for name in _TEXTS)
    numbers = [values[name] for name in ("pid", "started", "since")]
    life = values["life"]
    if not texts or not all(isinstance(one, int | float) and abs(one) < MOST for one in numbers):
        return None
    if type(values["pid"]) is not int or values["pid"] <= 0 or not (life is None or type(life) is int):
        return None
    return Owner(**values)


def _can_be_shown(text: str) -> bool:
    return text.encode(errors="replace") == text.encode(errors="ignore")


def this_process(what: str = "", job: str = "", life: int | None = None) -> Owner:
    """The owner that this process is."""
    started = psutil.Process().create_time()
    return Owner(socket.gethostname(), os.getpid(), started, job, secrets.token_hex(8), time.time(), what, life)


class Lock:
    """One lock file.

    Args:
        path: the file; its folder must exist when the lock is taken.
        stale_s: silence, in seconds, after which another may take over. Owners must `refresh` several times in it.
    """

    def __init__(self, path: Path, stale_s: float = 120.0) -> None:
        self.path, self.stale_s = path, stale_s
        self.mine: Owner | None = None

    def owner(self) -> Owner | None:
        """Who holds the lock now, dead or alive; None where nobody does."""
        return read_owner(self.path)

    def age(self) -> float | None:
        """Seconds since the owner's last sign of life, in file-system time; None where nobody holds it."""
        try:
            touched = self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        return max(0.0, file_time(self.path.parent) - touched)

    def holder(self) -> Owner | None:
        """The owner if it counts as alive: not known dead, and refreshed within `stale_s`."""
        owner, age = self.owner(), self.age()
        return owner if owner is not None and age is not None and not self._stale(owner, age) else None

    def acquire(self, what: str = "", job: str = "", life: int | None = None) -> bool:
        """Take the lock if it is free or its owner is dead, silent, or an earlier life of the same scheduler's job.

        Args:
            what: see `Owner`.
            job: the scheduler's id of the job that this process was started as; never one that it merely runs in.
            life: how often the scheduler has started that job again. Without it two processes of one job, such as two
                workers that share it, cannot be told from two lives of it, and the job's id says nothing.
        """
        me = this_process(what, job, life)
        if self._create(me):
            return True
        owner, age = self.owner(), self.age()
        if age is None:
            return self._create(me)
        if owner is not None and not self._stale(owner, age, me):
            return False
        return self._take_over(me, owner)

    def refresh(self) -> bool:
        """Show that the owner lives; False if the lock is no longer ours, whereupon the work under it must end."""
        owner = self.owner()
        if self.mine is None or owner is None or owner.nonce != self.mine.nonce:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)
            return True
        return False

    def release(self) -> None:
        """Give the lock up if it is still ours."""
        owner = self.owner()
        if self.mine is not None and owner is not None and owner.nonce == self.mine.nonce:
            self.path.unlink(missing_ok=True)
        self.mine = None

    @contextlib.contextmanager
    def held(self, what: str = "", job: str = "") -> Iterator[bool]:
        """Hold the lock for a block; yields whether it could be had."""
        got = self.acquire(what, job)
        try:
            yield got
        finally:
            if got:
                self.release()

    @contextlib.contextmanager
    def refreshing(self, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Refresh the lock from a thread for the length of a block, whatever the block waits for.

        Args:
            lost: called once the lock is another's, whereupon the work under it must end.
        """
        end = threading.Event()

        def refresh() -> None:
            while not end.wait(self.stale_s / 6):
                with contextlib.suppress(OSError):
                    if not self.refresh():
                        lost()

        thread = threading.Thread(target=refresh, name=f"refresh {self.path.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _stale(self, owner: Owner, age: float, me: Owner | None = None) -> bool:
        return age > self.stale_s or owner.dead_here() or (me is not None and _later_life(me, owner))

    def _create(self, me: Owner) -> bool:
        temporary = self.path.with_name(f".{self.path.name}.{me.nonce}")
        temporary.write_text(json.dumps(_plain(me)), encoding="utf-8")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        self.mine = me
        return True

    def _take_over(self, me: Owner, seen: Owner | None) -> bool:
        """Replace a stale owner. All who would do so pass one guard, so that two cannot both succeed."""
        guard = self.path.with_name(f".{self.path.name}.guard")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if file_time(self.path.parent) - guard.stat().st_mtime > GUARD_STALE_S:
                    guard.unlink()
            return False
        try:
            owner, age = self.owner(), self.age()
            if age is not None and owner is not None and (owner != seen or not self._stale(owner, age, me)):
                return False
            temporary = self.path.with_name(f".{self.path.name}.{me.nonce}")
            temporary.write_text(json.dumps(_plain(me)), encoding="utf-8")
            temporary.replace(self.path)
            self.mine = me
            return True
        finally:
            guard.unlink(missing_ok=True)


def _later_life(me: Owner, owner: Owner) -> bool:
    """Whether one owner is the other's job in a later life: a scheduler starts that only after the last has ended."""
    if not me.job or me.job != owner.job or me.life is None or me.life <= (owner.life or 0):
        return False
    # Numbers of a new cluster begin at 1 again, so the same id may be another job: a process that is seen to live is.
    return owner.host != me.host or owner.dead_here()


def _plain(owner: Owner) -> Mapping[str, Any]:
    return dict(vars(owner))


def file_time(folder: Path) -> float:
    """The present time as the file system of `folder` tells it, seconds since the epoch."""
    probe = folder / f".now.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
