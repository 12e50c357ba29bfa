"""Where the store's copies of files lie, held against what is there: moved projects, copies that are gone."""

import contextlib
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablations.mirror.database import artifact_place
from reports.read.artifacts import is_run_place, local_path
from reports.read.tracking import is_server, sqlite_path

#: Table -> its key, its column of places, and the folder below the experiment's where those lie.
_PLACED = {
    "runs": ("run_uuid", "artifact_uri", ""),
    "logged_models": ("model_id", "artifact_location", "models/"),
}


def follow_database(uri: str, experiment: str, grid: str) -> None:
    """Let a grid's artifacts lie beside its SQLite database again, after both were moved or copied together.

    The store holds whole paths, so that after a move MLflow would make the old folders anew. Places that were chosen
    by hand (not `mlruns/GRID`) are left alone, and so is an old place that is there and has no other database beside
    it. A run whose files are only at the old place takes them along.
    """
    path = sqlite_path(uri)
    if path is None or not experiment.isdecimal():
        return
    place = artifact_place(path, grid)
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
        number = int(experiment)
        found = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id = ?", (number,))
        written = str((found.fetchone() or ("",))[0] or "")
        old, new = local_path(written, uri), local_path(place, uri)
        if written in ("", place) or old is None or new is None or not _has_moved(old, new, path):
            return
        moved: dict[str, list[tuple[str, str]]] = {}
        for table, (key, column, below) in _PLACED.items():
            rows = database.execute(f"SELECT {key}, {column} FROM {table} WHERE experiment_id = ?", (number,))
            for run_id, stated in rows.fetchall():
                if stated == f"{written.rstrip('/')}/{below}{run_id}/artifacts" and is_run_place(Path(stated), run_id):
                    _take_along(old / below / run_id / "artifacts", new / below / run_id / "artifacts")
                    moved.setdefault(table, []).append((f"{place}/{below}{run_id}/artifacts", run_id))
        database.execute("BEGIN IMMEDIATE")
        for table, places in moved.items():
            key, column, _ = _PLACED[table]
            database.executemany(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", places)
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (place, number))
        database.execute("COMMIT")


def without_lost(cursor: Mapping[str, Any], artifact_uri: str, uri: str) -> dict[str, Any]:
    """A run's note of what was written, less the files whose copies are gone or have another size; as it is where the
    copies cannot be looked at."""
    place, files = local_path(artifact_uri, uri), cursor.get("files")
    if place is None or is_server(uri) or not isinstance(files, Mapping):
        return dict(cursor)
    kept = {
        name: stamp
        for name, stamp in files.items()
        # Why a run failed is in its tags; its file is not copied.
        if name == "failure.json" or _size(place / name) == (stamp[0] if isinstance(stamp, list) and stamp else None)
    }
    return dict(cursor) if len(kept) == len(files) else {**cursor, "files": kept}


def _has_moved(old: Path, new: Path, database: Path) -> bool:
    """Whether a place was beside a database (as ours is), and that was not this one where it is now."""
    if old.parts[-2:] != new.parts[-2:]:
        return False
    if not old.is_dir():
        return True
    with contextlib.suppress(OSError):
        if new.is_dir() and old.samefile(new):
            return False
        return not (old.parent.parent / database.name).samefile(database)
    return False


def _take_along(old: Path, new: Path) -> None:
    """Copy a run's files that are only at the old place; a copy cut short is no copy."""
    if new.exists() or not old.is_dir():
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    part = new.with_name(f".{new.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(old, part)
    part.rename(new)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
