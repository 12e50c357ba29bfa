"""The data of a grid's runs, as they lie on disk now: their fingerprints stand in the runs' configs and hashes.

Where the data are not at hand (a plan on a laptop, a status on a login node) the fingerprints that the grid was last
run with stand in, and without those none: such a plan says what it would be for data not yet known.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

from ablations.grid.load import Grid, Point
from cscdarts.data.fingerprint import fingerprint, with_fingerprints
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_json


def identified_grid(grid: Grid, folder: Path) -> Grid:
    """The grid with the fingerprints of its data in every run.

    Args:
        folder: of the grid's runs.
    """
    recorded = None
    with contextlib.suppress(NotADirectoryError):  # who writes there says so
        recorded = read_json(folder / "grid.json")
    noted = recorded.get("fingerprints") if isinstance(recorded, dict) else None
    found: dict[tuple[str, str], str] = {}
    absent: dict[str, None] = {}

    def of(name: str, root: str) -> str:
        if (name, root) not in found:
            try:
                found[name, root] = fingerprint(name, Path(root))
            except (UserError, OSError):
                absent[name] = None
                found[name, root] = str(noted.get(name, "")) if isinstance(noted, dict) else ""
        return found[name, root]

    points = []
    for point in grid.points:
        data, root = point.config.data, point.config.runtime.data_root
        own = of(data.dataset, root)
        other = "" if data.searched_dataset == data.dataset else of(data.searched_dataset, root)
        if (own, other) == (data.fingerprint, data.search_fingerprint):
            points.append(point)
        else:
            config = with_fingerprints(point.config, own, other)
            points.append(Point(config, config.hash, point.methods))
    return replace(grid, points=tuple(points), absent=tuple(absent))
