"""The code that runs: git, the commit and what differs from it."""

import shutil
from collections.abc import Iterator

from ablations.doctor.finding import Finding, good, weak
from ablations.doctor.question import Question
from cscdarts.records.code import COMMIT_VARIABLE, running_code


def checkout(question: Question) -> Iterator[Finding]:
    """Which commit is recorded with each run."""
    code = running_code()
    if code.problem:
        fix = "Install git." if shutil.which("git") is None else f"Correct it; or export {COMMIT_VARIABLE}=COMMIT."
        yield weak("git", f"The commit is not known: {code.problem}.", fix)
    elif not code.commit:
        yield good("git", "Installed code without a checkout: runs record the version.")
    elif code.dirty:
        changed = f"{len(code.changed)} changed files" if code.changed else "changes"
        told = f"Commit {code.commit[:12]} with {changed}: runs are marked as made from changed code."
        way = "Commit them; a cluster's jobs need that, or --allow-dirty." if question.profile else "Commit them."
        yield weak("git", told, way if code.root else "Install it from a commit without changes.")
    else:
        yield good("git", f"Commit {code.commit[:12]}, unchanged.")


CHECKS = {"git": checkout}
