"""Runs named on the command line, without their grid's file: whole grids, hashes or beginnings of them, run folders."""

from collections.abc import Sequence
from pathlib import Path

from cscdarts.errors import MissingFile, UserError
from cscdarts.records.run_folder import STAGE_FOLDERS

#: Fewest characters of a hash that name a run.
_FEWEST = 4


def chosen_runs(what: Sequence[str], runs: Path) -> list[Path]:
    """The run folders that are meant, those of a grid one after the other, each once.

    Args:
        what: names of grids, hashes or beginnings of them, or run folders.
        runs: the runs folder.

    Errors:
        UserError: there is none of that name, or several runs begin so.
    """
    found = [path for one in what for path in _chosen(one, runs)]
    return sorted(dict.fromkeys(found), key=lambda path: (path.parent, path.name))


def _chosen(one: str, runs: Path) -> list[Path]:
    path = Path(one)
    if (path / "config.json").is_file():
        return [path]
    if not runs.is_dir():
        raise MissingFile(runs, "Name the folder of runs with --runs.")
    grid = runs / one
    if one.strip(".") and path.name == one and grid.is_dir() and one not in STAGE_FOLDERS.values():
        held = sorted(config.parent for config in grid.glob("*/config.json"))
        if not held:
            raise MissingFile(grid, "Run the grid first.", "run")
        return held
    plain = one if len(one) >= _FEWEST and one.isalnum() else ""
    same = sorted(config.parent for config in runs.glob(f"*/{plain}*/config.json")) if plain else []
    hashes = {path.name for path in same}
    if len(hashes) > 1:
        fix = f"Give more of it; {', '.join(sorted(hashes)[:4])} begin so."
        raise UserError("RUN", one, "the beginning of one run's hash", fix)
    if not same:
        known = ", ".join(sorted({path.parent.parent.name for path in runs.glob("*/*/config.json")})) or "none yet"
        raise UserError("GRID|RUN", one, f"a grid of {runs} ({known}), a run's hash, or a run folder", "See --runs.")
    return same
