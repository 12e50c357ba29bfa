"""The one writer into MLflow: run folders in, a parent run for the grid and a nested run for each begun hash out.

Jobs never touch the tracker. The mirror can start late, stop and start again, and the store ends the same: what was written
is noted on the run itself (tag `cscdarts.mirror`), metric lines are written with the job's own times, and files are compared
by size and time. Every raw line of `metrics.jsonl` is written; where a resumed run repeats an epoch the latest time counts.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ablations.grid import Grid, Point
from ablations.state import RunState
from cscdarts.errors import UserError
from cscdarts.metrics import METRICS
from cscdarts.runfolder import RunFolder, read_json
from slurm.lock import Lock

DEFAULT_URI = "sqlite:///mlflow.db"
#: Files copied as artifacts, once each; the growing ones only when the run has ended.
ARTIFACTS = ("config.json", "environment.json", "search.json", "genotype.json", "check.json", "result.json")
GROWING = ("alphas.jsonl", "metrics.jsonl", "log.txt")
CURSOR = "cscdarts.mirror"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or an SQLite file in the present folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and text values of nested data."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ",".join(str(part) for part in value)
        else:
            yield f"{prefix}{key}", str(value)


class Mirror:
    """Mirrors one grid.

    Args:
        grid: the grid.
        folder: `runs/<grid>`.
        uri: the store; `tracking_uri()` if None.
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

    def open(self) -> None:
        """Become the grid's one mirror and find what is in the store already.

        Errors:
            UserError: another mirror is at work, or the store cannot be reached.
        """
        if not self.lock.acquire(f"mirror of {self.grid.name}"):
            raise UserError("mirror", f"held by {self.lock.owner()}", "one mirror a grid", "Leave it to that one.")
        try:
            self._connect()
        except Exception as error:
            self.lock.release()
            if isinstance(error, UserError):
                raise
            raise UserError(
                "MLFLOW_TRACKING_URI",
                self.uri,
                "an MLflow store that answers",
                f"{type(error).__name__}: {error}"[:300],
            ) from error

    def close(self) -> None:
        """Let another mirror work."""
        self.lock.release()

    def sync(self, states: Sequence[RunState]) -> int:
        """Write what is new; returns how many runs had news. Costs a few file stats for a run without news."""
        if not self.lock.refresh():
            raise UserError(
                "mirror", f"taken over by {self.lock.owner()}", "one mirror a grid", "Leave it to that one."
            )
        self._sync_grid(states)
        changed = 0
        for point, state in zip(self.grid.points, states, strict=True):
            if (self.folder / point.hash / "config.json").exists():
                changed += self._sync_run(point, state)
        return changed

    def forget(self, key: str) -> None:
        """Mark a pruned run as deleted in the store."""
        if key in self._runs:
            self._client.delete_run(self._runs.pop(key)[0])

    def _connect(self) -> None:
        # MLflow asks the network for its own usage statistics and git for a commit; neither is ours to do.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # A tracking server that is away is tried again by the next mirroring, not for minutes on end by this one.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        import logging

        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(self.grid.name)
        self._experiment = found.experiment_id if found else self._create_experiment()
        for run in self._search("tags.`cscdarts.kind` = 'run'"):
            cursor = json.loads(run.data.tags.get(CURSOR, "{}"))
            self._runs[run.data.tags["cscdarts.hash"]] = (run.info.run_id, cursor)
        parents = self._search(f"tags.`cscdarts.kind` = 'grid' and tags.`cscdarts.scale` = '{self.grid.scale}'")
        self._parent = next((run.info.run_id for run in parents), "")

    def _create_experiment(self) -> str:
        place = None
        if self.uri.startswith("sqlite:///"):
            # Beside the database, whichever folder the command is called from; MLflow would take the present one.
            place = str(Path(self.uri.removeprefix("sqlite:///")).absolute().parent / "mlruns" / self.grid.name)
        return str(self._client.create_experiment(self.grid.name, artifact_location=place))

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
        content = read_json(manifest) or {}
        name = f"{self.grid.name} ({self.grid.scale})"
        tags = {
            "cscdarts.kind": "grid",
            "cscdarts.grid": self.grid.name,
            "cscdarts.scale": self.grid.scale,
            "cscdarts.runs": str(len(self.grid.points)),
            "cscdarts.commit": str(content.get("commit") or ""),
        }
        if not self._parent:
            started = int(1000 * content.get("created_at", time.time()))
            run = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=name)
            self._parent = run.info.run_id
        for key, value in tags.items():
            self._client.set_tag(self._parent, key, value)
        self._client.log_artifact(self._parent, str(manifest))
        if ended:
            self._client.set_terminated(self._parent, "FINISHED", _latest_ms(self.folder, self.grid.points))
        else:
            self._client.update_run(self._parent, "RUNNING")
        self._grid_written = now

    def _sync_run(self, point: Point, state: RunState) -> bool:
        folder = RunFolder(self.folder / point.hash)
        run_id, cursor = self._runs.get(point.hash, ("", {}))
        ended = state.status in ("done", "failed")
        status = {"done": "done", "failed": "failed", "running": "running"}.get(state.status, "pending")
        files = _stamps(folder, (*ARTIFACTS, "failure.json", *(GROWING if ended else ())))
        size = _size(folder.file("metrics.jsonl"))
        if run_id and cursor.get("files") == files and cursor.get("bytes") == size and cursor.get("status") == status:
            return False
        tags = _tags(self.grid, point, folder, status, state)
        params: list[tuple[str, str]] = []
        if not run_id:
            run_id = self._create(point, folder, tags)
            config = point.config.model_dump(mode="json", exclude={"runtime", "labels"})
            params, tags = list(flatten(config)), {}
        elif not cursor:
            # A mirror died between making the run and its first note: what follows is written in any case.
            config = point.config.model_dump(mode="json", exclude={"runtime", "labels"})
            params = list(flatten(config))
        metrics, read = _lines(folder.file("metrics.jsonl"), int(cursor.get("bytes", 0)))
        before = cursor.get("files", {})
        if files.get("result.json") != before.get("result.json"):
            metrics += _results(folder)
        for name, stamp in files.items():
            if name != "failure.json" and stamp != before.get(name):
                self._artifact(run_id, folder.file(name))
        if status == "done":
            self._client.set_terminated(run_id, "FINISHED", _mtime_ms(folder.file("result.json")))
        elif status == "failed":
            told = "failure.json" if "failure.json" in files else "log.txt"
            self._client.set_terminated(run_id, "FAILED", _mtime_ms(folder.file(told)))
        else:
            self._client.update_run(run_id, "RUNNING" if status == "running" else "SCHEDULED")
        cursor = {"bytes": read, "files": files, "status": status}
        # The note comes last of all: a mirror that dies before it writes the same again, which changes nothing.
        self._log(run_id, metrics, params, {**tags, CURSOR: json.dumps(cursor, sort_keys=True)})
        self._runs[point.hash] = (run_id, cursor)
        return True

    def _create(self, point: Point, folder: RunFolder, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self._experiment,
            start_time=_started_ms(folder),
            tags={**tags, "mlflow.parentRunId": self._parent},
            run_name=run_name(point),
        )
        self._place(run.info.run_id, run.info.artifact_uri)
        return str(run.info.run_id)

    def _place(self, run_id: str, uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._places = {run_id: get_artifact_repository(uri, tracking_uri=self.uri)}

    def _artifact(self, run_id: str, path: Path) -> None:
        """Copy a file; the client would ask the store for the run's place anew for each."""
        if run_id not in self._places:
            self._place(run_id, self._client.get_run(run_id).info.artifact_uri)
        self._places[run_id].log_artifact(str(path))

    def _log(
        self,
        run_id: str,
        metrics: list[tuple[str, float, int, int]],
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


def run_name(point: Point) -> str:
    """A short name: method, what the method varies, seed."""
    supernet, search = point.config.supernet, point.config.search
    return f"{point.methods[0]} r={supernet.split_ratio} id={supernet.identity} o={search.order} s={point.config.seed}"


def _tags(grid: Grid, point: Point, folder: RunFolder, status: str, state: RunState) -> dict[str, str]:
    from cscdarts.environment import hardware

    environment = _read(folder, "environment.json")
    genotype, result = _read(folder, "genotype.json"), _read(folder, "result.json")
    return {
        "cscdarts.kind": "run",
        "cscdarts.grid": grid.name,
        "cscdarts.hash": point.hash,
        "cscdarts.seed": str(point.config.seed),
        "cscdarts.methods": ",".join(point.methods),
        "cscdarts.scale": grid.scale,
        "cscdarts.status": status,
        "cscdarts.failure": state.detail[:4000] if status == "failed" else "",
        "cscdarts.commit": str(environment.get("commit") or ""),
        "cscdarts.dirty": str(environment.get("dirty", "")),
        "cscdarts.hardware": hardware(environment) if environment else "",
        "cscdarts.host": str(environment.get("hostname") or ""),
        "cscdarts.data": str(result.get("data", {}).get("label") or point.config.data.dataset),
        "cscdarts.genotype": str(genotype.get("text") or ""),
        "cscdarts.torch": str(environment.get("torch") or ""),
    }


def _read(folder: RunFolder, name: str) -> dict[str, Any]:
    with contextlib.suppress(UserError):
        value = read_json(folder.file(name))
        return value if isinstance(value, dict) else {}
    return {}


def _lines(path: Path, offset: int) -> tuple[list[tuple[str, float, int, int]], int]:
    """Metric points `(key, value, ms, step)` of the whole lines after `offset`, and the offset behind them."""
    points: list[tuple[str, float, int, int]] = []
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    for line in data[:whole].splitlines():
        try:
            entry = json.loads(line)
            when, step = int(1000 * entry["time"]), int(entry["epoch"])
            points += [(k, float(v), when, step) for k, v in entry["values"].items() if k in METRICS]
        except (ValueError, KeyError, TypeError):
            continue
    return points, offset + whole


def _results(folder: RunFolder) -> list[tuple[str, float, int, int]]:
    values = _read(folder, "result.json").get("values", {})
    when = _mtime_ms(folder.file("result.json"))
    return [(k, float(v), when, 0) for k, v in values.items() if k in METRICS and isinstance(v, int | float)]


def _stamps(folder: RunFolder, names: Iterable[str]) -> dict[str, list[int]]:
    stamps = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            stat = folder.file(name).stat()
            stamps[name] = [stat.st_size, stat.st_mtime_ns]
    return stamps


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _mtime_ms(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return int(1000 * time.time())


def _latest_ms(folder: Path, points: Iterable[Point]) -> int:
    ends = [folder / p.hash / name for p in points for name in ("result.json", "failure.json")]
    known = [_mtime_ms(path) for path in ends if path.exists()]
    return max(known, default=int(1000 * time.time()))


def _started_ms(folder: RunFolder) -> int:
    environment = _read(folder, "environment.json")
    started = environment.get("first_started_at") or environment.get("started_at")
    if isinstance(started, int | float):
        return int(1000 * started)
    if isinstance(started, str):
        with contextlib.suppress(ValueError):
            return int(1000 * datetime.fromisoformat(started).timestamp())
    return _mtime_ms(folder.file("config.json"))
