"""Retrained networks as MLflow models: loadable, equal, logged once, on request only."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from ablations.commands.mlflow import mlflow as command
from ablations.drive.driver import Driver
from ablations.mirror import models
from ablations.mirror.models import log_models
from ablations.mirror.rows import forget
from cscdarts import load
from cscdarts.export.formats import FORMATS
from cscdarts.export.source import of_run
from cscdarts.export.writing import write_export
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.training.retrain import retrain
from tests.support.harness.finished import CELL
from tests.support.harness.mirrors import content_of, driver_of, mirror_once, work


@pytest.fixture
def driver(tmp_path: Path, uri: str) -> Driver:
    """Three mirrored runs: retrained by the engine itself, searched only, done by the tiny engine."""
    driver = driver_of(tmp_path, ["", "", ""])
    work(driver, [0, 1], ("search",))
    work(driver, [2])
    point = driver.grid.points[0]
    folder = RunFolder(driver.path(point))
    write_json(folder.file("genotype.json"), {"space": "nasbench201", "text": CELL, "epoch": 1})
    retrain(point.config, folder)
    mirror_once(driver, uri)
    return driver


def _paths(driver: Driver) -> list[Path]:
    return [driver.path(point) for point in driver.grid.points]


def _models(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    experiment = MlflowClient(uri).get_experiment_by_name("mine")
    assert experiment is not None
    return list(MlflowClient(uri).search_logged_models([experiment.experiment_id]))


@pytest.mark.slow
def test_a_model_is_the_network_and_is_logged_once(
    driver: Driver, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    assert _models(uri) == [], "mirroring logs none"
    before = content_of(uri, driver.grid)

    # One that dies before its files are there is no model, and its remains go with the next.
    def die(*what: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(models, "_save", die)
    with pytest.raises(ConnectionError):
        list(log_models(_paths(driver)[:1], print, uri))
    monkeypatch.undo()
    assert [str(one.status) for one in _models(uri)] == ["PENDING"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    logged, unfinished, foreign = log_models(_paths(driver), print, uri)
    assert logged.is_new
    assert "not finished" in unfinished.why
    assert foreign.why, "the tiny engine's result holds no network"
    (model,) = _models(uri)
    assert str(model.status) == "READY"
    assert {metric.key for metric in model.metrics} == {"test_error_pct", "params_m", "macs_m"}
    assert {metric.dataset_name for metric in model.metrics} == {"digits/test"}
    (again,) = log_models(_paths(driver)[:1], print, uri)
    assert (again.uri, again.is_new) == (logged.uri, False)
    assert content_of(uri, driver.grid) == before, "rows, files and metrics are as they were"
    assert mirror_once(driver, uri) == 0

    network = of_run(RunFolder(_paths(driver)[0]), print)
    exported = load(write_export(network, FORMATS["safetensors"], tmp_path / "net.safetensors").path)
    loaded = mlflow.pytorch.load_model(logged.uri)
    assert isinstance(loaded, torch.nn.Module)
    for count in (1, 3):
        images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            wanted = exported(images)
            assert (loaded(images) - wanted).abs().max() < 1e-6
    info = mlflow.models.get_model_info(logged.uri)
    assert [one.shape for one in info.signature.inputs] == [(-1, 1, 8, 8)]
    assert [one.shape for one in info.signature.outputs] == [(-1, 10)]
    (program,) = tmp_path.rglob("model.pt2")
    assert load(program).card == exported.card
    assert (program.parent.parent / "card.md").read_text().startswith("<!-- card of a network")
    folder = str(Path.cwd()).encode()
    assert [path for path in program.parent.parent.rglob("*") if path.is_file() and folder in path.read_bytes()] == []

    forget(driver.folder, [driver.grid.points[0].hash], uri)
    assert _models(uri) == [], "its run is deleted"


def test_runs_are_named_by_grid_hash_or_folder(driver: Driver, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def note(folders: list[Path], report: object) -> list[models.Logged]:
        asked.append([path.name for path in folders])
        return [models.Logged(path.name, "runs:/1/model", is_new=True) for path in folders]

    monkeypatch.setattr(models, "log_models", note)
    keys = sorted(point.hash for point in driver.grid.points)
    runs = ["--runs", str(driver.folder.parent)]
    for words, wanted in (
        (["mine"], keys),
        ([keys[1][:6]], keys[1:2]),
        ([str(driver.folder / keys[2]), "mine"], keys),
    ):
        result = CliRunner().invoke(command, ["log-models", *words, *runs], catch_exceptions=False)
        assert result.exit_code == 0
        assert asked.pop() == wanted
        assert f"{len(wanted)} models logged" in result.output
    for word, why in (("nowhere", "a grid of"), ("searches", "a grid of"), ("", "a grid of"), ("..", "a grid of")):
        with pytest.raises(Exception, match=why):
            CliRunner().invoke(command, ["log-models", word, *runs], catch_exceptions=False, standalone_mode=False)
    assert asked == []


def test_a_run_without_a_row_is_told_how_to_get_one(driver: Driver, tmp_path: Path) -> None:
    (told,) = log_models(_paths(driver)[:1], print, f"sqlite:///{tmp_path}/store/eager.db")
    assert "cscdarts ablate watch mine" in told.why
