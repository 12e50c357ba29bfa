"""Covering designs: few cases of many switches in which each pair of values of two switches occurs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

Case = dict[str, Any]
Pair = tuple[tuple[str, int], tuple[str, int]]


def covering(
    switches: Mapping[str, Sequence[Any]],
    given: Sequence[Mapping[str, Any]] = (),
    allowed: Callable[[Case], bool] = lambda case: True,
) -> list[Case]:
    """Cases that hold each pair of values of two switches at least once, chosen greedily.

    Args:
        switches: the values of each switch; the one that gives most new pairs is taken, then the least used.
        given: parts of cases that must all occur; the other switches are filled in.
        allowed: whether a full case may occur; pairs that no allowed case holds are left out.
    """
    uncovered: set[Pair] = {
        ((a, i), (b, k))
        for a, b in combinations(switches, 2)
        for i in range(len(switches[a]))
        for k in range(len(switches[b]))
    }
    cases: list[Case] = []

    def pairs(case: Mapping[str, int]) -> set[Pair]:
        known = [(name, case[name]) for name in switches if name in case]
        return set(combinations(known, 2)) & uncovered

    def fill(case: dict[str, int]) -> None:
        for name in switches:
            if name not in case:
                gains = [len(pairs({**case, name: value})) for value in range(len(switches[name]))]
                used = [sum(other[name] == value for other in cases) for value in switches[name]]
                ranked = sorted(range(len(gains)), key=lambda value: (-gains[value], used[value]))
                case[name] = next((v for v in ranked if _may_be({**case, name: v})), ranked[0])
        values = {name: switches[name][value] for name, value in case.items()}
        if allowed(values):
            cases.append(values)
            uncovered.difference_update(pairs(case))

    def _may_be(case: Mapping[str, int]) -> bool:
        return len(case) < len(switches) or allowed({name: switches[name][value] for name, value in case.items()})

    for part in given:
        fill({name: switches[name].index(value) for name, value in part.items()})
    for pair in sorted(uncovered):
        if pair in uncovered:
            fill(dict(pair))
            uncovered.discard(pair)
    return cases
