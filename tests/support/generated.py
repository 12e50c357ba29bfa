"""Generated input: values that people and programs get wrong, how many of them are tried, and what must hold of each.

`CSCDARTS_HYPOTHESIS=thorough` tries many more of them; it prints how many there were and what became of them with
`pytest -s`.
"""

import contextlib
import io
import math
import os
import signal
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

THOROUGH = os.environ.get("CSCDARTS_HYPOTHESIS") == "thorough"
#: No input may take longer, in seconds; nothing here is timed otherwise.
LONGEST_S = 10
LONG = "7" * 100_000
#: Texts that mean nothing as a number, a word or a path, or mean something else than they look like.
TEXTS = (
    "", " ", "-", "nan", "-nan", "inf", "-inf", "Infinity", "1e999999999", "1e-999999999", "1e309", "-1e400", "1e-400",
    "1e31", "1e-31", "²", "٣", "１２", "½", "1/0", "0/0", "1/3/5", "1e5", "1_000", "0x10", "0b1", "1,5", "1,,2", ",",
    "5.5", "-0.0", "-1", "+3", "true", "null", "None", "[]", "{}", "[1]", '{"a": 1}', "~", "é", "\u202e1", "\ud800",
    "a\0b", "a\nb", "\x1b[31m", "$(id)", "../..", "%s{0}", "9" * 25, "9" * 5000, LONG, "1/" + "9" * 5000,
    "0." + "3" * 5000,
)  # fmt: skip
#: The same for what a Python file or JSON holds.
OBJECTS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 10**9, 10**25, 10**400, 0.0, -0.0, 0.5, 1.5, -1.5, math.nan, math.inf, -math.inf,
    1e308, 5e-324, Fraction(1, 3), 1j, b"1", (), [], {}, [1, 2], [[]], {"a": {"b": 1}}, {1, 2}, object(), int,
    ["x"] * 10_000,
)  # fmt: skip


def generated(examples: int) -> settings:
    """How a generated test runs: the same inputs each time, ten times as many if thorough."""
    return settings(
        max_examples=examples * (10 if THOROUGH else 1), derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Texts that are wrong in some way, mostly."""
    numbers = st.one_of(st.integers().map(str), st.floats().map(repr), st.fractions().map(str))
    return st.one_of(st.sampled_from(TEXTS), numbers, st.text(max_size=20), st.text("0123456789.eE+-/_²٣", max_size=12))


def objects() -> st.SearchStrategy[Any]:
    """What Python or JSON may hold, mostly wrong."""
    leaves = st.one_of(st.sampled_from(OBJECTS[:-4]), texts(), st.integers(), st.floats(), st.booleans(), st.none())
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )  # fmt: skip


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """Fail where something does not end."""

    def late(*_: object) -> None:
        raise AssertionError(f"it has not ended after {LONGEST_S} s of computing")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def require_sentence(text: str, *names: str) -> None:
    """One sentence or a few, of a length that is read, without the program's own words, with one of some names."""
    assert not names or any(name[:100] in text for name in names), text
    assert 20 < len(text) < 2_000, text[:3_000]
    assert not any(unicodedata.category(sign) == "Cc" for sign in text), text
    for word in ("Traceback", "object at 0x", "NoneType", "JSON compliant", "Errno"):
        assert word not in text, text


class Started(BaseException):
    """A command has found its input good and begins its work."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command: `accepted`, `started`, `refused` or `code N`, and what it said."""

    kind: str
    out: str
    err: str


def outcome(words: list[str], folder: Path, encoding: str = "utf-8") -> Outcome:
    """Run the command line in this process, in a folder that a refusal must leave as it is.

    A test fails where something is unexpected, does not end, fails on an encoding or writes before it refuses.
    """
    from ablations import cli

    before = tree(folder)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    kind, here = "started", Path.cwd()
    os.chdir(folder)
    try:
        with ends(), contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            try:
                cli.main(words)
            except SystemExit as end:
                kind = {0: "accepted", 2: "refused"}.get(end.code, f"code {end.code}")  # type: ignore[arg-type]
            except Started:
                pass
    finally:
        os.chdir(here)
    out, err = (_written(stream, encoding) for stream in streams)
    lines = [line for line in err.splitlines() if line.strip()]
    if kind == "refused":
        assert lines, words
        assert lines[-1].startswith("cscdarts: "), err
        require_sentence(lines[-1])
        assert len(set(lines)) == len(lines), err
        assert tree(folder) == before, (words, set(tree(folder)) ^ set(before))
    assert "cscdarts: unexpected" not in err, (words, err)
    return Outcome(kind, out, err)


def _written(stream: io.TextIOWrapper, encoding: str) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(encoding)


def tree(folder: Path) -> list[str]:
    """All that lies in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class Tally:
    """Counts what became of inputs, and says it at the end of a thorough run."""

    def __init__(self, surface: str) -> None:
        self.surface, self.counts = surface, Counter[str]()

    def note(self, kind: str) -> None:
        """One more of a kind."""
        self.counts[kind] += 1

    def tell(self) -> None:
        """Print the counts where somebody asked for them."""
        if THOROUGH:
            print(f"\n{self.surface}: {sum(self.counts.values())} inputs, {dict(self.counts)}", file=sys.stderr)


def tallied(surface: str) -> Callable[[], Iterator[Tally]]:
    """A fixture of a module that counts what became of its inputs."""

    @pytest.fixture(scope="module")
    def tally() -> Iterator[Tally]:
        counted = Tally(surface)
        yield counted
        counted.tell()

    return tally
