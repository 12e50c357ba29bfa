"""What is declared is true: a smoke run of each space writes every declared metric where its declaration says, and no
other."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablations.drive.driver import Driver
from ablations.grid.load import Grid, load_grid
from ablations.mirror.sync import GridMirror
from ablations.mirror.updates import SYSTEM
from ablations.run.stages import STAGES, run_task
from benchmarks.checks.run import check
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.metrics import METRICS
from reports.read.store import load
from reports.record import write_record
from slurm.control import Control

pytestmark = pytest.mark.slow

CLASSES = 11

GRID = """
from cscdarts import apply_preset, protocol, with_values

TINY = {
    "data.search_fraction": 0.1, "search.epochs": 2, "search.batch_size": 16, "search.cosine_every": 1,
    "search.hessian_every": 1, "runtime.device": "cpu",
}


def grid():
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    yield with_values(base, TINY)
    yield with_values(base, {**TINY, "seed": 1, "runtime.retrain": False})
    darts = apply_preset(protocol("cifar10", "smoke"), "csc")
    yield with_values(darts, {**TINY, "data.dataset": "image-folder", "data.image_size": 8, "data.search_fraction": 1})
    yield apply_preset(base, "random")
    candidates = {**TINY, "search.random_candidates": 3, "search.cosine_every": 0}
    yield with_values(apply_preset(base, "random-ws"), candidates)
    yield with_values(apply_preset(base, "pdarts"), {**TINY, "search.hessian_every": 0, "search.cosine_every": 0})
"""


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Six runs gone all the way: both spaces, one without retraining, one without a supernet, one without alpha, one in
    stages."""
    place = tmp_path_factory.mktemp("metrics")
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for label in range(CLASSES):
            folder = place / "images" / part / f"class{label:02d}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    source = place / "tiny.py"
    source.write_text(GRID)
    grid = load_grid(str(source), "smoke", [f"runtime.data_root={place / 'images'}"])
    driver = Driver(grid, place / "runs")
    driver.folder.mkdir(parents=True)
    driver.write_manifest(Code("a" * 40, False))
    for point in driver.grid.points:
        arguments = {
            "config": point.config.model_dump(mode="json"),
            "stages": STAGES,
            "since": time.time(),
            "threads": 1,
        }
        path = driver.path(point)
        path.mkdir()
        assert run_task(path, arguments, Control()) == "done", (path / "failure.json").read_text()
    return driver


def expected(config: RunConfig) -> set[str]:
    """The metrics that a run must write by their declarations."""
    stages = {"search", "derive"}
    stages |= {"check"} if config.supernet.space == "nasbench201" else set()
    stages |= {"retrain"} if config.runtime.retrain else set()
    met: Mapping[str, bool] = {
        "": True,
        "supernet": config.search.strategy not in ("random", "given"),
        "cosine_every": config.search.cosine_every > 0,
        "hessian_every": config.search.hessian_every > 0,
        "stages": config.search.stages > 1,
        "classes": config.data.dataset == "image-folder",
    }
    return {name for name, metric in METRICS.items() if metric.stage in stages and met[metric.needs]}


def recorded(folder: RunFolder) -> dict[str, set[str]]:
    """Place (stage, per) -> names written there, from the run's own files."""
    found: dict[str, set[str]] = {}
    for line in folder.curves():
        found.setdefault(f"{line['stage']} epoch", set()).update(line["values"])
    own: set[str] = set()
    for stage, name in (("search", "search"), ("derive", "genotype"), ("retrain", "result")):
        values: dict[str, Any] = (read_json(folder.file(f"{name}.json")) or {}).get("values", {})
        found[f"{stage} run"] = set(values) - own  # the result repeats what search and derivation found
        own |= set(values)
    check: dict[str, Any] = read_json(folder.file("check.json")) or {}
    found["check run"] = {name for name, value in check.items() if name in METRICS and value is not None}
    return found


def test_every_declared_metric_is_written_in_its_place(worked: Driver) -> None:
    everywhere: set[str] = set()
    for point in worked.grid.points:
        wanted = expected(point.config)
        found = recorded(RunFolder(worked.path(point)))
        for place, names in found.items():
            stage, per = place.split()
            here = {name for name in wanted if (METRICS[name].stage, METRICS[name].per) == (stage, per)}
            assert names == here, f"{place} of {point.methods} in the {point.config.supernet.space} space"
        everywhere |= wanted
    assert everywhere == set(METRICS)


@pytest.fixture(scope="module")
def uri(worked: Driver) -> str:
    place = worked.runs.parent
    mirror = GridMirror(worked.grid, worked.folder, f"sqlite:///{place / 'mlflow.db'}")
    mirror.open()
    mirror.sync(worked.states())
    mirror.close()
    return mirror.uri


def test_every_declared_metric_reaches_the_tracker(worked: Driver, uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(worked.grid.name)
    assert experiment is not None
    runs = {
        run.data.tags["cscdarts.hash"]: run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags["cscdarts.kind"] == "run"
    }
    for point in worked.grid.points:
        run = runs[point.hash]
        declared = expected(point.config)
        # What the tab of system metrics shows, by the names that it reads.
        machine = {SYSTEM[name] for name in declared if name in SYSTEM}
        assert machine
        assert set(run.data.metrics) == declared | machine
        assert run.data.tags["cscdarts.status"] == "done"
        for name in ("kendall_tau", "derived_valid_error_pct"):
            if name in run.data.metrics:
                assert len(client.get_metric_history(run.info.run_id, name)) == 1


def test_the_derived_cell_s_error_is_its_one_shot_error_in_the_supernet(worked: Driver) -> None:
    """Measured again from the checkpoint: the weights of the last epoch, which the cell comes from."""
    from cscdarts.spaces.genotype import parse_genotype
    from cscdarts.training.one_shot import one_shot_scores

    for point in worked.grid.points:
        if point.config.search.strategy in ("random", "given"):
            continue
        folder = RunFolder(worked.path(point))
        record = read_json(folder.file("genotype.json")) or {}
        (score,) = one_shot_scores(point.config, folder, [parse_genotype(record["text"])])
        assert record["values"]["derived_valid_error_pct"] == pytest.approx(100 - score, abs=1e-6)


def test_the_record_of_a_grid_is_what_its_runs_found(worked: Driver, uri: str, tmp_path: Path) -> None:
    record = write_record("tiny", tmp_path / "record.json", uri=uri)
    checked = [point for point in worked.grid.points if point.config.supernet.space == "nasbench201"]
    assert [run["hash"] for run in record["runs"]] == [point.hash for point in checked]
    for run, point in zip(record["runs"], checked, strict=True):
        genotype = read_json(worked.path(point) / "genotype.json") or {}
        assert run["arch"] == genotype["text"]
        look_up = check(run["arch"])["datasets"]["digits"]
        assert run["datasets"]["digits"] == {key: look_up[key] for key in run["datasets"]["digits"]}
        assert run["search"] == (read_json(RunFolder(worked.path(point)).file("search.json")) or {})["values"]
    assert (record["runs_planned"], record["scale"]) == (len(worked.grid.points), "smoke")


def test_a_run_without_retraining_ends_with_its_check(worked: Driver, uri: str) -> None:
    """It is done, has the label of the data it was searched on, and asks for its retraining when that is wanted after
    all."""
    point = worked.grid.points[1]
    assert not point.config.runtime.retrain
    assert not RunFolder(worked.path(point)).has("result")
    state = next(state for state in worked.states() if state.hash == point.hash)
    assert state.status == "done"
    store = load(["tiny"], uri)
    (row,) = store.runs[store.runs["hash"] == point.hash].to_dict("records")
    search = read_json(RunFolder(worked.path(point)).file("search.json")) or {}
    assert (row["status"], row["data"]) == ("done", search["data"]["label"])
    again = load_grid(str(worked.grid.source), "smoke", ["runtime.retrain=true"])
    wanted = Driver(Grid("tiny", "smoke", {}, (again.points[1],), again.source), worked.runs)
    assert [(state.status, state.stage) for state in wanted.states()] == [("new", "retrain")]
