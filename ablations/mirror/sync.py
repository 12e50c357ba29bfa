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
from ablations.mirror.places import follow_database, without_lost
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
    """

    def __init__(self, grid: Grid, folder: Path, uri: str | None = None) -> None:
        self.grid, self.folder, self.uri = grid, folder, uri or tracking_uri()
        self.lock = Lock(folder / "mirror.lock", stale_s=300.0)
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._runs: dict[str, tuple[str, dict[str, Any]]] = {}
        self._grid_written: Any = None
        self._places: dict[str, Any] = {}
        self._bulk: BulkWriter | None = None
        self.damaged: dict[str, str] = {}
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
        read = damaged_update if state.damage else read_update
        try:
            found = read(self.grid, point, self.folder / point.hash, state, *self._runs.get(point.hash, ("", {})))
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
        fresh = [one for one in part if not one.run_id]
        if len(fresh) >= MIN_BULK and self._bulk is not None:
            self._runs |= self._bulk.write(self._experiment, self._parent, fresh)
        for one in part:
            if one.key not in self._runs or one.run_id:
                self._write(one)

    def delete(self, key: str) -> None:
        """Mark a pruned run as deleted in the store."""
        if key in self._runs:
            self._client.delete_run(self._runs.pop(key)[0])

    def _connect(self) -> None:
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
        for run in self._search("tags.`cscdarts.kind` = 'run'"):
            cursor = without_lost(_cursor(run.data.tags.get(CURSOR, "")), run.info.artifact_uri, self.uri)
            self._runs[run.data.tags.get("cscdarts.hash", "")] = (run.info.run_id, cursor)
        parents = self._search(f"tags.`cscdarts.kind` = 'grid' and tags.`cscdarts.scale` = '{self.grid.scale}'")
        self._parent = next((run.info.run_id for run in parents), "")

    def _create_experiment(self) -> str:
        path = sqlite_path(self.uri)
        place = None if path is None else artifact_place(path, self.grid.name)
        try:
            return str(self._client.create_experiment(self.grid.name, artifact_location=place))
        except Exception:
            # Another mirror may have made it a moment ago, from another folder of runs.
            found = self._client.get_experiment_by_name(self.grid.name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _search(self, query: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

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
            started = int(1000 * (time.time() if created is None else created))
            run = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=name)
            self._parent = run.info.run_id
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
        for path in one.files:
            self._artifact(run_id, path)
        if one.ended_ms is not None:
            self._client.set_terminated(run_id, STATUS[one.status], one.ended_ms)
        else:
            self._client.update_run(run_id, STATUS[one.status])
        # The note comes last of all: a mirror that dies before it writes the same again, which changes nothing.
        self._log(run_id, one.metrics, one.params, {**(one.tags if one.run_id else {}), CURSOR: one.note})
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
