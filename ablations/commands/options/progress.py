"""A bar on standard error while a command works; in a pipe, in CI and on a dumb terminal there is none."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

#: Receives what is worked on, how many of it are done, and of how many; 0 of 0 where nobody knows.
Advance = Callable[[str, int, int], None]


def can_redraw() -> bool:
    """Whether standard error is a terminal on which a line can be drawn again, and nobody keeps it as a log."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


@contextlib.contextmanager
def progress_bar(wanted: bool = True) -> Iterator[Advance]:
    """Show how far a command is for the length of a block; what it prints meanwhile stands above the bar.

    Args:
        wanted: show nothing without it, as where the user asked for quiet.
    """
    if not wanted or not can_redraw():
        yield lambda what, done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    # 40 columns hold it: 16 of text, the bar, the count and the time.
    columns = TextColumn("{task.description:16.16}"), BarColumn(10 if console.width < 60 else 30), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True) as progress:
        task, shown = progress.add_task("", total=None), ""

        def advance(what: str, done: int, of: int) -> None:
            nonlocal shown
            if what != shown:
                progress.reset(task)
                shown = what
            progress.update(task, description=what, completed=done, total=of or None)

        yield advance
