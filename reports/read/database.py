"""Whether an SQLite file is a whole MLflow store: one whose making was cut short is named, with the way out."""

import contextlib
import sqlite3
from pathlib import Path

from cscdarts.errors import BrokenFile

#: The tables that the mirror and the report need.
TABLES = frozenset(["experiments", "runs", "tags", "params", "metrics", "latest_metrics", "alembic_version"])
WAY_OUT = "Move it away; `cscdarts ablate watch GRID` makes a new one and copies every run of the grid again."
_WANTED = "an MLflow store"


def is_there(path: Path) -> bool:
    """Whether there is a database; a file without a byte is none yet."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def schema_of(path: Path) -> str:
    """The revision of a store's schema.

    Errors:
        BrokenFile: it is no database, or its making was cut short: a table or the revision is missing.
    """
    try:
        # Read-only, and by URI so that any character may stand in the path.
        with contextlib.closing(open_read_only(path)) as database:
            names = {str(name) for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = sorted(TABLES - names)
            rows = [] if missing else database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError as error:
        raise BrokenFile(path, str(error), _WANTED, "Check that it can be read, and that nothing holds it.") from error
    except sqlite3.DatabaseError as error:
        raise BrokenFile(path, str(error), "an MLflow database", "Check the path.") from error
    if missing or len(rows) != 1 or not rows[0][0]:
        lack = f"it lacks {', '.join(missing)}" if missing else "its schema has no revision"
        raise BrokenFile(path, f"its making was cut short ({lack})", "a whole MLflow store", WAY_OUT)
    return str(rows[0][0])


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    Errors:
        sqlite3.Error: it cannot be opened.
    """
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
