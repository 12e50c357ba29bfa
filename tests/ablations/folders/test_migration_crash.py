"""A process that takes folders over may die at any moment: before each change that it makes on disk, one after the
other, it is ended as by SIGKILL; what is left is the old state or the new one, and the next call completes it."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.load import Point
from ablations.run.migration import Migration
from ablations.run.state import run_state
from cscdarts.data.fingerprint import identified
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from tests.support.harness.old_runs import old_run, small_config
from tests.support.injector import killed_before
from tests.support.pictures import rgb_tree
from tests.support.records import snapshot


def _migrate(runs: Path) -> list[str]:
    return [
        one.refused for one in Migration(runs, None, lambda folder, key: "", lambda grid, key: None).outcomes(False)
    ]


def _content(runs: Path) -> dict[str, bytes]:
    """Path -> content of what a migration leaves; heart-beats, locks and names made up for a moment aside."""
    found = snapshot(runs)
    return {
        str(Path(name).relative_to(runs)): content
        for name, (content, _) in found.items()
        if Path(name).is_file() and not Path(name).name.startswith(".") and Path(name).name not in ("claim",)
        and not name.endswith(".lock")
    }  # fmt: skip


def _read(folder: RunFolder) -> tuple[Any, ...]:
    """What a reader sees of a finished run."""
    values = {**(read_json(folder.file("search.json")) or {})["values"]}
    values |= (read_json(folder.file("result.json")) or {})["values"]
    curves = {(line["stage"], line["epoch"]): line["values"] for line in folder.curves()}
    return values, curves, folder.alphas(), read_json(folder.file("genotype.json"))


def _status(path: Path, config: RunConfig) -> str:
    return run_state(Point(config, config.hash, ("csc",)), path, 0.0).status


def _is_whole(runs: Path, configs: list[RunConfig], truth: tuple[Any, ...]) -> None:
    """Under one of its hashes the run is done, and all its numbers are there."""
    done = [config for config in configs if _status(runs / "mine" / config.hash, config) == "done"]
    assert done
    for config in done:
        assert _read(RunFolder(runs / "mine" / config.hash)) == truth


def _every_crash(start: Path, tmp_path: Path, configs: list[RunConfig], stride: int) -> None:
    truth = _read(RunFolder(start / "mine" / configs[0].hash))
    whole = tmp_path / "whole"
    shutil.copytree(start, whole)
    assert not any(_migrate(whole))
    wanted = _content(whole)
    _is_whole(whole, configs[-1:], truth)
    for change in range(0, 10_000, stride):
        runs = tmp_path / "crash" / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        shutil.copytree(start, runs)
        if not killed_before(change, partial(_migrate, runs)):
            break
        _is_whole(runs, configs, truth)
        assert not any(_migrate(runs)), change
        assert _content(runs) == wanted, change
        _is_whole(runs, configs[-1:], truth)
    assert change > 20


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("crash") / "runs"
    old_run(runs, small_config())
    return runs


# Every change or, where time is short, every fifth.
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_run_that_keeps_its_hash(finished: Path, tmp_path: Path, stride: int) -> None:
    _every_crash(finished, tmp_path, [small_config()], stride)


@pytest.mark.slow
def test_a_run_that_shares_its_search_and_retraining(finished: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(finished, start)
    shutil.copytree(finished / "mine", start / "zz")
    _every_crash(start, tmp_path, [small_config()], 1)


@pytest.mark.slow
def test_a_run_that_gets_another_hash(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    tree = rgb_tree(tmp_path_factory.mktemp("tree") / "tree", size=8, train=12, test=3)
    sizes = {"data__crop_padding": 0, "data__search_fraction": 1.0, "search__batch_size": 4}
    config = small_config(**sizes, data__dataset="image-folder", evaluation__batch_size=4, runtime__data_root=str(tree))
    old_run(tmp_path / "start", config)
    _every_crash(tmp_path / "start", tmp_path, [config, identified(config)], 1)
