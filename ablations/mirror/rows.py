"""Whose a run's row in the store is: a store has one row for a run of a grid, and one folder of runs that writes it.

The same grid can be run under two folders of runs with one store. The row says which folder it is the mirror of (tag
`cscdarts.home`): the number that `grid.json` drew when it was made, host and path. Another folder leaves it alone,
unless that one has gone, or the row's run is not finished and its own is.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid.past import MANIFEST
from ablations.mirror.updates import HOME
from cscdarts.errors import HeldByAnother, OutsideFailure, UserError
from cscdarts.records.run_folder import read_json
from reports.read.tracking import VARIABLE, one_line, quiet_client, require_server, shown, sqlite_path, tracking_uri
from slurm.lock import Lock

#: How long to wait for another process that makes rows, and when a silent one counts as dead, in seconds.
WAIT_S, STALE_S = 300.0, 60.0


@dataclass(frozen=True)
class Home:
    """The folder of a grid's runs: where a row's files come from.

    Attributes:
        number: drawn once for the folder, moved and copied with it; "" where `grid.json` has none.
    """

    number: str
    host: str
    path: str

    @classmethod
    def of(cls, folder: Path) -> "Home":
        """The home that a folder `runs/GRID` is."""
        content: Any = None
        with contextlib.suppress(UserError):
            content = read_json(folder / MANIFEST)
        number = content.get("home") if isinstance(content, dict) else None
        return cls(number if isinstance(number, str) else "", os.uname().nodename, str(folder.absolute()))

    @classmethod
    def read(cls, text: str) -> "Home | None":
        """The home that a tag names; None for a row of an earlier version, which names none."""
        number, _, rest = text.partition(" ")
        host, _, path = rest.partition(" ")
        return cls("" if number == "-" else number, host, path) if path else None

    def __str__(self) -> str:
        return f"{self.number or '-'} {self.host} {self.path}"

    @property
    def shown(self) -> str:
        """For people."""
        return self.path if self.host == os.uname().nodename else f"{self.path} on {self.host}"

    def is_here(self, here: "Home") -> bool:
        """Whether a folder of today may write the rows of this home: it is the same, or has taken its place."""
        if self.number and self.number == here.number:
            # Moved, unless the first is still there: then one of the two is a copy.
            return self.path == here.path or Home.of(Path(self.path)).number != self.number
        return self.host == here.host and (self.path == here.path or not Path(self.path).is_dir())


def gives_way(there: Home | None, status: str, here: Home, finished: bool) -> bool:
    """Whether a row is a folder's to write: it has been all along, or the run is finished here and not there."""
    return there is None or there.is_here(here) or (finished and status != "done")


@contextlib.contextmanager
def making_rows(uri: str, grid: str) -> Iterator[None]:
    """Make rows of a grid alone: two mirrors, of two folders of runs, would both find none and both make one.

    Only an SQLite store has a place for a lock; elsewhere the time between look and making is short, and `better` mends
    what falls into it.

    Errors:
        HeldByAnother: another process has been making rows for minutes.
    """
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    lock, until = Lock(path.with_name(f".{path.name}.{grid}.lock"), STALE_S), time.monotonic() + WAIT_S
    while not lock.acquire(f"maker of rows of {grid}"):
        if time.monotonic() > until:
            raise HeldByAnother(f"The making of rows in {path}", str(lock.owner()), "Wait for it, or end that process.")
        time.sleep(0.05)
    try:
        with lock.refreshing():
            yield
    finally:
        lock.release()


def better(one: Any, other: Any, here: Home) -> tuple[Any, Any]:
    """Of two rows of one run the one that stays, and the other: a finished one, this folder's own, the first made."""

    def rank(row: Any) -> tuple[Any, ...]:
        there = home_of(row)
        own = there is not None and there.is_here(here)
        return row.data.tags.get("cscdarts.status") != "done", not own, row.info.start_time, row.info.run_id

    return (one, other) if rank(one) <= rank(other) else (other, one)


def forget(folder: Path, hashes: Iterable[str], uri: str | None = None) -> None:
    """Mark the rows of runs of a folder as deleted; `remember` brings them back. A store that is not there has none.

    Errors:
        OutsideFailure: the store does not let it.
    """
    for client, rows in _own_rows(folder, set(hashes), uri, deleted=False):
        for row in rows:
            for one in models_of(client, row):  # made anew from the run folder where it comes back
                client.delete_logged_model(one.model_id)
            client.delete_run(row.info.run_id)


def remember(folder: Path, hashes: Iterable[str], uri: str | None = None) -> None:
    """Bring the deleted row of each of some runs back, the last one made, where it has no other by now.

    Errors:
        OutsideFailure: the store does not let it.
    """
    for client, rows in _own_rows(folder, set(hashes), uri, deleted=True):
        client.restore_run(rows[-1].info.run_id)


def _own_rows(folder: Path, wanted: set[str], uri: str | None, deleted: bool) -> Iterator[tuple[Any, list[Any]]]:
    """The rows of each of some runs that are this folder's, the first made first; deleted ones only of runs that have
    no other."""
    uri = uri or tracking_uri()
    database = sqlite_path(uri)
    if not wanted or (database is not None and not database.is_file()):
        return
    quiet_client()
    require_server(uri)
    from mlflow import MlflowClient
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    here = Home.of(folder)
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(folder.name)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            return
        number = experiment.experiment_id
        found = _rows(client, number, wanted, ViewType.ACTIVE_ONLY)
        if deleted:
            found = _rows(client, number, wanted - set(found), ViewType.DELETED_ONLY)
        for rows in found.values():
            own = [row for row in rows if (home := home_of(row)) is None or home.is_here(here)]
            if own:
                yield client, own
    except MlflowException as error:
        what = f"Marking runs in {shown(uri)}"
        raise OutsideFailure(what, one_line(error), f"Check {VARIABLE}, and do it again.") from error


def _rows(client: Any, experiment: str, wanted: set[str], view: int) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in pages(client, experiment, "tags.`cscdarts.kind` = 'run'", view) if wanted else ():
        key = row.data.tags.get("cscdarts.hash", "")
        if key in wanted:
            found.setdefault(key, []).append(row)
    return found


def pages(client: Any, experiment: str, query: str, view: int | None = None) -> Iterator[Any]:
    """The rows that a query finds, page after page, the first started first; active ones where no view is named."""
    token = None
    more: dict[str, Any] = {} if view is None else {"run_view_type": view}
    order = ["attributes.start_time ASC"]
    while True:
        page = client.search_runs([experiment], query, max_results=1000, order_by=order, page_token=token, **more)
        yield from page
        token = page.token
        if not token:
            return


def rows_of(client: Any, uri: str, experiment: str, hashes: set[str]) -> list[Any]:
    """The active rows of some runs, looked up without reading all others."""
    path = sqlite_path(uri)
    if path is None:
        queries = (f"tags.`cscdarts.kind` = 'run' and tags.`cscdarts.hash` = '{key}'" for key in sorted(hashes))
        return [row for query in queries for row in pages(client, experiment, query)]
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
        found = database.execute(
            "SELECT tags.run_uuid, tags.value FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid WHERE "
            "tags.key = 'cscdarts.hash' AND runs.experiment_id = ? AND runs.lifecycle_stage = 'active'",
            (int(experiment),),
        ).fetchall()
    return [client.get_run(run_id) for run_id, key in found if key in hashes]


def models_of(client: Any, row: Any) -> list[Any]:
    """The models that were made from a row's run, whole or not."""
    query = f"source_run_id = '{row.info.run_id}'"
    return list(client.search_logged_models([row.info.experiment_id], filter_string=query))


def home_of(row: Any) -> Home | None:
    """The home that a row names."""
    return Home.read(row.data.tags.get(HOME, ""))
