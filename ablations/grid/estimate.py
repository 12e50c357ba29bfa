"""What a grid will cost, from what runs have cost: seconds of finished runs, scaled by epochs. Nothing measured,
nothing said."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from ablations.grid.load import Grid, Point
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig

#: At most this many finished runs are read for a plan.
MAX_READ = 2000


@dataclass(frozen=True)
class Measured:
    """The cost of one finished run, seconds."""

    config: RunConfig
    search_s: float
    retrain_s: float


@dataclass(frozen=True)
class Estimate:
    """Expected node-seconds of some runs.

    Attributes:
        seconds: of the runs that could be estimated.
        known, total: how many could be, of how many.
    """

    seconds: float
    known: int
    total: int


def measured(runs: Path) -> list[Measured]:
    """The finished runs under `runs/`, newest grids' included."""
    return list(_read(runs))


def estimate(points: Sequence[Point], past: Iterable[Measured]) -> Estimate:
    """Sum the expected seconds of `points`.

    A run costs seconds per epoch x epochs, search and retraining apart; the rate is the mean over finished runs that
    agree in everything that sets the work of an epoch, or, where none does, in all but ratio, identity and seed.
    """
    past = list(past)
    searches: dict[tuple[object, ...], list[float]] = {}
    retrains: dict[tuple[object, ...], list[float]] = {}
    for one in past:
        for exact in (True, False):
            searches.setdefault(_search_key(one.config, exact), []).append(one.search_s / one.config.search.epochs)
            epochs = max(1, one.config.evaluation.epochs)
            retrains.setdefault(_retrain_key(one.config, exact), []).append(one.retrain_s / epochs)
    seconds, known = 0.0, 0
    for point in points:
        search = _rate(searches, _search_key(point.config, True), _search_key(point.config, False))
        retrain = _rate(retrains, _retrain_key(point.config, True), _retrain_key(point.config, False))
        if not point.config.runtime.retrain:
            retrain = 0.0
        if search is not None and retrain is not None:
            seconds += search * point.config.search.epochs + retrain * point.config.evaluation.epochs
            known += 1
    return Estimate(seconds, known, len(points))


def sentence(grid: Grid, estimated: Estimate) -> str:
    """`about 3.2 node-hours (from measured cost)`, or what is missing."""
    if estimated.total == 0:
        return "nothing to run"
    if estimated.known == 0:
        return (
            "node-hours unknown: no finished run of this kind under runs/ yet "
            f"(try one: --scale smoke does not count for {grid.scale})"
        )
    hours = estimated.seconds / 3600
    part = "" if estimated.known == estimated.total else f", {estimated.total - estimated.known} runs unknown"
    return f"about {hours:.2f} node-hours by measured cost{part}"


def _rate(
    rates: dict[tuple[object, ...], list[float]], exact: tuple[object, ...], loose: tuple[object, ...]
) -> float | None:
    found = rates.get(exact) or rates.get(loose)
    return fmean(found) if found else None


def _search_key(config: RunConfig, exact: bool) -> tuple[object, ...]:
    s = config.supernet
    key: tuple[object, ...] = (
        exact, config.data.dataset, config.data.image_size, config.data.search_fraction, s.space, s.channels, s.cells,
        config.search.strategy, config.search.order, config.search.batch_size,
    )  # fmt: skip
    return (*key, s.split_ratio, s.identity) if exact else key


def _retrain_key(config: RunConfig, exact: bool) -> tuple[object, ...]:
    e = config.evaluation
    key: tuple[object, ...] = (
        exact, config.data.dataset, config.data.image_size, config.supernet.space, e.channels, e.cells, e.batch_size
    )  # fmt: skip
    return (*key, config.supernet.identity, e.split_eval) if exact else key


def _read(runs: Path) -> Iterator[Measured]:
    finished = []
    for path in runs.glob("*/*/config.json"):
        folder = RunFolder(path.parent)
        with contextlib.suppress(OSError, UserError):
            finished.append((folder.file("result.json").stat().st_mtime, folder))
    for _, folder in sorted(finished, key=lambda one: one[0], reverse=True)[:MAX_READ]:
        try:
            config = folder.config()
            values: dict[str, object] = {}
            for name in ("search.json", "result.json"):
                values |= (read_json(folder.file(name)) or {}).get("values", {})
        except UserError:
            continue
        search, retrain = values.get("search_time_s", 0.0), values.get("retrain_time_s")
        if isinstance(search, int | float) and isinstance(retrain, int | float):
            yield Measured(config, float(search), float(retrain))
