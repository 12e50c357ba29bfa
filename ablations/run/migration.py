"""Takes run folders of version 0.1.0 over: searches and retrainings go under their keys, nothing is lost on the way.

For each folder the whole new state is prepared beside the old one and one rename makes it the valid one: that of
`keys.json` into the folder, or, where the data of the run give it another hash, that of a new folder. Whenever a
process dies, either the old state or the new one is there, and the next call goes on. What is left over of the old one
is then removed; where another folder had left the same search or retraining, it stays under `replaced/`.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.run.moving import (
    ORIGIN,
    UNDER_WAY,
    Way,
    fill_run,
    fill_stage,
    fresh,
    origin_of,
    passing,
    remove_left_over,
    rename_in_manifest,
)
from ablations.run.old_folders import STAGE_FILES, OldRun, Refused, difference, old_folders, proven, stamps_of
from cscdarts.errors import HeldByAnother, UserError
from cscdarts.records.run_folder import STAGE_FOLDERS, RunFolder, read_json, write_json
from cscdarts.settings.keys import Stage
from slurm.job import CLAIM, LOST_AFTER_S, REQUEUED
from slurm.lock import Lock


@dataclass(frozen=True)
class Outcome:
    """What became, or would become, of one folder.

    Attributes:
        ways: of its stages, as far as they have begun; refused: why it stays as it is, "" if it does not.
    """

    path: Path
    target: Path
    ways: Mapping[Stage, Way]
    refused: str = ""


@dataclass(frozen=True)
class Migration:
    """Takes the folders of a runs folder over.

    Attributes:
        runs: the folder of all grids.
        data_root: where the data lie now; where each run's configuration says if None.
        waiting: (grid folder, hash) -> the job that a queue has, or may have, of an unfinished run; "" for none.
        forget: called with a grid's name and the hash that one of its runs had, before the run's old folder goes.
    """

    runs: Path
    data_root: Path | None
    waiting: Callable[[Path, str], str]
    forget: Callable[[str, str], None]

    def outcomes(self, dry: bool) -> Iterator[Outcome]:
        """Take the folders over one after the other, or, `dry`, only say what would become of each.

        Errors:
            UserError: another migration is at work here.
        """
        with contextlib.nullcontext() if dry else _held(Lock(self.runs / "migration.lock"), "migration"):
            if not dry:
                self._tidy()
            planned: dict[tuple[Stage, str], OldRun] = {}
            for path, found in self._ordered():
                yield self._one(path, found, planned, dry)

    def _tidy(self) -> None:
        """Complete what an earlier call had made valid, and remove what it had not."""
        for left in (*self.runs.glob("*/.*.migrating"), *self.runs.glob("*/.*.migrated")):
            shutil.rmtree(left)
        for keys in sorted(self.runs.glob("*/*/keys.json")):
            value = read_json(keys)
            if isinstance(value, dict) and UNDER_WAY in value:
                remove_left_over(RunFolder(keys.parent))

    def _ordered(self) -> list[tuple[Path, OldRun | str]]:
        """Each old folder with what it holds or why it is refused; the ones that have come furthest first."""
        found: list[tuple[Path, OldRun | str]] = []
        for path in old_folders(self.runs):
            try:
                found.append((path, proven(path, self.data_root)))
            except Refused as reason:
                found.append((path, str(reason)))
            except (UserError, OSError, ValueError, KeyError, TypeError) as error:
                found.append((path, f"cannot be read: {' '.join(str(error).split())}"))
        return sorted(found, key=lambda one: (*_lacks(one[1]), one[0]))

    def _one(
        self, path: Path, found: OldRun | str, planned: dict[tuple[Stage, str], OldRun], dry: bool
    ) -> Outcome:  # fmt: skip
        target = path if isinstance(found, str) else path.with_name(found.target.hash)
        try:
            if isinstance(found, str):
                raise Refused(found)
            with contextlib.ExitStack() as stack:
                self._require_idle(path, found)
                if not dry:
                    stack.enter_context(_held(Lock(path.parent / "driver.lock", 60.0), "migration"))
                    stack.enter_context(_held(Lock(path / CLAIM, LOST_AFTER_S), "migration"))
                    if proven(path, self.data_root) != found:
                        raise Refused("has changed just now; migrate again")
                origin = origin_of(target)
                again = target != path and origin == self._told(path)
                if target != path and target.exists() and not again:
                    raise Refused(f"would become {target}, which is there already")
                ways = {} if again else {stage: self._way(found, stage, planned) for stage in found.begun}
                if not dry:
                    self._take_over(found, target, ways, again)
            # Only what was taken over stands for what comes after.
            planned |= {(stage, _id(found, stage)): found for stage, way in ways.items() if way == "moved"}
            return Outcome(path, target, ways)
        except Refused as reason:
            return Outcome(path, target, {}, str(reason))
        except (UserError, OSError) as error:
            return Outcome(path, target, {}, f"cannot be taken over: {' '.join(str(error).split())}")

    def _require_idle(self, path: Path, run: OldRun) -> None:
        for lock in (Lock(path / CLAIM, LOST_AFTER_S), Lock(path.parent / "driver.lock", 60.0)):
            owner = lock.holder()
            if owner is not None:
                raise Refused(f"is in the hands of {owner}; migrate again when it has ended")
        ended = run.result or (run.genotype and not run.config.runtime.retrain)
        if ended:
            return
        job = "it is to start again" if (path / REQUEUED).exists() else self.waiting(path.parent, path.name)
        if job:
            raise Refused(f"may be in a queue ({job}); cancel it or let it end")

    def _way(self, run: OldRun, stage: Stage, planned: Mapping[tuple[Stage, str], OldRun]) -> Way:
        """How a stage is taken over.

        Args:
            planned: those whose stages were taken over before.

        Errors:
            Refused: what lies under the key, or would, differs.
        """
        key = _id(run, stage)
        place, holder, problem = self.runs / STAGE_FOLDERS[stage] / key, planned.get((stage, key)), None
        if place.exists():
            if origin_of(place) == self._told(run.path, stage):
                return "moved"  # by a call that came no further
            owner = Lock(place / CLAIM, LOST_AFTER_S).holder()
            problem = None if owner is None else f"is in the hands of {owner}"
        elif holder is None:
            return "moved"
        other = RunFolder(place) if place.exists() or holder is None else holder.folder
        problem = problem or difference(stage, run.folder, other)
        if problem is not None:
            raise Refused(f"shares its {stage} {key} with {other.path}, which {problem}")
        return "shared"

    def _told(self, path: Path, stage: Stage | None = None) -> dict[str, Any]:
        """What a folder that is made of this one says of its origin."""
        names = (
            (*STAGE_FILES[stage], "metrics.jsonl") if stage else tuple(sorted(entry.name for entry in path.iterdir()))
        )
        stamps = {name: stamp for name, stamp in stamps_of(path, names).items() if not passing(name)}
        return {"from": path.relative_to(self.runs).as_posix(), "version": "0.1.0", "files": stamps}

    def _take_over(self, run: OldRun, target: Path, ways: Mapping[Stage, Way], again: bool) -> None:
        for stage, way in ways.items():
            place = self.runs / STAGE_FOLDERS[stage] / _id(run, stage)
            if way == "moved" and not place.exists():
                work = fresh(place)
                fill_stage(work, run, stage)
                write_json(work / ORIGIN, self._told(run.path, stage))
                work.rename(place)
        keys = _keys(run)
        if target == run.path:
            write_json(target / "keys.json", {**keys, UNDER_WAY: ways})
            remove_left_over(run.folder)
            return
        if not again:
            work = fresh(target)
            fill_run(work, run)
            write_json(work / "keys.json", {**keys, UNDER_WAY: ways})
            write_json(work / ORIGIN, self._told(run.path))
            work.rename(target)
        remove_left_over(RunFolder(target))
        rename_in_manifest(run)
        self.forget(run.path.parent.name, run.config.hash)
        gone = run.path.with_name(f".{run.path.name}.migrated")
        run.path.rename(gone)
        shutil.rmtree(gone)


def _lacks(found: OldRun | str) -> tuple[bool, bool]:
    """What a folder lacks, for the order in which folders are taken over."""
    return (True, True) if isinstance(found, str) else (not found.search, not found.result)


def _id(run: OldRun, stage: Stage) -> str:
    return run.key(stage).id


def _keys(run: OldRun) -> dict[str, Any]:
    """What `keys.json` of a run holds; see `RunFolder.create`."""
    search = _id(run, "search")
    retraining = _id(run, "retrain") if run.genotype else None
    return {"run": run.target.hash, "store": "../..", "searches": [search], "search": search, "retrain": retraining}


@contextlib.contextmanager
def _held(lock: Lock, what: str) -> Iterator[None]:
    """Hold a lock for a block and show in it that its owner lives."""
    if not lock.acquire(what):
        raise HeldByAnother(str(lock.path), str(lock.owner()), "Wait for it, then migrate again.")
    try:
        with lock.refreshing():
            yield
    finally:
        lock.release()
