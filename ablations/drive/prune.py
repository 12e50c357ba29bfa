"""Which runs of a grid `prune` takes: those that this source at this scale once named and names no more; never one
whose origin is not told.

With C a recorded choice (`ablations.grid.past`) of this source at this scale, named(C) what it names today and ever(C)
all that it ever named, the runs taken are

    union of ever(C) over C  -  union of named(C) over C  -  whatever a choice of another source or scale ever named

less those in hand, and those whose folder does not hold what its name says. A choice that cannot be worked out today
(its data are away, the file takes its overrides no more) is taken to name all that it ever did.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablations.drive.backend import queued
from ablations.drive.driver import Driver
from ablations.grid.identify import identified_as_noted
from ablations.grid.load import Grid, load_grid
from ablations.grid.past import MANIFEST, Past, Source, read_past
from ablations.run.stages import missing_stages
from ablations.run.trash import Entry, StageKey, all_folders, begin, stage_folders, throw, used_by
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from cscdarts.records.runs_folder import run_folders_of
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key, searches
from slurm.job import CLAIM, LOST_AFTER_S
from slurm.lock import Lock


@dataclass
class Survey:
    """What `prune` finds.

    Attributes:
        taken: run folder -> whether it is finished.
        left: why folders that the grid does not name stay -> these folders.
        trouble: what could not be looked at, a sentence each.
        busy: how many stay only because somebody has them in hand.
    """

    taken: dict[Path, bool] = field(default_factory=dict)
    left: dict[str, list[Path]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)
    busy: int = 0

    def leave(self, path: Path, why: str, busy: bool = False) -> None:
        """Note that a folder stays."""
        self.left.setdefault(why, []).append(path)
        self.busy += busy


def survey(driver: Driver, superseded: bool = False) -> Survey:
    """Look which folders of a grid are to be taken.

    Args:
        superseded: take those too that only other recorded overrides than the driver's name today.

    Errors:
        UserError: which runs the grid names cannot be worked out, for its data are away.
    """
    grid, found = driver.grid, Survey()
    unknown = _unidentified(grid)
    if unknown:
        raise UserError(
            "--data-root", ", ".join(unknown), "a place where these data lie", "Name it: without them it is not known "
            "which runs the grid names, so nothing is taken.",
        )  # fmt: skip
    own = grid.choice(driver.runs)
    ours, others = _divided(driver, own)
    named = {point.hash for point in grid.points}
    still = _still_named(driver, [one for one in ours if not one.same_choice(own)], found.trouble)
    ever = {key for one in ours for key in one.runs}
    elsewhere = {key: why for why, one in others for key in one.runs}
    for path in run_folders_of(driver.folder):
        key = path.name
        if key in named:
            continue
        if key in elsewhere:
            found.leave(path, elsewhere[key])
        elif key not in ever:
            found.leave(path, f"{MANIFEST} does not say what named them; if you know, move them away yourself")
        elif key in still and (still[key] or not superseded):
            found.leave(path, still[key] or "the grid names them with other overrides; --superseded takes them too")
        else:
            _weigh(found, path)
    waiting = queued(driver, {path.name for path, done in found.taken.items() if not done})
    for path in [path for path in found.taken if path.name in waiting]:
        del found.taken[path]
        found.leave(path, f"they may be in a queue ({waiting[path.name]}); cancel them or let them end", True)
    return found


def unused_stages(
    driver: Driver, taken: Mapping[Path, bool], every: bool = False
) -> tuple[dict[StageKey, Path], list[str]]:
    """The searches and retrainings that no run uses once some have gone, and why others stay.

    Args:
        every: also those that no run used before.

    A run folder of any grid uses what its `keys.json` names; a run that the grid names uses its searches before it has
    begun. Where one folder's `keys.json` cannot be read all stay, for they may be that run's.
    """
    there = stage_folders(driver.runs)
    wanted: set[StageKey] = set(there)
    if not every:
        wanted &= set(used_by(taken)[0])
    users, unknown = used_by(path for path in all_folders(driver.runs) if path not in taken)
    if unknown:
        return {}, [f"{unknown[0] / 'keys.json'} cannot be read: whatever it names, no search or retraining is taken"]
    needed: set[StageKey] = {
        ("search", search_key(one).id) for point in driver.grid.points for one in searches(point.config)
    }
    busy = {key for key in wanted if Lock(there[key] / CLAIM, LOST_AFTER_S).holder() is not None}
    return {key: there[key] for key in sorted(wanted - set(users) - needed - busy)}, []


def take(
    driver: Driver, found: Survey, stages: Mapping[StageKey, Path], forget: Callable[[Sequence[str]], None]
) -> tuple[Entry, dict[StageKey, Path]]:
    """Move runs, and then searches and retrainings, to the trash; the driver's lock must be held.

    Args:
        found: what was taken after all stands in it afterwards.
        forget: called with the hashes that go, before they do.

    Returns:
        Where all is now, and which searches and retrainings went.
    """
    forget([path.name for path in found.taken])
    entry = begin(driver.runs, driver.grid.name)
    with contextlib.ExitStack() as stack:
        moved = [path for path in found.taken if _claimed(stack, path)]
        throw(driver.runs, entry, moved)
        # Claimed first, then looked at again: a run that came to a search meanwhile is seen, or finds it claimed.
        mine = {key: path for key, path in stages.items() if _claimed(stack, path)}
        users, unknown = used_by(all_folders(driver.runs))
        gone = {key: path for key, path in mine.items() if key not in users and not unknown}
        throw(driver.runs, entry, gone.values())
    for path in found.taken:
        if path not in moved:
            found.leave(path, "a process has taken them up just now", True)
    found.taken = {path: done for path, done in found.taken.items() if path in moved}
    entry.tidy()
    return entry, gone


def runs_of(driver: Driver, every_scale: bool) -> set[str]:
    """The runs that a grid names, or that its source once named, at its scale or at any."""
    own = driver.grid.choice(driver.runs)
    found = set(own.runs)
    for one in read_past(driver.folder):
        # A record that names no file comes from before files were told apart.
        if (one.source is None or one.source.may_be(_source(own))) and (every_scale or one.scale == own.scale):
            found |= set(one.runs)
    return found


def other_sources(driver: Driver) -> list[str]:
    """A sentence for each other file whose runs lie in the grid's folder."""
    now = _source(driver.grid.choice(driver.runs))
    recorded = (one.source for one in read_past(driver.folder) if one.source is not None)
    others = dict.fromkeys(_told_source(one, driver) for one in recorded if not one.may_be(now))
    return [
        f"{driver.folder} also holds runs of {other}: reports of {driver.grid.name} show both. A file of another name, "
        "or --runs, keeps them apart."
        for other in others
    ]


def _source(choice: Past) -> Source:
    assert choice.source is not None, "a choice of today names its source"
    return choice.source


def _told_source(source: Source, driver: Driver) -> str:
    return source.path or f"the grid {driver.grid.name} that comes with the distribution"


def _claimed(stack: contextlib.ExitStack, path: Path) -> bool:
    lock = Lock(path / CLAIM, LOST_AFTER_S)
    try:
        return stack.enter_context(lock.held("prune"))
    except OSError:
        return False


def _divided(driver: Driver, own: Past) -> tuple[list[Past], list[tuple[str, Past]]]:
    """The choices of this source at this scale, and the others with why their runs stay."""
    ours: list[Past] = []
    others: list[tuple[str, Past]] = []
    for one in read_past(driver.folder):
        if one.source is None:
            others.append(
                (f"{MANIFEST} names them, and not the file that they come from; move them away yourself", one)
            )
        elif not one.source.is_now(_source(own)):
            where = _told_source(one.source, driver)
            gone = " (which is gone; put it there again, or a link to where it is, and prune that)"
            others.append((f"they come from {where}{gone if one.source.gone else ''}", one))
        elif one.scale != own.scale:
            others.append((f"they were named at another scale; prune with --scale {one.scale}", one))
        else:
            ours.append(one)
    return ours, others


def _still_named(driver: Driver, choices: Sequence[Past], trouble: list[str]) -> dict[str, str]:
    """Hash -> "" of what other choices name today; of one that cannot be worked out all it ever named, and why."""
    still: dict[str, str] = {}
    source = driver.grid.name if driver.grid.shipped else str(driver.grid.source)
    for one in choices:
        told = " ".join(one.assignments) or "no overrides"
        try:
            loaded = load_grid(source, one.scale, one.assignments, one.retrainings)
            grid = identified_as_noted(loaded, one.fingerprints)
            unknown = _unidentified(grid)
            why = f"{', '.join(unknown)} not at hand" if unknown else ""
        except UserError as error:
            why = " ".join(str(error).split())
        if why:
            trouble.append(f"what the grid names with {told} cannot be worked out: {why}")
            still |= dict.fromkeys(one.runs, f"what named them ({told}) cannot be worked out today")
        else:
            still |= {point.hash: still.get(point.hash, "") for point in grid.points}
    return still


def _unidentified(grid: Grid) -> list[str]:
    """The data sets that are away and whose fingerprints nothing tells."""
    return [name for name in grid.absent if name not in grid.fingerprints]


def _weigh(found: Survey, path: Path) -> None:
    """Take a folder, unless it is in hand or does not hold what its name says."""
    config = _config(path)
    if config is None or config.hash != path.name:
        found.leave(path, "their folders do not hold what their names say, or cannot be read; move them away yourself")
    elif (path / CLAIM).exists() and Lock(path / CLAIM, LOST_AFTER_S).holder() is not None:
        found.leave(path, "a process works on them; wait, or cancel them", True)
    else:
        found.taken[path] = _is_finished(config, path)


def _config(path: Path) -> RunConfig | None:
    with contextlib.suppress(UserError, OSError, LookupError, TypeError, ValueError):
        return RunFolder(path).config()
    return None


def _is_finished(config: RunConfig, path: Path) -> bool:
    with contextlib.suppress(UserError, OSError):
        return not missing_stages(config, RunFolder(path))
    return False


def told(found: Survey, stages: Mapping[StageKey, Path]) -> Iterator[str]:
    """What is to be taken, what stays and why, a line each."""
    yield from (f"{path} {'done' if done else 'not finished'}" for path, done in found.taken.items())
    yield from (f"{path} used by no run{' but these' if found.taken else ''}" for path in stages.values())
    for why, paths in found.left.items():
        yield f"{counted(len(paths), 'run')} the grid does not name stay: {why} ({_named(paths)})"
    yield from found.trouble


def counted(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def summary(found: Survey, stages: Mapping[StageKey, Path]) -> str:
    """`3 runs, 1 search`."""
    searches_ = sum(stage == "search" for stage, _ in stages)
    parts = [(len(found.taken), "run"), (searches_, "searche"), (len(stages) - searches_, "retraining")]
    texts = [counted(number, what) for number, what in parts if number]
    return ", ".join(texts).replace("1 searche", "1 search") or "nothing"


def _named(paths: Sequence[Path], most: int = 3) -> str:
    names = ", ".join(path.name for path in paths[:most])
    return names if len(paths) <= most else f"{names}, ..."
