"""A mirror that is killed at any change of the store or of its files: the next one ends with the store of one that was
never disturbed, and with one run for each hash."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import mended
from cscdarts.records.run_folder import RunFolder
from reports.read.doubts.trust import findings
from reports.read.store import load
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, name_of, work
from tests.support.injector import every_kill

#: Every change, or every n-th where time is short: each costs a second of MLflow's.
COMPLETE = pytest.param(1, marks=pytest.mark.whole)


def _commits(count: Callable[[], None]) -> None:
    """Count what MLflow makes permanent in its store, which SQLite writes without telling Python."""
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "commit")
    def commit(connection: Any) -> None:
        count()


@pytest.mark.parametrize("stride", [COMPLETE, 41])
def test_a_mirror(tmp_path: Path, empty_store: Path, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_of(tmp_path, ["", "raise"])
    work(driver, [0, 1])

    def store(name: object) -> str:
        folder = tmp_path / f"store {name}"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        if not (folder / "mlflow.db").exists():
            shutil.copy(empty_store, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    undisturbed = store("undisturbed")
    mirror_once(driver, undisturbed)
    wanted = content_of(undisturbed, driver.grid)

    def killed(change: int) -> Callable[[], object]:
        uri = store(change)
        return lambda: mirror_once(driver, uri)

    kills = 0
    for change in every_kill(stride, killed, _commits):
        kills += 1
        uri = store(change)
        mirror_once(driver, uri)
        with contextlib.closing(_connected(uri)) as database:
            (hashes,) = database.execute("SELECT COUNT(*) FROM tags WHERE key = 'cscdarts.hash'").fetchone()
        assert hashes == len(driver.grid.points), change
        assert content_of(uri, driver.grid) == wanted, change
    assert kills > 40 // stride


def _connected(uri: str) -> Any:
    import sqlite3

    return sqlite3.connect(uri.removeprefix("sqlite:///"))


def test_damage_is_mirrored_and_the_report_says_how_many(tmp_path: Path, uri: str) -> None:
    """What was copied before stays in the store; a run that was damaged before it was ever copied is there too."""
    driver = driver_of(tmp_path, ["", "", ""])
    work(driver, [0, 1])
    mirror_once(driver, uri)
    before = content_of(uri, driver.grid)
    work(driver, [2])
    folders = [RunFolder(driver.path(point)) for point in driver.grid.points]
    for folder, name in ((folders[0], "result.json"), (folders[2], "check.json")):
        folder.file(name).write_text("{}")
    assert mirror_once(driver, uri, times=2) == 0
    after = content_of(uri, driver.grid)
    assert set(after) == set(before) | {name_of(driver, 2)}
    _, tags, _, *shown = after[name_of(driver, 0)]
    assert (tags["cscdarts.status"], tags["cscdarts.damaged"]) == ("failed", "result.json")
    assert tuple(shown) == before[name_of(driver, 0)][3:]
    assert after[name_of(driver, 1)] == before[name_of(driver, 1)]
    store = load(["mine"], uri)
    (found,) = (one for one in findings(store, False) if one.title == "Damaged runs")
    assert "2 runs are damaged (check.json of 1, result.json of 1)" in found.text
    states = driver.states()
    assert len(mended(driver, states, [state.hash for state in states], lambda line: None)) == 3
    work(driver, [0, 1, 2])
    mirror_once(driver, uri)
    assert not [one for one in findings(load(["mine"], uri), False) if one.title == "Damaged runs"]
    _, tags, *_ = content_of(uri, driver.grid)[name_of(driver, 0)]
    assert (tags["cscdarts.status"], tags["cscdarts.damaged"]) == ("done", "")
