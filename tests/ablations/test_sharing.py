"""Runs that share a search or a retraining: it is done once, whoever asks, and the others take it over or wait."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.backend import Options
from ablations.drive.driver import Driver, TaskFunctions, counts
from ablations.drive.local import LocalBackend
from ablations.grid.load import load_grid
from ablations.run.stages import STAGES, run_stages
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.overrides import with_values
from slurm.control import Control, Stopping
from slurm.job import CLAIM, Job
from slurm.lock import Lock
from tests.support.harness import engine
from tests.support.harness.grids import write_grid
from tests.support.harness.mirrors import content_of, mirror_once, name_of
from tests.support.records import written

FUNCTIONS = TaskFunctions("tests.support.harness.engine:run_task")


def driver(tmp_path: Path, name: str, notes: list[str], **values: object) -> Driver:
    return Driver(
        load_grid(write_grid(tmp_path / f"{name}.py", notes, **values), "smoke"), tmp_path / "runs", FUNCTIONS
    )


def work(one: Driver, number: int = 0, control: Control | None = None) -> str:
    point = one.grid.points[number]
    (task,) = one.tasks([point.hash], STAGES, time.time(), None)
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    return engine.run_task(Path(task.folder), task.arguments, control or Control())


def begun(one: Driver) -> Path:
    """The folder of the search of a grid's first run, which has begun and made no step."""
    (point, *_) = one.grid.points
    folder = RunFolder(one.path(point))
    folder.create(point.config, "../..")
    folder.stage_folder("search").mkdir(parents=True)
    return folder.stage_folder("search")


def searched(tmp_path: Path) -> int:
    """How many epochs of search all runs together have computed."""
    files = (tmp_path / "runs" / "searches").glob("*/search-metrics.jsonl")
    return sum(len(path.read_text().splitlines()) for path in files)


def test_two_grids_that_share_a_search_make_it_once(tmp_path: Path) -> None:
    first, second = driver(tmp_path, "first", [""]), driver(tmp_path, "second", [""], evaluation__channels=4)
    assert first.grid.points[0].hash != second.grid.points[0].hash
    assert (work(first), work(second)) == ("done", "done")
    assert searched(tmp_path) == 2  # the epochs of one search
    a, b = (RunFolder(one.path(one.grid.points[0])) for one in (first, second))
    assert a.file("search.json") != b.path / "search.json"
    assert a.file("search.json").samefile(b.file("search.json"))
    assert not a.file("result.json").samefile(b.file("result.json"))
    assert "taken over from searches/" in b.file("log.txt").read_text()
    assert [counts(one.states()) for one in (first, second)] == [{"done": 1}] * 2


def test_the_same_run_in_two_grids_is_retrained_once(tmp_path: Path) -> None:
    first, second = driver(tmp_path, "first", [""]), driver(tmp_path, "second", [""])
    assert (work(first), work(second)) == ("done", "done")
    results = list((tmp_path / "runs" / "retrainings").glob("*/result.json"))
    assert len(results) == 1
    (lines,) = (len(path.read_text().splitlines()) for path in results[0].parent.glob("retrain-metrics.jsonl"))
    assert lines == 1


def test_what_another_process_works_on_is_passed_over_and_taken_up_later(tmp_path: Path) -> None:
    first, second = driver(tmp_path, "first", [""]), driver(tmp_path, "second", [""], evaluation__channels=4)
    place = begun(first)
    held = Lock(place / CLAIM)
    assert held.acquire("search elsewhere")
    assert work(second) == "busy"
    assert "held by search elsewhere" in (second.path(second.grid.points[0]) / "log.txt").read_text()
    state = second.states()[0]
    assert (state.status, state.kind) == ("new", "")
    assert state.detail.startswith(f"waits for search {place.name}, which search elsewhere ")
    assert not (second.path(second.grid.points[0]) / "failure.json").exists()
    held.release()
    assert work(second) == "done"


def test_the_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    one = driver(tmp_path, "first", [""])
    lock = Lock(begun(one) / CLAIM)
    assert lock.acquire("search of a process that died")
    owner = json.loads(lock.path.read_text())
    lock.path.write_text(json.dumps({**owner, "started": owner["started"] - 1000}))
    assert work(one) == "done"


def test_a_job_does_all_else_before_it_waits(tmp_path: Path) -> None:
    """Of three tasks one is busy twice: it comes last, and the job ends when it is done."""
    calls: list[str] = []
    job = Job(tuple(driver(tmp_path, "first", ["", "", ""]).tasks([], STAGES, 0.0, None)))
    assert job() == {}
    one = driver(tmp_path, "first", ["", "", ""])
    keys = [point.hash for point in one.grid.points]
    tasks = one.tasks(keys, STAGES, time.time(), None)
    outcomes = {keys[0]: ["busy", "busy", "done"]}

    def run(self: Job, task: Any, *_: Any) -> str:
        calls.append(task.key)
        return outcomes.get(task.key, ["done"]).pop(0) if task.key in outcomes else "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "_run", run)
        patch.setattr("slurm.job.BUSY_PAUSE_S", 0.01)
        assert Job(tuple(tasks))() == dict.fromkeys(keys, "done")
    assert calls == [keys[0], keys[1], keys[2], keys[0], keys[0]]


def test_waiting_for_another_ends_when_asked_to_stop(tmp_path: Path) -> None:
    control = Control()
    control.request_stop("asked")
    with pytest.raises(Stopping):
        control.pause(60.0)


def test_two_local_drivers_at_once_make_one_search(tmp_path: Path) -> None:
    slow = {"search__epochs": 6}
    first = driver(tmp_path, "first", ["pace=0.2"], **slow)
    second = driver(tmp_path, "second", ["pace=0.2"], evaluation__channels=4, **slow)

    def drive(one: Driver) -> None:
        one.folder.mkdir(parents=True, exist_ok=True)
        backend = LocalBackend(one, Options(parallel=1))
        backend.submit([point.hash for point in one.grid.points])
        end = time.monotonic() + 90
        while backend.pool.alive() and time.monotonic() < end:
            time.sleep(0.1)
        backend.close()

    threads = [threading.Thread(target=drive, args=(one,)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counts(one.states()) for one in (first, second)] == [{"done": 1}] * 2
    assert searched(tmp_path) == 6


def test_the_best_of_several_searches_is_derived(tmp_path: Path) -> None:
    """Each search has the key that it has alone; the run's record names the one whose cell it took."""
    from cscdarts.settings.keys import search_key
    from cscdarts.training.derivation import derive

    one = driver(tmp_path, "first", [""], search__best_of=3)
    (point,) = one.grid.points
    errors = {0: 40.0, 1: 12.5, 2: 12.5}

    def search(config: Any, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
        cell = f"|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|{'skip_connect' if config.seed else 'none'}~2|"
        value = {"values": {}, "genotype": cell, "candidate_error_pct": errors[config.seed]}
        folder.file("search.json").write_text(json.dumps({**value, "key": search_key(config).id}))

    def deriving(config: Any, folder: RunFolder, control: Control, report: Callable[[str], None]) -> None:
        derive(config, folder)

    (task,) = one.tasks([point.hash], ("search", "derive"), time.time(), None)
    path = Path(task.folder)
    path.mkdir(parents=True)
    stages = {**engine.ENGINE, "search": search, "derive": deriving}
    assert run_stages(path, task.arguments, Control(), stages, engine.prepare) == "done"
    found = written(path / "genotype.json")
    alone = search_key(with_values(point.config, {"seed": 1, "search.best_of": 1})).id
    assert (found["seed"], found["search"], found["values"]) == (1, alone, {"derived_valid_error_pct": 12.5})
    assert "the lowest validation error of 3 searches, 12.50 %, of number 2" in found["why"]
    assert (RunFolder(path).keys() or {})["search"] == alone
    assert len(list((tmp_path / "runs" / "searches").iterdir())) == 3
    assert one.states()[0].stage == "check"


def test_refused_data_leave_no_folder_of_a_stage(tmp_path: Path) -> None:
    one = driver(tmp_path, "first", [""])

    def refuse(*_: Any) -> None:
        raise ValueError("no such data")

    (task,) = one.tasks([one.grid.points[0].hash], STAGES, 0.0, None)
    path = Path(task.folder)
    path.mkdir(parents=True)
    stages = {**engine.ENGINE, "search": refuse}
    assert run_stages(path, task.arguments, Control(), stages, engine.prepare) == "failed"
    assert list((tmp_path / "runs" / "searches").iterdir()) == []
    assert (read_json(path / "failure.json") or {})["stage"] == "search"


def test_the_tracker_has_a_shared_search_in_each_run(tmp_path: Path, uri: str) -> None:
    """Whoever made the search: its numbers, its curve and its files are with every run that has it."""
    grids = [driver(tmp_path, "first", [""]), driver(tmp_path, "second", [""], evaluation__channels=4)]
    found = []
    for one in grids:
        one.folder.mkdir(parents=True)
        one.write_manifest(Code("a" * 40, False))
        assert work(one) == "done"
        mirror_once(one, uri)
        found.append(content_of(uri, one.grid)[name_of(one, 0)])
    (_, tags, _, curves, files, _), (_, other_tags, _, other_curves, other_files, _) = found
    assert tags["cscdarts.search"] == other_tags["cscdarts.search"] != ""
    assert tags["cscdarts.retraining"] != other_tags["cscdarts.retraining"]
    for name in ("search_train_loss", "search_time_s"):
        assert [(step, value) for step, _, value in curves[name]] == [(s, v) for s, _, v in other_curves[name]]
    assert [name for name, _ in files] == [name for name, _ in other_files]
    assert "search-metrics.jsonl" in [name for name, _ in files]
