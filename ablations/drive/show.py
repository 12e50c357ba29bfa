"""What a driver shows: a live table on a terminal, plain flushed lines anywhere else."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablations.drive.driver import counts
from ablations.grid.load import Grid, Point
from ablations.run.state import STATUSES, RunState

STYLES = {
    "done": "green", "running": "cyan", "pending": "yellow", "preempted": "magenta", "new": "dim", "failed": "red",
    "lost": "red", "cancelled": "dim red", "damaged": "red",
}  # fmt: skip
#: Seconds between plain lines when only the epochs have moved.
PLAIN_EVERY_S = 30.0


def duration(seconds: float | None) -> str:
    """`75` -> 1:15, `4000` -> 1 h 07, unknown -> a dash."""
    if seconds is None or seconds != seconds:
        return "–"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d}"


def label(point: Point) -> str:
    """What distinguishes a run, in a few words."""
    supernet, search = point.config.supernet, point.config.search
    what = f"r={supernet.split_ratio} identity={supernet.identity} order={search.order}"
    return f"{'/'.join(point.methods)} {what} seed={point.config.seed}"


def tally(states: Sequence[RunState]) -> str:
    """`40 runs: 12 done, 2 running, 26 new`."""
    number = counts(states)
    parts = [f"{number[status]} {status}" for status in STATUSES if number[status]]
    return f"{len(states)} runs: {', '.join(parts)}"


def status_table(grid: Grid, states: Sequence[RunState], every: bool = True, limit: int = 60) -> Table:
    """The table of `status`: run, state, detail, ETA; without `every` only what is not simply done or waiting."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("hash", "run", "state", "detail", "ETA", "host / job"):
        table.add_column(name, overflow="fold" if name == "detail" else "ellipsis", no_wrap=name != "detail")
    shown = [
        (point, state)
        for point, state in zip(grid.points, states, strict=True)
        if every or state.status not in ("done", "new", "pending")
    ]
    for point, state in shown[:limit]:
        where = " ".join((state.host, state.jobs[-1] if state.jobs else "")).strip()
        kind = f"{state.status} ({state.kind})" if state.status == "failed" else state.status
        table.add_row(
            state.hash[:8],
            label(point),
            Text(kind, STYLES[state.status]),
            Text(state.detail),
            duration(state.eta_s) if state.status == "running" else "",
            where,
        )
    if len(shown) > limit:
        table.add_row("...", f"and {len(shown) - limit} more", "", "", "", "")
    return table


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
        console: where to; a live table if it is a terminal.
    """

    def __init__(self, grid: Grid, console: Console) -> None:
        self.grid, self.console = grid, console
        self.started = time.monotonic()
        self._live: Live | None = None
        self._before: dict[str, str] = {}
        self._said = 0.0
        self._done_at_start: int | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line, above the live table where there is one."""
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
            self._live.update(self._drawn(states), refresh=True)
            return
        for point, state in changed:
            detail = f": {state.detail}" if state.detail and state.status != "done" else ""
            self.say(f"{state.hash[:8]} {label(point)} is {state.status}{detail}")
        if changed or time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            self.say(f"{tally(states)}; {duration(time.monotonic() - self.started)} so far, {self._remaining(states)}")

    def _remaining(self, states: Sequence[RunState]) -> str:
        """Time left, by the pace of this driver's finished runs."""
        done = counts(states)["done"] - (self._done_at_start or 0)
        left = sum(state.status in ("new", "pending", "running", "preempted") for state in states)
        return (
            f"about {duration((time.monotonic() - self.started) / done * left)} to go"
            if done >= 2
            else "time to go unknown"
        )

    def _drawn(self, states: Sequence[RunState]) -> Group:
        number = counts(states)
        bar = ProgressBar(total=len(states), completed=number["done"], width=40)
        line = f"{tally(states)}; {duration(time.monotonic() - self.started)}, {self._remaining(states)}"
        head = Table.grid(padding=(0, 1))
        head.add_row(bar, Text(line))
        return Group(head, status_table(self.grid, states, every=False, limit=20))


@contextlib.contextmanager
def following(grid: Grid, console: Console) -> Iterator[Progress]:
    """Follow a grid for the length of a block."""
    with Progress(grid, console) as progress:
        yield progress
