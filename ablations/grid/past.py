"""What a grid was run with: source, scale and overrides of each choice, and the runs that it named; in `grid.json`.

A folder `runs/GRID` is named by the stem of a file, and two files can have one stem; a file is edited, moved, copied.
So each choice is kept with the file that it was made of, and with every run that it ever named. A command recalls from
it what it is not told; `ablations.drive.prune` takes nothing that is not in it.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cscdarts.errors import BrokenFile
from cscdarts.records.run_folder import read_json
from cscdarts.settings.protocols import SCALES

MANIFEST = "grid.json"
#: Key of `grid.json` under which all this stands, the last choice last.
PAST = "past"


@dataclass(frozen=True)
class Source:
    """Where a grid's runs come from.

    Attributes:
        path: the file, absolute; "" for a grid that comes with the distribution.
        beside: the file as seen from the folder of runs, so that a project can be moved as a whole.
        sha256: of the file's content.
    """

    path: str = ""
    beside: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, path: Path, runs: Path, shipped: bool) -> "Source":
        """The source that a file is now."""
        if shipped:
            return cls()
        place = path.absolute()
        content = hashlib.sha256(place.read_bytes()).hexdigest() if place.is_file() else ""
        return cls(str(place), os.path.relpath(place, runs.absolute()), content)

    @property
    def gone(self) -> bool:
        """Whether the file is not there any more."""
        return bool(self.path) and not Path(self.path).is_file()

    def is_now(self, now: "Source") -> bool:
        """Whether a file of today is beyond doubt this source, edited or not: it lies where this one lay, or this one
        has gone from there and lies where the project has moved to, or has moved unchanged.

        A copy is another source while the first is there: the two may go different ways.
        """
        if not self.path or not now.path:
            return self.path == now.path
        if self.path == now.path or _same_file(self.path, now.path):
            return True
        return self.gone and (self.beside == now.beside or (self.sha256 != "" and self.sha256 == now.sha256))

    def may_be(self, now: "Source") -> bool:
        """Whether a file of today is this source as far as can be told: good enough to look at its runs, not to take
        any away."""
        return self.is_now(now) or (bool(self.path and now.path) and (self.gone or self.sha256 == now.sha256))


@dataclass(frozen=True)
class Past:
    """One choice that a grid was run with.

    Attributes:
        source: of what; None in a record of an earlier version, which does not say.
        overrides: dotted setting (or `seeds`) -> text.
        retrainings: how often each cell was asked to be retrained; None for what the file says.
        fingerprints: of its data, when it was last run.
        runs: hashes of all runs that it ever named.
    """

    source: Source | None
    scale: str
    overrides: Mapping[str, str]
    retrainings: int | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ()

    @property
    def assignments(self) -> list[str]:
        """The overrides as `--set` takes them."""
        return [f"{key}={value}" for key, value in self.overrides.items()]

    def same_choice(self, other: "Past") -> bool:
        """Whether scale, overrides and retrainings are the same."""
        return (self.scale, dict(self.overrides), self.retrainings) == (
            other.scale, dict(other.overrides), other.retrainings,
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        source = None if self.source is None else dict(vars(self.source))
        return {
            "source": source, "scale": self.scale, "overrides": dict(self.overrides), "retrainings": self.retrainings,
            "fingerprints": dict(self.fingerprints), "runs": list(self.runs),
        }  # fmt: skip


def read_past(folder: Path) -> list[Past]:
    """What the grid of a folder was run with, the last choice last; nothing where there is no `grid.json`.

    Errors:
        BrokenFile: it cannot be made sense of.
    """
    path = folder / MANIFEST
    content = read_json(path)
    if content is None:
        return []
    try:
        if PAST in content:
            return [_past(_mapping(one)) for one in _list(content[PAST])]
        # A record of an earlier version: one choice, of a file that it does not name.
        runs = [{"hash": one["hash"]} for one in _list(content.get("runs", []))]
        return [_past({**_mapping(content), "source": None, "runs": [str(one["hash"]) for one in runs]})]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BrokenFile(
            path, reason, "a record of what a grid was run with",
            "Move it away: the next `cscdarts ablate run` writes a new one. What it alone told of earlier runs is then "
            "told by nothing, and prune leaves those runs.",
        ) from error  # fmt: skip


def recalled(past: Sequence[Past], now: Source, scale: str | None) -> Past | None:
    """The choice that a command means which does not say all of it: the last one of this source, at this scale if one
    is given and was run, otherwise at any; None where none is known."""
    sure = [one for one in past if one.source is not None and one.source.is_now(now)]
    # Records that name no source come from before sources were told apart.
    known = sure or [one for one in past if one.source is None or one.source.may_be(now)]
    return next((one for one in reversed(known) if one.scale == scale), known[-1] if known else None)


def remembered(past: Iterable[Past], now: Past) -> list[Past]:
    """The record with a choice as the last; what it named before stays in it."""
    assert now.source is not None
    others, runs = [], dict.fromkeys(now.runs)
    for one in past:
        if one.same_choice(now) and one.source is not None and one.source.is_now(now.source):
            runs |= dict.fromkeys(one.runs)
        else:
            # The file has moved: all that was made of it is still its own.
            moved = one.source is not None and one.source != now.source and one.source.is_now(now.source)
            others.append(replace(one, source=now.source) if moved else one)
    return [*others, replace(now, runs=tuple(runs))]


def renamed(past: Iterable[Past], old: str, new: str) -> list[Past]:
    """The record with a run under another hash."""
    return [replace(one, runs=tuple(new if key == old else key for key in one.runs)) for one in past]


def _past(content: Mapping[str, Any]) -> Past:
    told, source, times = content["scale"], content["source"], content.get("retrainings")
    if told not in SCALES:
        raise ValueError(f"{told!r} is no scale")
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        raise ValueError(f"{times!r} is no number of retrainings")
    runs = _list(content["runs"])
    if not all(isinstance(one, str) for one in runs):
        raise ValueError("a run's hash is no text")
    return Past(
        None if source is None else Source(**{str(k): _text(v) for k, v in _mapping(source).items()}),
        told,
        {str(key): _text(value) for key, value in _mapping(content.get("overrides", {})).items()},
        times,
        {str(key): _text(value) for key, value in _mapping(content.get("fingerprints") or {}).items()},
        tuple(runs),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__} where an object belongs")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} where a list belongs")
    return value


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise ValueError(f"{type(value).__name__} where a text belongs")
    return str(value)


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
