"""The report's folder: written apart, put in place whole, and nothing in it deleted that is not the report's own.

An earlier report is set aside by a rename, the new one takes its place by another, and only then is the old one
removed; whatever of this a killed process left is put right by the next call. The file `.cscdarts-report` lists what
the report wrote, by content: any other file there, and one that was changed since, is the user's.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cscdarts.errors import CannotWrite, UserError

MARK = ".cscdarts-report"
_FORMAT = 1
_WHAT = "Written by cscdarts report: the next one replaces the files listed here and keeps all others."
#: After so many seconds what another host's process left is taken for abandoned.
ABANDONED_S = 24 * 3600.0
#: What a report of an earlier version, whose mark lists nothing, consists of.
_EARLIER = re.compile(
    r"index\.html|report\.(md|json)|tables/[\w-]+\.(csv|tex)|figures/[\w-]+\.(csv|tex|pdf|png)|runs/[\w-]+\.html"
)


@dataclass
class Writer:
    """Writes a report's files.

    Attributes:
        folder: where they go.
        written: their names, relative to the folder.
    """

    folder: Path
    written: list[str]
    digests: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, content: str) -> None:
        """Write a text as UTF-8."""
        self.data(name, content.encode("utf-8", "replace"))

    def data(self, name: str, content: bytes) -> None:
        """Write a file.

        Errors:
            ValueError: its name leads out of the folder.
        """
        path = self.folder / name
        if Path(os.path.normpath(path)) != path or not path.is_relative_to(self.folder):
            raise ValueError(f"{name} is no name inside a report's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.written.append(name)
        self.digests[name] = hashlib.sha256(content).hexdigest()


@contextmanager
def new_report(out: Path) -> Iterator[Writer]:
    """A writer into a folder beside `out` that takes its place when all went well; on an error nothing of it stays.

    The user's own files in an earlier report are kept in the new one.

    Errors:
        UserError: `out` is no report, or holds a file of the user's where the report has one of its own.
        CannotWrite: the place cannot be written.
    """
    place = _place(out)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _put_right(place)
        _require_own(place, out)
        temporary = _beside(place, "new")
        temporary.mkdir(mode=0o755)
    except OSError as error:
        raise CannotWrite("--out", str(out), error) from error
    try:
        writer = Writer(temporary, [])
        yield writer
        try:
            mark = {
                "what": "written by cscdarts report; the next one replaces the files listed here and keeps all others"
            }
            (temporary / MARK).write_text(
                json.dumps({**mark, "format": _FORMAT, "files": writer.digests}, indent=1, sort_keys=True) + "\n"
            )
            _keep_users(place, temporary, out)
            _swap(temporary, place)
        except OSError as error:
            raise CannotWrite("--out", str(out), error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(out: Path) -> Path:
    """The folder meant, through links; the folder one is in cannot be exchanged for another."""
    place = out.resolve()
    if Path.cwd().is_relative_to(place):
        raise UserError("--out", str(out), "a folder that you are not in", f"For example: --out {Path(out, 'report')}")
    return place


def _require_own(place: Path, out: Path) -> None:
    if not place.exists():
        return
    if not place.is_dir() or (any(place.iterdir()) and not (place / MARK).is_file()):
        raise UserError("--out", str(out), "a new folder, an empty one or an earlier report", "Choose another folder.")


def _keep_users(place: Path, temporary: Path, out: Path) -> None:
    """Link or copy what is the user's from the earlier report into the new one."""
    users = users_files(place)
    taken = [name for name in users if _is_taken(temporary, name) and not _same(place / name, temporary / name)]
    odd = [name for name in users if not stat.S_ISREG(_mode(place / name)) and not stat.S_ISLNK(_mode(place / name))]
    if taken or odd:
        names = ", ".join((taken or odd)[:5]) + (" ..." if len(taken or odd) > 5 else "")
        why = "not as the report wrote it, and not overwritten" if taken else "no plain file, and not copied"
        fix = "Move it away, or choose another folder with --out."
        sentence = f"{out}: {names} is {why}. {fix}"
        raise UserError("--out", names, "a report's folder with the report's own files", fix, sentence)
    users = [name for name in users if not _is_taken(temporary, name)]
    for name in users:
        source, target = place / name, temporary / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
            continue
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)


def _is_taken(folder: Path, name: str) -> bool:
    """Whether a report has something of that name, or a file where the name needs a folder."""
    above = [path for path in (folder / name).parents if path != folder and path.is_relative_to(folder)]
    return (folder / name).is_symlink() or (folder / name).exists() or any(path.is_file() for path in above)


def _mode(path: Path) -> int:
    return path.lstat().st_mode


def users_files(place: Path) -> list[str]:
    """What in a report's folder the report did not write, or what was changed since; empty folders do not count."""
    known = _listed(place)
    if not place.is_dir():
        return []
    users = []
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if name == MARK or (path.is_dir() and not path.is_symlink()):
            continue
        if known is None:
            own = _EARLIER.fullmatch(name) is not None
        else:
            own = name in known and not path.is_symlink() and path.is_file() and _digest(path) == known[name]
        if not own:
            users.append(name)
    return users


def _listed(place: Path) -> Mapping[str, str] | None:
    """Name -> SHA-256 of what the report wrote; None where an earlier version of the mark does not say."""
    try:
        content = json.loads((place / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    files = content.get("files") if isinstance(content, dict) else None
    return files if isinstance(files, dict) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap(temporary: Path, place: Path) -> None:
    """Set the earlier report aside, put the new one in its place, then remove the earlier one."""
    aside = _beside(place, "old")
    try:
        if place.exists():
            place.rename(aside)
        temporary.rename(place)
    except BaseException:
        if aside.exists() and not place.exists():
            aside.rename(place)
        raise
    if aside.exists():
        _remove(aside, place)


def _remove(aside: Path, place: Path) -> None:
    """Remove an earlier report, but for files that came to it meanwhile: those go to the new one."""
    users = set(users_files(aside))
    for path in sorted(aside.rglob("*"), reverse=True):
        name = path.relative_to(aside).as_posix()
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif name == MARK:
                continue  # goes last: it tells whose the others are
            elif name not in users or _same(path, place / name):
                path.unlink()
            elif not _is_taken(place, name):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                path.rename(place / name)
    with contextlib.suppress(OSError):
        if {path.name for path in aside.iterdir()} <= {MARK}:
            (aside / MARK).unlink(missing_ok=True)
            aside.rmdir()


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        if one.is_symlink() or other.is_symlink():
            return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
        return one.samefile(other) or (one.stat().st_size == other.stat().st_size and _digest(one) == _digest(other))
    return False


def _put_right(place: Path) -> None:
    """Finish what calls that were killed left: an earlier report that was set aside comes back, or goes."""
    asides = [path for path in _left(place, "old") if path.is_dir()]
    for aside in sorted(asides, key=lambda path: path.stat().st_mtime, reverse=True):
        if not place.exists():
            aside.rename(place)
        else:
            _remove(aside, place)
    for temporary in _left(place, "new"):
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(place: Path, kind: str) -> Path:
    """A name beside the report's that says which process it belongs to."""
    me = psutil.Process()
    owner = f"{socket.gethostname()}~{me.pid}~{int(me.create_time())}"
    return place.with_name(f".{place.name}~{kind}~{owner}~{secrets.token_hex(4)}")


def _left(place: Path, kind: str) -> list[Path]:
    """Folders of that kind beside the report whose process is gone: on this host by asking, elsewhere by their age."""
    begin = f".{place.name}~{kind}~"
    with os.scandir(place.parent) as entries:
        found = [(entry.name, time.time() - entry.stat(follow_symlinks=False).st_ctime) for entry in entries]
    return sorted(
        place.with_name(name) for name, age in found if name.startswith(begin) and _is_left(name[len(begin) :], age)
    )


def _is_left(owner: str, age_s: float) -> bool:
    host, *numbers = owner.split("~")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers[:2]):
        return False
    pid, started = map(int, numbers[:2])
    # One process makes one report at a time.
    gone = pid == os.getpid() or not _lives(pid, started)
    return gone if host == socket.gethostname() else age_s > ABANDONED_S


def _lives(pid: int, started: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 5.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
