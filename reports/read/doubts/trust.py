"""What of a store could not be used: files of runs that are gone or not the mirror's, runs whose names are no names."""

from collections import Counter

from reports.read.doubts.caveats import Finding
from reports.read.store import Store
from reports.words import counted, verb


def _damaged(store: Store) -> list[Finding]:
    """Runs whose own files could not be read when they were last mirrored."""
    files = Counter(name for name in (str(value or "") for value in store.runs.get("damaged", ())) if name)
    if not files:
        return []
    count, names = files.total(), ", ".join(f"{name} of {number}" for name, number in sorted(files.items()))
    return [
        Finding(
            "Damaged runs",
            f"{counted(count, 'run')} {verb(count, 'is', 'are')} damaged ({names}) and "
            f"{verb(count, 'counts', 'count')} as failed here; all others are read. `cscdarts ablate status GRID` "
            "names the files, `cscdarts ablate retry GRID` sets them aside and makes again what they said.",
        )
    ]


def findings(store: Store, ask_for_files: bool) -> list[Finding]:
    """One finding for each reason why files or runs were left out; every run's files are looked for first.

    Args:
        ask_for_files: look for those that have to be fetched too; without it only for those on this machine.
    """
    store.find_files(ask_for_files)
    runs = {str(run_id) for run_id in store.runs["run_id"]}
    reasons = Counter(why for run_id, why in store.unread.items() if run_id in runs)
    found = [
        Finding(
            "Files missing",
            f"Artifacts of {counted(count, 'run')} {why}: {verb(count, 'its', 'their')} curves, checks and logs are "
            "not in this report. Where the run folders are at hand, `cscdarts ablate watch GRID` copies them again.",
        )
        for why, count in sorted(reasons.items())
    ]
    lists = sorted({why for run_id, why in store.unread.items() if run_id not in runs})
    found += [
        Finding("List of runs missing", f"The grid's list of its runs is {why}: which runs it lacks is unknown.")
        for why in lists
    ]
    found += _damaged(store)
    if store.refused:
        found.append(
            Finding(
                "Runs refused",
                f"{counted(store.refused, 'run')} of the store {verb(store.refused, 'was', 'were')} left out, because "
                f"{verb(store.refused, 'its', 'their')} hash or id could lead out of the report's folder; the mirror "
                "writes no such names.",
            )
        )
    return found
