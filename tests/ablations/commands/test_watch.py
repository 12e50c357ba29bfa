"""A grid watched on terminals of any size: nothing wraps or scrolls, what needs a look comes first, and the terminal is
given back."""

import io
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ablations.drive.tell.screen import ORDER, GridScreen, by_need, fitted, run_lines
from ablations.drive.tell.show import following
from ablations.grid.load import Grid, load_grid
from ablations.run.state import RunState
from tests.support.harness.grids import write_grid
from tests.support.pty_terminal import ROOT, terminal


@pytest.fixture(scope="module")
def grid() -> Grid:
    return load_grid("quickstart", "smoke")


def states(grid: Grid, named: Sequence[str] = ORDER) -> list[RunState]:
    """Every state in turn, with words that are too long."""
    found = []
    for number, point in enumerate(grid.points):
        status = named[number % len(named)]
        found.append(
            RunState(
                point.hash,
                status,  # type: ignore[arg-type]
                "search 3/8" if status == "running" else "" if status == "done" else f"why {status} " + "é漢" * 30,
                kind="numerical" if status == "failed" else "",
                eta_s=75.0 if status == "running" else None,
                host="a-host-of-a-long-name",
                jobs=("12345_6",),
            )
        )
    return found


@pytest.mark.parametrize("width", [1, 9, 20, 40, 60, 79, 80, 100, 240])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 10, 24, 200])
def test_it_fits_any_terminal(grid: Grid, width: int, height: int) -> None:
    screen = GridScreen("quickstart (smoke)", grid)
    assert len(screen.lines(width, height)) <= height
    screen.states, screen.times, screen.note = states(grid), "1:15 so far, about 7:22 to go", "a note " * 30
    lines = screen.lines(width, height)
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width
    assert all("\n" not in line.plain for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_what_needs_a_look_comes_first(grid: Grid, width: int) -> None:
    screen = GridScreen("quickstart (smoke)", grid)
    screen.states = states(grid)
    for line in run_lines(by_need(grid, screen.states), width):
        assert re.search(r"failed|damaged|lost|running|preempted|cancelled", line.plain)
    shown = screen.lines(width, 12)
    assert "failed" in shown[1].plain.split(",")[0]
    first, last = shown[3].plain, shown[-1].plain
    assert "failed" in first
    assert "…" in first
    assert f"of {len(grid.points)} runs" in last
    ranks = [ORDER.index(state.status) for _, state in by_need(grid, screen.states, every=True)]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(grid.points)


def test_all_is_shown_where_there_is_room(grid: Grid) -> None:
    screen = GridScreen("quickstart (smoke)", grid)
    screen.states = states(grid, ["running", "done"])
    lines = [line.plain for line in screen.lines(80, 60)]
    assert sum("search 3/8, 1:15 to go" in line for line in lines) == (len(grid.points) + 1) // 2
    assert not any("more, of" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "width", "said"), [("abc", 5, "abc  "), ("abcdef", 4, "abc…"), ("漢字漢字", 5, "漢字…")]
)
def test_cut_texts(text: str, width: int, said: str) -> None:
    assert fitted(text, width) == said
    assert cell_len(fitted(text, width)) == width


def test_an_ascii_terminal_has_no_sign_that_would_become_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert fitted("abcdef", 4) == "abc~"


def test_where_there_is_no_terminal_lines_are_plain(grid: Grid) -> None:
    file = io.StringIO()
    with following(grid, Console(file=file, width=40), whole_screen=True) as progress:
        progress(states(grid, ["running", "done"]))
        progress(states(grid, ["done"]))
    assert "\x1b" not in file.getvalue()
    assert f"{len(grid.points)} runs: {len(grid.points)} done" in file.getvalue()


#: What a watch shows, with states that move at each look.
_WATCH = """
import sys, time
from rich.console import Console
from ablations.drive.tell.show import following
from ablations.grid.load import load_grid
from tests.ablations.commands.test_watch import states
grid = load_grid("quickstart", "smoke")
print("before")
with following(grid, Console(), whole_screen=True) as progress:
    for number in range(600):
        progress.say("a note")
        progress(states(grid, ["running", "failed", "done"]))
        time.sleep(0.1)
print("after")
"""


@pytest.mark.parametrize(("ended", "code"), [("\x03", 1), ("kill", 143)])
def test_the_screen_is_redrawn_in_its_size_and_given_back(tmp_path: Path, ended: str, code: int) -> None:
    def widest(frames: str) -> int:
        bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames)
        return max(len(line) for line in re.split(r"[\r\n]+", bare))

    with terminal(["-c", _WATCH], tmp_path, columns=60, rows=12) as shown:
        shown.read(lambda seen: seen.count("\x1b[H") > 3)
        assert "\x1b[?1049h" in shown.seen
        assert "\x1b[2J" not in shown.seen.partition("\x1b[?1049h")[2].partition("\x1b[H")[2]  # no flicker
        whole = shown.seen.split("\x1b[H")[-2]
        assert widest(whole) <= 60
        assert whole.count("\n") <= 11
        assert "a note" in whole
        shown.resize(40, 8)
        at = len(shown.seen)
        shown.read(lambda seen: seen[at:].count("\x1b[H") > 3)
        small = shown.seen.split("\x1b[H")[-2]
        assert widest(small) <= 40
        assert small.count("\n") <= 7
        if ended == "kill":
            shown.process.terminate()
        else:
            shown.type(ended)
        assert shown.end() in (code, -2)
    assert shown.seen.rindex("\x1b[?1049l") > shown.seen.rindex("\x1b[?1049h")
    assert shown.seen.rindex("\x1b[?25h") > shown.seen.rindex("\x1b[?25l")


@pytest.mark.parametrize("columns", [40, 80])
def test_the_command_shows_states_that_fit(tmp_path: Path, columns: int) -> None:
    write_grid(tmp_path / "mine.py", ["", ""])
    words = ["-m", "ablations.cli", "ablate", "status", "mine.py", "--scale", "smoke"]
    with terminal([*words, "--watch", "--no-pager"], tmp_path, columns) as shown:
        assert shown.end() == 0
    last = shown.seen.rpartition("\x1b[?1049l")[2]
    assert "2 runs: 2 new" in last
    assert max(len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in last.splitlines()) <= columns
    done = subprocess.run(
        [sys.executable, *words, "--watch"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "\x1b" not in done.stdout
    assert "identity=cell order=2 seed=1" in done.stdout
