"""How findings are shown: a table on a terminal, a line each in a pipe."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations.doctor.finding import Finding, counts

STYLES = {"good": "green", "weak": "yellow", "bad": "bold red"}


def record(findings: Sequence[Finding]) -> dict[str, Any]:
    """What `--json` prints: `counts` by level and `findings`, each with `level`, `subject`, `sentence`, `way_out`."""
    return {"counts": counts(findings), "findings": [asdict(finding) for finding in findings]}


def summary(findings: Sequence[Finding]) -> str:
    """`21 good, 2 weak, 1 bad`."""
    return ", ".join(f"{number} {level}" for level, number in counts(findings).items())


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print findings: as a table where somebody looks on, else as lines that begin with the level."""
    # Of a dumb terminal nobody knows the width: its own wrapping reads better than a table of another's.
    if console.is_terminal and not console.is_dumb_terminal:
        console.print(table(findings, console.width))
    else:
        for one in findings:
            way = f" Way out: {one.way_out}" if one.way_out else ""
            print(f"{one.level}: {one.subject}: {one.sentence}{way}", file=console.file)
    styled = Text(", ").join(
        Text(f"{number} {level}", STYLES[level] if number and level != "good" else "")
        for level, number in counts(findings).items()
    )
    console.print(styled, highlight=False)


def table(findings: Sequence[Finding], width: int) -> Table:
    """The findings, the way out under its sentence; on a narrow terminal the subject stands before the sentence."""
    narrow = width < 80
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    drawn.add_column("level", no_wrap=True)
    if not narrow:
        drawn.add_column("subject", no_wrap=True)
    drawn.add_column("sentence", overflow="fold", ratio=1)
    before = ""
    for one in findings:
        told = Text()
        if narrow:
            told.append(f"{one.subject}: ", "bold")
        told.append(one.sentence)
        if one.way_out:
            told.append("\n→ ", "cyan")
            told.append(one.way_out, "cyan" if one.level != "good" else "dim")
        level = Text(one.level, STYLES[one.level])
        subject = Text(one.subject if one.subject != before else "", "bold")
        drawn.add_row(level, told) if narrow else drawn.add_row(level, subject, told)
        before = one.subject
    return drawn
