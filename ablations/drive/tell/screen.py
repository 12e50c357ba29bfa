"""A grid's runs as lines that fit a terminal of any size: what most needs a look comes first, nothing wraps or
scrolls."""

import sys
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ablations.drive.tell.words import STYLES, brief, duration, kind_of, label
from ablations.grid.load import Grid, Point
from ablations.run.state import STATUSES, RunState, Status

#: What is shown first where not all fits.
ORDER: tuple[Status, ...] = ("failed", "damaged", "lost", "running", "preempted", "cancelled", "pending", "new", "done")
#: From so many columns on a line begins with the run, has the run's whole label and host, or has both a run and what
#: is said of it.
WIDE, ROOMY, MEDIUM = 80, 100, 56
_HASH = 8


def fitted(text: str, width: int) -> str:
    """A text in exactly so many columns, cut with an ellipsis where it is longer."""
    text = " ".join(text.split())
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    # Where only ASCII can be shown an ellipsis would become three signs.
    return set_cell_size(text, width - 1) + ("…" if _unicode() else "~")


def _unicode() -> bool:
    return (getattr(sys.stdout, "encoding", "") or "utf-8").lower().startswith("utf")


def by_need(grid: Grid, states: Sequence[RunState], every: bool = False) -> list[tuple[Point, RunState]]:
    """Runs with what most needs a look first; without `every` those that are simply done or wait are left out."""
    shown = [
        (point, state)
        for point, state in zip(grid.points, states, strict=True)
        if every or state.status not in ("done", "new", "pending")
    ]
    return sorted(shown, key=lambda pair: ORDER.index(pair[1].status))


def run_lines(runs: Iterable[tuple[Point, RunState]], width: int) -> list[Text]:
    """One line a run, of at most `width` columns."""
    rows = list(runs)
    lines = _wide_lines(rows, width) if width >= WIDE else _narrow_lines(rows, width)
    for line in lines:
        line.truncate(width, overflow="crop")  # where not even state and hash fit
        line.rstrip()  # so that nothing is wrapped where the terminal is made narrower
    return lines


def _narrow_lines(rows: Sequence[tuple[Point, RunState]], width: int) -> list[Text]:
    """State, hash, what is said of the run, and where there is room which run it is."""
    state_width = max((len(state.status) for _, state in rows), default=0)
    left = width - state_width - _HASH - 2
    lines = []
    for point, state in rows:
        said, what = _said(state, with_kind=True), brief(point)
        if width >= MEDIUM and said:
            half = max(left // 2, min(left - cell_len(what) - 1, cell_len(said)))
            tail = f"{fitted(said, half)} {fitted(what, left - half - 1)}"
        else:
            tail = fitted(said or what, left)
        lines.append(
            Text.assemble((fitted(state.status, state_width), STYLES[state.status]), f" {state.hash[:_HASH]} {tail}")
        )
    return lines


def _wide_lines(rows: Sequence[tuple[Point, RunState]], width: int) -> list[Text]:
    """Hash, run, state, detail and host; the detail has what the others leave."""
    places = [" ".join((state.host, state.jobs[-1] if state.jobs else "")).strip() for _, state in rows]
    place_width = min(max(map(cell_len, places), default=0), 24) if width >= ROOMY else 0
    state_width = max((len(kind_of(state)) for _, state in rows), default=0)
    left = width - _HASH - state_width - (place_width + 1 if place_width else 0) - 3
    named = brief if width < ROOMY else label
    what_width = min(max((cell_len(named(point)) for point, _ in rows), default=0), left * 3 // 5)
    lines = []
    for (point, state), place in zip(rows, places, strict=True):
        line = Text.assemble(
            f"{state.hash[:_HASH]} {fitted(named(point), what_width)} ",
            (fitted(kind_of(state), state_width), STYLES[state.status]),
            f" {fitted(_said(state), left - what_width)}",
        )
        lines.append(line.append(f" {fitted(place, place_width)}") if place_width else line)
    return lines


def _said(state: RunState, with_kind: bool = False) -> str:
    if state.status == "running" and state.eta_s is not None:
        return f"{state.detail}, {duration(state.eta_s)} to go"
    return f"{state.kind}: {state.detail}" if state.status == "failed" and with_kind else state.detail


class GridScreen:
    """A grid's states, drawn for the terminal's size at that moment.

    Args:
        title: the grid and its scale.
        grid: the grid.

    Attributes:
        states: what is drawn; none before the first look.
        times: how long it has taken and will take.
        note: a sentence below the counts, "" for none.
    """

    def __init__(self, title: str, grid: Grid) -> None:
        self.title, self.grid = title, grid
        self.states: Sequence[RunState] = ()
        self.times = self.note = ""

    def lines(self, width: int, height: int) -> list[Text]:
        """At most `height` lines of at most `width` columns."""
        if not self.states:
            return [Text(fitted(f"{self.title}: looking", width))][:height]
        number = {status: sum(state.status == status for state in self.states) for status in ORDER}
        head = [
            self._bar(number["done"], len(self.states), width),
            _counts(number, width),
            Text(fitted(f"{self.title}; {self.times}", width), "dim"),
        ]
        if self.note:
            head.append(Text(fitted(self.note, width), "yellow"))
        head = head[: max(1, height)]
        rows = by_need(self.grid, self.states)
        room = max(0, height - len(head))
        if len(rows) > room:
            shown = max(0, room - 1)
            more = Text(fitted(f"and {len(rows) - shown} more, of {len(self.states)} runs", width), "dim")
            return [*head, *run_lines(rows[:shown], width), *([more] if room else [])]
        return [*head, *run_lines(rows, width)]

    def _bar(self, done: int, of: int, width: int) -> Text:
        text = f" {done}/{of} done"
        room = max(0, min(60, width - len(text)))
        full = room * done // of
        signs = "━━" if _unicode() else "#-"
        bar = Text.assemble((signs[0] * full, "green"), (signs[1] * (room - full), "bright_black"))
        return bar.append(text[:width])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Drawn a line short of the terminal's height, so that nothing ever scrolls."""
        width, height = console.size
        yield Text("\n").join(self.lines(width, height - 1))


def _counts(number: dict[Status, int], width: int) -> Text:
    """How many runs are in each state, what most needs a look first."""
    text = Text()
    for status in ORDER:
        if number[status]:
            text.append(", " if text else "").append(f"{number[status]} {status}", STYLES[status])
    if text.cell_len > width:
        text.truncate(width - 1, overflow="crop")
        text.append("…" if _unicode() else "~")
    return text


assert set(ORDER) == set(STATUSES)
