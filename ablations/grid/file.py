"""A grid's Python file, run within bounds: what its function `grid(scale)` yields, or one sentence on why it yields
nothing that can be used. No torch."""

import contextlib
import importlib
import inspect
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from cscdarts.errors import MissingFile, OutsideFailure, UserError
from cscdarts.records.grid_names import SUFFIX, is_file
from cscdarts.settings.config import RunConfig
from cscdarts.settings.values import Unreadable, whole
from cscdarts.spaces import beside, load_file

GRIDS = Path(__file__).parents[1] / "grids"
#: Runs of one grid; a status of more would take longer than a person waits.
MOST_POINTS = 20_000
#: Seconds that a grid's file may compute, and that it may take with all that it waits for.
COMPUTES_S, WAITS_S = 8, 60
#: Environment variable with another number of seconds for both.
SECONDS_VARIABLE = "CSCDARTS_GRID_SECONDS"


class _TooLong(BaseException):
    """Raised in a grid's file by the clock; no `except Exception` of the file keeps it."""


def shipped() -> dict[str, Path]:
    """Name -> file of the grids that come with the distribution."""
    return {path.stem: path for path in sorted(GRIDS.rglob(f"*{SUFFIX}")) if not path.stem.startswith("_")}


def grid_names() -> list[str]:
    """The grids that come with the distribution."""
    return sorted(shipped())


def grid_module(source: str) -> tuple[ModuleType, Path]:
    """Import a grid by its name or by the path of a user's file.

    Errors:
        UserError: no such grid, or a file that does not run to its end.
    """
    if not is_file(source):
        path = shipped().get(source)
        if path is None:
            raise UserError("GRID", source, ", ".join([*grid_names(), f"PATH{SUFFIX}"]), "Choose one of these.")
        inside = path.relative_to(GRIDS).with_suffix("").parts
        return importlib.import_module(".".join(("ablations.grids", *inside))), path
    path = Path(source)
    if path.suffix != SUFFIX or not os.path.isfile(source):  # noqa: PTH113 - a name too long is no file
        raise MissingFile(source, "Name an existing Python file.")
    with _bounded(path):
        return load_file(path), path


def configs_of(module: ModuleType, scale: str, path: Path) -> list[RunConfig]:
    """What a grid's function yields, at most `MOST_POINTS`.

    Errors:
        UserError: there is no such function, it raises or does not end, or it yields something else.
    """
    function = getattr(module, "grid", None)
    if not callable(function):
        raise MissingFile(str(path), f"See {GRIDS / 'quickstart.py'}.", "function grid(scale) that yields RunConfigs")
    with beside(path.parent), _bounded(path):
        configs = list(itertools.islice(_called(function, scale, path), MOST_POINTS + 1))
    require_number(len(configs), str(path))
    for config in configs:
        if not isinstance(config, RunConfig):
            raise UserError(str(path), type(config).__name__, "RunConfig", "Let grid(scale) yield RunConfigs.")
    return configs


def require_number(runs: int, field: str, value: object = None) -> None:
    """Refuse more runs than a grid may have.

    Errors:
        UserError: as said.
    """
    if runs > MOST_POINTS:
        given = f"more than {MOST_POINTS:,} runs" if value is None else value
        raise UserError(
            field, given, f"a grid of at most {MOST_POINTS:,} runs", "Make fewer, or several grids of them."
        )


def _called(function: Callable[..., Any], scale: str, path: Path) -> Iterator[Any]:
    found = function(scale) if inspect.signature(function).parameters else function()
    if isinstance(found, RunConfig) or not hasattr(found, "__iter__"):
        raise UserError(
            str(path),
            "nothing" if found is None else type(found).__name__,
            "a function grid(scale) that yields RunConfigs",
            "Let it yield each of them.",
        )
    return iter(found)


@contextlib.contextmanager
def _bounded(path: Path) -> Iterator[None]:
    """Turn whatever a grid's file raises into a sentence, and end what does not end by itself."""
    computes, waits = _seconds()
    try:
        with (
            _clock(signal.ITIMER_VIRTUAL, signal.SIGVTALRM, computes),
            _clock(signal.ITIMER_REAL, signal.SIGALRM, waits),
        ):
            yield
    except (UserError, KeyboardInterrupt):
        raise
    except _TooLong:
        raise OutsideFailure(
            str(path), f"it has not ended after {computes:g} s of computing, or {waits:g} s in all",
            f"Let grid(scale) end, or allow more: {SECONDS_VARIABLE}=600.",
        ) from None  # fmt: skip
    except SystemExit as error:
        raise OutsideFailure(
            str(path), f"it ends the program (SystemExit: {error})", "Let grid(scale) return instead."
        ) from error
    except BaseException as error:
        raise OutsideFailure(
            str(path), f"{type(error).__name__}: {error}", "See the traceback with --debug."
        ) from error


def _seconds() -> tuple[float, float]:
    asked = os.environ.get(SECONDS_VARIABLE, "")
    if not asked.strip():
        return COMPUTES_S, WAITS_S
    try:
        seconds = whole(asked)
    except Unreadable:
        seconds = 0
    if not 1 <= seconds <= 86_400:
        raise UserError(SECONDS_VARIABLE, asked, "a whole number of seconds from 1 to 86,400", "Correct or unset it.")
    return seconds, max(WAITS_S, seconds)


@contextlib.contextmanager
def _clock(timer: int, number: signal.Signals, seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in the main thread after some seconds; a timer that ran before goes on afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(number, late)
    begun, (left, every) = time.monotonic(), signal.setitimer(timer, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)
        if left:
            signal.setitimer(timer, max(0.001, left - (time.monotonic() - begun)), every)
