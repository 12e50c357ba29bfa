"""What a run's numbers hang on beside its settings: threads, processes, kind of device, kernels and their determinism.

They are in no key (`docs/identity.md` has the measured differences); where the runs of one mean differ in one, that is
said.
"""

from collections import Counter
from collections.abc import Iterable

from reports.read.settings import Setting, Study

#: Column of a run -> what several values of it are called, and how a reader names one of them.
SURROUNDINGS = {
    "threads": ("numbers of threads", "threads {}"),
    "processes": ("numbers of processes", "processes {}"),
    "device": ("kinds of device", "{}"),
    "deterministic": ("modes of determinism", "deterministic kernels {}"),
    "kernels": ("kinds of kernels", "{} kernels"),
}


def values_of(settings: Iterable[Setting], column: str) -> Counter[str]:
    """How many finished runs have each recorded value; runs that recorded none are left out."""
    found = Counter(str(run.get(column) or "") for setting in settings for run in setting.done)
    del found[""]
    return found


def mixed(setting: Setting) -> list[str]:
    """What the finished runs of a setting have several values of: `numbers of threads`."""
    return [words for column, (words, _) in SURROUNDINGS.items() if len(values_of([setting], column)) > 1]


def mixtures(studies: Iterable[Study]) -> list[tuple[str, str]]:
    """(what, sentence) for each property that differs within a mean, with the number of runs of each value."""
    settings = [setting for study in studies for setting in study.settings]
    told = []
    for column, (words, value) in SURROUNDINGS.items():
        within = [setting for setting in settings if len(values_of([setting], column)) > 1]
        if within:
            counted = sorted(values_of(within, column).items())
            runs = ", ".join(f"{value.format(name)}: {number}" for name, number in counted)
            of = "setting has" if len(within) == 1 else "settings have"
            told.append((words, f"{len(within)} {of} runs of several {words} ({runs}) in one mean."))
    return told
