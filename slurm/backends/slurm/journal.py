"""The journal of submissions of a grid: append-only lines, written before and after each call to the scheduler.

Jobs are submitted *held*, and released once the journal knows the numbers of all jobs that belong together. A driver that
dies in between leaves either an intent without numbers (its held jobs are found by name and cancelled: they never ran) or
a complete pair that was not released (it is released). So nothing is lost and nothing ever runs twice.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Submission:
    """One array (or part of one, where a limit splits it).

    Attributes:
        token: unique; the job's name.
        pair: token of the first array of a chain; arrays of one chain share it.
        size: how many arrays the chain has.
        group: which stages the jobs run.
        tasks: keys of the tasks of each job.
        profile: the profile's name.
        time: when the chain was intended, seconds since the epoch.
        jobs: the scheduler's ids, one for each entry of `tasks`; empty until known.
        released, ended: whether they were let go, and whether they were withdrawn before that.
    """

    token: str
    pair: str
    size: int
    group: str
    tasks: tuple[tuple[str, ...], ...]
    profile: str
    time: float
    jobs: tuple[str, ...] = ()
    released: bool = False
    ended: bool = False


class Journal:
    """`submissions.jsonl` of a grid."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def intend(
        self, prefix: str, groups: Sequence[str], tasks: Sequence[Sequence[str]], profile: str, time: float
    ) -> list[Submission]:
        """Write what is about to be submitted: one array for each group, element by element dependent on the one before."""
        pair = f"{prefix}-{secrets.token_hex(4)}"
        keys = tuple(tuple(some) for some in tasks)
        chain = [Submission(f"{pair}-{group}", pair, len(groups), group, keys, profile, time) for group in groups]
        for one in chain:
            self._append(
                "intent", one.token, pair=pair, size=one.size, group=one.group, tasks=keys, profile=profile, time=time
            )
        return chain

    def submitted(self, token: str, jobs: Sequence[str]) -> None:
        """Write the numbers the scheduler gave."""
        self._append("submitted", token, jobs=list(jobs))

    def released(self, pair: str) -> None:
        """Write that a chain's jobs may start."""
        self._append("released", pair)

    def ended(self, pair: str) -> None:
        """Write that a chain was withdrawn before any of its jobs ran."""
        self._append("ended", pair)

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
                tasks = tuple(tuple(some) for some in entry["tasks"])
                found[token] = Submission(
                    token, entry["pair"], entry["size"], entry["group"], tasks, entry["profile"], float(entry["time"])
                )
            elif event == "submitted" and token in found:
                found[token] = replace(found[token], jobs=tuple(entry["jobs"]))
            elif event in ("released", "ended"):
                for key, one in found.items():
                    if one.pair == token:
                        found[key] = replace(
                            one, released=one.released or event == "released", ended=one.ended or event == "ended"
                        )
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
