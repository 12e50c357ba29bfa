"""What another host has written, seen late: a file system of a network shows new files after seconds, and what was
looked up in vain for up to a minute."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from cscdarts.errors import Stopped, UserError
from cscdarts.records.run_folder import RunFolder, read_json
from slurm.control import Control

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
    while control.job and not (_whole(folder, "genotype.json") or failed(_whole(folder, "failure.json"))):
        if time.monotonic() >= end:
            return
        if control.should_stop():
            raise Stopped
        # To list a folder makes the system ask its server for the folder's present state.
        with contextlib.suppress(OSError):
            os.listdir(folder.path)  # noqa: PTH208 - no entry is looked at
        time.sleep(_LOOK_S)


def _whole(folder: RunFolder, name: str) -> Any:
    """What a file holds, if it is there with its content, and so is what says which files the run has."""
    try:
        return read_json(folder.file(name)) if folder.path.joinpath("config.json").exists() else None
    except UserError:
        return None
