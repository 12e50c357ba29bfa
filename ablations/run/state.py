"""What has become of each run, read from its folder and from the scheduler's word on its jobs. No torch.

Nothing is remembered elsewhere: a second driver, on another node, sees the same.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablations.grid.load import Point
from ablations.run.stages import OUTPUTS, stages_of
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_json
from slurm.backends.slurm.scheduler import JobState
from slurm.job import CLAIM, LOST_AFTER_S, REQUEUED
from slurm.lock import Owner

Status = Literal["new", "pending", "running", "preempted", "done", "failed", "lost", "cancelled"]
STATUSES: tuple[Status, ...] = ("done", "running", "pending", "preempted", "new", "failed", "lost", "cancelled")

#: Scheduler's word -> (kind of failure, sentence).
CAUSES: Mapping[str, tuple[str, str]] = {
    "OUT_OF_MEMORY": ("memory", "out of memory, killed by the scheduler"),
    "TIMEOUT": ("timeout", "time limit reached without an answer to the signal before it"),
    "DEADLINE": ("timeout", "deadline reached"),
    "NODE_FAIL": ("node", "node failed and the job was not requeued"),
    "BOOT_FAIL": ("node", "node did not boot"),
    "PREEMPTED": ("node", "preempted and not requeued"),
    "FAILED": ("error", "the job ended without a result"),
}


@dataclass(frozen=True)
class JobView:
    """One job of a run: where it stands and where its standard error is."""

    job: str
    group: str
    state: JobState | None
    submitted: float
    stderr: Path


@dataclass(frozen=True)
class RunState:
    """One run's standing.

    Attributes:
        detail: for people: progress, cause of a failure, why it waits.
        kind: of a failure.
        epoch, epochs, eta_s: of a running stage; None where unknown.
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


def run_state(point: Point, path: Path, now: float, jobs: Sequence[JobView] = ()) -> RunState:
    """Derive a run's state.

    Args:
        point: the grid's point.
        path: its run folder, which need not exist.
        now: present time by the file system's clock, seconds since the epoch.
        jobs: its jobs in the order of submission; empty for runs on this machine.
    """
    ids = tuple(view.job for view in jobs)
    try:
        names = {entry.name: entry for entry in os.scandir(path)}
    except FileNotFoundError:
        names = {}
    stages = stages_of(point.config)
    missing = [stage for stage in stages if f"{OUTPUTS[stage]}.json" not in names]
    failed_at, failure = _failure(names, path)
    if not missing and failure is None:
        return RunState(point.hash, "done", jobs=ids)
    stage = missing[0] if missing else stages[-1]
    claim = _claim(names, now)
    if claim is not None and claim[1]:
        return _running(point, path, names, stage, claim[0], now, ids)
    submitted = max((view.submitted for view in jobs), default=0.0)
    if failure is not None and failed_at >= submitted:
        kind, detail = str(failure["kind"]), f"{failure['stage']}: {failure['message']}"
        return RunState(point.hash, "failed", detail, kind, str(failure["stage"]), jobs=ids)
    latest = [view for view in jobs if view.submitted == submitted or (view.state is not None and view.state.live)]
    queued = _queued(point.hash, latest, stage, REQUEUED in names, ids)
    if queued is not None:
        return queued
    if latest:
        return _ended(point.hash, latest, stage, ids)
    if failure is not None:
        return RunState(
            point.hash, "failed", f"{failure['stage']}: {failure['message']}", str(failure["kind"]), jobs=ids
        )
    if claim is not None:
        return RunState(point.hash, "lost", f"{stage}: {claim[0]} has ended or is silent", "lost", stage, jobs=ids)
    return RunState(point.hash, "new", _so_far(path, names, stage, stages), stage=stage, jobs=ids)


def _failure(names: Mapping[str, "os.DirEntry[str]"], path: Path) -> tuple[float, Mapping[str, Any] | None]:
    if "failure.json" not in names:
        return 0.0, None
    try:
        failure = read_json(path / "failure.json")
    except UserError:
        failure = None
    if not isinstance(failure, dict):
        return 0.0, {"stage": "?", "kind": "error", "message": "failure.json is unreadable"}
    return float(failure.get("time", 0.0)), failure


def _claim(names: Mapping[str, "os.DirEntry[str]"], now: float) -> tuple[Owner, bool] | None:
    """Who claimed the run, and whether the claim is alive."""
    if CLAIM not in names:
        return None
    entry = names[CLAIM]
    try:
        owner = Owner(**json.loads(Path(entry.path).read_text(encoding="utf-8")))
        age = now - entry.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    return owner, age <= LOST_AFTER_S and not owner.dead_here()


def _running(
    point: Point, path: Path, names: Mapping[str, "os.DirEntry[str]"], stage: str, owner: Owner, now: float,
    ids: tuple[str, ...],
) -> RunState:  # fmt: skip
    epochs = {"search": point.config.search.epochs, "retrain": point.config.evaluation.epochs}.get(stage)
    epoch, pace = _progress(path / "metrics.jsonl", stage)
    eta = None if epochs is None or epoch is None or pace is None else max(0.0, (epochs - epoch) * pace)
    detail = stage if epochs is None else f"{stage} {epoch or 0}/{epochs}"
    if "heartbeat" in names:
        silent = now - names["heartbeat"].stat().st_mtime
        if silent > max(600.0, 3 * (pace or 0.0)):
            detail += f", no news for {silent / 60:.0f} min"
    return RunState(point.hash, "running", detail, "", stage, epoch, epochs, eta, owner.host, ids)


def _progress(path: Path, stage: str) -> tuple[int | None, float | None]:
    """Epochs done in a stage and seconds an epoch, from the last lines of the metrics file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None, None
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            if entry["stage"] == stage:
                return int(entry["epoch"]) + 1, entry["values"].get(f"{stage}_epoch_time_s")
        except (ValueError, KeyError, TypeError):
            continue
    return None, None


def _queued(key: str, views: Sequence[JobView], stage: str, requeued: bool, ids: tuple[str, ...]) -> RunState | None:
    live = [view for view in views if view.state is not None and view.state.live]
    if not live:
        return None
    states = [view.state for view in live if view.state is not None]
    if any(state.state in ("RUNNING", "COMPLETING", "CONFIGURING") for state in states):
        return RunState(key, "running", f"{stage}: job is at work", stage=stage, jobs=ids)
    if all(state.reason == "DependencyNeverSatisfied" for state in states):
        return None
    reason = next((state.reason for state in states if state.reason not in ("", "Dependency")), "")
    if requeued or any(state.state in ("REQUEUED", "REQUEUE_HOLD") for state in states):
        return RunState(key, "preempted", f"{stage}: waits to go on ({reason or 'requeued'})", stage=stage, jobs=ids)
    return RunState(key, "pending", reason or f"{stage}: in the queue", stage=stage, jobs=ids)


def _ended(key: str, views: Sequence[JobView], stage: str, ids: tuple[str, ...]) -> RunState:
    """A run whose jobs have ended without its result and without a word from it: ask the scheduler why."""
    for view in views:
        word = "" if view.state is None else view.state.state
        if word in CAUSES:
            kind, sentence = CAUSES[word]
            tail = _tail(view.stderr)
            if word == "FAILED" and _killed_for_memory(tail, view.state):
                kind, sentence = CAUSES["OUT_OF_MEMORY"]
            elif word == "FAILED" and "No space left" in tail:
                kind, sentence = "disk", "no space left on the device"
            elif word == "FAILED" and tail:
                sentence = f"{sentence}: {tail.splitlines()[-1][:200]}"
            return RunState(key, "failed", f"{stage}: {sentence}", kind, stage, jobs=ids)
    if any(view.state is not None and view.state.state == "CANCELLED" for view in views):
        return RunState(key, "cancelled", f"{stage}: cancelled", stage=stage, jobs=ids)
    return RunState(key, "lost", f"{stage}: its job has ended and left no result", "lost", stage, jobs=ids)


def _killed_for_memory(tail: str, state: JobState | None) -> bool:
    said = "exceeded memory limit" in tail or "oom-kill" in tail or "Out Of Memory" in tail
    return said or (state is not None and state.reason == "0:9" and "memory" in tail.lower())


def _tail(path: Path, size: int = 4096) -> str:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _so_far(path: Path, names: Mapping[str, "os.DirEntry[str]"], stage: str, stages: Sequence[str]) -> str:
    """How far an interrupted run had come."""
    epoch = _progress(path / "metrics.jsonl", stage)[0] if "metrics.jsonl" in names else None
    if epoch is not None:
        return f"interrupted in {stage} after epoch {epoch}, goes on from its checkpoint"
    return "" if stage == stages[0] else f"goes on with {stage}"
