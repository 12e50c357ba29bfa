"""Several reports cell by cell: each step from the first of them against the noise of the seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import statistics
from reports.diff.sides import METRICS_COMPARED, Side, place
from reports.read.comparison import MACHINE_BOUND
from reports.read.searches import by_search

Runs = Sequence[Mapping[str, Any]]
EQUAL, NOISE, MOVED = "equal", "within noise", "moved"
APART = "Shown, not compared: other scale or data"


def letter(position: int) -> str:
    """What a side is called in headings: `A`, `B`."""
    return chr(ord("A") + position)


@dataclass(frozen=True)
class Step:
    """From the first side that has a number to another one.

    Attributes:
        word: what it means.
        moved, interval: difference of the means with Welch's 95 % interval, None where there is none.
        in_sds: the difference in units of the seeds' pooled standard deviation.
    """

    word: str
    moved: float | None = None
    interval: statistics.Interval | None = None
    in_sds: float | None = None


@dataclass(frozen=True)
class Line:
    """One metric of one setting on all sides.

    Attributes:
        block: data, scale and recipe.
        setting, metric: which.
        values: per side the metric by search, empty where it has none.
        places: per side the data and scale that they are of.
        steps: per side how it stands to the first that has values; the first's own is empty.
    """

    block: str
    setting: str
    metric: str
    values: tuple[statistics.Values, ...]
    places: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]

    @property
    def word(self) -> str:
        """What the whole line is, the most telling step of all."""
        words = [step.word for step in self.steps if step.word]
        return next((word for word in words if word != EQUAL), EQUAL)


@dataclass(frozen=True)
class _Group:
    """One setting on all sides, None where a side lacks it."""

    entries: tuple[Mapping[str, Any] | None, ...]

    @property
    def first(self) -> Mapping[str, Any]:
        return next(entry for entry in self.entries if entry is not None)

    @property
    def held(self) -> frozenset[int]:
        return frozenset(k for k, entry in enumerate(self.entries) if entry is not None)

    @property
    def apart(self) -> bool:
        """Whether its sides are of several scales or data."""
        return len({place(entry) for entry in self.entries if entry is not None}) > 1


def lines(sides: Sequence[Side]) -> list[Line]:
    """All settings of all sides, metric by metric.

    A setting is the same on two sides where all its parameters, its data and its scale are. One that other sides have
    under the same name at another scale or on other data stands beside it in a block of its own and is not compared.
    """
    groups = sorted(_groups(sides), key=lambda one: (one.apart, str(one.first["block"]), str(one.first["name"])))
    return [line for group in groups for metric in METRICS_COMPARED if (line := _line(group, metric)) is not None]


def _groups(sides: Sequence[Side]) -> Iterator[_Group]:
    anchors = dict.fromkeys(anchor for one in sides for anchor in one.settings)
    partial: dict[str, list[_Group]] = {}
    for anchor in anchors:
        group = _Group(tuple(one.settings.get(anchor) for one in sides))
        if len(group.held) == len(sides):
            yield group
        else:
            partial.setdefault(str(group.first["name"]), []).append(group)
    for same in partial.values():
        yield from _joined(same)


def _joined(same: Sequence[_Group]) -> Iterator[_Group]:
    """Settings of one name: side by side where no side has two of them and their scales or data differ."""
    held = [side for group in same for side in group.held]
    if len(same) < 2 or len(held) > len(set(held)) or len({place(group.first) for group in same}) < len(same):
        yield from same
        return
    by_side = zip(*(group.entries for group in same), strict=True)
    yield _Group(tuple(next((entry for entry in of_side if entry is not None), None) for of_side in by_side))


def _line(group: _Group, metric: str) -> Line | None:
    runs: list[Runs] = [() if entry is None else entry["runs"] for entry in group.entries]
    known: list[Runs] = [[run for run in of_side if metric in run["values"]] for of_side in runs]
    held = [k for k, of_side in enumerate(known) if of_side]
    if not held:
        return None
    steps = []
    for k, entry in enumerate(group.entries):
        if k == held[0]:
            steps.append(Step(f"only in {letter(k)}") if len(held) == 1 else Step(""))
        elif not known[k]:
            steps.append(Step("") if len(held) == 1 else Step(f"not in {letter(k)}"))
        elif entry is not None and place(entry) != place(group.first):
            steps.append(Step("not compared: " + " and ".join(_differing(entry, group.first, held[0]))))
        else:
            steps.append(_step(metric, known[held[0]], known[k]))
    places = tuple(("", "") if entry is None else place(entry) for entry in group.entries)
    values = tuple(_by_search(of_side, metric) for of_side in known)
    block = APART if group.apart else str(group.first["block"])
    return Line(block, str(group.first["name"]), metric, values, places, tuple(steps))


def _differing(entry: Mapping[str, Any], first: Mapping[str, Any], base: int) -> Iterator[str]:
    for what, own, theirs in zip(("data", "scale"), place(entry), place(first), strict=True):
        if own != theirs:
            yield f"{what} {own}, {letter(base)} has {theirs}"


def _step(metric: str, before: Runs, after: Runs) -> Step:
    left, right = ({(r["seed"], r["hash"]): r["values"][metric] for r in runs} for runs in (before, after))
    if left == right:
        return Step(EQUAL, 0.0)
    if metric in MACHINE_BOUND and len({r["hardware"] for r in (*before, *after)}) > 1:
        return Step("not comparable: several machines")
    x, y = _by_search(before, metric), _by_search(after, metric)
    moved = float(y.mean() - x.mean())
    interval, pooled = statistics.welch_interval(x, y), _pooled(x, y)
    if interval is None:
        word = "differs; one seed tells no noise"
    elif interval.low <= 0 <= interval.high:
        word = "same mean, other seeds" if moved == 0 else NOISE
    else:
        word = MOVED
    return Step(word, moved, interval, moved / pooled if pooled else None)


def _by_search(runs: Runs, metric: str) -> statistics.Values:
    """A metric's mean over the retrainings of each search, shape (searches,)."""
    known = ([run["values"][metric] for run in same if metric in run["values"]] for same in by_search(runs))
    return statistics.finite([value for values in known if (value := statistics.mean(values)) is not None])


def _pooled(x: statistics.Values, y: statistics.Values) -> float:
    freedom = x.size + y.size - 2
    if freedom < 1:
        return 0.0
    squares = float(((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum())
    return math.sqrt(squares / freedom)
