"""Whoever is killed, at whichever change on disk: the next call ends with the numbers of an undisturbed grid, nothing
is lost and nothing is there twice."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablations.drive.backend import Options
from ablations.drive.driver import counts
from ablations.drive.local import LocalBackend
from ablations.drive.loop import run_grid
from ablations.run.stages import STAGES
from cscdarts.errors import UserError
from slurm.job import CLAIM, Job
from slurm.lock import Lock
from tests.support.harness.counter_backend import CounterBackend
from tests.support.harness.inline import ForkedPool, alone, drive, failed, grid_driver, numbers
from tests.support.injector import every_kill, killed_before

__all__ = ["alone"]

pytestmark = pytest.mark.usefixtures("alone")

#: Every change, or every n-th where time is short.
COMPLETE = pytest.param(1, marks=pytest.mark.whole)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    driver = grid_driver(tmp_path_factory.mktemp("undisturbed"))
    tasks = driver.tasks([point.hash for point in driver.grid.points], STAGES, 0.0, None)
    assert not killed_before(10**9, Job(tuple(tasks)))
    assert counts(driver.states()) == {"done": 2}
    return numbers(driver)


def _outputs(folder: Path) -> Counter[str]:
    """How many outputs there are of each name, litter of killed writers aside."""
    return Counter(path.name for path in folder.rglob("*.json") if not path.name.startswith("."))


@pytest.mark.parametrize("stride", [COMPLETE, 17])
def test_a_worker(undisturbed: dict[str, Any], tmp_path: Path, stride: int) -> None:
    """The driver takes a run whose worker was killed before it began up again, and records one that was at work; the
    other run is done in any case."""
    outcomes: Counter[tuple[str, ...]] = Counter()
    kills = 0
    for change in range(0, 100_000, stride):
        driver = grid_driver(tmp_path / str(change))
        pool = ForkedPool([change])
        code, said = drive(driver, pool=pool)
        states = [state.status for state in driver.states()]
        outcomes[tuple(sorted(states))] += 1
        assert "done" in states, (change, said)
        assert set(states) <= {"done", "failed"}, (change, said)
        assert code == (1 if "failed" in states else 0), change
        if "failed" in states:
            code, said = drive(driver, failed)
        assert code == 0, (change, said)
        assert numbers(driver) == undisturbed, change
        assert _outputs(driver.runs)["result.json"] == 2, change
        assert not any(Lock(path).holder() for path in driver.folder.glob(f"*/{CLAIM}")), change
        if not pool.kills_done:
            break
        kills += 1
    assert kills > 80 / stride
    assert len(outcomes) == 2  # killed before a run began, and at work


def _was_killed(folder: Path, change: int) -> bool:
    driver = grid_driver(folder)
    tasks = driver.tasks([point.hash for point in driver.grid.points], STAGES, 0.0, None)
    return killed_before(change, Job(tuple(tasks)))


def test_a_worker_killed_between_claim_and_config_again_and_again(tmp_path: Path) -> None:
    """A run that kills its worker each time before it begins is recorded after some tries, and the others go on."""
    driver = grid_driver(tmp_path)
    first = next(
        change for change in range(100)
        if _was_killed(tmp_path / str(change), change)
        and list((tmp_path / str(change)).glob(f"runs/mine/*/{CLAIM}"))
    )  # fmt: skip
    code, said = drive(driver, pool=ForkedPool([first] * 3))
    assert code == 1
    (state,) = (state for state in driver.states() if state.status == "failed")
    assert (state.kind, state.stage) == ("memory", "search")
    assert "killed" in said
    assert counts(driver.states()) == {"done": 1, "failed": 1}
    code, said = drive(driver, failed)
    assert code == 0, said


def test_workers_that_are_killed_before_any_claim(tmp_path: Path) -> None:
    driver = grid_driver(tmp_path)
    assert drive(driver, pool=ForkedPool([0, 0]))[0] == 0
    other = grid_driver(tmp_path / "other")
    with pytest.raises(UserError, match="Starting workers failed"):
        drive(other, pool=ForkedPool([0, 0, 0]))


@pytest.mark.parametrize("stride", [COMPLETE, 13])
@pytest.mark.parametrize("kind", ["local", "counter"])
def test_a_driver(undisturbed: dict[str, Any], tmp_path: Path, stride: int, kind: str) -> None:
    """The driver's own changes, those of its lock and list of runs; with a counter that serves inside the driver those
    of the work too."""

    def backend(driver: Any) -> Any:
        if kind == "counter":
            return CounterBackend(driver, Options())
        made = LocalBackend(driver, Options(parallel=1))
        made.pool, made.every_s = ForkedPool(), 0.0  # type: ignore[assignment]
        return made

    def work(change: int) -> Callable[[], object]:
        driver = grid_driver(tmp_path / str(change))
        return lambda: run_grid(backend(driver), Console(file=io.StringIO()))

    kills = 0
    for change in every_kill(stride, work):
        kills += 1
        driver = grid_driver(tmp_path / str(change))
        out = io.StringIO()
        code = run_grid(backend(driver), Console(file=out))
        if kind == "local" and code == 1:  # a worker that is forked counts on, and was killed too
            code = run_grid(backend(driver), Console(file=out), failed)
        assert code == 0, (change, out.getvalue())
        assert numbers(driver) == undisturbed, change
        assert _outputs(driver.runs)["result.json"] == 2, change
        assert not (driver.folder / "driver.lock").exists()
    assert kills > (80 if kind == "counter" else 7) / stride
