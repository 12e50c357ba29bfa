"""What searches and retrainings will cost, from what finished ones have cost: seconds, scaled by epochs. Nothing
measured, nothing said."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_record
from cscdarts.records.runs_folder import run_folders
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import searches

#: At most this many finished run folders are read for a plan.
MAX_READ = 2000

#: How many nodes a search and a retraining hold while they last: 2 for one that is spread over two, 1/4 where four runs
#: share a node.
Nodes = tuple[float, float]
ONE_NODE: Nodes = (1.0, 1.0)
#: What sets the work of an epoch: of a stage's config, exactly or without ratio, identity and seed.
_Kind = Callable[[RunConfig, bool], tuple[object, ...]]


@dataclass(frozen=True)
class Measured:
    """The cost of finished work, each search and each retraining once, however many runs share it.

    Attributes:
        searches, retrainings: (config of a run that has it, seconds).
    """

    searches: list[tuple[RunConfig, float]] = field(default_factory=list)
    retrainings: list[tuple[RunConfig, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Estimate:
    """Expected node-seconds of some searches and retrainings.

    Attributes:
        seconds: of those that could be estimated.
        known, total: how many could be, of how many.
    """

    seconds: float
    known: int
    total: int

    @property
    def hours(self) -> float | None:
        """Node-hours; None where nothing of what is to be done could be estimated."""
        return self.seconds / 3600 if self.known or not self.total else None


def measured(runs: Path) -> Measured:
    """The finished searches and retrainings of the runs under `runs/`, newest first."""
    found, seen = Measured(), set[Path]()
    for folder in _newest(runs):
        try:
            config = folder.config()
            for one, path in _searches(config, folder):
                if path not in seen and (spent := _spent(path, "search_time_s")) is not None:
                    found.searches.append((one, spent))
                seen.add(path)
            path = folder.file("result.json").resolve()
            if path not in seen and (spent := _spent(path, "retrain_time_s")) is not None:
                found.retrainings.append((config, spent))
            seen.add(path)
        except (OSError, UserError):
            continue
    return found


def estimate(
    searched: Iterable[RunConfig], retrained: Iterable[RunConfig], past: Measured, nodes: Nodes = ONE_NODE
) -> Estimate:
    """Sum the expected seconds of some searches and retrainings, each named by a run that has it.

    Each costs seconds per epoch x epochs; the rate is the mean over finished ones that agree in everything that sets
    the work of an epoch, or, where none does, in all but ratio, identity and seed. Drawing a random cell or being given
    one costs nothing and is not counted.

    Args:
        nodes: how many nodes each of them holds: those of a node that is shared count in part.
    """
    paid = [config for config in searched if config.search.trains_supernet]
    found = (
        [*_costs(paid, past.searches, _search_kind, lambda config: config.search.all_epochs)],
        [*_costs(retrained, past.retrainings, _retrain_kind, lambda config: config.evaluation.epochs)],
    )
    known = [
        seconds * held for costs, held in zip(found, nodes, strict=True) for seconds in costs if seconds is not None
    ]
    return Estimate(sum(known), len(known), sum(map(len, found)))


def sentence(estimated: Estimate) -> str:
    """`about 3.20 node-hours by measured cost`, or what is missing."""
    if estimated.total == 0:
        return "nothing that costs node-hours"
    hours = estimated.hours
    if hours is None:
        return "node-hours unknown: no finished run of this kind under runs/ yet (another scale's does not count)"
    missing = estimated.total - estimated.known
    part = f", {missing} searches and retrainings of unknown cost not counted" if missing else ""
    return f"about {hours:.2f} node-hours by measured cost{part}"


def _costs(
    wanted: Iterable[RunConfig],
    past: Sequence[tuple[RunConfig, float]],
    kind: _Kind,
    epochs: Callable[[RunConfig], int],
) -> Iterator[float | None]:
    rates: dict[tuple[object, ...], list[float]] = {}
    for config, seconds in past:
        for exact in (True, False):
            rates.setdefault(kind(config, exact), []).append(seconds / max(1, epochs(config)))
    for config in wanted:
        found = rates.get(kind(config, True)) or rates.get(kind(config, False))
        yield fmean(found) * max(1, epochs(config)) if found else None


def _search_kind(config: RunConfig, exact: bool) -> tuple[object, ...]:
    s = config.supernet
    key: tuple[object, ...] = (
        exact, config.data.searched_dataset, config.data.image_size, config.data.search_fraction, s.space, s.channels,
        s.cells, config.search.strategy, config.search.order, config.search.batch_size, config.search.stages,
        config.search.stage_cells,
    )  # fmt: skip
    return (*key, s.split_ratio, config.identity_in("search")) if exact else key


def _retrain_kind(config: RunConfig, exact: bool) -> tuple[object, ...]:
    e = config.evaluation
    key: tuple[object, ...] = (
        exact, config.data.dataset, config.data.image_size, config.supernet.space, e.channels, e.cells, e.batch_size
    )  # fmt: skip
    return (*key, config.identity_in("eval"), e.split_eval) if exact else key


def _newest(runs: Path) -> list[RunFolder]:
    """Run folders that have finished a search or a retraining, the last begun first."""
    found = []
    for path in run_folders(runs):
        folder = RunFolder(path)
        with contextlib.suppress(OSError, UserError):
            if folder.has("search") or folder.has("result"):
                found.append(((path / "config.json").stat().st_mtime, folder))
    return [folder for _, folder in sorted(found, key=lambda one: one[0], reverse=True)[:MAX_READ]]


def _searches(config: RunConfig, folder: RunFolder) -> Iterator[tuple[RunConfig, Path]]:
    """Each search of a run, with the file that ends it."""
    for one, place in zip(searches(config), folder.search_folders(), strict=False):
        yield one, (place / "search.json").resolve()


def _spent(path: Path, name: str) -> float | None:
    seconds = ((read_record(path) or {}).get("values") or {}).get(name)
    return float(seconds) if seconds is not None and math.isfinite(seconds) else None
