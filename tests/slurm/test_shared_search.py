"""What must hold on a real SLURM where runs share a search: it is made once, through signals and with two drivers."""

import subprocess
from pathlib import Path

import pytest

from ablations.drive.driver import Driver, TaskFunctions, counts
from ablations.grid.load import load_grid
from tests.support.harness.grids import write_grid
from tests.support.harness.slurm_site import BESIDE, Site, beside, job_of, states_of, until

pytestmark = [
    pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("slurm"), pytest.mark.xdist_group("slurm"), beside
]  # fmt: skip

EPOCHS = 12


def _grid(site: Site, name: str, **values: object) -> tuple[Driver, str]:
    pace = "pace=1.0"
    source = write_grid(site.path / f"{name}.py", [pace], search__epochs=EPOCHS, **values)
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    return Driver(load_grid(source, "smoke"), site.path / "runs", functions), f"{name}.py"


def _searched(site: Site) -> list[int]:
    """Epochs that were searched, of each search under the runs folder."""
    files = sorted((site.path / "runs" / "searches").glob("*/search-metrics.jsonl"))
    return [len(path.read_text().splitlines()) for path in files]


def test_two_drivers_on_two_grids_make_one_search(site: Site) -> None:
    """One job searches, is sent back to the queue in the middle and goes on; the other run takes the search over."""
    first, one = _grid(site, "first")
    second, other = _grid(site, "second", evaluation__channels=4)
    drivers = [site.start("ablate", "run", source, *BESIDE) for source in (one, other)]
    until(lambda: sum(_searched(site)) >= 2, what="epochs of the search")
    holder = next(
        driver
        for driver in (first, second)
        if "held by" not in _log(driver) and any(state.status == "running" for state in states_of(driver))
    )
    subprocess.run(["scancel", "--signal=USR2", job_of(holder, 0, "search")], check=True)
    for driver in drivers:
        out, _ = driver.communicate(timeout=420)
        assert driver.returncode == 0, out
    assert [counts(states_of(driver)) for driver in (first, second)] == [{"done": 1}] * 2
    assert _searched(site) == [EPOCHS]
    assert len(list((site.path / "runs" / "retrainings").glob("*/result.json"))) == 2
    assert any("search: waits for" in _log(driver) for driver in (first, second))


def test_runs_of_one_grid_that_share_a_search_wait_in_the_queue(site: Site) -> None:
    """Three retrainings of one search: one job searches, those of the others start when it has ended."""
    path = site.path / "three.py"
    write_grid(path, [""], search__epochs=4)
    path.write_text(
        path.read_text().replace("def grid(scale):", "def once(scale):")
        + "\n\ndef grid(scale):\n    for config in once(scale):\n"
        + "        for seed in (0, 1, 2):\n            yield with_values(config, {'evaluation.seed': seed})\n"
    )
    said = site.call("ablate", "run", "three.py", *BESIDE)
    assert "3 runs submitted as 4 arrays" in said
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    driver = Driver(load_grid(str(path), "smoke"), site.path / "runs", functions)
    assert counts(states_of(driver)) == {"done": 3}
    assert _searched(site) == [4]
    assert not any("held by" in (driver.path(point) / "log.txt").read_text() for point in driver.grid.points)


def _log(driver: Driver) -> str:
    log: Path = driver.path(driver.grid.points[0]) / "log.txt"
    return log.read_text() if log.exists() else ""
