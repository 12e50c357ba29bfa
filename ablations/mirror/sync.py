"""The one writer into MLflow: run folders in, a parent run for the grid and a nested run per hash that has begun out.

Jobs never touch the tracker. The mirror can start late, stop and start again, and the store ends the same: what was
written is noted on the run itself (tag `cscdarts.mirror`), metric lines are written with the job's own times, and files
are compared by size and time. Every raw line of `metrics.jsonl` is written; where a resumed run repeats an epoch the
latest time counts.
"""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.mirror.bulk import BulkWriter
from ablations.mirror.database import artifact_place, remove_stray_folder, require_store
from ablations.mirror.datasets import as_inputs
from ablations.mirror.description import NOTE, is_edited
from ablations.mirror.places import follow_database, without_lost
from ablations.mirror.rows import Home, better, gives_way, home_of, making_rows, pages, rows_of
from ablations.mirror.updates import (
    CURSOR,
    STATUS,
    MetricPoint,
    RunUpdate,
    damaged_update,
    latest_ms,
    read_update,
)
from ablations.run.state import RunState
from cscdarts.errors import OutsideFailure, UserError
from cscdarts.records.run_folder import read_record
from reports.read.tracking import (
    VARIABLE,
    deleted_experiment,
    one_line,
    quiet_client,
    require_server,
    shown,
    sqlite_path,
    tracking_uri,
)
from slurm.lock import Lock

#: So that MLflow's page shows an experiment's runs and models, not the views of language models' traces.
KIND = {"mlflow.experimentKind": "custom_model_development"}
#: Updates are written in parts of this many runs, ...
PART = 500
#: ... and in one transaction where the store allows it and a part has at least this many new runs.
MIN_BULK = 5


def batched(items: Iterable[RunUpdate], size: int) -> Iterator[tuple[RunUpdate, ...]]:
    """Tuples of up to `size` items."""
    source = iter(items)
    while part := tuple(islice(source, size)):
        yield part


def _cursor(text: str) -> dict[str, Any]:
    """The note on a run; none where it is not one of ours."""
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else {}
    return {}


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: cut short, it would leave modules half-imported. The second goes
    through."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received:
            raise KeyboardInterrupt


class GridMirror:
    """Mirrors one grid.

    Args:
        grid: the grid.
        folder: `runs/<grid>`.
        uri: the store; `tracking_uri()` if None.

    Attributes:
        damaged: hash -> why a run's files could not be read at the last `sync`.
        elsewhere: hash -> the other folder of runs that has the run's row in the store (`ablations.mirror.rows`).
    """

    def __init__(self, grid: Grid, folder: Path, uri: str | None = None) -> None:
        self.grid, self.folder, self.uri = grid, folder, uri or tracking_uri()
        self.lock = Lock(folder / "mirror.lock", stale_s=300.0)
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._runs: dict[str, tuple[str, dict[str, Any]]] = {}
        self._others: dict[str, tuple[str, Home, str]] = {}
        self._edited: set[str] = set()
        self._grid_written: Any = None
        self._places: dict[str, Any] = {}
        self._bulk: BulkWriter | None = None
        self.damaged: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        self._home = Home.of(folder)
        self._what = f"mirror of {grid.name}"

    def open(self) -> None:
        """Become the grid's one mirror and find what is in the store already.

        Errors:
            UserError: another mirror is at work, or the store cannot be reached.
        """
        try:
            # No interrupt may fall between the lock's file and our knowing that it is ours: nobody would give it back.
            with _interrupts_deferred():
                if not ((self.lock.mine is not None and self.lock.refresh()) or self.lock.acquire(self._what)):
                    raise self._held("is held")
            self._connect()
        except BaseException as error:
            self.lock.release()
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            raise OutsideFailure(
                f"Opening the MLflow store {shown(self.uri)}", one_line(error), f"Check {VARIABLE}."
            ) from error

    def close(self) -> None:
        """Let another mirror work."""
        self.lock.release()

    def sync(self, states: Sequence[RunState]) -> int:
        """Write what is new; returns how many runs had anything new. A run without costs a few file stats."""
        self._keep()
        self._sync_grid(states)
        changed = 0
        begun = (
            (point, state)
            for point, state in zip(self.grid.points, states, strict=True)
            if (state.damage or (self.folder / point.hash / "config.json").exists()) and not state.foreign
        )
        found = (self._read(point, state) for point, state in begun)
        for part in batched((one for one in found if one is not None), PART):
            changed += len(part)
            self._write_all(part)
            self._keep()
        return changed

    def _read(self, point: Point, state: RunState) -> RunUpdate | None:
        """A run's update; None where nothing is new, and where its files cannot be made sense of: that is this run's
        own trouble (`damaged`), and the others go on."""
        other = self._others.get(point.hash)
        if other is not None and not gives_way(other[1], other[2], self._home, state.status == "done"):
            self.elsewhere[point.hash] = other[1].shown
            return None
        self.elsewhere.pop(point.hash, None)
        read = damaged_update if state.damage else read_update
        try:
            known = self._runs.get(point.hash, ("", {}))
            found = read(self.grid, point, self.folder / point.hash, state, *known, str(self._home))
        except (UserError, OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            self.damaged[point.hash] = one_line(error)
            return None
        self.damaged.pop(point.hash, None)
        return found

    def _keep(self) -> None:
        if not self.lock.refresh():
            raise self._held("was taken over")

    def _held(self, how: str) -> UserError:
        owner = self.lock.owner()
        return UserError(
            "mirror", str(owner), "one mirror per grid", "Leave it to that one.",
            f"The mirror of {self.grid.name} {how} by {owner}; a grid has one at a time. Leave it to that one.",
        )  # fmt: skip

    def _write_all(self, part: tuple[RunUpdate, ...]) -> None:
        fresh = {one.key for one in part if not one.run_id}
        if fresh:
            with making_rows(self.uri, self.grid.name):
                self._make_all([one for one in part if one.key in fresh])
        for one in part:
            if one.key not in fresh:
                self._write(one)

    def _make_all(self, fresh: Sequence[RunUpdate]) -> None:
        """Make the rows of runs that had none a moment ago: where another folder's mirror has made one, that stays."""
        for row in rows_of(self._client, self.uri, self._experiment, {one.key for one in fresh}):
            self._note(row)
        made = []
        for one in fresh:
            other = self._others.get(one.key)
            if other is not None and not gives_way(other[1], other[2], self._home, one.status == "done"):
                self.elsewhere[one.key] = other[1].shown
                continue
            if other is not None:
                self._client.delete_run(self._others.pop(one.key)[0])
            if one.key not in self._runs:
                made.append(one)
        if len(made) >= MIN_BULK and self._bulk is not None:
            self._runs |= self._bulk.write(self._experiment, self._parent, made)
        for one in made:
            if one.key not in self._runs:
                self._write(one)

    def _look(self) -> None:
        """Find the rows that are there, one for each run: what two mirrors made at once is mended."""
        found: dict[str, Any] = {}
        spare = []
        for row in self._search("tags.`cscdarts.kind` = 'run'"):
            key = row.data.tags.get("cscdarts.hash", "")
            if key in found:
                row, less = better(found[key], row, self._home)
                spare.append(less)
            found[key] = row
        self._runs, self._others, self._edited = {}, {}, set()
        for row in spare:
            self._client.delete_run(row.info.run_id)
        for row in found.values():
            self._note(row)

    def _note(self, row: Any) -> None:
        """Remember a row as this folder's or another's."""
        tags, home = row.data.tags, home_of(row)
        key = tags.get("cscdarts.hash", "")
        if home is not None and not home.is_here(self._home):
            self._others[key] = (row.info.run_id, home, tags.get("cscdarts.status", ""))
            return
        cursor = without_lost(_cursor(tags.get(CURSOR, "")), row.info.artifact_uri, self.uri)
        if cursor and str(home) != str(self._home):
            cursor["status"] = ""  # so that something is new: the row is to name this folder
        if is_edited(tags.get(NOTE, "")):
            self._edited.add(key)
        self._runs[key] = (row.info.run_id, cursor)

    def _connect(self) -> None:
        self._home = Home.of(self.folder)  # now: before its first run a grid has no record to draw a number in
        # A tracking server that is away is tried again by the next mirroring, not for minutes on end by this one.
        quiet_client()
        require_server(self.uri)
        with _interrupts_deferred():
            require_store(self.uri)
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.uri)
            self._bulk = BulkWriter.for_uri(self.uri)
            remove_stray_folder(self.uri)
        found = self._client.get_experiment_by_name(self.grid.name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise deleted_experiment(self.grid.name, found.experiment_id, self.uri)
        self._experiment = found.experiment_id if found else self._create_experiment()
        follow_database(self.uri, self._experiment, self.grid.name)
        self._look()
        self._parent, self._grid_written = self._known_parent(), None

    def _known_parent(self) -> str:
        parents = self._search(f"tags.`cscdarts.kind` = 'grid' and tags.`cscdarts.scale` = '{self.grid.scale}'")
        return next((str(run.info.run_id) for run in parents), "")

    def _create_experiment(self) -> str:
        path = sqlite_path(self.uri)
        place = None if path is None else artifact_place(path, self.grid.name)
        try:
            return str(self._client.create_experiment(self.grid.name, artifact_location=place, tags=KIND))
        except Exception:
            # Another mirror may have made it a moment ago, from another folder of runs.
            found = self._client.get_experiment_by_name(self.grid.name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _search(self, query: str) -> Iterator[Any]:
        return pages(self._client, self._experiment, query)

    def _sync_grid(self, states: Sequence[RunState]) -> None:
        manifest = self.folder / "grid.json"
        stat = manifest.stat()
        ended = all(state.status in ("done", "failed", "lost", "cancelled") for state in states)
        now = (stat.st_size, stat.st_mtime_ns, ended)
        if now == self._grid_written:
            return
        content: Mapping[str, Any] = {}
        with contextlib.suppress(UserError):  # the next `run` writes it anew
            content = read_record(manifest) or {}
        name = f"{self.grid.name} ({self.grid.scale})"
        tags = {
            "cscdarts.kind": "grid",
            "cscdarts.grid": self.grid.name,
            "cscdarts.scale": self.grid.scale,
            "cscdarts.runs": str(len(self.grid.points)),
            "cscdarts.commit": str(content.get("commit") or ""),
        }
        if not self._parent:
            created = content.get("created_at")
            started = int(1000 * (created if isinstance(created, int | float) else time.time()))
            with making_rows(self.uri, self.grid.name):
                self._parent = self._known_parent() or str(
                    self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=name).info.run_id
                )
        for key, value in tags.items():
            self._client.set_tag(self._parent, key, value)
        self._artifact(self._parent, manifest)
        if ended:
            self._client.set_terminated(self._parent, "FINISHED", latest_ms(self.folder, self.grid.points))
        else:
            self._client.update_run(self._parent, "RUNNING")
        self._grid_written = now

    def _write(self, one: RunUpdate) -> None:
        """Write one run's update through the client."""
        run_id = one.run_id or self._create(one)
        if one.datasets:
            self._client.log_inputs(run_id, as_inputs(one.datasets))
        for path in one.files:
            self._artifact(run_id, path)
        if one.ended_ms is not None:
            self._client.set_terminated(run_id, STATUS[one.status], one.ended_ms)
        else:
            self._client.update_run(run_id, STATUS[one.status])
        # The note comes last of all: a mirror that dies before it writes the same again, which changes nothing.
        tags = {key: value for key, value in one.tags.items() if key != NOTE or one.key not in self._edited}
        self._log(run_id, one.metrics, one.params, {**(tags if one.run_id else {}), CURSOR: one.note})
        self._runs[one.key] = (run_id, one.cursor)

    def _create(self, one: RunUpdate) -> str:
        run = self._client.create_run(
            self._experiment,
            start_time=one.started_ms,
            tags={**one.tags, "mlflow.parentRunId": self._parent},
            run_name=one.name,
        )
        self._place(run.info.run_id, run.info.artifact_uri)
        return str(run.info.run_id)

    def _place(self, run_id: str, uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._places = {run_id: get_artifact_repository(uri, tracking_uri=self.uri)}

    def _artifact(self, run_id: str, path: Path) -> None:
        """Copy a file; the client would ask the store for the run's place again for each."""
        if run_id not in self._places:
            self._place(run_id, self._client.get_run(run_id).info.artifact_uri)
        self._places[run_id].log_artifact(str(path))

    def _log(
        self,
        run_id: str,
        metrics: list[MetricPoint],
        params: list[tuple[str, str]],
        tags: Mapping[str, str],
    ) -> None:
        """Write in as few batches as MLflow's limits allow: 100 parameters, 100 tags, 1,000 entries in all."""
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(key, value, when, step) for key, value, when, step in metrics]
        named = [Param(key, value) for key, value in params]
        texts = [RunTag(key, value) for key, value in tags.items()]
        while len(points) > 800 or len(named) > 100:
            self._client.log_batch(run_id, metrics=points[:800], params=named[:100])
            points, named = points[800:], named[100:]
        self._client.log_batch(run_id, metrics=points, params=named, tags=texts)
