"""The mirror's stores: many runs in one transaction, one by one through the client, and over HTTP end the same."""

import contextlib
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import Driver
from ablations.mirror.bulk import BulkWriter
from ablations.mirror.rows import forget
from cscdarts.records.run_folder import RunFolder
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, work


def _mixed(tmp_path: Path) -> Driver:
    """Six runs: done, failed, searched, done with values that SQL cannot hold, done, not begun."""
    driver = driver_of(tmp_path, ["", "raise", "", "", "", ""])
    work(driver, [0, 1, 3, 4])
    work(driver, [2], ("search",))
    lines = RunFolder(driver.path(driver.grid.points[3])).metrics("search")
    odd = {"stage": "search", "epoch": 1, "step": 9, "time": 2e9, "values": {"search_train_loss": math.nan}}
    with lines.open("a") as file:
        file.write(json.dumps(odd) + "\n" + json.dumps({**odd, "values": {"search_valid_loss": math.inf}}) + "\n")
        file.write(json.dumps({**odd, "values": {"search_valid_loss": 1.0}}) + "\n" * 2)
    return driver


def test_many_runs_at_once_are_written_as_the_client_writes_them(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, eager = _mixed(tmp_path), f"sqlite:///{tmp_path}/store/eager.db"
    at_once: list[int] = []
    write = BulkWriter.write

    def counted(self: BulkWriter, experiment: str, parent: str, runs: Any) -> Any:
        at_once.append(len(runs))
        return write(self, experiment, parent, runs)

    monkeypatch.setattr(BulkWriter, "write", counted)
    assert mirror_once(driver, uri) == 5
    assert at_once == [5]
    monkeypatch.setattr("ablations.mirror.sync.MIN_BULK", 10**9)
    assert mirror_once(driver, eager) == 5
    assert at_once == [5]
    assert repr(content_of(uri, driver.grid)) == repr(content_of(eager, driver.grid)), "by text, as nan is not nan"
    # The tables themselves, whatever the client shows of them: every row and column but ids and places.
    assert _rows(uri) == _rows(eager)
    monkeypatch.undo()
    work(driver, [2, 5])
    for store in (uri, eager):
        assert mirror_once(driver, store) == 2
    assert repr(content_of(uri, driver.grid)) == repr(content_of(eager, driver.grid))


def _rows(uri: str) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        names = dict(database.execute("select run_uuid, name from runs"))
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            cursor = database.execute(f"select * from {table}")
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            for row in rows:
                row["run_uuid"] = names[row["run_uuid"]]
                row.pop("artifact_uri", None)
                if row.get("key") == "mlflow.parentRunId":
                    row["value"] = names[row["value"]]
            found[table] = sorted((tuple(row.items()) for row in rows), key=repr)
        used = (
            "select runs.name, datasets.name, digest, dataset_source_type, dataset_source, dataset_schema, "
            "dataset_profile, inputs.source_type, destination_type, step, input_tags.name, input_tags.value "
            "from inputs join runs on destination_id = run_uuid join datasets on source_id = dataset_uuid "
            "join input_tags on input_tags.input_uuid = inputs.input_uuid"
        )
        found["inputs"] = sorted(database.execute(used), key=repr)
        counts = [database.execute(f"select count(*) from {name}").fetchone() for name in ("datasets", "inputs")]
        found["counts"] = counts
    return found


def test_a_mirror_that_dies_between_files_and_rows_leaves_nothing_twice(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = _mixed(tmp_path)

    def die(*arguments: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(BulkWriter, "_rows", die)
    with pytest.raises(ConnectionError):
        mirror_once(driver, uri)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "store")
    assert mirror_once(driver, uri) == 5
    assert len(list((tmp_path / "store" / "mlruns" / "mine").iterdir())) == 6, "the grid's folder and one a run"
    assert mirror_once(driver, uri) == 0


def test_pruned_runs_may_come_back(tmp_path: Path, uri: str) -> None:
    driver = _mixed(tmp_path)
    mirror_once(driver, uri)
    before = content_of(uri, driver.grid)
    forget(driver.folder, [point.hash for point in driver.grid.points], uri)
    assert mirror_once(driver, uri) == 5
    assert repr(content_of(uri, driver.grid)) == repr(before)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A tracking server over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True)
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < end, (folder / "log").read_text()
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


@pytest.mark.slow
def test_a_tracking_server_over_http_ends_as_sqlite_does(tmp_path: Path, uri: str, server: str) -> None:
    driver = driver_of(tmp_path, ["", "raise"])
    work(driver, [0], ("search",))
    mirror_once(driver, server)
    work(driver, [0, 1])
    mirror_once(driver, server)
    mirror_once(driver, uri)
    assert content_of(server, driver.grid) == content_of(uri, driver.grid)


def test_artifacts_lie_beside_the_database(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_of(tmp_path, [""])
    work(driver, [0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    mirror_once(driver, uri)
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "store" / "mlruns" / "mine").glob("*/artifacts/result.json"))
