"""Runs that workers of a dead driver, or jobs of a cluster, still hold when a grid is run: waited for, then taken up;
and the exit code is 0 only where every run is done."""

import contextlib
import io
import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ablations.drive import exit_codes, loop
from ablations.drive.backend import Backend, Options
from ablations.drive.driver import Driver, TaskFunctions, counts, untouched
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.drive.local import MAX_TRIES, LocalBackend
from ablations.drive.loop import run_grid
from ablations.grid.load import load_grid
from ablations.run.stages import STAGES
from ablations.run.state import RunState
from cscdarts.errors import OutsideFailure
from slurm.backends.local import LocalPool
from slurm.control import Control
from slurm.job import CLAIM, Job, Task
from slurm.lock import Lock
from tests.support.harness import engine
from tests.support.harness.counter_backend import CounterBackend
from tests.support.harness.grids import write_grid

RUNS = 3
ROOT = Path(__file__).parents[2]


class _Workers:
    """Workers in this process, in place of `slurm.backends.local.LocalPool`: a start works its whole list off.

    Args:
        begin: called as workers start; what it returns False for is never begun by a worker.
    """

    def __init__(self, begin: Callable[[str], bool] = lambda key: True) -> None:
        self.begin, self.starts = begin, list[list[str]]()
        self._held: set[str] = set()

    def start(self, tasks: Sequence[Task], workers: int, threads: int | None) -> None:
        self.starts.append([task.key for task in tasks])
        self._held = set()
        for task in tasks:
            claim = Path(task.folder) / CLAIM
            if not self.begin(task.key):
                continue
            if Lock(claim).holder() is not None:
                self._held.add(task.key)
                continue
            claim.unlink(missing_ok=True)
            _do(task)

    def alive(self) -> int:
        return 0

    def held(self) -> set[str]:
        return self._held

    def errors(self) -> list[str]:
        return []

    def stop(self) -> None:
        pass


def _do(task: Task) -> None:
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    engine.run_task(Path(task.folder), task.arguments, Control())


class _Orphans:
    """Processes that hold runs, and end after some looks of the driver."""

    def __init__(self, driver: Driver, held: int, end: str, looks: int) -> None:
        self.driver, self.end, self.looks = driver, end, looks
        self.points = driver.grid.points[:held]

    def claim(self) -> None:
        for point in self.points:
            self.driver.path(point).mkdir(parents=True, exist_ok=True)
            assert Lock(self.driver.path(point) / CLAIM).acquire("run")  # this process: it lives

    def look(self) -> None:
        self.looks -= 1
        if self.looks != 0:
            return
        for point in self.points:
            claim = self.driver.path(point) / CLAIM
            if self.end == "finishes":
                _do(self.driver.tasks([point.hash], STAGES, 0.0, None)[0])
            if self.end == "dies":
                dead = subprocess.Popen(["true"])
                dead.wait()
                claim.write_text(json.dumps({**json.loads(claim.read_text()), "pid": dead.pid}))
            else:
                claim.unlink()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(loop, "mirroring", lambda driver, say: contextlib.nullcontext(lambda states, last=False: None))
    source = write_grid(tmp_path / "mine.py", [""] * RUNS)
    return Driver(load_grid(source, "smoke"), tmp_path / "runs", TaskFunctions())


def _watched(backend: Backend, orphans: _Orphans | None = None) -> Backend:
    """A backend whose looks let time pass for the orphans."""
    look = backend.states

    def states() -> list[RunState]:
        if orphans is not None:
            orphans.look()
        return look()

    backend.states = states  # type: ignore[method-assign]
    backend.every_s = 0.001
    return backend


def _local(driver: Driver, workers: _Workers) -> LocalBackend:
    backend = LocalBackend(driver, Options())
    backend.pool = workers  # type: ignore[assignment]
    return backend


def _run(backend: Backend, choose: Callable[[Sequence[RunState]], list[str]] = untouched) -> tuple[int, str]:
    out = io.StringIO()
    code = run_grid(backend, Console(file=out, width=200), choose)
    return code, out.getvalue()


CASES = list(itertools.product((1, RUNS), ("finishes", "lets go", "dies"), (2, 5), ("before", "as workers start")))


@pytest.mark.parametrize(("held", "end", "looks", "when"), CASES)
def test_what_others_hold_is_waited_for_and_taken_up(
    driver: Driver, held: int, end: str, looks: int, when: str
) -> None:
    orphans = _Orphans(driver, held, end, looks)
    first = True

    def begin(key: str) -> bool:
        nonlocal first
        if first and when == "as workers start":
            orphans.claim()
        first = False
        return True

    if when == "before":
        orphans.claim()
    workers = _Workers(begin)
    code, said = _run(_watched(_local(driver, workers), orphans))
    assert (code, counts(driver.states())) == (DONE, {"done": RUNS}), said
    assert ("in hand already" in said) == (when == "before")
    # Nothing was begun while another had it, and what was done was not done again.
    starts = [len((driver.path(p) / "starts.jsonl").read_text().splitlines()) for p in driver.grid.points]
    assert starts == [1] * RUNS


@pytest.mark.parametrize("end", ["finishes", "lets go", "dies"])
def test_a_cluster_takes_up_what_a_local_worker_let_go_of(driver: Driver, end: str) -> None:
    driver = Driver(driver.grid, driver.runs, TaskFunctions("tests.support.harness.engine:run_task"))
    orphans = _Orphans(driver, 2, end, 3)
    orphans.claim()
    code, said = _run(_watched(CounterBackend(driver, Options()), orphans))
    assert (code, counts(driver.states())) == (DONE, {"done": RUNS}), said
    assert "1 runs wait in line" in said


@pytest.mark.parametrize("number", range(1, RUNS + 1))
def test_what_cannot_be_begun_is_tried_a_few_times_and_is_not_a_success(driver: Driver, number: int) -> None:
    never = {point.hash for point in driver.grid.points[:number]}
    workers = _Workers(lambda key: key not in never)
    if number == RUNS:
        with pytest.raises(OutsideFailure, match="Starting workers failed"):
            _run(_watched(_local(driver, workers)))
        return
    code, said = _run(_watched(_local(driver, workers)))
    assert code == UNFINISHED
    assert f"{number} runs are not done; `cscdarts ablate run mine` takes them up" in said
    assert len(workers.starts) <= 1 + MAX_TRIES


def test_a_retry_of_some_is_not_a_success_while_others_wait(driver: Driver) -> None:
    workers = _Workers()
    code, _ = _run(_watched(_local(driver, workers)), lambda states: [states[0].hash])
    assert (code, counts(driver.states())) == (UNFINISHED, {"done": 1, "new": RUNS - 1})


def test_a_pool_tells_what_its_workers_found_held(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    folder.mkdir()
    assert Lock(folder / CLAIM).acquire("another")
    tasks = [Task(name, str(tmp_path / name), "builtins:len", "builtins:len") for name in ("held",)]

    class _Ended:
        """A submitit job that has ended."""

        def __init__(self, outcome: object) -> None:
            self.outcome, self.paths = outcome, type("Paths", (), {"result_pickle": tmp_path})

        def done(self) -> bool:
            return True

        def exception(self) -> object:
            return self.outcome if isinstance(self.outcome, Exception) else None

        def result(self) -> object:
            return self.outcome

    pool = LocalPool(tmp_path / "jobs")
    pool._jobs = [_Ended(Job(tuple(tasks))()), _Ended(RuntimeError()), _Ended({"a": "done"})]
    assert pool.held() == {"held"}


def test_the_exit_codes_stand_in_one_table() -> None:
    told = [line for line in (exit_codes.__doc__ or "").splitlines() if line.startswith("| ")]
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    assert {int(line.split("|")[1]) for line in told[1:]} == codes == {0, 1, 2, 130, 141}
    assert "\n".join([told[0], "|---|---|", *told[1:]]) in (ROOT / "docs" / "grids.md").read_text(encoding="utf-8")
