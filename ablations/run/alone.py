"""One run in this process, without a grid: what `cscdarts search` and `cscdarts retrain` share."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from cscdarts.errors import CannotWrite, HeldByAnother
from cscdarts.records.damage import require_sound
from cscdarts.records.ownership import require_own
from cscdarts.records.run_folder import RunFolder, read_record
from cscdarts.settings.config import RunConfig
from slurm.control import Control, Stopping
from slurm.job import CLAIM, LOST_AFTER_S
from slurm.lock import Lock

#: Seconds between two looks at work that another process has in hand.
_LOOK_S = 2.0
#: Files that only a training leaves.
_TRAINED = frozenset({"search-metrics.jsonl", "retrain-metrics.jsonl", "checkpoint.pt", "retrain.pt"})


def run_alone(config: RunConfig, out: Path | None, stages: Sequence[str], kind: str) -> tuple[int, RunFolder]:
    """Run some stages of one run, or go on where it was stopped; says on standard error how it ended if not well.

    Args:
        config: with the fingerprints of its data.
        out: the run folder, which then holds the folders of its search and retraining too; `runs/KIND/HASH` if None,
            which shares those with all grids under `runs/`.

    Returns:
        The command's exit code, and the run's folder.

    Errors:
        UserError: the folder holds something else or something damaged, cannot be written, or another process works
            there.
    """
    folder = RunFolder(out or Path("runs") / kind / config.hash)
    require_sound(folder)
    require_own(folder, config)
    fresh = not folder.path.exists()
    control = Control()
    leads = int(os.environ.get("RANK", "0")) == 0
    with _claimed(folder, control) if leads else contextlib.nullcontext():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: control.request_stop("interrupted"))
        code, refused = _run(config, folder, stages, control, "." if out is not None else "../..", fresh and leads)
        if refused:
            shutil.rmtree(folder.path)  # nothing was computed: leave nothing half-written
    return code, folder


@contextlib.contextmanager
def _claimed(folder: RunFolder, control: Control) -> Iterator[None]:
    """Hold a run folder for a block, by the claim that workers of a grid take too; a dead holder's is taken over.

    Errors:
        UserError: another process holds it, or it cannot be written.
    """
    claim = Lock(folder.path / CLAIM, stale_s=LOST_AFTER_S)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        taken = claim.acquire("run")
        owner, age = claim.owner(), claim.age() or 0.0
    except OSError as error:
        raise CannotWrite("--out", str(folder.path), error) from error
    if not taken:
        raise HeldByAnother(
            str(folder.path), f"{owner}, last heard of {age:.0f} s ago",
            f"Wait until it has ended, or end it; a process that died on this host holds nothing, one on another "
            f"host nothing after {LOST_AFTER_S:.0f} s. Another folder is chosen with --out.",
        )  # fmt: skip
    try:
        with claim.refreshing(lambda: control.request_stop("another process has taken it over")):
            yield
    finally:
        claim.release()


def _run(
    config: RunConfig, folder: RunFolder, stages: Sequence[str], control: Control, store: str, fresh: bool
) -> tuple[int, bool]:
    """Run the stages; returns the exit code, and whether a fresh folder was refused before anything was computed."""
    from ablations.run.stages import known_failure, run_task

    arguments = {
        "config": config.model_dump(mode="json"), "stages": list(stages), "since": time.time(), "threads": None,
        "store": store, "known": known_failure(folder.path), "alone": True,
    }  # fmt: skip
    try:
        while (outcome := run_task(folder.path, arguments, control)) == "busy":
            control.pause(_LOOK_S)
    except Stopping:
        click.echo(f"{control.reason}; the same command goes on from the checkpoint in {folder.path}", err=True)
        return 130, False
    if outcome != "failed":
        return 0, False
    failure = read_record(folder.file("failure.json"))
    if failure is None:  # said above by who could not write it
        click.echo(f"cscdarts: the failure could not be recorded in {folder.path}", err=True)
        return 1, False
    ours = failure["kind"] == "user"
    refused = fresh and ours and not _trained(folder)
    where = "" if refused else f" (see {folder.path})"
    click.echo(f"cscdarts: {failure['stage']}: {failure['message']}{where}", err=True)
    return (2 if ours else 1), refused


def _trained(folder: RunFolder) -> bool:
    """Whether a folder holds an epoch or a checkpoint of its own, which is not thrown away with what came after it."""
    own = (path for path in folder.path.rglob("*") if path.name in _TRAINED)
    return any(path.stat().st_size > 0 for path in own)
