"""A grid: a Python file whose function `grid(scale)` yields run configurations with ordinary loops. No torch.

Two points with the same hash are one run known under several methods: the method at ratio 1 without identity *is*
DARTS.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cscdarts.errors import MissingFile, OutsideFailure, UserError
from cscdarts.records.run_folder import STAGE_FOLDERS, read_record
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import parse_assignments, with_values
from cscdarts.settings.protocols import DEFAULT_SCALE, SCALES
from cscdarts.spaces import OPERATIONS, SPACES, beside, load_file

GRIDS = Path(__file__).parents[1] / "grids"
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
        name: file name without suffix; the folder under `runs/` and the experiment's name.
        source: the file.
        plugins: what a process must import to know the grid's spaces and operations: the file, where it is a user's and
            its runs use a space or an operation registered from outside the package.
        retrainings: how often each cell is retrained.
        absent: data sets whose files could not be read, so that their fingerprints are not those of today's files.
    """

    name: str
    scale: str
    overrides: Mapping[str, str]
    points: tuple[Point, ...]
    source: Path
    plugins: tuple[str, ...] = ()
    retrainings: int = 1
    absent: tuple[str, ...] = ()

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

    @property
    def fingerprints(self) -> dict[str, str]:
        """Data set -> fingerprint, of those that have one."""
        found: dict[str, str] = {}
        for data in (point.config.data for point in self.points):
            found |= {data.dataset: data.fingerprint, data.searched_dataset: data.searched_fingerprint}
        return {name: mark for name, mark in sorted(found.items()) if mark}


def _shipped() -> dict[str, Path]:
    """Name -> file of the grids that come with the distribution."""
    return {path.stem: path for path in sorted(GRIDS.rglob("*.py")) if not path.stem.startswith("_")}


def grid_names() -> list[str]:
    """The grids that come with the distribution."""
    return sorted(_shipped())


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
    if scale not in SCALES:
        raise UserError("--scale", scale, ", ".join(SCALES), "Choose one of these.")
    seeds, others = _seeds(assignments)
    overrides = parse_assignments(others)
    module, path = _module(source)
    function = getattr(module, "grid", None)
    if not callable(function):
        raise MissingFile(
            str(path), "See ablations/grids/quickstart.py.", "function grid(scale) that yields RunConfigs"
        )
    configs = _configs(function, scale, path)
    if seeds:
        # Each setting once, in the grid's order, then for each seed.
        settings = list({with_values(c, {"seed": 0}).hash + c.labels.method: c for c in configs}.values())
        configs = [with_values(c, {"seed": seed}) for seed in seeds for c in settings]
    times = _retrainings(module, path, scale, retrainings)
    points = _points(configs, overrides, scale, times)
    if retrainings is not None and retrainings > 1 and points and not any(p.config.runtime.retrain for p in points):
        raise UserError(
            "--retrainings", retrainings, "1 for a grid whose runs end before the retraining",
            "Set runtime.retrain=true, or leave the option out.",
        )  # fmt: skip
    if path.stem in STAGE_FOLDERS.values():
        raise UserError(
            "GRID", source, f"a file of another name than {path.name}", "Rename it: runs/ has such a folder."
        )
    if not points:
        raise MissingFile(str(path), "Let grid(scale) yield a RunConfig.", "run at this scale")
    if seeds:
        overrides["seeds"] = ",".join(map(str, seeds))
    return Grid(path.stem, scale, overrides, points, path, _plugins(points, path), times)


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
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdigit() for part in parts) or parts == ["0"]:
            raise UserError("--set seeds", value, "a number of seeds or a list such as 0,1,2", "Correct it.")
        seeds = list(range(int(parts[0]))) if len(parts) == 1 else [int(part) for part in parts]
    return seeds, others


def grid_folder(source: str, runs: Path) -> Path:
    """Where a grid's runs are, by name or path, without reading the grid.

    Errors:
        UserError: the name holds characters that no grid has.
    """
    name = Path(source).stem if source.endswith(".py") else source
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise UserError("GRID", source, ", ".join([*grid_names(), "PATH.py"]), "Choose one of these.")
    return runs / name


def recorded_choice(source: str, runs: Path) -> tuple[str, list[str], int | None] | None:
    """Scale, `--set` texts and retrainings that a grid was last run with, so that `status` need not repeat them."""
    manifest = read_record(grid_folder(source, runs) / "grid.json")
    if manifest is None or "scale" not in manifest:
        return None
    times = manifest.get("retrainings")  # none in a manifest of 0.1.0
    return (
        str(manifest["scale"]),
        [f"{key}={value}" for key, value in manifest.get("overrides", {}).items()],
        times if isinstance(times, int) else None,
    )


def _module(source: str) -> tuple[ModuleType, Path]:
    if not source.endswith(".py") and "/" not in source:
        path = _shipped().get(source)
        if path is None:
            raise UserError("GRID", source, ", ".join([*grid_names(), "PATH.py"]), "Choose one of these.")
        inside = path.relative_to(GRIDS).with_suffix("").parts
        return importlib.import_module(".".join(("ablations.grids", *inside))), path
    path = Path(source)
    if path.suffix != ".py" or not path.is_file():
        raise MissingFile(source, "Name an existing Python file.")
    try:
        return load_file(path), path
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(path, error) from error


def _configs(function: Callable[..., Any], scale: str, path: Path) -> list[RunConfig]:
    try:
        with beside(path.parent):
            configs = list(function(scale) if inspect.signature(function).parameters else function())
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(path, error) from error
    for config in configs:
        if not isinstance(config, RunConfig):
            raise UserError(str(path), type(config).__name__, "RunConfig", "Let grid(scale) yield RunConfigs.")
    return configs


def _broken(path: Path, error: BaseException) -> UserError:
    return OutsideFailure(str(path), f"{type(error).__name__}: {error}", "See the traceback with --debug.")


def _points(
    configs: Sequence[RunConfig], overrides: Mapping[str, str], scale: str, retrainings: int
) -> tuple[Point, ...]:
    # Checked again on the whole: an override may be impossible for one point only.
    configs = [_at_scale(with_values(config, overrides) if overrides else config, scale) for config in configs]
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
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"seed": seed})})
