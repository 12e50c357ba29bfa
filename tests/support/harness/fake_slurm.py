"""A grid on a fake cluster: what a driver does there, and the ways its tests look at it."""

from collections.abc import Callable
from pathlib import Path

from ablations.drive.backend import Options
from ablations.drive.driver import Driver, TaskFunctions, untouched
from ablations.drive.slurm import SlurmBackend
from ablations.grid.load import load_grid
from slurm.backends.slurm.fake import FakeCluster
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.queue import Queue
from tests.support.harness.grids import write_grid

Grid = Callable[..., SlurmBackend]


def fake_grid(
    folder: Path, fake: FakeCluster, notes: list[str], max_array: int = 1001, parallel: int | None = None,
    profile: Profile | None = None,
) -> SlurmBackend:  # fmt: skip
    """The backend of a grid of the tiny engine on a given fake cluster."""
    source = write_grid(folder / "mine.py", notes)
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    driver = Driver(load_grid(source, "smoke"), folder / "runs", functions)
    driver.folder.mkdir(parents=True, exist_ok=True)
    queue = Queue(driver.folder, "test", fake, fake, max_array)
    return SlurmBackend(driver, Options(parallel), profile, "fake", queue)


def submit(cluster: SlurmBackend) -> list[str]:
    """What `run` does: repair, then submit what nobody has in hand."""
    cluster.queue.repair()
    wanted = untouched(cluster.states())
    cluster.submit(wanted)
    return wanted


def starts_on(cluster: SlurmBackend) -> list[int]:
    """How often each run was started."""
    paths = [cluster.driver.path(point) / "starts.jsonl" for point in cluster.driver.grid.points]
    return [len(path.read_text().splitlines()) if path.exists() else 0 for path in paths]


def submits(fake: FakeCluster) -> list[str]:
    """The submissions that the cluster has seen."""
    return [call for call in fake.calls if call.startswith("submit")]
