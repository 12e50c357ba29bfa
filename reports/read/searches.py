"""Runs that share a search: the retrainings of one cell.

They are no independent results of the method, so a mean over searches first averages within each.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

R = TypeVar("R", bound=Mapping[str, Any])


def by_search(runs: Iterable[R]) -> list[list[R]]:
    """The runs of one setting by the search that they share, in order of appearance.

    Runs of one seed have one search; so have runs of several seeds where the best of several searches was the same one.
    A given cell has none: there each run stands alone.
    """
    listed = list(runs)
    names = {run["seed"]: run["search"] for run in listed if run.get("search")}
    groups: dict[object, list[R]] = {}
    for position, run in enumerate(listed):
        alone = run.get("search.strategy") == "given"
        key = ("run", position) if alone else names.get(run["seed"], ("seed", run["seed"]))
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def one_of_each(runs: Iterable[R]) -> list[R]:
    """The first run of each search: what is measured of a search counts once."""
    return [same[0] for same in by_search(runs)]
