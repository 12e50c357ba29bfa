"""The journal of submissions of a grid: append-only lines, written before and after each call to the scheduler.

Jobs are submitted *held* and released once the journal knows their numbers. A driver that dies in between leaves an
intent without numbers; the next driver finds the held jobs by their name and cancels them, so nothing ever runs twice.
"""

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Submission:
    """One array (or part of one, where a limit splits it).

    Attributes:
        token: unique; the job's name.
        group: which stages the jobs run.
        tasks: keys of the tasks of each job.
        profile: the profile's name.
        time: when the intent was written, seconds since the epoch.
        jobs: the scheduler's ids, one for each entry of `tasks`; empty until known.
        released, ended: whether they were let go, and whether they were cancelled or found dead before a release.
    """

    token: str
    group: str
    tasks: tuple[tuple[str, ...], ...]
    profile: str
    time: float
    jobs: tuple[str, ...] = field(default=())
    released: bool = False
    ended: bool = False


class Journal:
    """`submissions.jsonl` of a grid."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def intend(self, prefix: str, group: str, tasks: Sequence[Sequence[str]], profile: str) -> Submission:
        """Write what is about to be submitted."""
        token = f"{prefix}-{secrets.token_hex(4)}"
        submission = Submission(token, group, tuple(tuple(t) for t in tasks), profile, time.time())
        self._append("intent", token, group=group, tasks=submission.tasks, profile=profile, time=submission.time)
        return submission

    def submitted(self, token: str, jobs: Sequence[str]) -> None:
        """Write the numbers the scheduler gave."""
        self._append("submitted", token, jobs=list(jobs))

    def released(self, token: str) -> None:
        """Write that the jobs may start."""
        self._append("released", token)

    def ended(self, token: str) -> None:
        """Write that the jobs never ran, or were cancelled."""
        self._append("ended", token)

    def read(self) -> list[Submission]:
        """All submissions in order; a torn last line is passed over."""
        found: dict[str, Submission] = {}
        if not self.path.exists():
            return []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry: Mapping[str, Any] = json.loads(line)
                event, token = entry["event"], entry["token"]
            except (ValueError, KeyError, TypeError):
                continue
            if event == "intent":
                tasks = tuple(tuple(t) for t in entry["tasks"])
                found[token] = Submission(token, entry["group"], tasks, entry["profile"], float(entry["time"]))
            elif token in found:
                found[token] = _with(found[token], event, entry)
        return list(found.values())

    def _append(self, event: str, token: str, **values: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "token": token, **values}, sort_keys=True)
        with self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _with(submission: Submission, event: str, entry: Mapping[str, Any]) -> Submission:
    if event == "submitted":
        return replace(submission, jobs=tuple(entry["jobs"]))
    return replace(submission, released=submission.released or event == "released", ended=event == "ended")
