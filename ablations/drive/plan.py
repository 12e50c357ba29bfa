"""What is really to be done for some grids together: each run, search and retraining once, finished ones not again. No
torch."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.drive.driver import Driver
from ablations.grid.estimate import ONE_NODE, Estimate, Measured, Nodes, estimate
from ablations.run.stages import has_output
from ablations.run.state import RunState
from cscdarts.errors import UserError
from cscdarts.records.ownership import foreign
from cscdarts.records.run_folder import STAGE_FOLDERS, STAGE_OUTPUTS, RunFolder, read_record
from cscdarts.records.runs_folder import folders_in, grid_folders
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Stage, planned_retraining_key, search_key, searches


@dataclass(frozen=True)
class Plan:
    """What some grids want, and what of it is there.

    Attributes:
        wanted: runs, those that several grids want counted in each.
        runs: distinct runs, by hash.
        done: how many of these are done in one of the grids.
        searches, retrainings: distinct ones by key -> a run that has it. Of a cell that is not derived yet nobody knows
            the retraining's key: there the searches and the rule that it will be derived by stand for the cell. Drawing
            a random cell is a search (one that costs nothing), being given one is none.
        searched, retrained: the keys of those that are done.
    """

    wanted: int
    runs: int
    done: int
    searches: Mapping[str, RunConfig]
    searched: frozenset[str]
    retrainings: Mapping[str, RunConfig]
    retrained: frozenset[str]

    def left(self) -> tuple[list[RunConfig], list[RunConfig]]:
        """The searches and the retrainings that are still to be done, each as a run that has it."""
        return (
            [config for key, config in self.searches.items() if key not in self.searched],
            [config for key, config in self.retrainings.items() if key not in self.retrained],
        )

    def expected(self, past: Measured, nodes: Nodes = ONE_NODE) -> Estimate:
        """What is still to be done, in node-seconds."""
        return estimate(*self.left(), past, nodes)

    def values(self, past: Measured, nodes: Nodes = ONE_NODE) -> dict[str, Any]:
        """As plain data. `runs` and `done` count runs; `searches` and `retrainings` what is still to be done, the names
        with `_total` also what is done; `node_hours` is None where nothing like it was measured, and `unmeasured`
        counts the searches and retrainings that it leaves out."""
        searched, retrained = self.left()
        expected = self.expected(past, nodes)
        return {
            "runs": self.runs,
            "done": self.done,
            "searches": len(searched),
            "retrainings": len(retrained),
            "node_hours": expected.hours,
            "runs_wanted": self.wanted,
            "searches_total": len(self.searches),
            "retrainings_total": len(self.retrainings),
            "unmeasured": expected.total - expected.known,
        }

    def sentence(self) -> str:
        """`204 runs wanted, 162 distinct (0 done): 126 searches (3 done), 162 retrainings (0 done)`."""
        return (
            f"{self.wanted} runs wanted, {self.runs} distinct ({self.done} done): {len(self.searches)} searches "
            f"({len(self.searched)} done), {len(self.retrainings)} retrainings ({len(self.retrained)} done)"
        )


def plan(grids: Sequence[tuple[Driver, Sequence[RunState]]]) -> Plan:
    """Count what is to be done for some grids together.

    Args:
        grids: each grid's driver with the states of its runs; all drivers have one folder of runs.
    """
    configs: dict[str, RunConfig] = {}
    done = set[str]()
    for driver, states in grids:
        configs.update((point.hash, point.config) for point in driver.grid.points)
        done.update(state.hash for state in states if state.status == "done")
    runs = grids[0][0].runs if grids else Path()
    folders = _folders(runs, configs)
    wanted_searches: dict[str, RunConfig] = {}
    wanted_retrainings: dict[str, RunConfig] = {}
    searched, retrained = set[str](), set[str]()
    for key, config in configs.items():
        if config.search.strategy == "given":
            continue
        own = any(_whole(folder) and has_output(folder, "search") for folder in folders.get(key, ()))
        for one in searches(config):
            name = search_key(one).id
            if name not in wanted_searches and _is_there(runs, "search", name):
                searched.add(name)
            wanted_searches.setdefault(name, one)
            if own:
                searched.add(name)
    cells = _known_cells(configs, folders)
    for key, config in configs.items():
        if not config.runtime.retrain:
            continue
        planned = planned_retraining_key(config).id
        name = cells.get(planned, planned)
        if name not in wanted_retrainings and _is_there(runs, "retrain", name):
            retrained.add(name)
        wanted_retrainings.setdefault(name, config)
        if any(_whole(folder) and folder.has("result") for folder in folders.get(key, ())):
            retrained.add(name)
    return Plan(
        sum(len(driver.grid.points) for driver, _ in grids),
        len(configs), len(done), wanted_searches, frozenset(searched), wanted_retrainings, frozenset(retrained),
    )  # fmt: skip


def absent_data(drivers: Iterable[Driver]) -> list[str]:
    """A sentence for each data set that a plan could not look at."""
    told: dict[str, None] = {}
    for driver in drivers:
        known = driver.grid.fingerprints
        for name in driver.grid.absent:
            root = next(p.config.runtime.data_root for p in driver.grid.points if name in _sets(p.config))
            basis = f"as {driver.grid.name} was last run on it" if name in known else "as one not yet known"
            told[f"{name} is not at hand under {root}: planned {basis}"] = None
    return list(told)


def _sets(config: RunConfig) -> tuple[str, str]:
    return config.data.dataset, config.data.searched_dataset


def _folders(runs: Path, configs: Mapping[str, RunConfig]) -> dict[str, list[RunFolder]]:
    """The folders that hold these runs, in whichever grid, by hash."""
    found: dict[str, list[RunFolder]] = {}
    for grid in grid_folders(runs):
        for path in folders_in(grid):
            if path.name in configs:
                folder = RunFolder(path)
                if foreign(folder, configs[path.name]) is None:
                    found.setdefault(path.name, []).append(folder)
    return found


def _known_cells(configs: Mapping[str, RunConfig], folders: Mapping[str, Sequence[RunFolder]]) -> dict[str, str]:
    """Planned key of a retraining -> its own, of runs whose cell is derived: runs planned alike will have that one."""
    cells: dict[str, str] = {}
    for key, config in configs.items():
        for folder in folders.get(key, ()):
            with contextlib.suppress(UserError):  # a broken record is told by the run's state
                own = folder.retraining_key(config)
                if own is not None:
                    cells.setdefault(planned_retraining_key(config).id, own.id)
    return cells


def _whole(folder: RunFolder) -> bool:
    """Whether a run folder holds all files itself, as those of 0.1.0 do."""
    return folder.keys() is None


def _is_there(runs: Path, stage: Stage, key: str) -> bool:
    """Whether a stage's output lies under its key, and is that key's."""
    try:
        content = read_record(runs / STAGE_FOLDERS[stage] / key / STAGE_OUTPUTS[stage])
    except UserError:
        return False
    return content is not None and content.get("key", key) == key
