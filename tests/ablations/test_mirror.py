"""The mirror: whenever it runs, however often it is cut short, the store ends the same."""

import contextlib
import json
import math
import os
import shutil
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

from ablations.drive.driver import Driver, TaskFunctions
from ablations.grid.load import Grid, load_grid
from ablations.mirror.bulk import BulkWriter
from ablations.mirror.sync import GridMirror
from ablations.mirror.updates import flatten, run_name
from cscdarts.errors import UserError
from cscdarts.records.environment import Code
from cscdarts.records.run_folder import write_json
from slurm.control import Control
from tests.support import engine
from tests.support.grids import write_grid

STAGES = ("search", "derive", "check", "retrain")


def _driver(tmp_path: Path, notes: list[str]) -> Driver:
    source = write_grid(tmp_path / "mine.py", notes)
    driver = Driver(load_grid(source, "smoke"), tmp_path / "runs", TaskFunctions("tests.support.engine:run_task"))
    driver.folder.mkdir(parents=True)
    driver.write_manifest(Code("a" * 40, False))
    return driver


def _work(driver: Driver, indices: list[int], stages: tuple[str, ...] = STAGES) -> None:
    for index in indices:
        point = driver.grid.points[index]
        (task,) = driver.tasks([point.hash], stages, 0.0, None)
        path = driver.path(point)
        path.mkdir(exist_ok=True)
        engine.run_task(path, task.arguments, Control())


def _mirror(driver: Driver, uri: str, times: int = 1) -> int:
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    try:
        return [mirror.sync(driver.states()) for _ in range(times)][-1]
    finally:
        mirror.close()


def _content(uri: str, grid: Grid) -> dict[str, Any]:
    """Everything in the store that a reader can see, without the store's own ids."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(grid.name)
    assert experiment is not None
    content: dict[str, Any] = {}
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in runs}
    for run in runs:
        tags = {
            k: v
            for k, v in run.data.tags.items()
            if k not in ("mlflow.parentRunId", "mlflow.user", "mlflow.source.name")
        }
        tags["parent"] = names.get(run.data.tags.get("mlflow.parentRunId", ""), "")
        curves = {
            key: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key))
            for key in run.data.metrics
        }
        files = sorted((a.path, a.file_size) for a in client.list_artifacts(run.info.run_id))
        info = (run.info.status, run.info.start_time, run.info.end_time)
        assert run.info.run_name not in content
        content[run.info.run_name] = (info, _sorted(tags), _sorted(run.data.params), _sorted(curves), files)
    return content


def _sorted(values: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store without runs: making its tables takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # The artifact store of a new SQLite store lies beside the process.
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "store")
    for name in ("mlflow.db", "eager.db"):
        shutil.copy(empty_store, tmp_path / "store" / name)
    return f"sqlite:///{tmp_path}/store/mlflow.db"


def test_what_the_store_holds(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, ["", "raise", ""])
    _work(driver, [0, 1])
    _mirror(driver, uri)
    content = _content(uri, driver.grid)
    assert len(content) == 3, "the parent and the two runs that have begun"
    parent, done, failed = content["mine (smoke)"], content[_name(driver, 0)], content[_name(driver, 1)]
    assert parent[1]["cscdarts.kind"] == "grid"
    assert [name for name, _ in parent[4]] == ["grid.json"]
    point = driver.grid.points[0]
    (status, start, end), tags, params, curves, files = done
    assert status == "FINISHED"
    assert end > start
    assert tags["parent"] == "mine (smoke)"
    expected = {
        "kind": "run", "grid": "mine", "hash": point.hash, "seed": "0", "methods": "csc", "scale": "smoke",
        "status": "done", "failure": "", "commit": "0" * 40, "dirty": "False", "data": "digits", "torch": "none",
        "host": os.uname().nodename,
    }  # fmt: skip
    assert {key: tags[f"cscdarts.{key}"] for key in expected} == expected
    assert tags["cscdarts.genotype"].startswith("|")
    assert params["supernet.split_ratio"] == "1/2"
    assert params["search.order"] == "2"
    assert params["seed"] == "0"
    assert not [key for key in params if key.startswith(("runtime", "labels"))]
    lines = (driver.path(point) / "metrics.jsonl").read_text().splitlines()
    assert [step for step, _, _ in curves["search_train_loss"]] == [0, 1]
    assert len(lines) == 3
    assert len(curves["test_error_pct"]) == 1
    assert [name for name, _ in files] == sorted(
        ["config.json", "environment.json", "search.json", "genotype.json", "check.json", "result.json",
         "alphas.jsonl", "metrics.jsonl", "log.txt"]
    )  # fmt: skip
    assert failed[0][0] == "FAILED"
    assert failed[1]["cscdarts.status"] == "failed"
    assert "the loss went astray" in failed[1]["cscdarts.failure"]


def _name(driver: Driver, index: int) -> str:
    return run_name(driver.grid.points[index])


def test_the_jobs_own_times_are_kept(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, [""])
    _work(driver, [0])
    _mirror(driver, uri)
    path = driver.path(driver.grid.points[0])
    times = [int(1000 * json.loads(line)["time"]) for line in (path / "metrics.jsonl").read_text().splitlines()]
    curves = _content(uri, driver.grid)[_name(driver, 0)][3]
    assert [when for _, when, _ in curves["search_train_loss"]] == times[:2]


def test_mirroring_twice_changes_nothing(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, ["", "raise"])
    _work(driver, [0, 1])
    assert _mirror(driver, uri) == 2
    before = _content(uri, driver.grid)
    assert _mirror(driver, uri, times=3) == 0
    assert _content(uri, driver.grid) == before


def test_early_late_and_interrupted_mirrors_end_the_same(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = _driver(tmp_path, ["", "", ""])
    eager = f"sqlite:///{tmp_path}/store/eager.db"
    _mirror(driver, eager)
    _work(driver, [0], ("search", "derive"))
    _mirror(driver, eager)
    _work(driver, [0])
    _work(driver, [1])

    # This one dies in the middle of a run, after its metrics and before its cursor.
    mirror = GridMirror(driver.grid, driver.folder, eager)
    mirror.open()
    log_artifact = mirror._artifact

    def die(run_id: str, path: Path) -> None:
        if path.name == "result.json":
            raise ConnectionError
        log_artifact(run_id, path)

    monkeypatch.setattr(mirror, "_artifact", die)
    with pytest.raises(ConnectionError):
        mirror.sync(driver.states())
    mirror.close()
    _work(driver, [2])
    _mirror(driver, eager)
    _mirror(driver, uri)
    late, early = _content(uri, driver.grid), _content(eager, driver.grid)
    assert late.keys() == early.keys()
    for name in late:
        assert late[name] == early[name], name


def _mixed(tmp_path: Path) -> Driver:
    """Six runs: done, failed, searched, done with values that SQL cannot hold, done, not begun."""
    driver = _driver(tmp_path, ["", "raise", "", "", "", ""])
    _work(driver, [0, 1, 3, 4])
    _work(driver, [2], ("search",))
    lines = driver.path(driver.grid.points[3]) / "metrics.jsonl"
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
    assert _mirror(driver, uri) == 5
    assert at_once == [5]
    monkeypatch.setattr("ablations.mirror.sync.MIN_BULK", 10**9)
    assert _mirror(driver, eager) == 5
    assert at_once == [5]
    assert repr(_content(uri, driver.grid)) == repr(_content(eager, driver.grid)), "by text, as nan is not nan"
    # The tables themselves, whatever the client shows of them: every row and column but ids and places.
    assert _rows(uri) == _rows(eager)
    monkeypatch.undo()
    _work(driver, [2, 5])
    for store in (uri, eager):
        assert _mirror(driver, store) == 2
    assert repr(_content(uri, driver.grid)) == repr(_content(eager, driver.grid))


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
    return found


def test_a_mirror_that_dies_between_files_and_rows_leaves_nothing_twice(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = _mixed(tmp_path)

    def die(*arguments: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(BulkWriter, "_rows", die)
    with pytest.raises(ConnectionError):
        _mirror(driver, uri)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "store")
    assert _mirror(driver, uri) == 5
    assert len(list((tmp_path / "store" / "mlruns" / "mine").iterdir())) == 6, "the grid's folder and one a run"
    assert _mirror(driver, uri) == 0


def test_pruned_runs_may_come_back(tmp_path: Path, uri: str) -> None:
    driver = _mixed(tmp_path)
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    mirror.sync(driver.states())
    before = _content(uri, driver.grid)
    for point in driver.grid.points:
        mirror.delete(point.hash)
    mirror.close()
    assert _mirror(driver, uri) == 5
    assert repr(_content(uri, driver.grid)) == repr(before)


def test_a_retried_run_is_no_longer_failed(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, ["raise"])
    _work(driver, [0])
    _mirror(driver, uri)
    (driver.folder / "cure").touch()
    point = driver.grid.points[0]
    (task,) = driver.tasks([point.hash], STAGES, time.time(), None)
    engine.run_task(driver.path(point), task.arguments, Control())
    _mirror(driver, uri)
    info, tags, *_ = _content(uri, driver.grid)[_name(driver, 0)]
    assert info[0] == "FINISHED"
    assert (tags["cscdarts.status"], tags["cscdarts.failure"]) == ("done", "")


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, [""])
    _work(driver, [0], ("search",))
    metrics = driver.path(driver.grid.points[0]) / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-10])
    _mirror(driver, uri)
    curve = _content(uri, driver.grid)[_name(driver, 0)][3]["search_train_loss"]
    assert len(curve) == 1
    metrics.write_bytes(whole)
    _mirror(driver, uri)
    assert len(_content(uri, driver.grid)[_name(driver, 0)][3]["search_train_loss"]) == 2


def test_one_mirror_at_a_time(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, [""])
    first, second = (GridMirror(driver.grid, driver.folder, uri) for _ in range(2))
    first.open()
    with pytest.raises(UserError, match=f"mirror of mine {os.getpid()}"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_ctrl_c_while_the_mirror_connects_waits_for_it_and_gives_the_lock_back(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = _driver(tmp_path, [""])
    connected: list[str] = []

    def slow(store: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        connected.append(store)

    monkeypatch.setattr(BulkWriter, "for_uri", slow)
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, frame: pytest.fail("cut short"))
    try:
        mirror = GridMirror(driver.grid, driver.folder, uri)
        with pytest.raises(KeyboardInterrupt):
            mirror.open()
    finally:
        signal.signal(signal.SIGINT, before)
    assert connected == [uri]
    assert not (driver.folder / "mirror.lock").exists()


def test_a_store_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    driver = _driver(tmp_path, [""])
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        GridMirror(driver.grid, driver.folder, "nonsense://nowhere").open()
    assert not (driver.folder / "mirror.lock").exists()


def test_pruned_runs_are_deleted_in_the_store(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, ["", ""])
    _work(driver, [0, 1])
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    mirror.sync(driver.states())
    mirror.delete(driver.grid.points[1].hash)
    mirror.close()
    assert set(_content(uri, driver.grid)) == {"mine (smoke)", _name(driver, 0)}


def test_flatten() -> None:
    assert dict(flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})) == {"a.b": "1", "a.c": "1,2", "d": "None"}


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
        "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
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
    driver = _driver(tmp_path, ["", "raise"])
    _work(driver, [0], ("search",))
    _mirror(driver, server)
    _work(driver, [0, 1])
    _mirror(driver, server)
    _mirror(driver, uri)
    assert _content(server, driver.grid) == _content(uri, driver.grid)


def test_artifacts_lie_beside_the_database(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _driver(tmp_path, [""])
    _work(driver, [0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    _mirror(driver, uri)
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "store" / "mlruns" / "mine").glob("*/artifacts/result.json"))


def test_what_was_written_by_other_grids_is_left_alone(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, [""])
    _work(driver, [0])
    _mirror(driver, uri)
    before = _content(uri, driver.grid)
    other = Grid("other", "smoke", {}, driver.grid.points, driver.grid.source)
    folder = tmp_path / "runs" / "other"
    folder.mkdir()
    write_json(folder / "grid.json", other.manifest(None))
    mirror = GridMirror(other, folder, uri)
    mirror.open()
    mirror.sync(Driver(other, tmp_path / "runs").states())
    mirror.close()
    assert _content(uri, driver.grid) == before
