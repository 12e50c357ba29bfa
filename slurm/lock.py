"""A lock that is a file with an owner and an age: it works on shared file systems and outlives a dead owner visibly.

The file appears whole by `link` (atomic on POSIX and NFS, where `O_EXCL` and `flock` may not be), is touched while its
owner lives, and may be taken over once the owner is known to be dead or has been silent for `stale_s`.

No two hosts' clocks are compared. Ages are differences of two times of the file system; and as some file systems stamp
files by their clients' clocks, and show late what another host has written, who finds the lock of another host silent
or unreadable watches it by a clock of his own before he takes it over: an owner who lives touches it meanwhile.
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
#: A file of the future, or a file system whose time differs from this host's, by so much tells of different clocks.
SKEW_S = 5.0
#: Seconds in which the content of a file comes whose name is there already.
LATE_S = 5.0
#: Seconds between two looks at a lock that is watched.
_LOOK_S = 0.2
#: No time or number of a process is beyond this.
MOST = 2.0**63
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_TEXTS = ("host", "job", "nonce", "what", "boot")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host, pid: the process.
        started: when that process started, so that a reused pid is not mistaken for it: seconds since `boot`, or since
            the epoch where that is "".
        job: scheduler's id of the job it runs in, or "".
        nonce: distinguishes two holdings by one process.
        since: when the lock was taken.
        what: what it does, for people.
        life: how often the scheduler has started that job again; None where it does not tell, or there is none.
        boot: which start of the host's system the process belongs to; "" where the system does not tell. The host's
            clock may be set while the process lives.
    """

    host: str
    pid: int
    started: float
    job: str
    nonce: str
    since: float
    what: str
    life: int | None = None
    boot: str = ""

    def dead_here(self) -> bool:
        """Whether the owner ran on this host and its process is gone; False for another host's, which cannot be
        asked."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            if self.boot:
                boot, started = _birth(self.pid)
                return boot != self.boot or abs(started - self.started) > 0.1
            return abs(process.create_time() - self.started) > 5.0
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
    # Claims of 0.1.0 do not name the start of their host's system.
    values: dict[str, Any] = {name: found.get(name) for name in Owner.__dataclass_fields__}
    values["boot"] = found.get("boot", "")
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
    boot, started = _birth(os.getpid())
    return Owner(socket.gethostname(), os.getpid(), started, job, secrets.token_hex(8), time.time(), what, life, boot)


def _birth(pid: int) -> tuple[str, float]:
    """Which start of the system a process belongs to, and the seconds from there to its own start; "" and its time
    since the epoch where the system does not tell."""
    try:
        # The second field is the program's name, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return _BOOT.read_text().strip(), int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return "", psutil.Process(pid).create_time()


class Lock:
    """One lock file.

    Args:
        path: the file; its folder must exist when the lock is taken.
        stale_s: silence, in seconds, after which another may take over. Owners must `refresh` several times in it.
        watch_s: for how long a lock is watched before it is taken over for its silence alone; a third of `stale_s` if
            None. Owners must `refresh` once in it.
    """

    def __init__(self, path: Path, stale_s: float = 120.0, watch_s: float | None = None) -> None:
        self.path, self.stale_s = path, stale_s
        self.watch_s = stale_s / 3 if watch_s is None else watch_s
        self.mine: Owner | None = None
        self._number: int | None = None

    def owner(self) -> Owner | None:
        """Who holds the lock now, dead or alive; None where nobody does."""
        return read_owner(self.path)

    def age(self) -> float | None:
        """Seconds since the owner's last sign of life, in file-system time; None where nobody holds it, nothing where
        that time cannot be told."""
        try:
            touched = self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        now = file_time(self.path.parent)
        return 0.0 if now is None else max(0.0, now - touched)

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
        seen, owner = self._stamp(), self.owner()
        if seen is None:
            return self._create(me)
        if owner is None or not (owner.dead_here() or _later_life(me, owner)):
            watch_s = self._to_watch(owner, seen)
            if watch_s is None or self._stirs(seen, watch_s):
                return False
        return self._take_over(me, seen)

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
        with contextlib.suppress(OSError):
            if self.mine is not None and self._is_mine():
                self.path.unlink(missing_ok=True)
        self.mine = None

    def _is_mine(self) -> bool:
        try:
            owner = self.owner()
        except OSError:
            # No file can be opened: then by the number of the file, which another who took over has replaced.
            return self._number is not None and self.path.stat().st_ino == self._number
        return owner is not None and self.mine is not None and owner.nonce == self.mine.nonce

    def _hold(self, me: Owner) -> bool:
        """Note that the lock is ours."""
        self.mine = me
        with contextlib.suppress(OSError):
            self._number = self.path.stat().st_ino
        return True

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

    def _stamp(self) -> tuple[int, bytes] | None:
        """What changes whenever an owner shows that he lives, or another takes the lock; None where nobody holds it."""
        try:
            # To open a file is what makes a network's file system ask its server for the file's present state.
            with self.path.open("rb") as file:
                content = file.read()
                return os.fstat(file.fileno()).st_mtime_ns, content
        except FileNotFoundError:
            return None

    def _to_watch(self, owner: Owner | None, seen: tuple[int, bytes]) -> float | None:
        """For how long a lock must be seen unchanged to be taken over; None where its owner is in his time.

        A content that is not there yet may come late, and an age is worth nothing where the clocks of two hosts were
        compared after all.
        """
        now = file_time(self.path.parent)
        if now is None:
            return None
        age, here = now - seen[0] / 1e9, owner is not None and owner.host == socket.gethostname()
        if age < -SKEW_S and not here:
            return self.stale_s
        if owner is None:
            return min(self.watch_s, LATE_S) if _may_be_late(seen[1]) else 0.0
        if age <= self.stale_s:
            return None
        # A file system with a clock of its own is known by its difference from ours.
        return 0.0 if here or abs(now - time.time()) > SKEW_S else self.watch_s

    def _stirs(self, seen: tuple[int, bytes], seconds: float) -> bool:
        """Watch the lock for some time by this process's own clock: whether it changes."""
        end = time.monotonic() + seconds
        while self._stamp() == seen:
            if time.monotonic() >= end:
                return False
            time.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))
        return True

    def _made(self, guard: Path, me: Owner) -> bool:
        """Whether the guard could be made: only one process can."""
        try:
            with guard.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_plain(me)))
        except FileExistsError:
            return False
        return True

    def _drop_left(self, guard: Path) -> bool:
        """Remove a guard that was left by a process that died inside a take-over; whether there was such a one."""
        now = file_time(self.path.parent)
        with contextlib.suppress(FileNotFoundError):
            owner = read_owner(guard)
            left = owner is not None and owner.dead_here()
            if left or (now is not None and now - guard.stat().st_mtime > GUARD_STALE_S):
                guard.unlink()
                return True
        return False

    def _stale(self, owner: Owner, age: float) -> bool:
        return age > self.stale_s or owner.dead_here()

    def _create(self, me: Owner) -> bool:
        temporary = self._written(me)
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            # An answer that was lost on the way makes a network's file system ask twice: then the lock is ours.
            owner = self.owner()
            if owner is None or owner.nonce != me.nonce:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        return self._hold(me)

    def _written(self, me: Owner) -> Path:
        """A file with the owner in it, whole on the disk before it gets the lock's name."""
        temporary = self.path.with_name(f".{self.path.name}.{me.nonce}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(_plain(me)))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _take_over(self, me: Owner, seen: tuple[int, bytes]) -> bool:
        """Replace an owner who has given no sign since he was seen. All who would do so pass one guard, so that two
        cannot both succeed."""
        guard = self.path.with_name(f".{self.path.name}.guard")
        if not (self._made(guard, me) or (self._drop_left(guard) and self._made(guard, me))):
            return False
        try:
            present = self._stamp()
            if present is None:
                return self._create(me)
            if present != seen:
                return False
            self._written(me).replace(self.path)
            return self._hold(me)
        finally:
            guard.unlink(missing_ok=True)


def _later_life(me: Owner, owner: Owner) -> bool:
    """Whether one owner is the other's job in a later life: a scheduler starts that only after the last has ended."""
    if not me.job or me.job != owner.job or me.life is None or me.life <= (owner.life or 0):
        return False
    # Numbers of a new cluster begin at 1 again, so the same id may be another job: a process that is seen to live is.
    return owner.host != me.host or owner.dead_here()


def _may_be_late(content: bytes) -> bool:
    """Whether what was read may be the beginning of an owner; anything else is damage, and nobody's."""
    begun = b'{"host": '.startswith(content[:9]) and not content.rstrip().endswith(b"}")
    return begun or not content.strip(b"\0")


def _plain(owner: Owner) -> Mapping[str, Any]:
    return dict(vars(owner))


def file_time(folder: Path) -> float | None:
    """The present time as the file system of `folder` tells it, seconds since the epoch; None where it does not, as
    nothing can be written there. This host's own clock is no substitute: it may be another than the file system's."""
    probe = folder / f".now.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
