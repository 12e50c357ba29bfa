"""Grids of the tiny engine for tests of the mirror, and everything that a reader can see in a store."""

from pathlib import Path
from typing import Any

from ablations.drive.driver import Driver, TaskFunctions
from ablations.grid.load import Grid, load_grid
from ablations.mirror.sync import GridMirror
from ablations.mirror.updates import run_name
from ablations.run.stages import STAGES
from cscdarts.records.code import Code
from slurm.control import Control
from tests.support.harness import engine
from tests.support.harness.grids import write_grid


def driver_of(tmp_path: Path, notes: list[str]) -> Driver:
    source = write_grid(tmp_path / "mine.py", notes)
    driver = Driver(
        load_grid(source, "smoke"), tmp_path / "runs", TaskFunctions("tests.support.harness.engine:run_task")
    )
    driver.folder.mkdir(parents=True)
    driver.write_manifest(Code("a" * 40, False))
    return driver


def work(driver: Driver, indices: list[int], stages: tuple[str, ...] = STAGES) -> None:
    for index in indices:
        point = driver.grid.points[index]
        (task,) = driver.tasks([point.hash], stages, 0.0, None)
        path = driver.path(point)
        path.mkdir(exist_ok=True)
        engine.run_task(path, task.arguments, Control())


def mirror_once(driver: Driver, uri: str, times: int = 1) -> int:
    mirror = GridMirror(driver.grid, driver.folder, uri)
    mirror.open()
    try:
        return [mirror.sync(driver.states()) for _ in range(times)][-1]
    finally:
        mirror.close()


def content_of(uri: str, grid: Grid) -> dict[str, Any]:
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
        used = sorted(
            (one.dataset.name, one.dataset.digest, one.dataset.source, one.dataset.profile, one.tags[0].value)
            for one in run.inputs.dataset_inputs
        )
        files = sorted((a.path, a.file_size) for a in client.list_artifacts(run.info.run_id))
        info = (run.info.status, run.info.start_time, run.info.end_time)
        assert run.info.run_name not in content
        content[run.info.run_name] = (info, _sorted(tags), _sorted(run.data.params), _sorted(curves), files, used)
    return content


def _sorted(values: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))


def name_of(driver: Driver, index: int) -> str:
    return run_name(driver.grid.points[index])
