"""The SQLite store's file: whole or not there, whoever is killed and whoever begins at once."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.mirror import database
from ablations.mirror.database import artifact_place, require_store
from ablations.mirror.places import follow_database, without_lost
from ablations.mirror.sync import GridMirror
from cscdarts.errors import BrokenFile, UserError
from cscdarts.records.run_folder import RunFolder
from reports.read.database import schema_of
from reports.read.store import load
from reports.read.tracking import sqlite_path, sqlite_uri
from slurm.lock import Lock
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, work

_MAKER = """
import sys, time
from pathlib import Path
from ablations.mirror import database
from ablations.mirror.sync import _interrupts_deferred
print("begun", flush=True)
with _interrupts_deferred():
    database.require_store(sys.argv[1])
print("whole", flush=True)
"""
#: A maker that says where it is, and stays there until it is killed.
_STAYS = """
import sqlite3, sys, time, types
from ablations.mirror import database
# In MLflow's place, whose import takes seconds: no maker gets further than its store.
module = sys.modules["mlflow.store.tracking.sqlalchemy_store"] = types.ModuleType("store")
at = sys.argv[2]
def stay(*_):
    print("here", flush=True)
    time.sleep(600)
class Store:
    def __init__(self, uri, place):
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as db:
            db.execute("create table experiments (x)")
        if at == "half":
            stay()
        self.engine = self
    def dispose(self): pass
module.SqlAlchemyStore = Store
if at == "made":
    database._sync = stay
if at == "locked":
    database._make = stay
database.require_store(sys.argv[1])
"""


def _start(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def quick_maker(empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies a made store instead of making one, which takes seconds."""
    import mlflow.store.tracking.sqlalchemy_store as module

    class Store:
        def __init__(self, uri: str, place: str) -> None:
            path = sqlite_path(uri)
            assert path is not None
            shutil.copy(empty_store, path)
            self.engine = self

        def dispose(self) -> None:
            pass

    monkeypatch.setattr(module, "SqlAlchemyStore", Store)


@pytest.mark.slow
def test_two_that_begin_at_once_in_a_fresh_folder(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    makers = [_start(_MAKER, uri) for _ in range(2)]
    for maker in makers:
        out, err = maker.communicate(timeout=300)
        assert maker.returncode == 0, err
        assert out.split() == ["begun", "whole"]
    assert schema_of(tmp_path / "new" / "mlflow.db")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mlflow.db"]
    # What MLflow's own client makes of it: nothing is missing.
    from mlflow import MlflowClient

    assert [one.name for one in MlflowClient(uri).search_experiments()] == ["Default"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.2, 1.0])
def test_a_real_maker_that_is_stopped(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    path = tmp_path / "mlflow.db"
    maker = _start(_MAKER, f"sqlite:///{path}")
    assert maker.stdout is not None
    assert maker.stdout.readline() == "begun\n"
    time.sleep(after_s)
    maker.send_signal(number)
    maker.communicate(timeout=300)
    if path.exists():
        assert schema_of(path)
    elif number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [], "neither a part nor the lock"


@pytest.mark.parametrize(
    ("at", "number"),
    [("locked", signal.SIGKILL), ("half", signal.SIGINT), ("half", signal.SIGTERM), ("made", signal.SIGKILL)],
)
def test_killed_at_each_step_the_next_makes_it(
    tmp_path: Path, quick_maker: None, at: str, number: signal.Signals
) -> None:
    path = tmp_path / "mlflow.db"
    maker = _start(_STAYS, f"sqlite:///{path}", at)
    assert maker.stdout is not None
    assert maker.stdout.readline() == "here\n"
    assert not path.exists()
    maker.send_signal(number)
    maker.communicate(timeout=60)
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []
    require_store(f"sqlite:///{path}")
    assert schema_of(path)
    assert [one.name for one in tmp_path.iterdir()] == ["mlflow.db"]


def test_one_waits_for_the_other_and_takes_what_it_made(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    other = Lock(tmp_path / ".mlflow.db.lock")
    assert other.acquire("another")

    def arrive(seconds: float) -> None:
        shutil.copy(empty_store, path)

    monkeypatch.setattr("time.sleep", arrive)
    monkeypatch.setattr(database, "_make", None)
    require_store(f"sqlite:///{path}")
    monkeypatch.setattr(database, "WAIT_S", -1.0)
    path.unlink()
    with pytest.raises(UserError, match=r"is held by another \d+ on"):
        require_store(f"sqlite:///{path}")


def _break(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("no database " * 500)
        return
    with sqlite3.connect(path) as file:
        if how == "no revision":
            file.execute("DELETE FROM alembic_version")
        elif how == "another revision":
            file.execute("UPDATE alembic_version SET version_num = 'abc'")
        elif how == "first tables only":
            for table in ("latest_metrics", "alembic_version"):
                file.execute(f"DROP TABLE {table}")
    file.close()


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("first tables only", "cut short (it lacks alembic_version, latest_metrics)"),
        ("no revision", "cut short (its schema has no revision)"),
        ("another revision", "mlflow db upgrade"),
        ("text", "Check the path"),
    ],
)
def test_a_half_made_store_is_named_with_the_way_out(tmp_path: Path, uri: str, how: str, named: str) -> None:
    path = tmp_path / "store" / "mlflow.db"
    _break(path, how)
    before = path.read_bytes()
    driver = driver_of(tmp_path, [""])
    with pytest.raises(UserError) as error:
        GridMirror(driver.grid, driver.folder, uri).open()
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert not (driver.folder / "mirror.lock").exists()
    assert path.read_bytes() == before
    if how != "another revision":
        with pytest.raises(UserError) as error:
            load(["mine"], uri)
        assert named in str(error.value)


def test_an_empty_file_is_no_store_yet(tmp_path: Path, quick_maker: None) -> None:
    (tmp_path / "mlflow.db").touch()
    require_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert schema_of(tmp_path / "mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        require_store(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_file_in_the_way_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        require_store(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_opening_again_is_no_conflict_with_oneself(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    mirror.open()
    mirror.close()
    assert not (driver.folder / "mirror.lock").exists()


@pytest.mark.parametrize("odd", ["50% off", "a%20b", "a b#c", "ü?x"])
def test_odd_folders_hold_stores_and_artifacts(tmp_path: Path, empty_store: Path, odd: str) -> None:
    folder = tmp_path / odd
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = sqlite_uri(folder / "mlflow.db")
    assert sqlite_path(uri) == folder / "mlflow.db"
    driver = driver_of(tmp_path, [""] * 5 + ["raise"])
    work(driver, [5])
    mirror_once(driver, uri)
    work(driver, list(range(5)))
    mirror_once(driver, uri)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == sorted({odd, "mine.py", "runs"}), "no folder of another spelling was made"
    assert len(list((folder / "mlruns" / "mine").glob("*/artifacts/config.json"))) == 6
    store = load(["mine"], uri)
    store.find_files(True)
    assert store.unread == {}
    assert len(content_of(uri, driver.grid)) == 7


def _tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_that_was_moved_or_copied_keeps_to_itself(
    tmp_path: Path, uri: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(tmp_path, ["", "", "raise"])
    work(driver, [0, 2])
    mirror_once(driver, uri)
    old, new = tmp_path / "store", tmp_path / "elsewhere" / "store"
    before = _tree(old / "mlruns")
    new.parent.mkdir()
    shutil.copytree(old, new)
    if how == "moved":
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(old)
    there = sqlite_uri(new / "mlflow.db")
    store = load(["mine"], there)
    store.find_files(True)
    assert store.unread == {}
    work(driver, [1])
    mirror_once(driver, there)
    if how == "moved":
        assert not old.exists(), list(old.rglob("*"))
    else:
        assert _tree(old / "mlruns") == before
    assert len(list((new / "mlruns" / "mine").glob("*/artifacts/config.json"))) == 3
    from mlflow import MlflowClient

    client = MlflowClient(there)
    found = client.get_experiment_by_name("mine")
    assert found is not None
    assert found.artifact_location == artifact_place(new / "mlflow.db", "mine")
    for run in client.search_runs([found.experiment_id]):
        assert run.info.artifact_uri == f"{found.artifact_location}/{run.info.run_id}/artifacts"
        assert client.list_artifacts(run.info.run_id)


def test_a_place_that_was_chosen_is_left_alone(tmp_path: Path, uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    number = client.create_experiment("mine", artifact_location=str(tmp_path / "big" / "disk"))
    follow_database(uri, number, "mine")
    found = client.get_experiment_by_name("mine")
    assert found is not None
    assert found.artifact_location == str(tmp_path / "big" / "disk")


@pytest.mark.parametrize("how", ["mlruns removed", "one run removed", "one file removed", "one file cut"])
def test_copies_that_are_gone_are_made_again(tmp_path: Path, uri: str, how: str) -> None:
    driver = driver_of(tmp_path, ["", "raise"])
    work(driver, [0, 1])
    mirror_once(driver, uri)
    before, tree = content_of(uri, driver.grid), _tree(tmp_path / "store" / "mlruns")
    (result,) = (tmp_path / "store" / "mlruns" / "mine").glob("*/artifacts/result.json")
    if how == "mlruns removed":
        shutil.rmtree(tmp_path / "store" / "mlruns")
    elif how == "one run removed":
        shutil.rmtree(result.parent.parent)
    else:
        result.unlink()
        if how == "one file cut":
            result.write_bytes(b"{")
    mirror_once(driver, uri)
    assert _tree(tmp_path / "store" / "mlruns") == tree
    assert content_of(uri, driver.grid) == before
    assert mirror_once(driver, uri) == 0


def test_copies_that_cannot_be_seen_are_trusted(tmp_path: Path) -> None:
    note = {"files": {"config.json": [1, 2]}, "status": "done"}
    assert without_lost(note, "mlflow-artifacts:/1/x/artifacts", "http://tracker") == note
    assert without_lost(note, "s3://x/y", "sqlite:///mlflow.db") == note
    assert without_lost(note, str(tmp_path), "sqlite:///mlflow.db") == {"files": {}, "status": "done"}


def test_an_experiment_that_was_deleted_is_one_sentence_with_the_way_out(tmp_path: Path, uri: str) -> None:
    from mlflow import MlflowClient

    driver = driver_of(tmp_path, [""])
    work(driver, [0])
    mirror_once(driver, uri)
    client = MlflowClient(uri)
    before = content_of(uri, driver.grid)
    found = client.get_experiment_by_name("mine")
    assert found is not None
    client.delete_experiment(found.experiment_id)
    for ask in (lambda: mirror_once(driver, uri), lambda: load(["mine"], uri)):
        with pytest.raises(UserError, match=f"restore --experiment-id {found.experiment_id}") as error:
            ask()
        assert "\n" not in str(error.value)
        assert "Run it" not in str(error.value)
    client.restore_experiment(found.experiment_id)
    mirror_once(driver, uri)
    assert content_of(uri, driver.grid) == before


#: Lines of metrics that are none.
_LINES = (
    '{"values": [1, 2]}', '{"time": 1e999, "epoch": 0, "values": {}}', '{"time": 1, "epoch": 1e300, "values": {}}',
    '{"time": 1, "epoch": 0, "values": {"search_train_loss": 1' + "0" * 400 + "}}", "[" * 100_000, "null", "3", '"x"',
    '{"time": null, "epoch": 0, "values": {}}', '{"time": 1, "epoch": [], "values": {}}',
)  # fmt: skip
#: Contents of JSON files that are not what the file is for.
_TEXTS = (
    "[]", "3", "null", "{}", '{"values": [1]}', '{"data": 3, "values": {"test_error_pct": "x"}}', "{", "[" * 10**4,
)  # fmt: skip


def test_odd_files_of_some_runs_do_not_stop_the_others(tmp_path: Path, uri: str) -> None:
    """Each run has one odd line or file; all others are written as they are without."""
    names = ("result.json", "environment.json", "genotype.json", "check.json", "search.json")
    odd = [("line", line) for line in _LINES] + [(name, text) for name in names for text in _TEXTS]
    driver = driver_of(tmp_path, [""] * (len(odd) + 1))
    work(driver, list(range(len(odd) + 1)))
    states = driver.states()
    for (where, text), point in zip(odd, driver.grid.points, strict=False):
        folder = RunFolder(driver.path(point))
        if where == "line":
            path = folder.metrics("search")
            path.write_text(text + "\n" + path.read_text())
        else:
            folder.file(where).write_text(text)
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    try:
        mirror.sync(states)
    finally:
        mirror.close()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name("mine")
    assert found is not None
    runs = {run.data.tags.get("cscdarts.hash"): run for run in client.search_runs([found.experiment_id])}
    points = driver.grid.points
    assert {point.hash for point in points} == (runs.keys() - {None}) | mirror.damaged.keys()
    whole = runs[points[-1].hash].data.metrics.keys()
    for (where, _), point in zip(odd, points, strict=False):
        if where == "line":
            assert runs[point.hash].data.metrics.keys() == whole


def test_files_that_are_no_store_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("my notes " * 100)
    with pytest.raises(BrokenFile):
        require_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_text() == "my notes " * 100
