"""Several runs that share a search or a retraining: one process works on it, the others take it over or come back.

The claim on a stage's folder is a lock like a run's own; it is kept by a thread while the stage is at work, and taken
over once its owner is dead or silent.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from cscdarts.errors import Stopped
from cscdarts.records.environment import record_environment
from cscdarts.records.run_folder import STAGE_FOLDERS, STAGE_OUTPUTS, RunFolder, read_record
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Key, Stage, search_key, searches
from slurm.control import Control
from slurm.job import CLAIM, LOST_AFTER_S
from slurm.lock import Lock


class Busy(Exception):
    """Another process works on what this run needs next; the message says who."""


def parts(config: RunConfig, folder: RunFolder, stage: str) -> Iterator[tuple[RunConfig, Key | None]]:
    """What a stage is made of: (configuration, key) of each of its searches, of its retraining, or of itself."""
    if stage == "search":
        yield from ((one, search_key(one)) for one in searches(config))
    else:
        yield config, folder.retraining_key(config) if stage == "retrain" else None


@contextlib.contextmanager
def taken(
    folder: RunFolder, stage: str, key: Key | None, control: Control, report: Callable[[str], None]
) -> Iterator[bool]:
    """Claim a stage's folder for a block; yields False where its output is there already, from whichever run.

    Stages without a key, and folders that hold all files themselves, need no claim. Several processes of one job agree
    through the claim: the leading one takes it, the others wait until they see that.

    Errors:
        Busy: another process holds it.
        Stopped: asked to stop while waiting.
    """
    if key is None or folder.keys() is None:
        yield True
        return
    name = cast("Stage", stage)
    world, leads = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0")) == 0
    place = folder.bind(name, key) if leads else _bound(folder, name, key, control)
    output, claim = place / STAGE_OUTPUTS[name], Lock(place / CLAIM, stale_s=LOST_AFTER_S)
    meeting = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}" if world > 1 else ""
    what = f"{stage} for {folder.path.name}{meeting and f' at {meeting}'}"
    if not leads:
        while not (output.exists() or ((owner := claim.owner()) is not None and owner.what == what)):
            pause(control)
        yield not output.exists()
        return
    while not output.exists() and not _acquire(claim, folder, name, key, what, control):
        if world == 1:
            raise Busy(f"waits for {place}, held by {claim.owner()}")
        pause(control)
    try:
        if output.exists():
            report(f"{stage}: taken over from {STAGE_FOLDERS[name]}/{key.id}")
            yield False
            return
        record_environment(place, _surroundings(folder), control.job)
        with claim.refreshing(lambda: control.request_stop(f"another process has taken {place} over")):
            yield True
    finally:
        _tidy(place, claim)


def _acquire(claim: Lock, folder: RunFolder, stage: Stage, key: Key, what: str, control: Control) -> bool:
    """Take the claim; where another process has just tidied the folder away it is made again."""
    try:
        return claim.acquire(what, control.job, control.life)
    except FileNotFoundError:
        folder.bind(stage, key)
        return claim.acquire(what, control.job, control.life)


def _tidy(place: Path, claim: Lock) -> None:
    """Let a stage's folder go, and take it away if nothing was computed there, say because its data were refused."""
    # A claim that was lost meanwhile is another's, and so is the folder.
    empty = claim.refresh() and {path.name for path in place.iterdir()} <= {"key.json", "environment.json", CLAIM}
    if empty:
        for name in ("key.json", "environment.json"):
            (place / name).unlink(missing_ok=True)
    claim.release()
    if empty:
        with contextlib.suppress(OSError):  # another process has begun there meanwhile
            place.rmdir()


def _bound(folder: RunFolder, stage: Stage, key: Key, control: Control) -> Path:
    """The stage's folder, once the leading process has made it."""
    while (folder.keys() or {}).get(stage) != key.id:
        pause(control)
    return folder.stage_folder(stage)


def pause(control: Control) -> None:
    """Wait a moment for another process.

    Errors:
        Stopped: asked to stop.
    """
    if control.should_stop():
        raise Stopped
    time.sleep(0.5)


def _surroundings(folder: RunFolder) -> dict[str, object]:
    """Of the present start, as the run's own record has it."""
    found = read_record(folder.file("environment.json")) or {}
    return {name: value for name, value in found.items() if name not in ("starts", "first_started_at")}
