"""What has become of each run, read from its folder and from the standing of its jobs. No torch.

Nothing is remembered elsewhere: a second driver, on another node, sees the same.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from ablations.grid.load import Point
from ablations.run.stages import missing_stages, stages_of
from cscdarts.records.damage import find_damage
from cscdarts.records.forms import is_metric_line
from cscdarts.records.ownership import foreign
from cscdarts.records.run_folder import STAGE_FOLDERS, RunFolder, read_record
from cscdarts.settings.keys import Stage
from slurm.job import CLAIM, LOST_AFTER_S, REQUEUED
from slurm.jobs import SubmittedJob
from slurm.lock import Lock, Owner, read_owner

Status = Literal["new", "pending", "running", "preempted", "done", "failed", "lost", "cancelled", "damaged"]
STATUSES: tuple[Status, ...] = (
    "done", "running", "pending", "preempted", "new", "failed", "lost", "cancelled", "damaged",
)  # fmt: skip
#: A process or a scheduler has these runs in hand.
IN_HAND: frozenset[Status] = frozenset({"pending", "running", "preempted"})


@dataclass(frozen=True)
class RunState:
    """One run's standing.

    Attributes:
        detail: for people: progress, cause of a failure, why it waits.
        kind: of a failure.
        epoch, epochs, eta_s: of a running stage; None where unknown.
        foreign: whether the folder is another's, so that nothing in it is this run's.
        damage: the file or folder that cannot be read; "" where all can.
    """

    hash: str
    status: Status
    detail: str = ""
    kind: str = ""
    stage: str = ""
    epoch: int | None = None
    epochs: int | None = None
    eta_s: float | None = None
    host: str = ""
    jobs: tuple[str, ...] = ()
    foreign: bool = False
    damage: str = ""


def run_state(point: Point, path: Path, now: float, jobs: Sequence[SubmittedJob] = ()) -> RunState:
    """Derive a run's state: the first rule that knows an answer gives it.

    Args:
        point: the grid's point.
        path: its run folder, which need not exist.
        now: present time by the file system's clock, seconds since the epoch.
        jobs: its jobs in the order of submission; empty for runs on this machine.
    """
    evidence = _Evidence(point, path, now, jobs)
    return next(state for rule in _RULES if (state := rule(evidence)) is not None)


class _Evidence:
    """What is known of one run. The folder is listed once, files are read where a rule asks."""

    def __init__(self, point: Point, path: Path, now: float, jobs: Sequence[SubmittedJob]) -> None:
        self.point, self.path, self.now, self.jobs = point, path, now, jobs
        try:
            self.files = {entry.name: entry for entry in os.scandir(path)}
        except OSError:
            self.files = {}
        self.folder = RunFolder(path)
        self.stages = stages_of(point.config)
        #: What cannot be read in its folders, and why the folder is not this run's: either way nothing in it counts.
        self.damage = find_damage(self.folder)
        self.foreign = foreign(self.folder, point.config) if self.files and self.damage is None else None
        begun = "config.json" in self.files and self.foreign is None and self.damage is None
        self.missing = list(missing_stages(point.config, self.folder) if begun else self.stages)
        self.stage = self.missing[0] if self.missing else self.stages[-1]
        self.submitted = max((job.submitted for job in jobs), default=0.0)
        #: The jobs of the last submission, and older ones that live on.
        self.current = [job for job in jobs if job.submitted == self.submitted or job.live]

    def state(self, status: Status, detail: str = "", kind: str = "", stage: str = "", **progress: Any) -> RunState:
        """A standing of this run."""
        return RunState(
            self.point.hash, status, detail, kind, stage, jobs=tuple(job.job for job in self.jobs), **progress
        )

    @cached_property
    def failure(self) -> Mapping[str, Any] | None:
        """What `failure.json` says."""
        return read_record(self.path / "failure.json") if "failure.json" in self.files else None

    @property
    def failed_since_submission(self) -> bool:
        """Whether the failure is newer than the last submission.

        By the file's time: that in it is by the clock of a node, which may go an hour wrong.
        """
        return self._mtime("failure.json") >= self.submitted

    def _mtime(self, name: str) -> float:
        try:
            return self.files[name].stat().st_mtime
        except OSError:
            return 0.0

    @property
    def silent_s(self) -> float:
        """Seconds since the last heart-beat; 0 where there was none."""
        return self.now - self._mtime("heartbeat") if "heartbeat" in self.files else 0.0

    @property
    def shared_with(self) -> Owner | None:
        """The live process that works, for another run, on the stage that this run needs next."""
        if "config.json" not in self.files or self.stage not in STAGE_FOLDERS or self.folder.keys() is None:
            return None
        return Lock(self.folder.stage_folder(cast("Stage", self.stage)) / CLAIM, LOST_AFTER_S).holder()

    @cached_property
    def claim(self) -> tuple[Owner, bool] | None:
        """Who claimed the run, and whether that process counts as alive."""
        if CLAIM not in self.files or (self.damage is not None and self.damage.path.name == CLAIM):
            return None
        try:
            owner = read_owner(Path(self.files[CLAIM].path))
        except OSError:
            owner = None
        if owner is None:  # nobody's that can be asked: the next start takes it over
            return None
        return owner, self.now - self._mtime(CLAIM) <= LOST_AFTER_S and not owner.dead_here()


def _foreign(run: _Evidence) -> RunState | None:
    """The folder holds another run, or files that nobody answers for."""
    if run.foreign is None:
        return None
    return run.state("failed", f"its folder {run.foreign}; move {run.path} away", "user", run.stage, foreign=True)


def _damaged(run: _Evidence) -> RunState | None:
    """A file in its folders cannot be read, and nobody is at work there."""
    if run.damage is None or (run.claim is not None and run.claim[1]):
        return None
    fix = f"move {run.damage.path} away, or `cscdarts ablate retry` sets it aside"
    return run.state("damaged", f"{run.damage}; {fix}", stage=run.stage, damage=str(run.damage.path))


def _done(run: _Evidence) -> RunState | None:
    return run.state("done") if not run.missing and run.failure is None else None


def _running(run: _Evidence) -> RunState | None:
    """A process holds a fresh claim: how far it is."""
    if run.claim is None or not run.claim[1]:
        return None
    config = run.point.config
    epochs = {"search": config.search.all_epochs, "retrain": config.evaluation.epochs}.get(run.stage)
    epoch, pace = _progress(run.folder.metrics(run.stage), run.stage)
    eta = None if epochs is None or epoch is None or pace is None else max(0.0, (epochs - epoch) * pace)
    detail = run.stage if epochs is None else f"{run.stage} {epoch or 0}/{epochs}"
    if run.silent_s > max(600.0, 3 * (pace or 0.0)):
        detail += f", no news for {run.silent_s / 60:.0f} min"
    host = run.claim[0].host
    return run.state("running", detail, stage=run.stage, epoch=epoch, epochs=epochs, eta_s=eta, host=host)


def _failed(run: _Evidence) -> RunState | None:
    """The run recorded a failure, and nothing was submitted since."""
    failure = run.failure
    if failure is None or (run.current and not _since_submission(failure, run)):
        return None
    stage = failure["stage"]
    return run.state("failed", f"{stage}: {failure['message']}", failure["kind"], stage)


def _since_submission(failure: Mapping[str, Any], run: _Evidence) -> bool:
    """Whether a failure was recorded by the submission that is current, or a later one. It names its submission by the
    time that the driver gave that; records of 0.1.0 have the time of the node's clock only."""
    return float(failure["since"]) >= run.submitted if "since" in failure else run.failed_since_submission


def _queued(run: _Evidence) -> RunState | None:
    """A scheduler has a job of it."""
    live = [job for job in run.current if job.live]
    if not live:
        return None
    if any(job.phase == "running" and job.runs == 1 for job in live):
        return run.state("running", f"{run.stage}: job is at work", stage=run.stage)
    reason = next((job.reason for job in live if job.reason), "")
    if REQUEUED in run.files or any(job.phase == "requeued" for job in live):
        return run.state("preempted", f"{run.stage}: waits to go on ({reason or 'requeued'})", stage=run.stage)
    # Of a job that has several runs, those at work are known by their claims.
    turn = next((f"waits for its turn in job {job.job}" for job in live if job.phase == "running"), "in the queue")
    return run.state("pending", reason or f"{run.stage}: {turn}", stage=run.stage)


def _ended(run: _Evidence) -> RunState | None:
    """Its jobs have ended without its result and without a record by itself: the scheduler says why."""
    if not run.current:
        return None
    for job in run.current:
        cause = job.explain()
        if cause is not None:
            return run.state("failed", f"{run.stage}: {cause.sentence}", cause.kind, run.stage)
    if any(job.phase == "cancelled" for job in run.current):
        return run.state("cancelled", f"{run.stage}: cancelled", stage=run.stage)
    return run.state("lost", f"{run.stage}: its job has ended and left no result", "lost", run.stage)


def _lost(run: _Evidence) -> RunState | None:
    """A claim whose process is gone."""
    if run.claim is None:
        return None
    return run.state("lost", f"{run.stage}: {run.claim[0]} has ended or is silent", "lost", run.stage)


def _new(run: _Evidence) -> RunState | None:
    """Nobody has it in hand; how far an interrupted one had come."""
    epoch = _progress(run.folder.metrics(run.stage), run.stage)[0] if "config.json" in run.files else None
    detail = "" if run.stage == run.stages[0] else f"goes on with {run.stage}"
    if epoch is not None:
        detail = f"interrupted in {run.stage} after epoch {epoch}, goes on from its checkpoint"
    other = run.shared_with
    if other is not None:
        detail = (
            f"waits for {run.stage} {run.folder.stage_folder(cast('Stage', run.stage)).name}, which {other} has in hand"
        )
    return run.state("new", detail, stage=run.stage)


def _full(run: _Evidence) -> RunState | None:
    """A run that has begun and is in nobody's hands, on a file system that is full: what stopped it could not be
    recorded there. Once there is room it is told, and taken up, by the rules below."""
    if not run.files or not _is_full(run.path):
        return None
    way = "Free space there, and run the same command again; what has finished is kept."
    return run.state("failed", f"{run.stage}: disk full: {run.path} cannot be written. {way}", "disk", run.stage)


def _is_full(path: Path) -> bool:
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < 4096


_RULES: tuple[Callable[[_Evidence], RunState | None], ...] = (
    _damaged, _foreign, _done, _running, _failed, _queued, _full, _ended, _lost, _new,
)  # fmt: skip


def _progress(path: Path, stage: str) -> tuple[int | None, float | None]:
    """Epochs done in a stage and seconds per epoch, from the last lines of the metrics file."""
    if not path.is_file():
        return None, None
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None, None
    for line in reversed(lines):
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if is_metric_line(entry) and entry["stage"] == stage:
                pace = entry["values"].get(f"{stage}_epoch_time_s")
                return entry["epoch"] + 1, pace if pace is not None and 0 <= pace < math.inf else None
    return None, None
