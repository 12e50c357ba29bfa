"""Many new runs at once into MLflow's SQLite store: one transaction where the client would need seven commits per run.

The rows are those that `MlflowClient` would write, by MLflow's own table definitions and session; a test compares the
two stores. Other stores (a tracking server) and runs that the store knows already go through the client.
"""

import contextlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

from ablations.mirror.datasets import CONTEXT
from ablations.mirror.updates import ARTIFACTS, CURSOR, STATUS, RunUpdate
from reports.read.artifacts import local_path
from reports.read.tracking import sqlite_path

#: What is written, table by table, rows in the order of their primary keys.
_COLUMNS = {
    "SqlRun": (
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
        "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id",
    ),
    "SqlTag": ("key", "run_uuid", "value"),
    "SqlParam": ("key", "run_uuid", "value"),
    "SqlMetric": ("key", "run_uuid", "step", "timestamp", "value", "is_nan"),
    "SqlLatestMetric": ("key", "run_uuid", "step", "timestamp", "value", "is_nan"),
    "SqlDataset": (
        "experiment_id", "name", "digest", "dataset_uuid", "dataset_source_type", "dataset_source", "dataset_schema",
        "dataset_profile",
    ),
    "SqlInput": ("source_type", "source_id", "destination_type", "destination_id", "input_uuid"),
    "SqlInputTag": ("input_uuid", "name", "value"),
}  # fmt: skip

Rows = dict[str, list[tuple[Any, ...]]]


class BulkWriter:
    """Writes runs that are not in the store yet.

    Args:
        store: MLflow's `SqlAlchemyStore`.
        tables: its tables by the names of `_COLUMNS`.
    """

    def __init__(self, store: Any, tables: dict[str, Any]) -> None:
        self._store, self._tables = store, tables

    @classmethod
    def for_uri(cls, uri: str) -> "BulkWriter | None":
        """A writer for a store that takes one; None for any other, or for an MLflow whose tables have changed."""
        if sqlite_path(uri) is None:
            return None
        try:
            from mlflow.store.tracking.dbmodels import models
            from mlflow.tracking._tracking_service.utils import _get_store

            store = _get_store(uri)
            tables = {name: getattr(models, name).__table__ for name in _COLUMNS}
            known = all(set(columns) <= set(tables[name].columns.keys()) for name, columns in _COLUMNS.items())
            if not known or not hasattr(store, "ManagedSessionMaker"):
                return None
        except (ImportError, AttributeError):
            return None
        return cls(store, tables)

    def write(self, experiment: str, parent: str, runs: Sequence[RunUpdate]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Make the runs with all they have; returns hash -> (run id, cursor) of those that were made.

        A run's id follows from its start and its hash, so what a mirror copied before it died is copied over, not
        copied again. A run that lies deleted in the store keeps that id, and is left to the client.
        """
        from sqlalchemy import insert, select

        place = _local(self._store.get_experiment(experiment).artifact_location)
        if place is None:
            return {}
        run_table = self._tables["SqlRun"]
        ids = {one.key: _run_id(one, parent) for one in runs}
        with self._store.ManagedSessionMaker() as session:
            taken = set(session.scalars(select(run_table.c.run_uuid).where(run_table.c.run_uuid.in_(ids.values()))))
        made = [one for one in runs if ids[one.key] not in taken]
        rows: Rows = {name: [] for name in _COLUMNS}
        datasets = self._datasets(rows, made, int(experiment))
        for one in made:
            run_id = ids[one.key]
            folder = place[0] / run_id / "artifacts"
            folder.mkdir(parents=True, exist_ok=True)
            for path in one.files:
                _copy(path, folder / path.name)
            self._rows(rows, one, run_id, f"{place[1]}/{run_id}/artifacts", experiment, parent)
            _inputs(rows, one, run_id, datasets)
        with self._store.ManagedSessionMaker(read_only=False) as session:
            connection = session.connection()
            # SQLite's own 2 MB do not hold the indices of a large store, and rows out of order would fetch them over
            # and over.
            connection.exec_driver_sql("PRAGMA cache_size = -262144")
            for name, columns in _COLUMNS.items():
                if rows[name]:
                    statement = insert(self._tables[name]).compile(dialect=connection.dialect, column_keys=columns)
                    order = itemgetter(*(columns.index(column) for column in statement.positiontup or ()))
                    connection.exec_driver_sql(str(statement), [order(row) for row in sorted(rows[name])])
        return {one.key: (ids[one.key], one.cursor) for one in made}

    def _datasets(self, rows: Rows, made: Sequence[RunUpdate], experiment: int) -> dict[tuple[str, str], str]:
        """The ids of all parts of data sets of some runs by name and digest; those that are not there yet are made."""
        from sqlalchemy import select

        table = self._tables["SqlDataset"].c
        with self._store.ManagedSessionMaker() as session:
            query = select(table.name, table.digest, table.dataset_uuid).where(table.experiment_id == experiment)
            known = {(name, digest): str(number) for name, digest, number in session.execute(query)}
        for part in (part for one in made for part in one.datasets):
            if (part.name, part.digest) not in known:
                number = _number("dataset", str(experiment), part.name, part.digest)
                known[part.name, part.digest] = number
                rows["SqlDataset"].append((
                    experiment, part.name, part.digest, number,
                    part.source_type, part.source, part.schema, part.profile,
                ))  # fmt: skip
        return known

    def _rows(self, rows: Rows, one: RunUpdate, run_id: str, place: str, experiment: str, parent: str) -> None:
        rows["SqlRun"].append((
            run_id, one.name, "UNKNOWN", "", "", "unknown", STATUS[one.status], one.started_ms, one.ended_ms, None, "",
            "active", place, int(experiment),
        ))  # fmt: skip
        tags = {**one.tags, "mlflow.parentRunId": parent, "mlflow.runName": one.name, CURSOR: one.note}
        rows["SqlTag"] += [(key, run_id, value) for key, value in tags.items()]
        rows["SqlParam"] += [(key, run_id, value) for key, value in one.params]
        points: set[tuple[Any, ...]] = set()
        latest: dict[str, tuple[int, int, float, bool]] = {}
        for key, value, when, step in one.metrics:
            is_nan, stored = (False, value) if isfinite(value) else self._store.sanitize_metric_value(value)
            points.add((key, run_id, step, when, stored, is_nan))
            found = (step, when, stored, is_nan)
            if key not in latest or found > latest[key]:
                latest[key] = found
        rows["SqlMetric"] += points
        rows["SqlLatestMetric"] += [(key, run_id, *found) for key, found in latest.items()]


def _inputs(rows: Rows, one: RunUpdate, run_id: str, datasets: Mapping[tuple[str, str], str]) -> None:
    """What ties a run to the parts of data sets that it used."""
    for part in one.datasets:
        source = datasets[part.name, part.digest]
        number = _number("input", source, run_id)
        rows["SqlInput"].append(("DATASET", source, "RUN", run_id, number))
        rows["SqlInputTag"].append((number, CONTEXT, part.context))


def _number(*what: str) -> str:
    """An id that follows from what it is of."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "/".join(what)).hex


def _run_id(one: RunUpdate, parent: str) -> str:
    """An id that begins with the start in milliseconds, as UUIDs of version 7 do: the store's indices grow at their
    ends."""
    return f"{one.started_ms:012x}" + uuid.uuid5(uuid.NAMESPACE_OID, f"{parent}/{one.key}").hex[:20]


def _copy(source: Path, target: Path) -> None:
    """Copy a file; one that is only ever replaced whole is linked instead where the file system can."""
    if source.name in ARTIFACTS:
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)


def _local(location: str) -> tuple[Path, str] | None:
    """An experiment's artifact folder as a path and as written in the store; None where it is no local folder."""
    path = local_path(location)
    return (path, location.rstrip("/")) if path is not None and path.is_absolute() else None
