"""What a driver shows: a live table on a terminal, plain flushed lines anywhere else."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.drive.driver import counts
from ablations.drive.tell.screen import WIDE, GridScreen, run_lines
from ablations.drive.tell.signals import when_ended
from ablations.drive.tell.words import STYLES, duration, kind_of, label
from ablations.grid.load import Grid
from ablations.run.state import STATUSES, RunState

#: Seconds between plain lines when only the epochs have moved.
PLAIN_EVERY_S = 30.0


def tally(states: Sequence[RunState]) -> str:
    """`40 runs: 12 done, 2 running, 26 new`."""
    number = counts(states)
    parts = [f"{number[status]} {status}" for status in STATUSES if number[status]]
    return f"{len(states)} runs: {', '.join(parts)}"


def status_table(grid: Grid, states: Sequence[RunState]) -> Table:
    """The table of `status`: run, state, detail, ETA."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("hash", "run", "state", "detail", "ETA", "host / job"):
        table.add_column(name, overflow="fold" if name == "detail" else "ellipsis", no_wrap=name != "detail")
    for point, state in zip(grid.points, states, strict=True):
        where = " ".join((state.host, state.jobs[-1] if state.jobs else "")).strip()
        table.add_row(
            state.hash[:8],
            label(point),
            Text(kind_of(state), STYLES[state.status]),
            Text(state.detail),
            duration(state.eta_s) if state.status == "running" else "",
            where,
        )
    return table


def print_states(console: Console, grid: Grid, states: Sequence[RunState]) -> None:
    """Print every run's state: as a table, on a narrow terminal as a line each."""
    if console.is_terminal and console.width < WIDE:
        for line in run_lines(zip(grid.points, states, strict=True), console.width):
            console.print(line, no_wrap=True, overflow="crop", highlight=False)
        return
    # Wide where nobody's terminal wraps it: `status | grep` must find whole lines.
    (console if console.is_terminal else Console(width=240)).print(status_table(grid, states))


def states_record(grid: Grid, states: Sequence[RunState], caveat: str) -> dict[str, Any]:
    """What `status --json` prints: `grid`, `scale`, `counts` by state, `caveat` (what could not be seen; null if all
    could) and `runs`: of each `hash`, `run` (a few words), `state`, `kind` (of a failure), `detail`, `damaged` (the
    file), `stage`, `epoch`, `epochs`, `eta_s`, `host` and `jobs`, null where there is none."""
    runs = [
        {
            "hash": state.hash, "run": label(point), "state": state.status, "kind": state.kind or None,
            "detail": state.detail or None, "damaged": state.damage or None, "stage": state.stage or None,
            "epoch": state.epoch, "epochs": state.epochs, "eta_s": state.eta_s, "host": state.host or None,
            "jobs": list(state.jobs),
        }
        for point, state in zip(grid.points, states, strict=True)
    ]  # fmt: skip
    return {
        "grid": grid.name, "scale": grid.scale, "counts": dict(counts(states)), "caveat": caveat or None, "runs": runs,
    }  # fmt: skip


class Progress:
    """Follows a grid while its driver waits.

    Args:
        grid: the grid.
        console: where to; a live view if it is a terminal.
        whole_screen: take the terminal's whole screen meanwhile, and give it back as it was.
    """

    def __init__(self, grid: Grid, console: Console, whole_screen: bool = False) -> None:
        self.grid, self.console = grid, console
        self.started = time.monotonic()
        self._screen = GridScreen(f"{grid.name} ({grid.scale})", grid)
        self._live: Live | None = None
        self._whole = whole_screen
        self._before: dict[str, str] = {}
        self._said = 0.0
        self._done_at_start: int | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            # Drawn again by itself where it has the whole screen: at once in the size that the terminal then has.
            self._live = Live(
                self._screen, console=self.console, auto_refresh=self._whole, transient=True, screen=self._whole,
                vertical_overflow="crop",
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line, above the live view where there is one; in it where it has the whole screen."""
        if self._live is not None and self._whole:
            self._screen.note = line
            return
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()

    def __call__(self, states: Sequence[RunState]) -> None:
        """Show the present states."""
        if self._done_at_start is None:
            self._done_at_start = counts(states)["done"]
        changed = [
            (p, s)
            for p, s in zip(self.grid.points, states, strict=True)
            if self._before.get(s.hash, s.status) != s.status
        ]
        self._before = {state.hash: state.status for state in states}
        if self._live is not None:
            self._screen.states, self._screen.times = states, self._times(states)
            self._live.refresh()
            return
        for point, state in changed:
            detail = f": {state.detail}" if state.detail and state.status != "done" else ""
            self.say(f"{state.hash[:8]} {label(point)} is {state.status}{detail}")
        if changed or time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            self.say(f"{tally(states)}; {self._times(states)}")

    def _times(self, states: Sequence[RunState]) -> str:
        """Time so far, and time left by the pace of this driver's finished runs."""
        so_far = time.monotonic() - self.started
        done = counts(states)["done"] - (self._done_at_start or 0)
        left = sum(state.status in ("new", "pending", "running", "preempted") for state in states)
        to_go = f"about {duration(so_far / done * left)} to go" if done >= 2 else "time to go unknown"
        return f"{duration(so_far)} so far, {to_go}"


@contextlib.contextmanager
def following(grid: Grid, console: Console, whole_screen: bool = False) -> Iterator[Progress]:
    """Follow a grid for the length of a block; see `Progress`."""
    with _given_back(whole_screen), Progress(grid, console, whole_screen) as progress:
        yield progress


@contextlib.contextmanager
def _given_back(wanted: bool) -> Iterator[None]:
    """Let signals that end a program do so through its blocks, so that the terminal is given back as it was."""

    def end(number: int) -> None:
        raise SystemExit(128 + number)

    with when_ended(end) if wanted else contextlib.nullcontext():
        yield
