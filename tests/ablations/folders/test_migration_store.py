"""What else knows of run folders that are taken over: the tracker has each run once, a queue may hold some."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from ablations.cli import main
from ablations.commands.runs import waiting
from ablations.drive.driver import Driver
from ablations.grid.load import Grid, Point
from ablations.run.migration import Migration
from cscdarts.data.fingerprint import identified
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from slurm.errors import ClusterError
from slurm.jobs import Phase, SubmittedJob
from tests.ablations.folders.test_migration_images import IMAGES
from tests.support.harness.mirrors import mirror_once
from tests.support.harness.old_runs import old_run, small_config
from tests.support.pictures import rgb_tree


def _mirrored(runs: Path, config: RunConfig, uri: str) -> None:
    points = (Point(config, config.hash, ("csc",)),)
    driver = Driver(Grid("mine", "smoke", {}, points, Path("mine.py")), runs)
    driver.write_manifest(Code("a" * 40, False))
    mirror_once(driver, uri)


def _rows(uri: str) -> Iterable[tuple[str, str, dict[str, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`cscdarts.kind` = 'run'")
    return [(run.data.tags["cscdarts.hash"], run.info.status, run.data.metrics) for run in found]


def _migrate(runs: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "migrate", "--runs", str(runs), "--yes"])
    assert ended.value.code == 0


def test_a_run_that_keeps_its_hash_keeps_its_row(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, config = tmp_path / "runs", small_config()
    old_run(runs, config)
    _mirrored(runs, config, uri)
    before = _rows(uri)
    _migrate(runs, uri, monkeypatch)
    _mirrored(runs, config, uri)
    assert _rows(uri) == before


def test_a_run_with_a_new_hash_has_a_new_row_and_no_old_one(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    tree = rgb_tree(tmp_path / "tree", size=8, train=12, test=3)
    runs, config = tmp_path / "runs", small_config(**IMAGES, runtime__data_root=str(tree))
    old_run(runs, config)
    now = identified(config)
    monkeypatch.setattr("ablations.drive.driver.identified_grid", lambda grid, folder: grid)  # as 0.1.0 mirrored it
    _mirrored(runs, config, uri)
    ((key, status, values),) = _rows(uri)
    assert (key, status) == (config.hash, "FINISHED")
    _migrate(runs, uri, monkeypatch)
    assert _rows(uri) == []
    _mirrored(runs, now, uri)
    ((key, status, again),) = _rows(uri)
    assert (key, status, again) == (now.hash, "FINISHED", values)


class _Cluster:
    """A queue as `ablations.drive.backend.Cluster` has it, as far as it is asked."""

    name = "a counter"

    def __init__(self, used: bool = True, available: bool = True, phase: Phase | None = None) -> None:
        self._used, self._available, self._phase = used, available, phase

    def used(self) -> bool:
        return self._used

    def available(self) -> bool:
        return self._available

    def jobs(self, hashes: set[str]) -> list[SubmittedJob]:
        if self._phase is None:
            raise ClusterError("--on", "counter", "a counter that answers", "Ask later.")
        return [SubmittedJob(key, "ticket-7", "all", self._phase, 0.0, Path("none")) for key in hashes]


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (_Cluster(phase="queued"), "ticket-7 of a counter"),
        (_Cluster(phase="running"), "ticket-7"),
        (_Cluster(available=False), "cannot be seen from this machine"),
        (_Cluster(), "does not answer"),
        (_Cluster(phase="ended"), ""),
        (_Cluster(used=False), ""),
    ],
)
def test_an_unfinished_run_that_a_queue_may_hold_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: _Cluster, said: str
) -> None:
    monkeypatch.setattr("ablations.drive.backend.clusters_of", lambda driver: [cluster])
    config = small_config()
    path = tmp_path / "runs" / "mine" / config.hash
    RunFolder(path).create(config)
    found = list(Migration(tmp_path / "runs", None, waiting, lambda grid, key: None).outcomes(dry=False))
    assert [bool(one.refused) for one in found] == [bool(said)]
    assert said in found[0].refused
    assert (path / "keys.json").exists() is not bool(said)
