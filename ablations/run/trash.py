"""The trash of a runs folder: what `prune` took, in the places that it had, until someone empties it.

    runs/.trash/DATE-TIME-XXXX/GRID/HASH/         a run
    runs/.trash/DATE-TIME-XXXX/searches/KEY/      a search (or retraining) that no run used any more

A folder of one `prune` is made first, with the grid's name in it; then the runs are renamed into it one by one, then
what they alone used. So whenever a process dies each run is whole at its place or whole in the trash, and what is left
in `searches/` or `retrainings/` is only unused.
"""

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cscdarts.errors import BrokenFile, UserError
from cscdarts.records.run_folder import STAGE_FOLDERS, RunFolder
from cscdarts.records.runs_folder import TRASH, folders_in, grid_folders
from cscdarts.settings.keys import Stage
from slurm.job import CLAIM

#: A search or retraining by its key.
StageKey = tuple[Stage, str]
#: Begins the name of a folder that is being deleted: what a process that died left of it is no entry any more.
_GOING = ".going-"


@dataclass(frozen=True)
class Entry:
    """What one `prune` took.

    Attributes:
        path: the folder below `runs/.trash/`.
        grid: whose runs they were.
    """

    path: Path
    grid: str

    @property
    def runs(self) -> list[Path]:
        """Its run folders."""
        return list(folders_in(self.path / self.grid))

    @property
    def stages(self) -> dict[StageKey, Path]:
        """Its searches and retrainings."""
        return stage_folders(self.path)

    def tidy(self) -> None:
        """Remove the entry if nothing is left in it."""
        for name in STAGE_FOLDERS.values():
            with contextlib.suppress(OSError):
                (self.path / name).rmdir()
        with contextlib.suppress(OSError):
            # The grid's name goes last: without it nobody would know whose the rest is.
            if [path.name for path in self.path.iterdir()] == [self.grid]:
                (self.path / self.grid).rmdir()
                self.path.rmdir()
                self.path.parent.rmdir()


def stage_folders(runs: Path) -> dict[StageKey, Path]:
    """The searches and retrainings of a runs folder, or of an entry in its trash."""
    return {(stage, path.name): path for stage, name in STAGE_FOLDERS.items() for path in folders_in(runs / name)}


def stages_used(run: Path) -> set[StageKey]:
    """The searches and the retraining that a run folder names; none where it holds all files itself.

    Errors:
        UserError: what it names cannot be read.
    """
    keys = RunFolder(run).keys()
    if keys is None or keys["store"] == ".":
        return set()
    retraining: set[StageKey] = {("retrain", keys["retrain"])} if keys["retrain"] else set()
    return {("search", key) for key in keys["searches"]} | retraining


def used_by(folders: Iterable[Path]) -> tuple[dict[StageKey, Path], list[Path]]:
    """Which of some folders uses each search and retraining, and the folders of which that cannot be told."""
    users: dict[StageKey, Path] = {}
    unknown: list[Path] = []
    for path in folders:
        try:
            users |= dict.fromkeys(stages_used(path), path)
        except UserError:
            unknown.append(path)
    return users, unknown


def all_folders(runs: Path) -> Iterator[Path]:
    """Every folder that is a run's or was to become one, of whichever grid."""
    for grid in grid_folders(runs):
        yield from (path for path in folders_in(grid) if any((path / one).exists() for one in ("keys.json", CLAIM)))


def begin(runs: Path, grid: str) -> Entry:
    """A new, empty entry."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    entry = Entry(runs / TRASH / name, grid)
    (entry.path / grid).mkdir(parents=True)
    return entry


def throw(runs: Path, entry: Entry, paths: Iterable[Path]) -> None:
    """Move folders of a runs folder into an entry, at the places that they had; they must be the caller's."""
    for path in paths:
        target = entry.path / path.relative_to(runs)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        (target / CLAIM).unlink(missing_ok=True)


def entries(runs: Path, grid: str | None = None) -> list[Entry]:
    """What is in the trash, of one grid or of all, the oldest first."""
    found = []
    for path in folders_in(runs / TRASH):
        names = [one.name for one in grid_folders(path)]
        if len(names) == 1 and grid in (None, names[0]):
            found.append(Entry(path, names[0]))
    return found


def restore(runs: Path, grid: str, wanted: Sequence[Path], whole: bool) -> tuple[list[Path], list[Path]]:
    """Bring runs back from the trash, each after what it uses, from whichever entry has that.

    Args:
        wanted: run folders in entries of the grid, those to be preferred first.
        whole: bring searches and retrainings of these entries back too that no run in them uses.

    Returns:
        What is at its place again, and what stays because something is at that place.
    """
    stages = {key: path for entry in entries(runs) for key, path in entry.stages.items()}
    own = {path for entry in entries(runs, grid) for path in entry.stages.values()} if whole else set()
    back: list[Path] = []
    left: list[Path] = []

    def bring(path: Path, target: Path) -> None:
        if target.exists():
            left.append(path)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        back.append(target)

    needed: set[StageKey] = set()
    for path in wanted:
        with contextlib.suppress(UserError):
            needed |= stages_used(path)
    for (stage, key), path in stages.items():
        if (stage, key) in needed or path in own:
            bring(path, runs / STAGE_FOLDERS[stage] / key)
    for path in wanted:
        bring(path, runs / grid / path.name)
    for entry in entries(runs):
        entry.tidy()
    return back, left


def empty(runs: Path, grid: str) -> None:
    """Delete a grid's entries for good, but for searches and retrainings that a run elsewhere uses: those go back to
    their place, or to the entry of the grid whose run in the trash uses them.

    Errors:
        BrokenFile: what a run folder uses cannot be read.
    """
    live, unknown = used_by(all_folders(runs))
    if unknown:
        raise BrokenFile(
            unknown[0] / "keys.json", "it cannot be read", "a list of keys", "Move that folder away, then empty again."
        )
    for left in (runs / TRASH).glob(f"{_GOING}*"):
        shutil.rmtree(left)
    thrown: Mapping[StageKey, Entry] = {
        key: entry
        for entry in entries(runs)
        if entry.grid != grid
        for key in used_by(entry.runs)[0]
    }  # fmt: skip
    for entry in entries(runs, grid):
        for (stage, key), path in entry.stages.items():
            other = thrown.get((stage, key))
            place = runs if (stage, key) in live else other.path if other is not None else None
            target = None if place is None else place / STAGE_FOLDERS[stage] / key
            if target is not None and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        going = entry.path.with_name(_GOING + entry.path.name)
        entry.path.rename(going)
        shutil.rmtree(going)
    with contextlib.suppress(OSError):
        (runs / TRASH).rmdir()
