"""What another host has written, seen late: a file system of a network shows new files after seconds, and what was
looked up in vain for up to a minute."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from cscdarts.errors import Stopped, UserError
from cscdarts.records.damage import Damage, find_damage
from cscdarts.records.run_folder import RunFolder, read_json
from slurm.control import Control
from slurm.lock import LATE_S

#: Seconds after which what is not to be seen is not there: NFS keeps what it knows of a folder for 60.
VISIBLE_S = 60.0
_LOOK_S = 0.5


def await_cell(folder: RunFolder, control: Control, failed: Callable[[Any], bool]) -> None:
    """Wait, in a scheduler's job that only retrains, for what the job before it has written: a cell, or why there is
    none. Whether it is there is for the caller to see.

    Args:
        failed: whether what `failure.json` holds tells that there will be no cell.

    Errors:
        Stopped: asked to stop meanwhile.
    """
    end = time.monotonic() + VISIBLE_S
    while control.job and not (_searched(folder) or failed(_content(folder, "failure.json"))):
        if time.monotonic() >= end:
            return
        if control.should_stop():
            raise Stopped
        # To list a folder makes the system ask its server for the folder's present state.
        with contextlib.suppress(OSError):
            os.listdir(folder.path)  # noqa: PTH208 - no entry is looked at
        time.sleep(_LOOK_S)


def lasting_damage(folder: RunFolder, control: Control) -> Damage | None:
    """What is damaged in a run's folders. In a scheduler's job a file may have its name before its content, which
    passes for damage: what is damaged there is looked at until it is not, for as long as a content may take.

    Errors:
        Stopped: asked to stop meanwhile.
    """
    end = time.monotonic() + LATE_S
    while (damage := find_damage(folder)) is not None and control.job and time.monotonic() < end:
        if control.should_stop():
            raise Stopped
        time.sleep(_LOOK_S)
    return damage


def _searched(folder: RunFolder) -> bool:
    """Whether the cell is there, and all that says where the run's files lie and what the search has cost."""
    if not all(_content(folder, name) for name in ("config.json", "keys.json", "genotype.json")):
        return False
    return all(_content(RunFolder(place), "search.json") for place in folder.search_folders())


def _content(folder: RunFolder, name: str) -> Any:
    """What a file holds, if it is there with its content."""
    try:
        return read_json(folder.path / name)
    except UserError:
        return None
