"""One row for a run of a grid, from one folder of runs: two folders with one store, at once, moved, copied."""

import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import Driver, TaskFunctions
from ablations.drive.mirroring import PeriodicMirror
from ablations.grid.load import load_grid
from ablations.grid.past import MANIFEST
from ablations.mirror.rows import Home, forget, remember
from ablations.mirror.sync import GridMirror
from cscdarts.records.code import Code
from reports.read.store import load
from tests.support.harness.grids import write_grid
from tests.support.harness.mirrors import mirror_once, work

ENGINE = TaskFunctions("tests.support.harness.engine:run_task")


def _driver(root: Path, runs: str, notes: list[str], done: list[int]) -> Driver:
    driver = Driver(load_grid(write_grid(root / "mine.py", notes), "smoke"), root / runs, ENGINE)
    driver.folder.mkdir(parents=True, exist_ok=True)
    driver.write_manifest(Code("a" * 40, False))
    work(driver, done)
    return driver


def _rows(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def _written_by(uri: str) -> dict[str, tuple[str, str]]:
    """Hash -> (folder, status) of every run's row; fails where a run, or the grid, has two."""
    rows = _rows(uri)
    twice = {key: n for key, n in Counter(row.data.tags.get("cscdarts.hash") for row in rows).items() if n > 1}
    assert twice == {}
    found = {}
    for row in rows:
        if row.data.tags["cscdarts.kind"] == "run":
            home = Home.read(row.data.tags["cscdarts.home"])
            assert home is not None
            found[row.data.tags["cscdarts.hash"]] = (Path(home.path).parent.name, row.data.tags["cscdarts.status"])
    return found


@pytest.mark.parametrize("number", [2, 7], ids=["by the client", "in bulk"])
def test_two_folders_of_runs_make_one_row_a_run(tmp_path: Path, uri: str, number: int) -> None:
    one = _driver(tmp_path, "one", [""] * number, list(range(number)))
    two = _driver(tmp_path, "two", [""] * number, list(range(number)))
    for driver in (one, two, one, two):
        mirror_once(driver, uri)
    assert set(_written_by(uri).values()) == {("one", "done")}
    said: list[str] = []
    mirror = PeriodicMirror(GridMirror(two.grid, two.folder, uri), said.append)
    mirror(two.states(), last=True)
    mirror.close()
    assert [f"{number} of these runs from {one.folder}" in line for line in said] == [True]
    store = load(["mine"], uri)
    assert len(store.runs) == number
    assert store.repeats == {}
    assert len(store.manifests) == 1


def test_a_finished_run_takes_the_place_of_another_folder_s_unfinished_one(tmp_path: Path, uri: str) -> None:
    one = _driver(tmp_path, "one", ["raise", "", ""], [0])
    work(one, [1], ("search",))
    mirror_once(one, uri)
    two = _driver(tmp_path, "two", ["raise", "", ""], [2])
    (two.folder / "cure").touch()
    work(two, [0])
    mirror_once(two, uri)
    h = [point.hash for point in one.grid.points]
    assert _written_by(uri) == {h[0]: ("two", "done"), h[1]: ("one", "pending"), h[2]: ("two", "done")}
    # And the first folder's later end does not take it back.
    (one.folder / "cure").touch()
    work(one, [0, 1])
    mirror_once(one, uri)
    mirror_once(two, uri)
    assert _written_by(uri) == {h[0]: ("two", "done"), h[1]: ("one", "done"), h[2]: ("two", "done")}
    # A folder forgets its own rows only.
    forget(one.folder, h, uri)
    assert set(_written_by(uri)) == {h[0], h[2]}
    remember(one.folder, h, uri)
    assert set(_written_by(uri)) == set(h)


def test_mirrors_of_two_folders_at_once_make_one_row_a_run(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers = [_driver(tmp_path, name, [""] * 3, [0, 1, 2]) for name in ("one", "two")]
    both = threading.Barrier(2)
    mirrors = [GridMirror(driver.grid, driver.folder, uri) for driver in drivers]
    for mirror in mirrors:
        mirror.open()  # each has seen an empty store
    failed: list[BaseException] = []

    def sync(mirror: GridMirror, driver: Driver) -> None:
        try:
            both.wait()
            mirror.sync(driver.states())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=sync, args=pair) for pair in zip(mirrors, drivers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(_written_by(uri)) == 3
    assert len(_rows(uri)) == 4, "and one row for the grid"
    for mirror in mirrors:
        mirror.close()


def test_rows_that_an_earlier_version_doubled_become_one(tmp_path: Path, uri: str) -> None:
    from mlflow import MlflowClient

    driver = _driver(tmp_path, "one", ["", ""], [0])
    mirror_once(driver, uri)
    client, (row,) = MlflowClient(uri), [row for row in _rows(uri) if row.data.tags["cscdarts.kind"] == "run"]
    client.delete_tag(row.info.run_id, "cscdarts.home")
    tags = {key: value for key, value in row.data.tags.items() if key != "cscdarts.home"}
    again = client.create_run(row.info.experiment_id, tags={**tags, "cscdarts.status": "running"})
    assert len(_rows(uri)) == 3
    assert len(load(["mine"], uri).runs) == 1, "no table counts a run twice, mended or not"
    mirror_once(driver, uri)
    assert [kept.info.run_id for kept in _rows(uri) if kept.data.tags["cscdarts.kind"] == "run"] == [row.info.run_id]
    assert client.get_run(again.info.run_id).info.lifecycle_stage == "deleted"
    assert _written_by(uri) == {driver.grid.points[0].hash: ("one", "done")}


def test_a_moved_folder_goes_on_with_its_rows_and_a_copy_leaves_them_alone(tmp_path: Path, uri: str) -> None:
    driver = _driver(tmp_path, "one", ["", "", ""], [0])
    mirror_once(driver, uri)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = Driver(driver.grid, tmp_path / "copy", ENGINE)
    mirror_once(copy, uri)
    h = [point.hash for point in driver.grid.points]
    assert _written_by(uri) == {h[0]: ("one", "done")}
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = Driver(driver.grid, tmp_path / "moved", ENGINE)
    work(moved, [1])
    mirror_once(moved, uri)
    assert _written_by(uri) == {h[0]: ("moved", "done"), h[1]: ("moved", "done")}
    shutil.rmtree(tmp_path / "moved")
    mirror_once(copy, uri)
    assert _written_by(uri)[h[0]] == ("copy", "done")


HERE = Home("a1", "host", "/runs/mine")


@pytest.mark.parametrize(
    ("there", "same"),
    [
        (Home("a1", "host", "/runs/mine"), True),
        (Home("a1", "login2", "/runs/mine"), True),  # a shared file system
        (Home("a1", "host", "/gone/mine"), True),  # moved
        (Home("b2", "host", "/runs/mine"), True),  # grid.json was lost
        (Home("b2", "login2", "/runs/mine"), False),  # another machine's
        (Home("b2", "host", "/gone/mine"), True),
        (Home("", "host", "/runs/mine"), True),
        (Home("", "login2", "/other/mine"), False),
    ],
)
def test_whose_a_row_is(there: Home, same: bool) -> None:
    assert Home.read(str(there)) == there
    assert there.is_here(HERE) is same


def test_a_home_that_is_there_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"home": "a1"}))
    assert not Home("a1", "host", str(tmp_path)).is_here(HERE)
    assert not Home("b2", "host", str(tmp_path)).is_here(HERE)
    assert Home.read("") is None
