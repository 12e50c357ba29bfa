"""Two settings side by side: what both finished, seed by seed and retraining by retraining."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from reports.read.settings import Setting, code, number


@dataclass(frozen=True)
class Pairs:
    """Values of two settings over the seeds that both finished, with what was left out and why.

    Attributes:
        a, b: paired values, shape (n,); of a search that both retrained several times the means over those retrainings.
        other_code: shared retrainings left out because the two runs are of different code versions.
        unpaired: retrainings that only one of the two finished.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    other_code: int
    unpaired: int


def pairs(a: Setting, b: Setting, metric: str) -> Pairs:
    """Pair two settings by seed, retraining by retraining; runs of different code are never paired."""
    left, right = _by_seed(a, metric), _by_seed(b, metric)
    shared = left.keys() & right.keys()
    same = _same_code(left, right)
    return Pairs(
        tuple(fmean(one for one, _ in both) for both in same.values()),
        tuple(fmean(other for _, other in both) for both in same.values()),
        other_code=len(shared) - sum(map(len, same.values())),
        unpaired=len(left.keys() ^ right.keys()),
    )


def paired_by_seed(a: Setting, b: Setting, metric: str) -> dict[int, tuple[float, float]]:
    """Seed -> values of both settings, as `pairs` has them."""
    same = _same_code(_by_seed(a, metric), _by_seed(b, metric))
    return {seed: (fmean(one for one, _ in both), fmean(two for _, two in both)) for seed, both in same.items()}


#: (seed, retraining) -> (value, code).
_Values = dict[tuple[int, str], tuple[float, str]]


def _same_code(left: _Values, right: _Values) -> dict[int, list[tuple[float, float]]]:
    """Seed -> the values of the retrainings that both finished with one code."""
    same: dict[int, list[tuple[float, float]]] = {}
    for key in sorted(left.keys() & right.keys()):
        if left[key][1] == right[key][1]:
            same.setdefault(key[0], []).append((left[key][0], right[key][0]))
    return same


def _by_seed(setting: Setting, metric: str) -> _Values:
    found: _Values = {}
    for run in setting.done:
        value = number(run, metric)
        if value == value:
            found[(int(run["seed"]), _retrain_seed(run))] = (value, f"{code(run)} {run['torch']}")
    return found


def _retrain_seed(run: Mapping[Any, Any]) -> str:
    """The retraining seed where it is not the run's own, else "same"."""
    own = str(run.get("evaluation.seed", "") or "")
    return "same" if own in ("", "nan", str(run["seed"])) else own
