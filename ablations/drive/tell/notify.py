"""Tells somebody elsewhere that a driver has ended, on the desktop or through a web hook; nobody unless asked for.

A web hook's address holds its secret in path, query or password: it is never printed and never written down.
"""

import base64
import contextlib
import html
import http.client
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablations.drive.driver import Driver, counts
from ablations.drive.exit_codes import DONE, INTERRUPTED, READER_GONE, REFUSED, UNFINISHED
from ablations.drive.tell.signals import when_ended
from ablations.run.state import STATUSES
from cscdarts import __version__
from cscdarts.errors import UserError
from slurm.errors import ClusterError

#: Environment variable that stands for the option.
VARIABLE = "CSCDARTS_NOTIFY"
DESKTOP, OFF = "desktop", "off"
ALLOWED = f"{DESKTOP}, {OFF}, or the address of a web hook, which begins with http:// or https://"
#: Seconds that one attempt may take, whatever it waits for; attempts; seconds between them.
LIMIT_S, ATTEMPTS, PAUSE_S = 5.0, 2, 0.5
_LONGEST = 4096
#: On macOS, title and text as arguments, so that neither is read as a program.
_OSASCRIPT = (
    "on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run",
)  # fmt: skip


@dataclass(frozen=True)
class Recipient:
    """Where to tell it.

    Attributes:
        url: the web hook; "" for the desktop. It stands in no text that is made of this object.
    """

    url: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What may be printed: of an address scheme and host only."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" if self.url else DESKTOP


def read_target(text: str) -> Recipient | None:
    """What `--notify` names; None for `off`.

    Errors:
        UserError: no such thing; what was given is not repeated, for it may hold a secret.
    """
    if text in (DESKTOP, OFF):
        return Recipient() if text == DESKTOP else None
    try:
        parts = urllib.parse.urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
        sentence = (
            f"--notify (or {VARIABLE}): what was given, which is not shown as it may hold a secret, is not valid; "
            f"allowed: {ALLOWED}. Correct it, or leave it out."
        )
        raise UserError("--notify", "not shown", ALLOWED, "Correct it.", sentence)
    return Recipient(text)


def notified(target: Recipient | None, driver: Driver, work: Callable[[], int], waits: bool = True) -> int:
    """Do a driver's work and tell once how it ended, by itself, by an error, by Ctrl-C or by a signal.

    Whether it could be told changes neither the exit code nor what is raised.

    Args:
        work: returns the exit code.
        waits: whether the driver stays until the runs have ended.
    """
    if target is None:
        return work()
    begun = time.monotonic()

    def tell(code: int, ended: str) -> None:
        # A second Ctrl-C ends the telling, nothing else.
        with contextlib.suppress(KeyboardInterrupt):
            why = send(target, message(driver, code, ended, time.monotonic() - begun))
            if why:
                print(f"cscdarts: {target.name} could not be notified: {why}", file=sys.stderr, flush=True)

    try:
        with _told_before(lambda number: tell(128 + number, f"ended by {signal.Signals(number).name}")):
            code = work()
    except BaseException as error:
        tell(*_ending(error))
        raise
    tell(code, ("done" if waits else "submitted") if code == DONE else "unfinished")
    return code


def message(driver: Driver, code: int, ended: str, seconds: float) -> dict[str, Any]:
    """What is told: `grid`, `scale`, `ended` (done, unfinished, submitted, interrupted, failed, ended by SIGTERM),
    `exit_code`, `counts` by state, `runs`, `duration_s`, `host`, `version`, `id` (the same at a second attempt) and
    `text`, a sentence."""
    grid = driver.grid
    try:
        found: Mapping[Any, int] = counts(driver.states())
    except Exception:  # a folder that cannot be read is told by the command itself
        found = {}
    number = {status: found[status] for status in STATUSES if found.get(status)}
    told = ", ".join(f"{count} {status}" for status, count in number.items()) or "state unknown"
    host = platform.node()
    return {
        "grid": grid.name, "scale": grid.scale, "ended": ended, "exit_code": code, "counts": number,
        "runs": len(grid.points), "duration_s": round(seconds, 1), "host": host, "version": __version__,
        "id": secrets.token_hex(8), "text": f"{grid.name} ({grid.scale}) on {host}: {ended}; {told}",
    }  # fmt: skip


def send(target: Recipient, content: Mapping[str, Any]) -> str:
    """Tell it, with one more attempt where the first fails; returns why it could not be told, "" if it was."""
    why = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S)
        why = _within(LIMIT_S, lambda: _post(target.url, content) if target.url else _show(content))
        if not why:
            break
    return why


def _ending(error: BaseException) -> tuple[int, str]:
    """The exit code that the command line gives an error, and what it says of it."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return READER_GONE, "failed"
    return (REFUSED if isinstance(error, UserError | ClusterError | OSError) else UNFINISHED), "failed"


@contextlib.contextmanager
def _told_before(tell: Callable[[int], None]) -> Iterator[None]:
    """Let signals that end this process do so only after it was told."""

    def last(number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        tell(number)
        os.kill(os.getpid(), number)

    with when_ended(last):
        yield


def _within(seconds: float, work: Callable[[], str]) -> str:
    """What some work says, or that it did not end in time; a server that sends a byte a second is cut off too."""
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else f"no answer within {seconds:g} s"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is sent goes to nobody but the host that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(url: str, content: Mapping[str, Any]) -> str:
    parts = urllib.parse.urlsplit(url)
    headers = {"Content-Type": "application/json", "User-Agent": f"cscdarts/{__version__}"}
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        request = urllib.request.Request(url, json.dumps(content).encode(), headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=LIMIT_S) as answer:
            return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except urllib.error.URLError as error:
        return _reason(error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _reason(error)


def _reason(error: object) -> str:
    """What the system said; other errors' texts hold the address, so of them only the kind is told."""
    if isinstance(error, TimeoutError):
        return f"no answer within {LIMIT_S:g} s"
    if isinstance(error, OSError):
        return str(error.strerror or type(error).__name__)
    return type(error).__name__


def desktop_command(content: Mapping[str, Any]) -> list[str] | None:
    """The command that shows a message on this machine's desktop; None where there is none."""
    title, text = "cscdarts", str(content["text"])
    if shutil.which("notify-send"):
        return ["notify-send", "--app-name=cscdarts", "--", title, html.escape(text, quote=False)]
    if shutil.which("osascript"):
        return ["osascript", *(word for line in _OSASCRIPT for word in ("-e", line)), title, text]
    return None


def _show(content: Mapping[str, Any]) -> str:
    command = desktop_command(content)
    if command is None:
        return "neither notify-send nor osascript is on this machine"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _reason(error)
    said = " ".join(done.stderr.split())[:200]
    return "" if done.returncode == 0 else f"{command[0]} ended with {done.returncode}{': ' if said else ''}{said}"
