"""The data of a grid's runs, as they lie on disk now: their fingerprints stand in the runs' configs and hashes.

Where the data are not at hand (a plan on a laptop, a status on a login node) the fingerprints that the grid was last
run with stand in, and without those none: such a plan says what it would be for data not yet known.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.grid.past import MANIFEST
from cscdarts.data.fingerprint import fingerprint, identified
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_record


def identified_grid(grid: Grid, folder: Path) -> Grid:
    """The grid with the fingerprints of its data in every run.

    Args:
        folder: of the grid's runs.
    """
    return identified_as_noted(grid, _noted(folder))


def remembered_grid(grid: Grid, folder: Path) -> Grid:
    """The grid with the fingerprints that it was last run with: no file of the data is looked at, nothing is written.

    Args:
        folder: of the grid's runs.
    """
    noted = _noted(folder)
    configs = [identified(point.config, lambda name, root: str(noted.get(name, ""))) for point in grid.points]
    return replace(grid, points=tuple(Point(c, c.hash, p.methods) for c, p in zip(configs, grid.points, strict=True)))


def _noted(folder: Path) -> Mapping[str, Any]:
    noted: Any = None
    with contextlib.suppress(UserError):  # whoever needs what else it says, says that it is damaged
        noted = (read_record(folder / MANIFEST) or {}).get("fingerprints")
    return noted if isinstance(noted, dict) else {}


def identified_as_noted(grid: Grid, noted: Mapping[str, Any]) -> Grid:
    """As `identified_grid`.

    Args:
        noted: data set -> fingerprint that stands in where the data are not at hand.
    """
    found: dict[tuple[str, Path], str] = {}
    absent: dict[str, None] = {}

    def of(name: str, root: Path) -> str:
        if (name, root) not in found:
            try:
                found[name, root] = fingerprint(name, root)
            except (UserError, OSError):
                absent[name] = None
                found[name, root] = str(noted.get(name, ""))
        return found[name, root]

    configs = [(identified(point.config, of), point) for point in grid.points]
    points = (point if one is point.config else Point(one, one.hash, point.methods) for one, point in configs)
    return replace(grid, points=tuple(points), absent=tuple(absent))
