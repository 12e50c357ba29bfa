"""Bars stand on terminals only, and a page is opened only where there is a browser."""

from pathlib import Path

import pytest

from ablations.commands.options.browser import has_browser, open_page
from ablations.commands.options.progress import progress_bar
from tests.support.pty_terminal import terminal

SCRIPT = """
import sys, time
import click
from ablations.commands.options.progress import progress_bar
with progress_bar() as advance:
    for number in range(4):
        advance("architectures of a long name", number + 1, 4)
        click.echo(f"line {number}", err=True)
        time.sleep(0.15)
print("end")
"""


@pytest.mark.parametrize("columns", [40, 80])
def test_a_bar_on_a_terminal_fits_it_and_leaves_it_clean(tmp_path: Path, columns: int) -> None:
    with terminal(["-c", SCRIPT], tmp_path, columns) as shown:
        assert shown.end() == 0
    assert "architectures of" in shown.seen
    assert "4/4" in shown.seen
    assert all(f"line {number}" in shown.seen for number in range(4))
    assert "\x1b[?25l" in shown.seen  # the cursor is hidden ...
    assert shown.seen.rindex("\x1b[?25h") > shown.seen.rindex("\x1b[?25l")  # ... and comes back
    assert shown.seen.rstrip().endswith("end")


def test_no_bar_in_a_pipe_or_on_a_dumb_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as advance:
        advance("figures", 1, 2)
    assert capsys.readouterr() == ("", "")
    for variables in ({"TERM": "dumb"}, {"CI": "true"}):
        with terminal(["-c", SCRIPT], tmp_path, variables=variables) as shown:
            assert shown.end() == 0
        assert "4/4" not in shown.seen
        assert "line 3" in shown.seen


def test_without_a_browser_the_path_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    open_page(tmp_path / "index.html")
    assert str(tmp_path / "index.html") in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":0")

    def broken(address: str) -> bool:
        raise OSError(address)

    monkeypatch.setattr("webbrowser.open", broken)
    open_page(tmp_path / "index.html")
    assert str(tmp_path / "index.html") in capsys.readouterr().err


def test_what_makes_a_browser() -> None:
    assert not has_browser({}, "linux")
    assert has_browser({"DISPLAY": ":0"}, "linux")
    assert has_browser({"BROWSER": "firefox"}, "linux")
    assert has_browser({}, "darwin")
