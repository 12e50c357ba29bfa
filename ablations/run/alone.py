"""One run in this process, without a grid: what `cscdarts search` and `cscdarts retrain` share."""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import click

from cscdarts.errors import CannotWrite
from cscdarts.records.ownership import require_own
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from slurm.control import Control, Stopping

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
        UserError: the folder holds something else, or cannot be written.
    """
    from ablations.run.stages import run_task

    folder = RunFolder(out or Path("runs") / kind / config.hash)
    require_own(folder, config)
    fresh = not folder.path.exists()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.beat()
    except OSError as error:
        raise CannotWrite("--out", str(folder.path), error) from error
    control = Control()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: control.request_stop("interrupted"))
    arguments = {
        "config": config.model_dump(mode="json"), "stages": list(stages), "since": time.time(), "threads": None,
        "store": "." if out is not None else "../..", "alone": True,
    }  # fmt: skip
    try:
        while (outcome := run_task(folder.path, arguments, control)) == "busy":
            control.pause(_LOOK_S)
    except Stopping:
        click.echo(f"interrupted; the same command goes on from the checkpoint in {folder.path}", err=True)
        return 130, folder
    if outcome != "failed":
        return 0, folder
    failure = read_json(folder.file("failure.json"))
    if failure is None:  # said above by who could not write it
        click.echo(f"cscdarts: the failure could not be recorded in {folder.path}", err=True)
        return 1, folder
    ours = failure.get("kind") == "user"
    where = f" (see {folder.path})"
    if fresh and ours and not _trained(folder) and int(os.environ.get("RANK", "0")) == 0:
        shutil.rmtree(folder.path)  # nothing was computed: leave nothing half-written
        where = ""
    click.echo(f"cscdarts: {failure.get('stage')}: {failure.get('message')}{where}", err=True)
    return (2 if ours else 1), folder


def _trained(folder: RunFolder) -> bool:
    """Whether a folder holds an epoch or a checkpoint of its own, which is not thrown away with what came after it."""
    own = (path for path in folder.path.rglob("*") if path.name in _TRAINED)
    return any(path.stat().st_size > 0 for path in own)
