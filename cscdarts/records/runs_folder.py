"""The folder of all runs: which folders in it hold runs, and what of it nobody looks at. No torch.

runs/GRID/HASH/          a run; runs/search/HASH/ and runs/retrain/HASH/ those of single commands
runs/searches/KEY/       see `cscdarts.records.run_folder`
runs/retrainings/KEY/
runs/.trash/             what was taken away and can come back; it is no grid, for its name begins with a dot
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cscdarts.errors import UserError
from cscdarts.records.run_folder import STAGE_FOLDERS, read_json

#: Where `prune` moves what it takes; never counted, shown, mirrored, taken over or run.
TRASH = ".trash"


def folders_in(path: Path) -> Iterator[Path]:
    """The folders in a folder, sorted, but for hidden ones; none where it is not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(path) as entries:
            names = sorted(one.name for one in entries if not one.name.startswith(".") and one.is_dir())
        yield from (path / name for name in names)


def grid_folders(runs: Path) -> Iterator[Path]:
    """The folders of grids and of single commands, sorted; none where there is no such folder."""
    yield from (path for path in folders_in(runs) if path.name not in STAGE_FOLDERS.values())


def run_folders_of(grid: Path) -> Iterator[Path]:
    """The folders in a grid's that have a configuration, sorted."""
    yield from (path for path in folders_in(grid) if (path / "config.json").exists())


def run_folders(runs: Path) -> Iterator[Path]:
    """The run folders of all grids, sorted."""
    for grid in grid_folders(runs):
        yield from run_folders_of(grid)


def scale_of(run: Path) -> str:
    """The scale that a run's configuration names; "" where it cannot be read."""
    with contextlib.suppress(UserError, LookupError, TypeError):
        content = read_json(run / "config.json")
        return str(content["labels"]["scale"]) if content else ""
    return ""
