"""What the doctor was asked to look at, in a form that its processes hand on. No torch."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablations.drive.backend import clusters_of, open_runs
from ablations.drive.driver import Driver
from ablations.grid.identify import remembered_grid
from ablations.grid.load import Grid, load_grid
from ablations.run.state import RunState, run_state
from slurm.errors import ClusterError
from slurm.jobs import SubmittedJob


@dataclass(frozen=True)
class Question:
    """A grid or none, and where its runs are to go.

    Attributes:
        source: the grid's name or the path of its file; "" for none.
        scale, assignments, retrainings: as `load_grid` takes them.
        runs: the folder of run folders.
        data_root: where data sets lie; "" for what the grid says.
        backend: as `--on` takes it; overrides: of its profile.
    """

    source: str = ""
    scale: str = ""
    assignments: tuple[str, ...] = ()
    retrainings: int | None = None
    runs: str = "runs"
    data_root: str = ""
    backend: str = "local"
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> "Question":
        """The question that `text()` wrote."""
        data: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in data.items()}
        return cls(**values)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @property
    def profile(self) -> str:
        """The cluster profile that `--on slurm:PROFILE` names; "" where runs go elsewhere."""
        name, _, profile = self.backend.partition(":")
        return profile if name == "slurm" else ""

    def grid(self) -> Grid | None:
        """The grid with the fingerprints of its data as they were last noted; None where none was asked for.

        Errors:
            UserError: see `load_grid`.
        """
        driver = self.driver()
        return None if driver is None else driver.grid

    def driver(self) -> Driver | None:
        """The grid's driver, which reads run folders and writes nothing; None where no grid was asked for.

        Errors:
            UserError: see `load_grid`.
        """
        if not self.source:
            return None
        grid = load_grid(self.source, self.scale, self.assignments, self.retrainings)
        return Driver(grid, Path(self.runs), identify=remembered_grid)


def states_of(driver: Driver, now: float) -> list[RunState]:
    """Every run's state, in the grid's order, by its folder and by what the clusters say that have had jobs of it; one
    that does not answer is passed over, as that is a finding of its own.

    Args:
        now: the time by this host's clock: to ask the file system for its own a file would have to be written.
    """

    def states(jobs: Sequence[SubmittedJob]) -> list[RunState]:
        by_run: dict[str, list[SubmittedJob]] = {}
        for job in jobs:
            by_run.setdefault(job.key, []).append(job)
        return [run_state(one, driver.path(one), now, by_run.get(one.hash, ())) for one in driver.grid.points]

    found, jobs = states(()), list[SubmittedJob]()
    with contextlib.suppress(ClusterError, ModuleNotFoundError):
        for cluster in clusters_of(driver):
            if cluster.used() and cluster.available():
                jobs += cluster.jobs(open_runs(found))
    return states(jobs) if jobs else found
