"""What weakens the report's numbers, found in the records and said at the top of the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports import statistics
from reports.read.comparison import ERROR
from reports.read.doubts.surroundings import mixtures
from reports.read.settings import Study
from reports.read.store import Store
from reports.words import counted, verb


@dataclass(frozen=True)
class Finding:
    """One thing to keep in mind: a heading, a sentence, and where to look."""

    title: str
    text: str
    link: str = ""
    where: str = ""


def findings(store: Store, studies: Sequence[Study]) -> list[Finding]:
    """All findings, the gravest first."""
    found = [*_gaps(store, studies), *_mixtures(studies), *_retrainings(studies), *_small(studies)]
    found.append(
        Finding(
            "The paper is closed",
            "Only its abstract could be read. Split ratio, place of the identity and protocol are our reading; each "
            "open "
            "choice is a setting. Published numbers are quoted, never recomputed, and a dash means unknown.",
        )
    )
    return found


def _gaps(store: Store, studies: Sequence[Study]) -> list[Finding]:
    found = []
    frame = store.runs
    if frame.empty:
        return [Finding("No runs", "The store holds no run of these grids, so there is no number of ours.")]
    done = int((frame["status"] == "done").sum())
    failed = int((frame["status"] == "failed").sum())
    if not done:
        found.append(
            Finding(
                "Nothing finished", f"Of {counted(len(frame), 'run')} none is finished: every number of ours is a dash."
            )
        )
    if failed:
        found.append(
            Finding(
                "Failed runs",
                f"{failed} of {counted(len(frame), 'run')} failed.",
                "#t6c_missing",
                "which cells they weaken",
            )
        )
    waiting = len(frame) - done - failed
    if waiting:
        found.append(
            Finding(
                "Unfinished runs",
                f"{waiting} of {counted(len(frame), 'run')} {verb(waiting, 'is', 'are')} pending or running.",
                "#t6c_missing",
                "which",
            )
        )
    present = set(frame["hash"])
    wanted = {key for manifest in store.manifests for key in manifest.runs}
    gone = len(wanted - present)
    if gone:
        found.append(
            Finding(
                "Half a grid",
                f"{gone} of {counted(len(wanted), 'planned run')} {verb(gone, 'is', 'are')} not in the store: never "
                "started, or not mirrored yet.",
                "#t6c_missing",
                "which",
            )
        )
    for manifest in store.manifests:
        # Where a run goes and what it is called change no number.
        numbers = {k: v for k, v in manifest.overrides.items() if not k.startswith(("runtime.", "labels."))}
        if numbers:
            changed = ", ".join(f"{key}={value}" for key, value in sorted(numbers.items()))
            found.append(
                Finding(
                    "Changed recipe",
                    f"Grid {manifest.grid} at scale {manifest.scale} was run with {changed}: its scale's name promises "
                    "more.",
                )
            )
    bad = sorted({key for key, metric in store.not_a_number if metric == ERROR})
    if bad:
        found.append(
            Finding(
                "Numbers that are none",
                f"{counted(len(bad), 'finished run')} recorded a test error that is NaN or infinite; "
                f"{verb(len(bad), 'it is', 'they are')} left out, not taken as 0.",
                "#t6c_missing",
                "which",
            )
        )
    told = [(str(key), str(notes)) for key, notes in zip(frame["hash"], frame["notes"], strict=True) if notes]
    if told:
        found.append(
            Finding(
                "Runs that stood still",
                f"{len(told)} of {counted(len(frame), 'run')} noted that alpha rested, that answers were no better "
                f"than chance or that a cell leads nowhere. The first: {told[0][1].split('; ')[0]}.",
                f"#run-{told[0][0]}",
                "that run",
            )
        )
    if store.conflicts:
        found.append(
            Finding(
                "Same config, other number",
                f"{counted(len(store.conflicts), 'config')} {verb(len(store.conflicts), 'was', 'were')} run more than "
                f"once and gave different test errors: {', '.join(store.conflicts[:3])}. The code is not deterministic "
                "there.",
            )
        )
    return found


def _mixtures(studies: Sequence[Study]) -> list[Finding]:
    machines = sorted({machine for study in studies for setting in study.settings for machine in setting.hardware})
    codes = sorted({version for study in studies for setting in study.settings for version in setting.codes})
    torches = sorted({str(run["torch"]) for study in studies for s in study.settings for run in s.done if run["torch"]})
    found = []
    if len(machines) > 1:
        found.append(
            Finding(
                "Several machines",
                f"{'; '.join(machines[:4])}. Times and memory are given machine by machine and never averaged or "
                "compared "
                "across.",
                "#t4_cost",
                "T4",
            )
        )
    if len(codes) > 1:
        found.append(
            Finding(
                "Several code versions",
                f"{', '.join(codes[:6])}. Differences are taken only between runs of one version.",
                "#t6b_runs",
                "the runs",
            )
        )
    if any("+" in version for version in codes):
        found.append(
            Finding(
                "Uncommitted changes", "Some runs were made from a tree with changes that no commit records (marked +)."
            )
        )
    if len(torches) > 1:
        found.append(Finding("Several torch versions", f"{', '.join(torches)}: only runs of one version are paired."))
    found += [
        Finding(f"Several {words}", f"{told} No key holds them, and they can move a number.", "#t6b_runs", "the runs")
        for words, told in mixtures(studies)
    ]
    return found


def _retrainings(studies: Sequence[Study]) -> list[Finding]:
    """Where n is not the number of runs, the reader is told before the first table."""
    found = []
    for study in studies:
        several = [setting for setting in study.settings if len(setting.done) > len(setting.searches)]
        if several:
            runs, searches = (
                sum(len(many) for many in counted)
                for counted in ([setting.done for setting in several], [setting.searches for setting in several])
            )
            found.append(
                Finding(
                    "Several retrainings a search",
                    f"{study.title}: {counted(runs, 'run')} {verb(runs, 'is a retraining', 'are retrainings')} of "
                    f"{counted(searches, 'search', 'searches')}. "
                    "Means are taken within each search first, and n counts searches.",
                    "#t3b_variance",
                    "T3b",
                )
            )
    return found


def _small(studies: Sequence[Study]) -> list[Finding]:
    found, smaller = [], set[tuple[str, str]]()
    for study in studies:
        sizes = [size for setting in study.settings if (size := int(setting.values(ERROR).size))]
        if not sizes:
            continue
        if study.scale != "paper" and (study.data, study.scale) not in smaller:
            smaller.add((study.data, study.scale))
            found.append(
                Finding(
                    f"{study.data}, scale {study.scale}",
                    "A smaller experiment than the paper's: it shows that the road works and how settings compare "
                    "here. It says nothing for or against the paper's numbers.",
                )
            )
        single = sum(size == 1 for size in sizes)
        if single:
            found.append(
                Finding(
                    "One seed",
                    f"{study.title}: {single} of {counted(len(sizes), 'setting')} {verb(single, 'rests', 'rest')} on "
                    f"one seed and {verb(single, 'shows', 'show')} no spread.",
                )
            )
        most = max(sizes)
        if 1 < most < statistics.SIGNIFICANCE_N:
            found.append(
                Finding(
                    "Few seeds",
                    f"{study.title}: n is {most} at most. There an exact paired test gives p of "
                    f"{statistics.minimum_p(most):.3g} at the least, too much to call any difference significant.",
                )
            )
    return found
