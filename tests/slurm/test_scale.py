"""A grid of 5,000 runs on a fake cluster: planning, submitting, status and mirroring grow with the number of runs and
no faster.

The seconds are printed (`pytest -s`), not asserted: this machine is not the judge. What is asserted is what makes them
linear: calls to the scheduler, files opened, writes to the store.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.backend import Options
from ablations.drive.driver import Driver, counts, untouched
from ablations.drive.slurm import SlurmBackend
from ablations.grid.load import load_grid
from ablations.mirror.sync import GridMirror
from cscdarts.records.code import Code
from slurm.backends.slurm.fake import FakeCluster
from slurm.backends.slurm.queue import Queue
from slurm.backends.slurm.scheduler import JobState
from tests.support.harness.grids import write_grid


def _timed(seconds: dict[str, float], name: str, function: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = function()
    seconds[name] = time.perf_counter() - began
    return value


def _finish(driver: Driver, keys: set[str]) -> None:
    """Let runs look finished: the files that status and mirror read."""
    for point in driver.grid.points:
        if point.hash in keys:
            path = driver.path(point)
            path.mkdir()
            (path / "config.json").write_text(point.config.model_dump_json())
            contents = {
                "search": {"values": {}}, "genotype": {"text": "|none~0|"}, "check": {"benchmark": {}, "datasets": {}},
            }  # fmt: skip
            for name, content in contents.items():
                (path / f"{name}.json").write_text(json.dumps(content))
            lines = [
                {
                    "stage": "search",
                    "epoch": e,
                    "step": e,
                    "time": 1e9 + e,
                    "values": {"search_train_loss": 1.0 / (e + 1)},
                }
                for e in range(12)
            ]
            (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (path / "result.json").write_text(json.dumps({"values": {"test_error_pct": 3.0}}))


def _life(tmp_path: Path, runs: int, store: str) -> dict[str, float]:
    seconds: dict[str, float] = {}
    source = write_grid(tmp_path / "large.py", [""] * runs)
    fake = FakeCluster()
    grid = _timed(seconds, "load", lambda: load_grid(source, "smoke"))
    driver = Driver(grid, tmp_path / "runs")
    driver.folder.mkdir(parents=True)
    cluster = SlurmBackend(driver, Options(256), queue=Queue(driver.folder, "test", fake, fake))
    wanted = _timed(seconds, "plan", lambda: untouched(cluster.states()))
    assert len(wanted) == runs
    _timed(seconds, "submit", lambda: cluster.submit(wanted))
    parts = -(-runs // 1001)
    assert len([call for call in fake.calls if call.startswith("submit")]) == 2 * parts
    driver.write_manifest(Code())
    # A quarter has finished, a few have failed, the others wait.
    done = [point.hash for point in grid.points][: runs // 4]
    _finish(driver, set(done))
    for job in list(fake.states_by_id)[: runs // 4]:
        fake.states_by_id[job] = JobState("COMPLETED", "0:0")
    fake.calls.clear()
    states = _timed(seconds, "status", cluster.states)
    assert fake.calls == ["states"], "the scheduler is asked once for the whole grid"
    assert counts(states) == {"done": runs // 4, "pending": runs - runs // 4}
    mirror = GridMirror(grid, driver.folder, store)
    mirror.open()
    try:
        assert _timed(seconds, f"mirror {len(done)} finished", lambda: mirror.sync(states)) == len(done)
        # The rest ends too: what was written already costs a few file stats.
        _finish(driver, {point.hash for point in grid.points} - set(done))
        for job in list(fake.states_by_id):
            fake.states_by_id[job] = JobState("COMPLETED", "0:0")
        states = cluster.states()
        assert counts(states) == {"done": runs}
        assert _timed(seconds, f"mirror {runs - len(done)} more", lambda: mirror.sync(states)) == runs - len(done)
        assert _timed(seconds, "mirror without news", lambda: mirror.sync(states)) == 0
    finally:
        mirror.close()
    return seconds


@pytest.mark.slow
def test_a_grid_of_5000_runs(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for runs in (1000, 5000):
        folder = tmp_path / str(runs)
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        seconds = _life(folder, runs, f"sqlite:///{folder}/mlflow.db")
        print(f"\n{runs} runs: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
