"""The driver on this machine: everything once, failures named, nothing finished lost, one driver at a time."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ablations.drive.backend import Options
from ablations.drive.driver import Driver, TaskFunctions, counts
from ablations.drive.local import LocalBackend
from ablations.drive.loop import run_grid
from ablations.grid.load import load_grid
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from tests.support.harness.grids import write_grid
from tests.support.records import epoch_lines


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)


def _driver(tmp_path: Path, engine: TaskFunctions, notes: list[str], **values: object) -> Driver:
    source = write_grid(tmp_path / "mine.py", notes, **values)
    return Driver(load_grid(source, "smoke"), tmp_path / "runs", engine)


def _console() -> Console:
    return Console(file=io.StringIO(), width=200)


def _run(driver: Driver, console: Console | None = None, parallel: int | None = None) -> int:
    return run_grid(LocalBackend(driver, Options(parallel)), console or _console())


def _result(driver: Driver, key: str) -> bytes:
    return RunFolder(driver.folder / key).file("result.json").read_bytes()


def _starts(driver: Driver) -> list[int]:
    """How often each run was started."""
    paths = [driver.path(point) / "starts.jsonl" for point in driver.grid.points]
    return [len(path.read_text().splitlines()) if path.exists() else 0 for path in paths]


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen"
        time.sleep(0.05)


def test_everything_runs_once_and_a_second_call_runs_nothing(tmp_path: Path, fake_engine: TaskFunctions) -> None:
    driver = _driver(tmp_path, fake_engine, [""] * 5)
    console = _console()
    assert _run(driver, console, parallel=2) == 0
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "5 runs: 5 done" in said
    assert "mirror:" not in said
    assert counts(driver.states()) == {"done": 5}
    assert _starts(driver) == [1] * 5
    before = {p: p.stat().st_mtime_ns for p in driver.folder.glob("*/*.json")}
    assert _run(driver) == 0
    assert {p: p.stat().st_mtime_ns for p in driver.folder.glob("*/*.json")} == before
    manifest = json.loads((driver.folder / "grid.json").read_text())
    assert [run["hash"] for run in manifest["runs"]] == [point.hash for point in driver.grid.points]
    assert not list(driver.folder.glob("*/claim"))
    assert not (driver.folder / "driver.lock").exists()
    threads = [json.loads((driver.path(p) / "starts.jsonl").read_text())["threads"] for p in driver.grid.points]
    assert set(threads) == {"1"}


def test_failures_are_named_the_rest_finishes_and_retry_runs_only_them(
    tmp_path: Path, fake_engine: TaskFunctions
) -> None:
    driver = _driver(tmp_path, fake_engine, ["", "raise", "nan", "disk", "", "kill", ""])
    assert _run(driver, parallel=2) == 1
    states = driver.states()
    assert [s.status for s in states] == ["done", "failed", "failed", "failed", "done", "failed", "done"]
    assert [s.kind for s in states if s.kind] == ["error", "numerical", "disk", "memory"]
    assert "ValueError: the loss went astray" in states[1].detail
    assert "No space left" in states[3].detail
    assert "killed" in states[5].detail
    assert "Traceback" in json.loads((driver.path(driver.grid.points[1]) / "failure.json").read_text())["traceback"]
    starts = _starts(driver)
    # Failed runs wait for a retry.
    assert _run(driver, parallel=2) == 1
    assert _starts(driver) == starts
    (driver.folder / "cure").touch()
    backend = LocalBackend(driver, Options(parallel=2))
    assert run_grid(backend, _console(), lambda ss: [s.hash for s in ss if s.status == "failed"]) == 0
    assert counts(driver.states()) == {"done": 7}
    assert [b - a for a, b in zip(starts, _starts(driver), strict=True)] == [0, 1, 1, 1, 0, 1, 0]
    assert not list(driver.folder.glob("*/failure.json"))


def test_a_check_that_fails_keeps_no_run_from_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_engine: TaskFunctions
) -> None:
    from ablations.run.stages import run_stages
    from slurm.control import Control
    from tests.support.harness import engine as tiny

    driver = _driver(tmp_path, fake_engine, [""])
    (point,) = driver.grid.points

    def broken(*_: object) -> None:
        raise LookupError("no such benchmark")

    (task,) = driver.tasks([point.hash], ("search", "derive", "check", "retrain"), 0.0, None)
    engine = {**tiny.ENGINE, "check": broken}
    path = driver.path(point)
    path.mkdir(parents=True)
    outcome = run_stages(path, task.arguments, Control(), engine, tiny.prepare)  # type: ignore[arg-type]
    assert outcome == "failed"
    assert RunFolder(path).has("result")
    (state,) = driver.states()
    assert (state.status, state.stage) == ("failed", "check")
    (task,) = driver.tasks([point.hash], ("search", "derive", "check", "retrain"), time.time(), None)
    assert run_stages(path, task.arguments, Control(), tiny.ENGINE, tiny.prepare) == "done"
    assert driver.states()[0].status == "done"


class _Process:
    """A driver in a process of its own."""

    def __init__(self, tmp_path: Path, *words: str) -> None:
        self.out = tmp_path / f"driver{time.monotonic_ns()}.txt"
        with self.out.open("w") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.harness.drive", *words], cwd=tmp_path, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


@pytest.fixture
def slow_grid(tmp_path: Path, fake_engine: TaskFunctions) -> Iterator[tuple[Driver, str]]:
    """Two runs of about a second, and four of several: on a busy machine too they are at work when the two are done."""
    driver = _driver(tmp_path, fake_engine, [*["pace=0.3"] * 2, *["pace=2"] * 4], search__epochs=3)
    yield driver, str(tmp_path / "mine.py")
    driver.folder.mkdir(parents=True, exist_ok=True)
    # Whatever happened, no worker may outlive its test.
    _wait(lambda: not any(s.status == "running" for s in driver.states()), 60)


@pytest.mark.slow
def test_ctrl_c_loses_nothing_finished_and_the_same_command_goes_on(
    tmp_path: Path, slow_grid: tuple[Driver, str]
) -> None:
    driver, source = slow_grid
    words = ("ablate", "run", source, "--scale", "smoke", "--parallel", "2")
    with _Process(tmp_path, *words) as process:
        _wait(lambda: counts(driver.states())["done"] >= 2)
        # To the whole group, as a terminal does.
        os.killpg(process.popen.pid, signal.SIGINT)
        assert process.popen.wait(timeout=60) == 130
    said = process.out.read_text()
    assert "interrupted" in said
    assert "Traceback" not in said
    states = driver.states()
    assert counts(states)["done"] >= 2
    assert counts(states)["failed"] == counts(states)["lost"] == counts(states)["running"] == 0
    done = {s.hash: _result(driver, s.hash) for s in states if s.status == "done"}
    with _Process(tmp_path, *words) as process:
        assert process.popen.wait(timeout=120) == 0
    assert counts(driver.states()) == {"done": 6}
    assert {key: _result(driver, key) for key in done} == done
    for point, starts in zip(driver.grid.points, _starts(driver), strict=True):
        assert starts == 1 if point.hash in done else starts <= 2
        # What was interrupted went on from its checkpoint: no epoch was done twice.
        assert epoch_lines(driver.path(point)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("when", ["workers start", "a run is claimed", "a run is done"])
def test_a_driver_killed_with_sigkill_is_followed_by_another(
    tmp_path: Path, slow_grid: tuple[Driver, str], when: str
) -> None:
    driver, source = slow_grid
    words = ("ablate", "run", source, "--scale", "smoke", "--parallel", "2")
    happened: dict[str, Callable[[], object]] = {
        "workers start": lambda: list(driver.folder.glob("jobs/*.pkl")),
        "a run is claimed": lambda: list(driver.folder.glob("*/claim")),
        "a run is done": lambda: counts(driver.states())["done"] >= 1,
    }
    with _Process(tmp_path, *words) as process:
        _wait(lambda: bool(happened[when]()))
        process.popen.kill()
        process.popen.wait()
    with _Process(tmp_path, *words) as process:
        assert process.popen.wait(timeout=120) == 0, process.out.read_text()
    assert counts(driver.states()) == {"done": 6}
    for point in driver.grid.points:
        assert epoch_lines(driver.path(point)) == 4


@pytest.mark.slow
def test_of_two_drivers_one_works_and_the_other_says_who(tmp_path: Path, slow_grid: tuple[Driver, str]) -> None:
    driver, source = slow_grid
    words = ("ablate", "run", source, "--scale", "smoke", "--parallel", "2")
    with _Process(tmp_path, *words) as first:
        _wait(lambda: (driver.folder / "driver.lock").exists())
        with _Process(tmp_path, *words) as second:
            assert second.popen.wait(timeout=60) == 2
        said = second.out.read_text()
        assert f"driver of mine {first.popen.pid} on {os.uname().nodename}" in said
        assert "one driver at a time" in said
        assert first.popen.wait(timeout=120) == 0
    assert _starts(driver) == [1] * 6


def test_a_lock_held_elsewhere_is_respected_until_it_is_stale(tmp_path: Path, fake_engine: TaskFunctions) -> None:
    driver = _driver(tmp_path, fake_engine, [""])
    driver.take()
    lock = driver.folder / "driver.lock"
    lock.write_text(lock.read_text().replace(os.uname().nodename, "login2"))
    other = Driver(driver.grid, driver.runs, fake_engine)
    with pytest.raises(UserError, match=r"driver of mine \d+ on login2.*last heard of 0 s ago"):
        other.take()
    stat = lock.stat()
    os.utime(lock, (stat.st_atime, stat.st_mtime - 61))
    other.lock.watch_s = 0.1  # what is silent is watched before it counts as dead
    other.take()
    assert not driver.lock.refresh()


def test_a_grid_with_one_new_point_runs_that_one(tmp_path: Path, fake_engine: TaskFunctions) -> None:
    driver = _driver(tmp_path, fake_engine, ["", ""])
    _run(driver, parallel=1)
    larger = _driver(tmp_path, fake_engine, ["", "", ""])
    _run(larger, parallel=1)
    assert _starts(larger) == [1, 1, 1]
    assert counts(larger.states()) == {"done": 3}


def test_a_folder_of_another_run_is_refused(tmp_path: Path, fake_engine: TaskFunctions) -> None:
    driver = _driver(tmp_path, fake_engine, ["", ""])
    first, second = driver.grid.points
    RunFolder(driver.path(first)).create(second.config)
    assert _run(driver, parallel=1) == 1
    states = driver.states()
    assert states[0].kind == "user"
    assert second.hash in states[0].detail
    assert states[1].status == "done"
