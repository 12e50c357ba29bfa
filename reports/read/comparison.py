"""Settings compared with the default one: paired differences, their p-values, the search that validation chooses."""

import functools
from dataclasses import dataclass

import numpy as np

from reports import statistics
from reports.read.pairs import pairs
from reports.read.searches import by_search
from reports.read.settings import Setting, Study, number

ERROR = "test_error_pct"

#: Metrics that depend on the machine, so that a mean over machines means nothing.
MACHINE_BOUND = ("peak_memory_mib", "search_time_s", "retrain_time_s", "search_epoch_time_s")


@functools.lru_cache(maxsize=64)
def differences(study: Study) -> dict[str, statistics.PairedDifference]:
    """Paired differences of the test error to the reference setting, by anchor, for all other settings."""
    reference = study.reference
    if reference is None:
        return {}
    generator = np.random.default_rng(0)
    found = {}
    for setting in study.settings:
        if setting is not reference:
            both = pairs(setting, reference, ERROR)
            found[setting.anchor] = statistics.paired_difference(both.a, both.b, generator)
    return found


def adjusted_p(study: Study, compared: dict[str, statistics.PairedDifference]) -> dict[str, float | None]:
    """Holm-adjusted p-values by anchor; the ablation and the baselines are a family each."""
    adjusted: dict[str, float | None] = {}
    for family in (study.ablation, study.baselines):
        anchors = [setting.anchor for setting in family if setting.anchor in compared]
        adjusted |= dict(zip(anchors, statistics.holm([compared[anchor].p for anchor in anchors]), strict=True))
    return adjusted


def signed(value: float, digits: int) -> str:
    """`+0.12` or `−0.12`, with a true minus sign; a rounded zero has no sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True)
class Selected:
    """The search that validation chooses of a setting's.

    Attributes:
        hash: of its first run.
        error: mean test error over its retrainings.
        n: how many retrainings.
    """

    hash: str
    error: float
    n: int


def selected_search(setting: Setting) -> Selected | None:
    """The search whose cell has the lowest validation error; None where none is recorded.

    Validation error: that of the derived cell under shared weights where every run has it, else that of the supernet.
    """
    tested = [run for run in setting.done if number(run, ERROR) == number(run, ERROR)]
    for metric in ("derived_valid_error_pct", "supernet_valid_error_pct"):
        if tested and all(number(run, metric) == number(run, metric) for run in tested):
            best = min(tested, key=lambda run: (number(run, metric), run["hash"]))
            same = next(runs for runs in by_search(tested) if any(run is best for run in runs))
            errors = [number(run, ERROR) for run in same]
            return Selected(min(str(run["hash"]) for run in same), float(np.mean(errors)), len(errors))
    return None
