"""The mirror: whenever it runs, however often it is cut short, the store ends the same."""

import os
import signal
import time
from pathlib import Path

import pytest

from ablations.drive.driver import Driver
from ablations.grid.load import Grid
from ablations.mirror.bulk import BulkWriter
from ablations.mirror.rows import forget
from ablations.mirror.sync import GridMirror
from ablations.run.stages import STAGES
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json, read_lines, write_json
from cscdarts.settings.overrides import dotted_texts
from slurm.control import Control
from tests.support.harness import engine
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, name_of, work


def test_what_stages_noted_of_themselves_is_a_tag(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, ["", ""])
    work(driver, [0, 1])
    folder = RunFolder(driver.path(driver.grid.points[0]))
    for name, notes in (("genotype.json", ["the cell leads nowhere"]), ("result.json", ["first", "second"])):
        write_json(folder.file(name), {**(read_json(folder.file(name)) or {}), "notes": notes})
    mirror_once(driver, uri)
    content = content_of(uri, driver.grid)
    tags = [content[name_of(driver, number)][1]["cscdarts.notes"] for number in (0, 1)]
    assert tags == ["the cell leads nowhere; first; second", ""]


def test_what_the_store_holds(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, ["", "raise", ""])
    work(driver, [0, 1])
    mirror_once(driver, uri)
    content = content_of(uri, driver.grid)
    assert len(content) == 3, "the parent and the two runs that have begun"
    parent, done, failed = content["mine (smoke)"], content[name_of(driver, 0)], content[name_of(driver, 1)]
    assert parent[1]["cscdarts.kind"] == "grid"
    assert [name for name, _ in parent[4]] == ["grid.json"]
    point = driver.grid.points[0]
    (status, start, end), tags, params, curves, files, _ = done
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
    lines = [line for path in RunFolder(driver.path(point)).metrics_files().values() for line in read_lines(path)]
    assert [step for step, _, _ in curves["search_train_loss"]] == [0, 1]
    assert len(lines) == 3
    assert len(curves["test_error_pct"]) == 1
    assert [name for name, _ in files] == sorted(
        ["config.json", "environment.json", "search.json", "genotype.json", "check.json", "result.json",
         "alphas.jsonl", "search-metrics.jsonl", "retrain-metrics.jsonl", "log.txt"]
    )  # fmt: skip
    assert failed[0][0] == "FAILED"
    assert failed[1]["cscdarts.status"] == "failed"
    assert "the loss went astray" in failed[1]["cscdarts.failure"]


def test_the_jobs_own_times_are_kept(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
    work(driver, [0])
    mirror_once(driver, uri)
    path = RunFolder(driver.path(driver.grid.points[0])).metrics("search")
    times = [int(1000 * line["time"]) for line in read_lines(path)]
    curves = content_of(uri, driver.grid)[name_of(driver, 0)][3]
    assert [when for _, when, _ in curves["search_train_loss"]] == times[:2]


def test_mirroring_twice_changes_nothing(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, ["", "raise"])
    work(driver, [0, 1])
    assert mirror_once(driver, uri) == 2
    before = content_of(uri, driver.grid)
    assert mirror_once(driver, uri, times=3) == 0
    assert content_of(uri, driver.grid) == before


def test_early_late_and_interrupted_mirrors_end_the_same(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_of(tmp_path, ["", "", ""])
    eager = f"sqlite:///{tmp_path}/store/eager.db"
    mirror_once(driver, eager)
    work(driver, [0], ("search", "derive"))
    mirror_once(driver, eager)
    work(driver, [0])
    work(driver, [1])

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
    work(driver, [2])
    mirror_once(driver, eager)
    mirror_once(driver, uri)
    late, early = content_of(uri, driver.grid), content_of(eager, driver.grid)
    assert late.keys() == early.keys()
    for name in late:
        assert late[name] == early[name], name


def test_a_retried_run_is_no_longer_failed(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, ["raise"])
    work(driver, [0])
    mirror_once(driver, uri)
    (driver.folder / "cure").touch()
    point = driver.grid.points[0]
    (task,) = driver.tasks([point.hash], STAGES, time.time(), None)
    engine.run_task(driver.path(point), task.arguments, Control())
    mirror_once(driver, uri)
    info, tags, *_ = content_of(uri, driver.grid)[name_of(driver, 0)]
    assert info[0] == "FINISHED"
    assert (tags["cscdarts.status"], tags["cscdarts.failure"]) == ("done", "")


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
    work(driver, [0], ("search",))
    metrics = RunFolder(driver.path(driver.grid.points[0])).metrics("search")
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-10])
    mirror_once(driver, uri)
    curve = content_of(uri, driver.grid)[name_of(driver, 0)][3]["search_train_loss"]
    assert len(curve) == 1
    metrics.write_bytes(whole)
    mirror_once(driver, uri)
    assert len(content_of(uri, driver.grid)[name_of(driver, 0)][3]["search_train_loss"]) == 2


def test_one_mirror_at_a_time(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
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
    driver = driver_of(tmp_path, [""])
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
    driver = driver_of(tmp_path, [""])
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        GridMirror(driver.grid, driver.folder, "nonsense://nowhere").open()
    assert not (driver.folder / "mirror.lock").exists()


def test_pruned_runs_are_deleted_in_the_store(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, ["", ""])
    work(driver, [0, 1])
    mirror_once(driver, uri)
    forget(driver.folder, [driver.grid.points[1].hash, "f" * 16], uri)
    assert set(content_of(uri, driver.grid)) == {"mine (smoke)", name_of(driver, 0)}


def test_dotted_texts() -> None:
    assert dict(dotted_texts({"a": {"b": 1, "c": [1, 2]}, "d": None})) == {"a.b": "1", "a.c": "1,2", "d": "None"}


def test_what_was_written_by_other_grids_is_left_alone(tmp_path: Path, uri: str) -> None:
    driver = driver_of(tmp_path, [""])
    work(driver, [0])
    mirror_once(driver, uri)
    before = content_of(uri, driver.grid)
    other = Grid("other", "smoke", {}, driver.grid.points, driver.grid.source)
    folder = tmp_path / "runs" / "other"
    folder.mkdir()
    write_json(folder / "grid.json", other.manifest(None))
    mirror = GridMirror(other, folder, uri)
    mirror.open()
    mirror.sync(Driver(other, tmp_path / "runs").states())
    mirror.close()
    assert content_of(uri, driver.grid) == before
