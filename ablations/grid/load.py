"""A grid: a Python file whose function `grid(scale)` yields run configurations with ordinary loops. No torch.

Two points with the same hash are one run known under several methods: the method at ratio 1 without identity *is*
DARTS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ablations.grid.file import configs_of, grid_module, require_number
from ablations.grid.past import Past, Source
from cscdarts.errors import MissingFile, UserError
from cscdarts.records.grid_names import is_file, require_grid_name
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import parse_assignments, with_values
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES
from cscdarts.settings.values import Unreadable, whole
from cscdarts.spaces import OPERATIONS, SPACES

#: Attribute of a grid's file that says how often each cell is retrained: a number, or one for each scale.
FIELD = "RETRAININGS"
#: At most so many retrainings of a cell, and how far their seeds lie apart: grids number their seeds from 0 and
#: `search.best_of` counts on from a run's, so a step of 1 would meet the retraining seeds of other runs; 1000 does not.
MOST_RETRAININGS, SEED_STEP = 100, 1000


@dataclass(frozen=True)
class Point:
    """One run of a grid.

    Attributes:
        config: its configuration; its label is the first method's.
        methods: every method that the grid yields this configuration for, in order.
    """

    config: RunConfig
    hash: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """An ablation grid at one scale with its overrides applied.

    Attributes:
        name: see `cscdarts.records.grid_names`.
        source: the file.
        plugins: what a process must import to know the grid's spaces and operations: the file, where it is a user's and
            its runs use a space or an operation registered from outside the package.
        retrainings: how often each cell is retrained.
        absent: data sets whose files could not be read, so that their fingerprints are not those of today's files.
        shipped: whether the file comes with the distribution.
        asked: how often each cell was asked to be retrained; None where the file says.
    """

    name: str
    scale: str
    overrides: Mapping[str, str]
    points: tuple[Point, ...]
    source: Path
    plugins: tuple[str, ...] = ()
    retrainings: int = 1
    absent: tuple[str, ...] = ()
    shipped: bool = False
    asked: int | None = None

    def manifest(self, commit: str | None) -> dict[str, Any]:
        """What `grid.json` holds."""
        return {
            "grid": self.name,
            "scale": self.scale,
            "overrides": dict(self.overrides),
            "retrainings": self.retrainings,
            "runs": [{"hash": p.hash, "methods": list(p.methods), "seed": p.config.seed} for p in self.points],
            "commit": commit,
            "fingerprints": self.fingerprints,
        }

    def choice(self, runs: Path) -> Past:
        """What the record keeps of this choice; `runs` is the folder of all grids."""
        overrides = {key: str(value) for key, value in self.overrides.items()}
        hashes = tuple(point.hash for point in self.points)
        source = Source.of(self.source, runs, self.shipped)
        return Past(source, self.scale, overrides, self.asked, self.fingerprints, hashes)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Data set -> fingerprint, of those that have one."""
        found: dict[str, str] = {}
        for data in (point.config.data for point in self.points):
            found |= {data.dataset: data.fingerprint, data.searched_dataset: data.searched_fingerprint}
        return {name: mark for name, mark in sorted(found.items()) if mark}


def load_grid(
    source: str, scale: str = DEFAULT_SCALE, assignments: Iterable[str] = (), retrainings: int | None = None
) -> Grid:
    """Read a grid by its name or by the path of a user's file.

    Args:
        source: a name from `grid_names()` or a path that ends in `.py`.
        scale: one of `SCALES`.
        assignments: `key=value` texts, applied to every run.
        retrainings: how often each cell is retrained; what the file says if None. The first retraining keeps the run's
            `evaluation.seed` (and so its hash), the others add 1000, 2000, ... to it; all share one search.

    Errors:
        UserError: no such grid or scale, a file that yields no runs, an override out of range, retrainings of runs that
            have none.
    """
    name = require_grid_name(source)
    if scale not in SCALES:
        raise UserError("--scale", scale, ", ".join(SCALES), "Choose one of these.")
    seeds, others = _seeds(assignments)
    overrides = parse_assignments(others)
    module, path = grid_module(source)
    configs = configs_of(module, scale, path)
    if seeds:
        # Each setting once, in the grid's order, then for each seed.
        settings = list({with_values(c, {"seed": 0}).hash + c.labels.method: c for c in configs}.values())
        require_number(len(seeds) * len(settings), "--set seeds", f"{len(seeds)} seeds of {len(settings)} settings")
        configs = [with_values(c, {"seed": seed}) for seed in seeds for c in settings]
    times = _retrainings(module, path, scale, retrainings)
    require_number(times * len(configs), "--retrainings", f"{times} retrainings of {len(configs)} runs")
    points = _points(configs, overrides, scale, times)
    if retrainings is not None and retrainings > 1 and points and not any(p.config.runtime.retrain for p in points):
        raise UserError(
            "--retrainings", retrainings, "1 for a grid whose runs end before the retraining",
            "Set runtime.retrain=true, or leave the option out.",
        )  # fmt: skip
    if not points:
        raise MissingFile(str(path), "Let grid(scale) yield a RunConfig.", "run at this scale")
    if seeds:
        # A lone number would be read as how many there are.
        overrides["seeds"] = ",".join(map(str, seeds if len(seeds) > 1 else 2 * seeds))
    shipped = not is_file(source)
    return Grid(name, scale, overrides, points, path, _plugins(points, path), times, shipped=shipped, asked=retrainings)


def _retrainings(module: ModuleType, path: Path, scale: str, asked: int | None) -> int:
    """How often each cell is retrained: as asked, or as the grid's file says, or once."""
    found: Any = getattr(module, FIELD, 1)
    if isinstance(found, Mapping):
        found = found.get(scale, 1)
    where, value = (f"{FIELD} in {path}", found) if asked is None else ("--retrainings", asked)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_RETRAININGS:
        allowed = f"a whole number from 1 to {MOST_RETRAININGS}" + (", or one for each scale" if asked is None else "")
        raise UserError(where, value, allowed, "Correct it.")
    return value


def _plugins(points: Iterable[Point], path: Path) -> tuple[str, ...]:
    for point in points:
        supernet = point.config.supernet
        if SPACES.added(supernet.space) or any(map(OPERATIONS.added, supernet.ops or ())):
            return (str(path.resolve()),)
    return ()


def _seeds(assignments: Iterable[str]) -> tuple[list[int], list[str]]:
    """The seeds of `seeds=0,1,2` (or `seeds=5` for 0 to 4), and the other assignments."""
    seeds: list[int] = []
    others: list[str] = []
    for text in assignments:
        key, _, value = text.partition("=")
        if key.strip() != "seeds":
            others.append(text)
            continue
        try:
            parts = [whole(part) for part in value.split(",")]
        except Unreadable:
            parts = [0]
        if not all(0 <= part < 2**31 for part in parts) or parts == [0]:
            raise UserError("--set seeds", value, "a number of seeds or a list such as 0,1,2", "Correct it.")
        require_number(parts[0] if len(parts) == 1 else len(parts), "--set seeds", value)
        seeds = list(range(parts[0])) if len(parts) == 1 else list(dict.fromkeys(parts))
    return seeds, others


def setting_keys(assignments: Iterable[str]) -> set[str]:
    """The dotted settings (or `seeds`) that `--set` texts speak of.

    Errors:
        UserError: no such setting.
    """
    seeds, others = _seeds(assignments)
    return {*parse_assignments(others), *(["seeds"] if seeds else [])}


def source_now(source: str, runs: Path) -> Source:
    """What a grid's name or the path of its file stands for today; `runs` is the folder of all grids."""
    return Source.of(Path(source), runs, shipped=not is_file(source))


def _points(
    configs: Sequence[RunConfig], overrides: Mapping[str, str], scale: str, retrainings: int
) -> tuple[Point, ...]:
    # Checked again on the whole: an override may be impossible for one point only, and a copy is checked by nobody.
    configs = [_at_scale(with_values(config, overrides), scale) for config in configs]
    merged: dict[str, Point] = {}
    # All cells once, then all of them again: runs that share a search come late enough to find it done.
    for config in (_retrained(config, time) for time in range(retrainings) for config in configs):
        key, method = config.hash, config.labels.method
        known = merged.get(key)
        if known is None:
            merged[key] = Point(config, key, (method,))
        elif method not in known.methods:
            merged[key] = Point(known.config, key, (*known.methods, method))
    return tuple(merged.values())


def _at_scale(config: RunConfig, scale: str) -> RunConfig:
    if config.labels.scale != "custom":
        return config
    return config.model_copy(update={"labels": config.labels.model_copy(update={"scale": scale})})


def _retrained(config: RunConfig, time: int) -> RunConfig:
    """A run with the seed of its cell's retraining number `time`; itself where it has no retraining."""
    if time == 0 or not config.runtime.retrain:
        return config
    seed = (config.seed if config.evaluation.seed is None else config.evaluation.seed) + SEED_STEP * time
    if seed >= 2**31:
        raise UserError(
            "--retrainings", time + 1, f"retrainings whose seeds, {SEED_STEP} apart, stay below {2**31:,}",
            f"They count on from evaluation.seed={seed - SEED_STEP * time}: lower it.",
        )  # fmt: skip
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"seed": seed})})
