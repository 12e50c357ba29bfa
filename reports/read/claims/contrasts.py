"""Settings that differ in one thing alone, and their runs side by side, seed by seed."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from reports import statistics
from reports.read.pairs import paired_by_seed
from reports.read.settings import Setting

#: A setting's parameters -> which side of the contrast it is on; None for neither.
Side = Callable[[Mapping[str, str]], bool | None]


@dataclass(frozen=True)
class Contrast:
    """Pairs of settings that differ in one parameter.

    Attributes:
        pairs: (with, without) what is tested.
    """

    pairs: tuple[tuple[Setting, Setting], ...]

    def by_seed(self, metric: str) -> Mapping[int, tuple[tuple[float, float], ...]]:
        """Seed -> (with, without) of each pair of settings, only for seeds that every pair finished.

        Seeds are the units: pairs of settings under one seed share data order and initial weights, so they are averaged
        and never counted as if they were independent.
        """
        each = [paired_by_seed(a, b, metric) for a, b in self.pairs]
        seeds = sorted(set.intersection(*(set(found) for found in each))) if each else []
        return {seed: tuple(found[seed] for found in each) for seed in seeds}

    def differences(self, metric: str) -> statistics.Values:
        """Mean difference with - without of each seed, shape (n,)."""
        return np.array([fmean(a - b for a, b in pairs) for pairs in self.by_seed(metric).values()])

    def log_ratios(self, metric: str) -> statistics.Values:
        """Mean logarithm of with / without of each seed, shape (n,); seeds with a value that is not above 0 are left
        out."""
        rows = [pairs for pairs in self.by_seed(metric).values() if all(a > 0 and b > 0 for a, b in pairs)]
        return np.array([fmean(float(np.log(a / b)) for a, b in pairs) for pairs in rows])


def contrast(settings: Iterable[Setting], factors: Collection[str], side: Side) -> Contrast:
    """All pairs of finished settings that differ in a factor's side and in no other parameter.

    Given cells, and settings whose cell was drawn without a search, take no part.

    Args:
        factors: parameters that may differ between the two.
        side: of a setting's parameters: True with what is tested, False without, None neither.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[bool, list[Setting]]] = {}
    for setting in settings:
        if setting.params.get("search.strategy", "gradient") != "gradient" or not setting.done:
            continue
        its = side(setting.params)
        if its is None:
            continue
        rest = tuple(sorted((name, value) for name, value in setting.params.items() if name not in factors))
        groups.setdefault(rest, {}).setdefault(its, []).append(setting)
    found = [(a, b) for _, sides in sorted(groups.items()) for a in sides.get(True, []) for b in sides.get(False, [])]
    return Contrast(tuple(found))
