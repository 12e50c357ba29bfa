"""The MLflow store: where it is, whether it is whole and of the installed version's schema, whether artifacts are at
hand. It is only read."""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from ablations.doctor.finding import Attachment, Finding, Named, as_json, bad, good, weak
from ablations.doctor.packages import version, way_to_have
from ablations.doctor.question import Question
from ablations.mirror.database import newest_schema
from reports.read.artifacts import is_run_place, local_place, why_not_read
from reports.read.database import is_there, open_read_only, schema_of
from reports.read.tracking import VARIABLE, is_server, quiet_client, require_server, shown, sqlite_path, tracking_uri

#: Runs whose files are looked for.
_MOST_RUNS = 5000


def client(_: Question) -> Iterator[Finding]:
    """MLflow itself."""
    if find_spec("mlflow") is None:
        told = "MLflow is not installed: run folders are kept, and nothing of them is recorded or reported."
        yield weak("MLflow", told, way_to_have("mlflow"))
    else:
        yield good("MLflow", f"MLflow {version('mlflow') or version('mlflow-skinny')}.")


def place(_: Question) -> Iterator[Finding | Named]:
    """The store that the tracking URI names."""
    uri = tracking_uri()
    path = sqlite_path(uri)
    where = f"{VARIABLE}={shown(uri)}" if os.environ.get(VARIABLE) else f"{shown(uri)} (the default)"
    host = urlsplit(shown(uri)).hostname if "://" in uri and path is None else None
    if host:
        yield Named("host", (host,))
    if path is not None:
        yield from _sqlite(path, where)
    elif is_server(uri):
        yield from _server(uri, where)
    elif "://" not in uri or uri.startswith("file:"):
        folder = Path(urlsplit(uri).path if uri.startswith("file:") else uri)
        state = "there" if folder.is_dir() else "not there yet"
        yield weak("store", f"{where}: a folder of files, {state}; MLflow gives this kind up.", _DEFAULT)
    else:
        yield good("store", f"{where}: a database server, which was not asked.")


_DEFAULT = f"unset {VARIABLE}: an SQLite file in the present folder."


def _sqlite(path: Path, where: str) -> Iterator[Finding]:
    if not is_there(path):
        yield good("store", f"{where}: not there yet, the first run makes it.")
        return
    found = schema_of(path)  # what is wrong with it is an error with its way out
    with contextlib.closing(open_read_only(path)) as database:
        runs, experiments = (
            database.execute(f"SELECT count(*) FROM {table} WHERE lifecycle_stage = 'active'").fetchone()[0]
            for table in ("runs", "experiments")
        )
    uri = tracking_uri()
    told = f"{where}: {experiments} experiments, {runs} runs, {path.stat().st_size / 2**20:.1f} MiB, schema {found}"
    head = _head()
    if head and head != found:
        yield bad(
            "store", f"{told}, and the installed MLflow has {head}.", f"Copy it, then: mlflow db upgrade {shown(uri)!r}"
        )
    elif not os.access(path, os.W_OK):
        yield bad("store", f"{told}: it cannot be written.", "Correct its rights, or set another.")
    else:
        yield good("store", f"{told}.")


def _head() -> str:
    """The schema of the installed MLflow; "" where there is none."""
    quiet_client()
    return newest_schema() if find_spec("mlflow") is not None else ""


def _server(uri: str, where: str) -> Iterator[Finding]:
    require_server(uri)
    if find_spec("mlflow") is None:
        yield good("store", f"{where}: takes connections.")
        return
    quiet_client()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        found = MlflowClient(uri).search_experiments(max_results=1)
    except MlflowException as error:
        said = shown(" ".join(str(error).split()))
        said = "it takes connections and does not answer." if "timed out" in said else f"{said[:300]} ..."
        refused = any(word in said for word in ("401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED"))
        way = "Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        yield bad("store", f"{where}: {said}", way if refused else f"Check that an MLflow server is at {VARIABLE}.")
        return
    yield good("store", f"{where}: answers{'' if found else ', and has no experiment yet'}.")


def artifacts(question: Question) -> Iterator[Finding]:
    """Whether the files of recorded runs are where an SQLite store says; those of the grid where one is named."""
    uri = tracking_uri()
    path = sqlite_path(uri)
    if path is None or not is_there(path):
        return
    name = Path(question.source).stem if question.source else None
    told = Counter[str]()
    with contextlib.closing(open_read_only(path)) as database:
        rows = database.execute(
            "SELECT r.run_uuid, r.artifact_uri FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
            "WHERE r.lifecycle_stage = 'active' AND (? IS NULL OR e.name = ?) LIMIT ?", (name, name, _MOST_RUNS),
        ).fetchall()  # fmt: skip
    for run_id, artifact_uri in rows:
        told[_standing(str(run_id), str(artifact_uri or ""), uri)] += 1
    whole = sum(told.values())
    if not whole:
        return
    lost = {why: count for why, count in told.items() if why not in ("", "remote")}
    remote = f" {told['remote']} lie on another host, which was not asked." if told["remote"] else ""
    if lost:
        which = "; ".join(f"{count} {why}" for why, count in lost.items())
        way = f"cscdarts ablate watch {question.source or 'GRID'} copies them again from the run folders."
        yield weak("artifacts", f"Of {whole} runs in the store: {which}.{remote}", way)
    else:
        yield good("artifacts", f"The files of all {whole - told['remote']} runs with local ones are at hand.{remote}")


def _standing(run_id: str, artifact_uri: str, uri: str) -> str:
    """Why a run's files cannot be read, "" where they can, `remote` where they lie elsewhere."""
    folder = local_place(artifact_uri, run_id, uri)
    if folder is None:
        return "remote"
    if not is_run_place(folder, run_id):
        return "are said to lie at a place that is no run's"
    if not folder.is_dir():
        return "have no files where the store says"
    return "have files that are not as the mirror leaves them" if why_not_read(folder) else ""


def record(_: Question) -> Iterator[Attachment]:
    """What a bundle says of the store."""
    uri = tracking_uri()
    path = sqlite_path(uri)
    schema: str | None = None
    if path is not None and is_there(path):
        try:
            schema = schema_of(path)
        except Exception as error:  # said as a finding
            schema = f"not to be had: {error}"
    kind = "sqlite" if path is not None else urlsplit(uri).scheme or "folder"
    yield as_json("store.json", {
        "mlflow": version("mlflow"), "kind": kind, "uri": shown(uri), "schema": schema,
        "newest_schema": _head() or None, "sqlite": sqlite3.sqlite_version,
    })  # fmt: skip


CHECKS = {"MLflow": client, "the store": place, "artifacts": artifacts}
