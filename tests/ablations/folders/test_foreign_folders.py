"""Folders that hold something else than their name says: no command takes their numbers or writes into them, each says
which folder and why, and all other runs go on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import Driver, TaskFunctions
from ablations.grid.load import load_grid
from ablations.mirror.sync import GridMirror
from ablations.run.stages import STAGES
from ablations.run.state import RunState
from cscdarts.errors import UserError
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, write_json
from slurm.control import Control
from tests.support.harness import engine
from tests.support.harness.grids import write_grid
from tests.support.records import snapshot, written

CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"


def _driver(tmp_path: Path) -> Driver:
    source = write_grid(tmp_path / "mine.py", ["", "", "", ""])
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    driver = Driver(load_grid(source, "smoke"), tmp_path / "runs", functions)
    driver.folder.mkdir(parents=True, exist_ok=True)
    driver.write_manifest(Code("a" * 40, False))
    return driver


def _work(driver: Driver, numbers: list[int], stages: tuple[str, ...] = STAGES) -> list[str]:
    """What `ablate run` does with each run, in this process."""
    outcomes = []
    for number in numbers:
        (task,) = driver.tasks([driver.grid.points[number].hash], stages, 0.0, None)
        Path(task.folder).mkdir(exist_ok=True)
        outcomes.append(engine.run_task(Path(task.folder), task.arguments, Control()))
    return outcomes


def _folders(driver: Driver) -> list[RunFolder]:
    return [RunFolder(driver.path(point)) for point in driver.grid.points]


def _swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def _replace_cell(folder: RunFolder) -> None:
    write_json(folder.file("genotype.json"), {**written(folder.file("genotype.json")), "text": CELL})


def _copy_over(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def _copy_file(name: str) -> Callable[[list[RunFolder]], object]:
    return lambda folders: shutil.copy(folders[1].file(name), folders[0].file(name))


def _stages_swapped(stage: Any) -> Callable[[list[RunFolder]], None]:
    return lambda folders: _swap(*(folder.stage_folder(stage).resolve() for folder in folders[:2]))


#: What is done to finished runs 0 and 1, which of them are then not what they should be, and what is said of them.
FAULTS: dict[str, tuple[Callable[[list[RunFolder]], object], tuple[int, ...], str]] = {
    "two run folders swapped": (lambda folders: _swap(folders[0].path, folders[1].path), (0, 1), "seed is"),
    "a run copied over another": (lambda folders: _copy_over(folders[1].path, folders[0].path), (0,), "seed is 1"),
    "two searches swapped": (_stages_swapped("search"), (0, 1), "search"),
    "two retrainings swapped": (_stages_swapped("retrain"), (0, 1), "retrain"),
    "keys.json of another run": (_copy_file("keys.json"), (0,), "keys.json"),
    "genotype.json of another run": (_copy_file("genotype.json"), (0,), "retraining"),
    "config.json of another run": (_copy_file("config.json"), (0,), "seed is 1"),
    "another cell": (lambda folders: _replace_cell(folders[0]), (0,), "retraining"),
    "config.json gone": (lambda folders: folders[0].file("config.json").unlink(), (0,), "no config.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_finished_run_that_is_another_is_neither_done_nor_written_nor_mirrored(
    tmp_path: Path, fault: str, uri: str
) -> None:
    spoil, wrong, said = FAULTS[fault]
    driver = _driver(tmp_path)
    assert _work(driver, [0, 1, 2]) == ["done"] * 3
    assert [state.status for state in driver.states()] == ["done"] * 3 + ["new"]
    spoil(_folders(driver))
    states = driver.states()
    assert [number for number, state in enumerate(states) if state.foreign] == [*wrong]
    for number in wrong:
        _is_told(states[number], driver.path(driver.grid.points[number]), said)
    before = {number: snapshot(driver.path(driver.grid.points[number])) for number in wrong}
    stages = snapshot(tmp_path / "runs" / "searches") | snapshot(tmp_path / "runs" / "retrainings")
    assert _work(driver, [*wrong, 3]) == ["failed"] * len(wrong) + ["done"]
    assert {number: snapshot(driver.path(driver.grid.points[number])) for number in wrong} == before
    after = snapshot(tmp_path / "runs" / "searches") | snapshot(tmp_path / "runs" / "retrainings")
    assert {name: after.get(name) for name in stages} == stages
    _mirrors_only_the_right_ones(driver, uri, wrong)


def _is_told(state: RunState, path: Path, said: str) -> None:
    assert state.status == "failed"
    assert state.kind == "user"
    assert str(path) in state.detail
    assert said in state.detail


def _mirrors_only_the_right_ones(driver: Driver, uri: str, wrong: tuple[int, ...]) -> None:
    from mlflow import MlflowClient

    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    try:
        mirror.sync(driver.states())
    finally:
        mirror.close()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(driver.grid.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`cscdarts.kind` = 'run'")
    right = {point.hash for number, point in enumerate(driver.grid.points) if number not in wrong}
    assert {run.data.tags["cscdarts.hash"] for run in runs} == right
    for run in runs:
        (point,) = (point for point in driver.grid.points if point.hash == run.data.tags["cscdarts.hash"])
        result = written(RunFolder(driver.path(point)).file("result.json"))
        assert run.data.metrics["test_error_pct"] == result["values"]["test_error_pct"]


@pytest.mark.parametrize("stages", [STAGES[:1], STAGES[:2]], ids=["searched", "derived"])
def test_a_cell_put_in_before_the_retraining_is_not_retrained(tmp_path: Path, stages: tuple[str, ...]) -> None:
    driver = _driver(tmp_path)
    _work(driver, [0, 1], STAGES[:2])
    folders = _folders(driver)
    _work(driver, [2], stages)
    if stages == STAGES[:2]:
        _replace_cell(folders[2])
    else:
        cell = {**written(folders[1].file("genotype.json")), "search": written(folders[1].path / "keys.json")["search"]}
        write_json(folders[2].path / "genotype.json", cell)
    before = snapshot(tmp_path / "runs")
    assert driver.states()[2].foreign
    assert _work(driver, [2]) == ["failed"]
    assert snapshot(tmp_path / "runs") == before


def test_the_half_of_a_search_under_anothers_name_is_left_alone(tmp_path: Path) -> None:
    driver = _driver(tmp_path)
    _work(driver, [0, 1], STAGES[:1])
    places = [folder.stage_folder("search").resolve() for folder in _folders(driver)[:2]]
    for place in places:
        (place / "search.json").unlink()
    _swap(*places)
    before = snapshot(tmp_path / "runs")
    assert [state.foreign for state in driver.states()] == [True, True, False, False]
    assert _work(driver, [0, 1]) == ["failed"] * 2
    assert snapshot(tmp_path / "runs") == before


def test_a_run_folder_moved_to_another_grid_is_still_itself(tmp_path: Path) -> None:
    driver = _driver(tmp_path)
    _work(driver, [0])
    shutil.copytree(driver.path(driver.grid.points[0]), tmp_path / "runs" / "other" / driver.grid.points[0].hash)
    grid = load_grid(write_grid(tmp_path / "other.py", [""]), "smoke")
    assert [state.status for state in Driver(grid, tmp_path / "runs").states()] == ["done"]


def test_a_whole_runs_folder_can_be_moved(tmp_path: Path) -> None:
    driver = _driver(tmp_path)
    _work(driver, [0, 1])
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    moved = Driver(driver.grid, tmp_path / "elsewhere", driver.functions)
    assert [state.status for state in moved.states()] == ["done", "done", "new", "new"]


@pytest.mark.parametrize("fault", ["another cell", "keys.json of another run", "two retrainings swapped"])
def test_check_takes_no_numbers_of_a_run_that_contradicts_itself(tmp_path: Path, fault: str) -> None:
    from benchmarks.checks.run import check

    driver = _driver(tmp_path)
    _work(driver, [0, 1])
    FAULTS[fault][0](_folders(driver))
    path = driver.path(driver.grid.points[0])
    before = snapshot(tmp_path / "runs")
    with pytest.raises(UserError, match=path.name):
        check(str(path))
    assert snapshot(tmp_path / "runs") == before


def test_the_list_of_the_grid_may_be_torn(tmp_path: Path) -> None:
    driver = _driver(tmp_path)
    _work(driver, [0])
    (driver.folder / "grid.json").write_text(json.dumps({"runs": 3, "fingerprints": 5}))
    assert [state.status for state in driver.states()][:1] == ["done"]
