"""The journal of submissions of a grid: append-only lines, written before and after each call to the scheduler.

Jobs are submitted *held*, and released once the journal knows the numbers of all jobs that belong together. A driver
that dies in between leaves either an intent without numbers (its held jobs are found by name and cancelled: they never
ran) or a complete pair that was not released (it is released). So nothing is lost and nothing ever runs twice.
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
        chain: the name that the arrays of one chain share.
        size: how many arrays the chain has.
        group: which stages the jobs run.
        tasks: keys of the tasks of each job.
        profile: the profile's name.
        time: when the chain was intended, seconds since the epoch.
        processes: how many work on one run together.
        jobs: the scheduler's ids, one per entry of `tasks`; empty until known.
        released, withdrawn: whether the jobs may start, and whether they were cancelled before they might.
    """

    token: str
    chain: str
    size: int
    group: str
    tasks: tuple[tuple[str, ...], ...]
    profile: str
    time: float
    processes: int = 1
    jobs: tuple[str, ...] = ()
    released: bool = False
    withdrawn: bool = False


def _intent(token: str, entry: Mapping[str, Any]) -> Submission:
    """A line of what was to be submitted; values of other kinds than ours raise what they raise."""
    tasks = tuple(tuple(map(str, some)) for some in entry["tasks"])
    chain, group, profile = (str(entry[name]) for name in ("pair", "group", "profile"))
    processes = int(entry.get("processes", 1))
    return Submission(str(token), chain, int(entry["size"]), group, tasks, profile, float(entry["time"]), processes)


class Journal:
    """`submissions.jsonl` of a grid."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record_intent(
        self, prefix: str, groups: Sequence[str], tasks: Sequence[Sequence[str]], profile: str, time: float,
        processes: Mapping[str, int] | None = None,
    ) -> list[Submission]:  # fmt: skip
        """Write what is about to be submitted: one array per group, element by element dependent on the one before.

        Args:
            processes: group -> how many processes work on one run together; one where it says nothing.
        """
        name = f"{prefix}-{secrets.token_hex(4)}"
        keys = tuple(tuple(some) for some in tasks)
        chain = [
            Submission(
                f"{name}-{group}", name, len(groups), group, keys, profile, time, (processes or {}).get(group, 1)
            )
            for group in groups
        ]
        for one in chain:
            self._append(
                "intent", one.token, pair=name, size=one.size, group=one.group, tasks=keys, profile=profile, time=time,
                processes=one.processes,
            )  # fmt: skip
        return chain

    def record_jobs(self, token: str, jobs: Sequence[str]) -> None:
        """Write the numbers that the scheduler gave to an array."""
        self._append("submitted", token, jobs=list(jobs))

    def record_release(self, chain: str) -> None:
        """Write that a chain's jobs may start."""
        self._append("released", chain)

    def record_withdrawal(self, chain: str) -> None:
        """Write that a chain was withdrawn before any of its jobs ran."""
        self._append("ended", chain)

    def read(self) -> list[Submission]:
        """All submissions in order; a torn last line is passed over."""
        found: dict[str, Submission] = {}
        if not self.path.exists():
            return []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry: Mapping[str, Any] = json.loads(line)
                event, token = entry["event"], entry["token"]
                if event == "intent":
                    found[token] = _intent(token, entry)
                elif event == "submitted" and token in found:
                    found[token] = replace(found[token], jobs=tuple(map(str, entry["jobs"])))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
            if event in ("released", "ended"):
                for key, one in found.items():
                    if one.chain == token:
                        found[key] = replace(
                            one,
                            released=one.released or event == "released",
                            withdrawn=one.withdrawn or event == "ended",
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
