"""MLflow to pandas: the runs of some grids as one frame, and the files of each run as a run folder.

A `sqlite:///` store is read by four plain queries, because the client builds an object for every parameter of every run
and takes 16 s for 5,000 runs where the queries take one; any other store is read through the client, page by page. Both
ways give the same frame (a test holds them to it).
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cscdarts.errors import OutsideFailure, UserError
from cscdarts.records.grid_names import grid_name
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.metrics import METRICS
from reports.read.artifacts import RunFiles, is_plain, local_path
from reports.read.database import open_read_only, schema_of
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

#: Tags that every run row carries as a column, with the column's name.
TAGS = {
    f"cscdarts.{name}": name
    for name in (
        [
            "kind",
            "grid",
            "hash",
            "seed",
            "methods",
            "scale",
            "status",
            "failure",
            "damaged",
            "commit",
            "dirty",
            "hardware",
            "host",
            "data",
            "contents",
            "notes",
            "genotype",
            "torch",
            "search",
            "retraining",
            "search_hardware",
            "search_code",
            "threads",
            "processes",
            "device",
            "deterministic",
            "kernels",
        ]
    )
}
_INFINITE = 1.7e308  # MLflow keeps infinity as the largest double


@dataclass(frozen=True)
class Manifest:
    """What a grid wanted to run: the expected hashes with their methods, as `grid.json` says.

    Attributes:
        grid: the grid's name.
        scale: its scale, "" where the manifest does not say.
        runs: hash -> methods.
        overrides: settings given on the command line, which change the scale's recipe.
    """

    grid: str
    scale: str
    runs: dict[str, tuple[str, ...]]
    overrides: dict[str, str] = field(default_factory=dict)


@dataclass
class Store:
    """The records a report is made from.

    Attributes:
        uri: the tracking URI.
        grids: names in the order asked for.
        runs: one row per run, sorted by grid, scale, hash; columns are the tags of `TAGS`, `run_id`, `experiment_id`,
            `artifact_uri`, `start_ms`, `end_ms`, dotted config parameters as text, metrics as floats (NaN where
            unknown, see `not_a_number` for those recorded as NaN).
        manifests: what each grid wanted, one for each parent run.
        not_a_number: (hash, metric) pairs that were recorded as NaN or infinite.
        repeats: hashes found in several runs of the store, with the number of runs.
        conflicts: hashes whose repeated runs recorded different results: the code is not deterministic there.
        refused: runs that were left out because their hash or id cannot be a file's name.
    """

    uri: str
    grids: list[str]
    runs: pd.DataFrame
    manifests: list[Manifest]
    not_a_number: set[tuple[str, str]]
    repeats: dict[str, int] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    refused: int = 0
    _files: RunFiles | None = field(default=None, repr=False)

    @property
    def unread(self) -> dict[str, str]:
        """Run id -> why the files of a run that was asked for are not there."""
        return self._files.unread if self._files is not None else {}

    def folder(self, run_id: str, artifact_uri: str) -> RunFolder | None:
        """The run's artifacts as a run folder: in place when local, downloaded once when not, None when there are
        none."""
        if self._files is None:
            self._files = RunFiles(self.uri)
        return self._files.folder(run_id, artifact_uri)

    def find_files(self, fetch: bool) -> None:
        """Look for the files of all runs, so that `unread` is whole.

        Args:
            fetch: those too that have to be downloaded.
        """
        for run_id, place in zip(self.runs["run_id"], self.runs["artifact_uri"], strict=True):
            if fetch or local_path(str(place), self.uri) is not None:
                self.folder(str(run_id), str(place))


def load(grids: Sequence[str], uri: str | None = None, scale: str | None = None) -> Store:
    """Read the runs of some grids.

    Args:
        grids: names of grids, or paths of grid files.
        uri: tracking URI; the environment's or the default one if None.
        scale: keep only runs at this scale.
    Errors:
        UserError: no grid given, no store there, a grid the store does not know, no run at the scale.
    """
    uri = uri or tracking_uri()
    names = list(dict.fromkeys(grid_name(grid) for grid in grids))
    if not names:
        raise UserError("GRID", "", "at least one grid", "For example: cscdarts report quickstart")
    rows, parents = _read_client(names, uri) if sqlite_path(uri) is None else _read_sqlite(names, uri)
    store = _assemble(uri, names, rows, parents, scale)
    if scale and store.runs.empty and not store.manifests:
        known = sorted({str(row["scale"]) for row in rows})
        raise UserError(
            "--scale", scale, " or ".join(known) or "a scale with runs", "Run the grid at this scale first."
        )
    return store


def _unknown_grid(missing: Iterable[str], known: Iterable[str], uri: str) -> UserError:
    names = ", ".join(sorted(set(known) - {"Default"})) or "none yet"
    first = next(iter(missing))
    fix = f"Run it: cscdarts ablate run {first}"
    return UserError("GRID", first, f"a grid recorded in {shown(uri)} ({names})", fix)


def _read_sqlite(names: list[str], uri: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        way = "Run a grid first: cscdarts ablate run quickstart"
        raise UserError(VARIABLE, uri, "an MLflow store that exists", way)
    schema_of(path)
    try:
        connection = open_read_only(path)
        try:
            return _query(connection, names, uri)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise UserError(VARIABLE, uri, f"an MLflow database ({error})", "Check the path.") from error


def _query(
    connection: sqlite3.Connection, names: list[str], uri: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    experiments = {
        str(name): int(number)
        for name, number in connection.execute(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        )
    }
    missing = [name for name in names if name not in experiments]
    if missing:
        gone = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", missing[:1]).fetchone()
        if gone is not None:
            raise deleted_experiment(missing[0], str(gone[0]), uri)
        raise _unknown_grid(missing, experiments, uri)
    chosen = [experiments[name] for name in names]
    marks = ",".join("?" * len(chosen))
    active = f"SELECT run_uuid FROM runs WHERE experiment_id IN ({marks}) AND lifecycle_stage = 'active'"
    rows: dict[str, dict[str, Any]] = {}
    for run_id, experiment, start, end, artifacts in connection.execute(
        "SELECT run_uuid, experiment_id, start_time, end_time, artifact_uri FROM runs "
        f"WHERE experiment_id IN ({marks}) AND lifecycle_stage = 'active'",
        chosen,
    ):
        rows[run_id] = _row(run_id, str(experiment), start, end, artifacts)
    for run_id, key, value in connection.execute(
        f"SELECT run_uuid, key, value FROM tags WHERE key LIKE 'cscdarts.%' AND run_uuid IN ({active})", chosen
    ):
        if key in TAGS:
            rows[run_id][TAGS[key]] = value or ""
    for run_id, key, value in connection.execute(
        f"SELECT run_uuid, key, value FROM params WHERE run_uuid IN ({active})", chosen
    ):
        rows[run_id]["params"][key] = value or ""
    for run_id, key, value, is_nan in connection.execute(
        f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({active})", chosen
    ):
        if key in METRICS:
            rows[run_id]["metrics"][key] = float("nan") if is_nan else float(value)
    return _divide(rows.values())


def _read_client(names: list[str], uri: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    require_server(uri)
    quiet_client()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return _read_pages(MlflowClient(uri), names, uri)
    except MlflowException as error:
        raise OutsideFailure(f"Reading {shown(uri)}", one_line(error), f"Check {VARIABLE}, and the server.") from error


def _read_pages(client: Any, names: list[str], uri: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    experiments = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    missing = [name for name in names if name not in experiments]
    if missing:
        gone = client.get_experiment_by_name(missing[0])
        if gone is not None and gone.lifecycle_stage == "deleted":
            raise deleted_experiment(missing[0], gone.experiment_id, uri)
        raise _unknown_grid(missing, experiments, uri)
    rows: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiments[name] for name in names], max_results=1000, page_token=token)
        for run in page:
            row = _row(
                run.info.run_id,
                run.info.experiment_id,
                run.info.start_time,
                run.info.end_time,
                run.info.artifact_uri,
            )
            row |= {TAGS[key]: value for key, value in run.data.tags.items() if key in TAGS}
            row["params"] = dict(run.data.params)
            row["metrics"] = {key: float(value) for key, value in run.data.metrics.items() if key in METRICS}
            rows.append(row)
        token = page.token
        if not token:
            return _divide(rows)


def _row(run_id: str, experiment: str, start: int | None, end: int | None, artifacts: str | None) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(TAGS.values(), "")
    return {
        **empty,
        "run_id": run_id,
        "experiment_id": experiment,
        "start_ms": start,
        "end_ms": end,
        "artifact_uri": artifacts or "",
        "params": {},
        "metrics": {},
    }


def _divide(rows: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = list(rows)
    return [row for row in rows if row["kind"] == "run"], [row for row in rows if row["kind"] == "grid"]


def _assemble(
    uri: str, names: list[str], rows: list[dict[str, Any]], parents: list[dict[str, Any]], scale: str | None
) -> Store:
    store = Store(uri, names, pd.DataFrame(), [], set())
    sound = [row for row in rows if is_plain(str(row["hash"])) and is_plain(str(row["run_id"]))]
    store.refused, rows = len(rows) - len(sound), sound
    parents = [row for row in parents if is_plain(str(row["run_id"]))]
    for parent in sorted(
        parents, key=lambda row: (names.index(row["grid"]) if row["grid"] in names else 0, row["scale"])
    ):
        if scale and parent["scale"] != scale:
            continue
        folder = store.folder(parent["run_id"], parent["artifact_uri"])
        try:
            content = read_json(folder.file("grid.json")) if folder else None
        except (UserError, RecursionError):
            content = None
            store.unread[parent["run_id"]] = "not to be made sense of"
        store.manifests.append(_manifest(parent, content if isinstance(content, dict) else {}))
    kept = [row for row in rows if not scale or row["scale"] == scale]
    kept.sort(key=lambda row: (row["grid"], row["scale"], row["hash"], row["start_ms"] or 0, row["run_id"]))
    by_hash: dict[str, list[dict[str, Any]]] = {}
    for row in kept:
        by_hash.setdefault(row["hash"], []).append(row)
    chosen = [_choose(store, same) for same in by_hash.values()]
    store.runs = _frame(store, chosen)
    return store


def _manifest(parent: dict[str, Any], content: dict[str, Any]) -> Manifest:
    """What `grid.json` says; entries of another form than ours are passed over."""
    listed, overrides = content.get("runs"), content.get("overrides")
    runs = {
        str(entry["hash"]): tuple(str(method) for method in entry.get("methods") or ())
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and "hash" in entry and isinstance(entry.get("methods") or (), list | tuple)
    }
    changed = {str(key): str(value) for key, value in overrides.items()} if isinstance(overrides, dict) else {}
    return Manifest(parent["grid"], parent["scale"], runs, changed)


def _choose(store: Store, same: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for a hash that several grids (or repeated mirrors) recorded: a finished one, with all grids and
    methods."""
    best = max(same, key=lambda row: (row["status"] == "done", len(row["metrics"]), -same.index(row)))
    if len(same) > 1:
        store.repeats[best["hash"]] = len(same)
        errors = {row["metrics"].get("test_error_pct") for row in same if row["status"] == "done"}
        if len(errors) > 1:
            store.conflicts.append(best["hash"])
    methods = dict.fromkeys(m for row in same for m in str(row["methods"]).split(",") if m)
    grids = dict.fromkeys(str(row["grid"]) for row in same)
    return {**best, "methods": ",".join(methods), "grid": ",".join(grids)}


def _frame(store: Store, rows: list[dict[str, Any]]) -> pd.DataFrame:
    flat = []
    for row in rows:
        metrics = {}
        for name, value in row["metrics"].items():
            bad = value != value or abs(value) >= _INFINITE
            if bad:
                store.not_a_number.add((row["hash"], name))
            metrics[name] = float("nan") if bad else value
        params = {key: value for key, value in row["params"].items() if "." in key}
        plain = {key: value for key, value in row.items() if key not in ("params", "metrics", "kind")}
        plain["seed"] = row["seed"] or row["params"].get("seed", "")
        flat.append({**plain, **params, **metrics})
    columns = [name for name in TAGS.values() if name != "kind"]
    columns += ["run_id", "experiment_id", "artifact_uri", "start_ms", "end_ms"]
    frame = pd.DataFrame(flat, columns=None if flat else columns)
    for name, metric in METRICS.items():
        if name not in frame and metric.per == "run":
            frame[name] = float("nan")
    seeds = pd.to_numeric(frame["seed"], errors="coerce")
    frame["seed"] = seeds.where(seeds.abs() < 2**53, -1).astype(int)
    return frame.reset_index(drop=True)
