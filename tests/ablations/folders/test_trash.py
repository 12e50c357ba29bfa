"""The trash: what two runs share stays, every kill leaves each run whole somewhere, nobody sees what is in it, and all
of it comes back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.drive.driver import Driver
from ablations.drive.prune import survey, take, unused_stages
from ablations.grid.estimate import measured
from ablations.grid.load import load_grid
from ablations.grid.past import MANIFEST
from ablations.mirror.rows import Home
from ablations.run.migration import Migration
from ablations.run.trash import entries, stage_folders, stages_used
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder
from cscdarts.records.runs_folder import TRASH, run_folders
from slurm.job import CLAIM
from slurm.lock import Lock
from tests.support.harness.finished import finish
from tests.support.harness.mirrors import content_of, mirror_once
from tests.support.records import snapshot

GRID = '''"""Runs (seed, seed of the retraining): those of one seed share a search."""
from cscdarts import apply_preset, protocol, with_values


def grid(scale):
    base = apply_preset(protocol("quickstart", scale), "csc")
    for seed, retraining in {pairs!r}:
        yield with_values(base, {{"seed": seed, "evaluation.seed": retraining}})
'''
Cscdarts = Callable[..., tuple[int, str, str]]
Pairs = list[tuple[int, int]]


def _write(path: Path, pairs: Pairs) -> str:
    path.write_text(GRID.format(pairs=pairs))
    return str(path)


def _grid(root: Path, name: str, pairs: Pairs, finished: bool = True) -> Driver:
    driver = Driver(load_grid(_write(root / f"{name}.py", pairs), "smoke"), root / "runs")
    for point in driver.grid.points if finished else ():
        finish(driver.runs, name, point.config)
    driver.folder.mkdir(parents=True, exist_ok=True)
    driver.write_manifest(Code("a" * 40, False))
    return driver


def _left_with(driver: Driver, pairs: Pairs) -> Driver:
    """The grid after its file was edited."""
    return Driver(load_grid(_write(driver.grid.source, pairs), "smoke"), driver.runs)


def _prune(driver: Driver, every: bool = False) -> tuple[int, int]:
    found = survey(driver)
    _, moved = take(driver, found, unused_stages(driver, found.taken, every)[0], lambda hashes: None)
    return len(found.taken), len(moved)


@pytest.fixture
def cscdarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Cscdarts) -> Cscdarts:
    """The command line in this process; no store unless a test has one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    monkeypatch.chdir(tmp_path)
    return command_line


def test_what_two_runs_share_goes_with_the_last_and_comes_back_with_the_first(
    tmp_path: Path, cscdarts: Cscdarts
) -> None:
    one, two = _grid(tmp_path, "one", [(0, 1), (5, 5)]), _grid(tmp_path, "two", [(0, 2), (6, 6)])
    everything = snapshot(tmp_path / "runs", times=False)
    shared = next(iter(stages_used(one.path(one.grid.points[0])) & stages_used(two.path(two.grid.points[0]))))
    place = stage_folders(tmp_path / "runs")[shared]
    assert _prune(_left_with(one, [(5, 5)])) == (1, 1), "the run and its retraining, not the search"
    assert place.is_dir()
    assert _prune(_left_with(two, [(6, 6)])) == (1, 2)
    assert not place.exists()
    # Emptying the second grid's trash deletes nothing that the first one's run in the trash uses.
    assert cscdarts("ablate", "prune", "two", "--empty-trash", "--yes")[0] == 0
    assert [entry.grid for entry in entries(tmp_path / "runs")] == ["one"]
    code, out, _ = cscdarts("ablate", "prune", "one", "--restore")
    assert (code, out.count("is back")) == (0, 3)
    assert not (tmp_path / "runs" / TRASH).exists()
    gone = f"/two/{two.grid.points[0].hash}"
    retraining = next(iter(stages_used(one.path(one.grid.points[0])) - {shared}))
    now = snapshot(tmp_path / "runs", times=False)
    lost = [path for path in everything if path not in now]
    assert lost
    assert all(gone in path or "/retrainings/" in path for path in lost)
    assert retraining in stage_folders(tmp_path / "runs")
    assert all(everything[path] == content for path, content in now.items())


def test_a_search_that_a_run_not_yet_begun_will_use_stays(tmp_path: Path) -> None:
    driver = _grid(tmp_path, "one", [(0, 1), (5, 5)])
    assert _prune(_left_with(driver, [(0, 3), (5, 5)])) == (1, 1), "only the retraining goes"
    assert len(list((tmp_path / "runs" / "searches").iterdir())) == 2


def test_stages_that_nobody_uses_are_taken_when_asked_for(tmp_path: Path) -> None:
    driver = _grid(tmp_path, "one", [(0, 1), (5, 5)])
    first = driver.path(driver.grid.points[0])
    used = stages_used(first)
    first.rename(tmp_path / "moved by hand")
    edited = _left_with(driver, [(5, 5)])
    assert _prune(edited) == (0, 0)
    assert set(unused_stages(edited, {}, every=True)[0]) == used
    # While anybody's list of keys cannot be read, any of them may be that one's.
    second = driver.path(driver.grid.points[1])
    (other := driver.runs / "search" / second.name).mkdir(parents=True)
    (other / "keys.json").write_text("{")
    stages, why = unused_stages(edited, {}, every=True)
    assert stages == {}
    assert str(other) in why[0]
    (other / "keys.json").unlink()
    # And one that a process works in is nobody's to take.
    busy = sorted(used)[0]
    assert Lock(stage_folders(driver.runs)[busy] / CLAIM).acquire("search")
    assert set(unused_stages(edited, {}, every=True)[0]) == used - {busy}
    assert _prune(edited, every=True) == (0, 1)


class _Killed(BaseException):
    pass


def _killed_at(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> bool:
    """Whether an action was killed before its rename, removal or making of a folder of that number."""
    left = number

    with monkeypatch.context() as patch:
        for name in ("rename", "mkdir", "unlink", "rmdir"):
            real = getattr(Path, name)

            def counted(*arguments: object, _real: Callable[..., object] = real, **named: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise _Killed
                return _real(*arguments, **named)

            patch.setattr(Path, name, counted)
        try:
            act()
        except _Killed:
            return True
    return False


def _content(root: Path) -> dict[str, tuple[bytes, int]]:
    """What runs and stages hold, whether at their places or in the trash."""
    found = {}
    for path, content in snapshot(root / "runs", times=False).items():
        place = Path(path).relative_to(root / "runs")
        parts = place.parts[2:] if place.parts[0] == TRASH else place.parts
        if len(parts) == 3 and not parts[2].startswith(".") and parts[2] != CLAIM:
            assert "/".join(parts) not in found, "a file is twice"
            found["/".join(parts)] = content
    return found


def test_a_kill_at_any_step_leaves_each_run_whole_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = _grid(tmp_path, "one", [(0, 1), (0, 2), (3, 3), (5, 5)])
    edited, whole = _left_with(driver, [(5, 5)]), _content(tmp_path)
    kills = 0

    def restore_all() -> None:
        from ablations.run.trash import restore

        wanted = [path for entry in entries(driver.runs, "one") for path in entry.runs]
        restore(driver.runs, "one", wanted, whole=True)

    while _killed_at(monkeypatch, kills, lambda: _prune(edited)):
        assert _content(tmp_path) == whole, f"after kill {kills}"
        kills += 1
        # What a dead process claimed is free again; the next call takes what was left.
        for claim in driver.runs.rglob(CLAIM):
            claim.unlink()
        _prune(edited, every=True)
        assert {path.name for path in run_folders(driver.runs)} == {driver.grid.points[3].hash}
        back = 0
        while _killed_at(monkeypatch, 2 * back, restore_all):
            assert _content(tmp_path) == whole
            back += 1
        assert len(list(run_folders(driver.runs))) == 4
        assert entries(driver.runs) == []
    assert kills > 10


def test_nobody_looks_into_the_trash(tmp_path: Path, cscdarts: Cscdarts) -> None:
    driver = _grid(tmp_path, "one", [(0, 1), (3, 3), (5, 5)])
    source = str(driver.grid.source)
    before = measured(driver.runs)
    assert len(before.searches) == 3
    _write(driver.grid.source, [(5, 5)])
    code, out, _ = cscdarts("ablate", "prune", source, "--yes")
    assert code == 0
    assert "2 runs, 2 searches, 2 retrainings moved" in out
    assert "every run folder is named by the grid" in cscdarts("ablate", "prune", source)[1]
    assert len(measured(driver.runs).searches) == 1
    assert list(Migration(driver.runs, None, lambda *_: "", lambda *_: None).outcomes(dry=True)) == []
    assert "1 runs: 1 done" in cscdarts("ablate", "status", source)[1]
    # The file names them again: they are new, not done, and what lies in the trash counts for nothing.
    _write(driver.grid.source, [(0, 1), (3, 3), (5, 5)])
    assert "3 runs: 1 done, 2 new" in cscdarts("ablate", "status", source)[1]
    counted = json.loads(cscdarts("ablate", "plan", source, "--scale", "smoke", "--json")[1])
    assert (counted["done"], counted["searches"], counted["retrainings"]) == (1, 2, 2)
    first = driver.grid.points[0].hash
    assert cscdarts("ablate", "prune", source, "--restore", first[:8])[0] == 0
    assert "3 runs: 2 done, 1 new" in cscdarts("ablate", "status", source)[1]
    # A run that was made again meanwhile is not overwritten.
    again = driver.path(driver.grid.points[1])
    RunFolder(again).create(driver.grid.points[1].config, "../..")
    code, out, _ = cscdarts("ablate", "prune", source, "--restore")
    assert code == 1
    assert "stays in the trash: something is at its place" in out
    assert cscdarts("ablate", "prune", source, "--restore", "ffff")[0] == 2
    code, out, _ = cscdarts("ablate", "prune", source, "--empty-trash", "--yes")
    assert (code, "1 run deleted for good" in out) == (0, True)
    assert not (driver.runs / TRASH).exists()
    assert "nothing in the trash" in cscdarts("ablate", "prune", source, "--restore")[1]


def test_prune_asks_and_shows_first(tmp_path: Path, cscdarts: Cscdarts, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _grid(tmp_path, "one", [(0, 1), (5, 5)])
    _write(driver.grid.source, [(5, 5)])
    answers: list[str] = []

    def no(text: str, **_: object) -> bool:
        answers.append(text)
        return False

    monkeypatch.setattr("click.confirm", no)
    before = snapshot(driver.runs)
    code, out, _ = cscdarts("ablate", "prune", "one")
    assert code == 1
    assert f"{driver.path(driver.grid.points[0])} done" not in out, "paths are shown as --runs has them"
    assert f"runs/one/{driver.grid.points[0].hash} done" in out
    assert answers == ["Move 1 run, 1 search, 1 retraining to runs/.trash?"]
    assert snapshot(driver.runs) == before
    assert cscdarts("ablate", "prune", "one", "--restore", "--empty-trash")[0] == 2


def test_rows_go_with_their_runs_and_come_back(
    tmp_path: Path, uri: str, cscdarts: Cscdarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    driver = _grid(tmp_path, "one", [(0, 1), (5, 5)])
    mirror_once(driver, uri)
    before = content_of(uri, driver.grid)
    assert len(before) == 3
    assert Home.of(driver.folder).number == json.loads((driver.folder / MANIFEST).read_text())["home"]
    _write(driver.grid.source, [(5, 5)])
    assert cscdarts("ablate", "prune", "one", "--yes")[0] == 0
    assert len(content_of(uri, driver.grid)) == 2
    assert cscdarts("ablate", "prune", "one", "--restore")[0] == 0
    assert content_of(uri, driver.grid) == before
