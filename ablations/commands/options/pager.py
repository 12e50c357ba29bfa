"""Output longer than the terminal goes through the user's pager; pipes, JSON and what goes on do not."""

import contextlib
import functools
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click

#: Environment variable: empty for no pager, or the pager to use in place of the one that PAGER names.
VARIABLE = "CSCDARTS_PAGER"
#: Options under which a command's output is not for a person to page through.
_NOT_PAGED = ("as_json", "live", "follow", "quiet")

Function = Callable[..., Any]


class _Held(io.StringIO):
    """Keeps what is printed, and says that it goes to a terminal, so that colours are kept."""

    def isatty(self) -> bool:
        """See above."""
        return True


def paged(function: Function) -> Function:
    """Let a command's whole output go through the pager where it is longer than the terminal."""

    @functools.wraps(function)
    def command(*values: Any, **options: Any) -> Any:
        with paging(not any(options.get(name) for name in _NOT_PAGED)):
            return function(*values, **options)

    return command


@contextlib.contextmanager
def paging(wanted: bool = True) -> Iterator[None]:
    """Page what is printed within a block, once it ends; what was printed before an error is shown at once."""
    if not (wanted and may_page()):
        yield
        return
    held = _Held()
    try:
        with contextlib.redirect_stdout(held):
            yield
    except BaseException:
        click.echo(held.getvalue(), nl=False)
        raise
    _show(held.getvalue())


def may_page() -> bool:
    """Whether somebody sits at a terminal and has not said that they want no pager."""
    context = click.get_current_context(silent=True)
    said = context.find_root().obj if context is not None else None
    return (
        sys.stdout.isatty()
        and sys.stdin.isatty()
        and os.environ.get("TERM") != "dumb"
        and os.environ.get(VARIABLE) != ""
        and not (isinstance(said, dict) and said.get("no_pager"))
    )


def rows_of(text: str, columns: int) -> int:
    """How many rows of a terminal a text takes; colours take none."""
    return sum(max(1, -(-len(line) // max(1, columns))) for line in click.unstyle(text).splitlines())


def _show(text: str) -> None:
    columns, rows = shutil.get_terminal_size()
    # The prompt that comes after it takes a row too.
    if rows_of(text, columns) < rows:
        click.echo(text, nl=False)
        return
    stream = sys.stdout
    if stream.encoding:  # an ASCII terminal gets from its pager what it gets without
        text = text.encode(stream.encoding, stream.errors or "replace").decode(stream.encoding)
    with _chosen_pager(), _left_to_the_pager():
        click.echo_via_pager(text.rstrip("\n"))


@contextlib.contextmanager
def _chosen_pager() -> Iterator[None]:
    asked, before = os.environ.get(VARIABLE), os.environ.get("PAGER")
    if asked:
        os.environ["PAGER"] = asked
    try:
        yield
    finally:
        if asked and before is None:
            del os.environ["PAGER"]
        elif asked and before is not None:
            os.environ["PAGER"] = before


@contextlib.contextmanager
def _left_to_the_pager() -> Iterator[None]:
    """Ctrl-C is the pager's while it shows; a handler, unlike ignoring, is not passed on to it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
