"""The SQLite store's file: made apart and put in place whole, under one lock beside it, and looked at before use."""

import contextlib
import os
import secrets
import time
from pathlib import Path
from urllib.parse import quote

from cscdarts.errors import BrokenFile, CannotWrite, HeldByAnother
from reports.read.database import WAY_OUT, is_there, schema_of
from reports.read.tracking import VARIABLE, sqlite_path, sqlite_uri
from slurm.lock import Lock

#: A maker that has been silent for this long is taken for dead, also where its host cannot be asked.
MAKER_STALE_S = 60.0
#: How long to wait for another process that makes the store.
WAIT_S = 300.0


def require_store(uri: str) -> None:
    """Make an SQLite store that is not there yet, and see that one that is there is whole; pass over any other store.

    The tables are made in a file of another name, which then takes the store's name: a process that dies meanwhile
    leaves no half-made store, and of several that begin at once one makes it and the others wait.

    Errors:
        CannotWrite: its folder cannot be written.
        BrokenFile: what is there is half made, of another revision, or no store.
        HeldByAnother: another process has been making it for minutes.
    """
    path = sqlite_path(uri)
    if path is None:
        return
    if not is_there(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_once(path)
        except OSError as error:
            raise CannotWrite(VARIABLE, str(path), error) from error
    found, head = schema_of(path), newest_schema()
    if head and found != head:
        upgrade = f"Copy it, then run: mlflow db upgrade '{uri}'. Or: {WAY_OUT[0].lower()}{WAY_OUT[1:]}"
        raise BrokenFile(path, f"its schema is {found}, not {head}", "a store of this MLflow", upgrade)


def remove_stray_folder(uri: str) -> None:
    """Remove the empty folder that MLflow makes for an SQLite URI with `%20` and the like: it takes the folder's name
    as it is spelt, SQLAlchemy the file's as it is meant."""
    path, spelt = sqlite_path(uri), Path(uri.removeprefix("sqlite:///"))
    if path is not None and "%" in str(spelt.parent) and spelt.parent != path.parent:
        with contextlib.suppress(OSError):
            os.removedirs(spelt.parent)


def artifact_place(path: Path, grid: str) -> str:
    """Where a grid's artifacts lie: beside the database, whichever folder the command is called from.

    A plain path where MLflow reads it as written, otherwise a `file:` URI.
    """
    place = path.absolute().parent / "mlruns" / grid
    return str(place) if quote(str(place)) == str(place) else place.as_uri()


def _make_once(path: Path) -> None:
    lock = Lock(path.with_name(f".{path.name}.lock"), stale_s=MAKER_STALE_S)
    until = time.monotonic() + WAIT_S
    while not lock.acquire(f"maker of {path.name}"):
        if is_there(path):
            return
        if time.monotonic() > until:
            raise HeldByAnother(f"The making of {path}", str(lock.owner()), "Wait for it, or end that process.")
        time.sleep(0.1)
    try:
        with lock.refreshing():
            if not is_there(path):
                _make(path, lock)
    finally:
        lock.release()


def _make(path: Path, lock: Lock) -> None:
    # Under the lock, whatever an earlier maker left belongs to a dead one.
    for left in path.parent.glob(f".{_literal(path.name)}.making-*"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.making-{secrets.token_hex(4)}")
    try:
        temporary.touch()  # said now if the folder cannot be written; MLflow would try for minutes
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        uri = sqlite_uri(temporary.absolute())
        store = SqlAlchemyStore(uri, artifact_place(path, "").rstrip("/"))
        store.engine.dispose()
        remove_stray_folder(uri)
        _sync(temporary)
        if lock.refresh():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """A name as a glob pattern for itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_schema() -> str:
    """The schema revision of the installed MLflow; "" where it does not say."""
    try:
        from mlflow.store.db.utils import _get_latest_schema_revision

        return str(_get_latest_schema_revision())
    except (ImportError, AttributeError):
        return ""
