"""Opens a page in the user's browser, and says where it is where there is none."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

import click

#: Variables of which one is set where windows can be opened.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def has_browser(variables: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser with a window may open: there is a display, or the user names a browser of their own.

    Without a display `webbrowser` takes lynx or w3m, which would take the terminal.
    """
    return platform in ("darwin", "win32") or any(variables.get(name) for name in (*_DISPLAYS, "BROWSER"))


def open_page(page: Path) -> None:
    """Open a file of HTML; where that cannot be done one line on standard error says what to open."""
    address = page.absolute().as_uri()
    try:
        opened = has_browser(os.environ) and webbrowser.open(address)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        click.echo(f"cscdarts: no browser can be opened from here; the page is {page.absolute()}", err=True)
