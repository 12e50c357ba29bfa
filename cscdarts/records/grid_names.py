"""A grid's name: the folder under `runs/`, the experiment in the tracker, and part of its jobs' names. One rule for all
of them. No torch."""

import re
from pathlib import Path

from cscdarts.errors import UserError
from cscdarts.records.run_folder import STAGE_FOLDERS

SUFFIX = ".py"
#: Longer names do not fit into the names of jobs and files that are made of them.
MOST_CHARACTERS = 100
#: What a name is made of, for people.
RULE = f"at most {MOST_CHARACTERS} letters, digits, '_', '-' and '.', the first of them a letter, a digit or '_'"
#: Folders that runs share, and the experiment that every MLflow store has.
_TAKEN = frozenset({*STAGE_FOLDERS.values(), "Default"})


def is_file(source: str) -> bool:
    """Whether a grid is named by the path of its file."""
    return source.endswith(SUFFIX) or "/" in source


def grid_name(source: str) -> str:
    """The name of a grid that is given by its name or by the path of its file; `require_grid_name` says if it may be
    one."""
    name = Path(source).name if is_file(source) else source
    return name.removesuffix(SUFFIX)


def require_grid_name(source: str) -> str:
    """The name of a grid that may be run, given as for `grid_name`.

    Errors:
        UserError: no folder, experiment or job can have that name.
    """
    name = grid_name(source)
    what = "Rename the file." if is_file(source) else "Name the grid, or the path of its file."
    if name in _TAKEN:
        raise UserError("GRID", source, f"another name than {' or '.join(sorted(_TAKEN))}, which is taken", what)
    if len(name) > MOST_CHARACTERS or name.endswith(SUFFIX) or not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError("GRID", source, f"a name of {RULE}", what)
    return name
