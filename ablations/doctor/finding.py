"""What a check finds: a sentence that is good, weak or bad, with the way out; and what else it has to say. Imports
nothing."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["good", "weak", "bad"]
LEVELS: tuple[Level, ...] = ("good", "weak", "bad")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        level: `good`, nothing to do; `weak`, runs go on and something is lost; `bad`, runs will fail.
        subject: what was looked at, in a word or two.
        sentence: what was found.
        way_out: what to do about it; "" where there is nothing to do.
    """

    level: Level
    subject: str
    sentence: str
    way_out: str = ""


@dataclass(frozen=True)
class Attachment:
    """A file for the bundle.

    Attributes:
        name: its path in the archive.
        text: its content; JSON where the name says so.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Named:
    """Names that tell who and where, which a bundle replaces.

    Attributes:
        kind: what they name: `host`, `user`, `account` or `group`; `secret` for what nobody is to see.
    """

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """What was asked for cannot be looked at: a sentence with the way out."""

    sentence: str


Piece = Finding | Attachment | Named | Refusal
_KINDS: dict[str, type[Piece]] = {kind.__name__: kind for kind in (Finding, Attachment, Named, Refusal)}


def good(subject: str, sentence: str, way_out: str = "") -> Finding:
    """Nothing to do."""
    return Finding("good", subject, sentence, way_out)


def weak(subject: str, sentence: str, way_out: str) -> Finding:
    """Runs go on, and something is lost."""
    return Finding("weak", subject, sentence, way_out)


def bad(subject: str, sentence: str, way_out: str = "") -> Finding:
    """Runs will fail; `way_out` may stand in the sentence of an error."""
    return Finding("bad", subject, sentence, way_out)


def counts(findings: Iterable[Finding]) -> dict[Level, int]:
    """How many are of each level."""
    levels = [finding.level for finding in findings]
    return {level: levels.count(level) for level in LEVELS}


def written(piece: Piece) -> dict[str, Any]:
    """A piece as plain data, to be read by `read`."""
    return {"piece": type(piece).__name__, **asdict(piece)}


def read(data: dict[str, Any]) -> Piece:
    """The piece that `written` wrote."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "piece"
    }
    return _KINDS[data["piece"]](**values)


def as_json(name: str, content: Any) -> Attachment:
    """A file of JSON; what JSON has no form for is written as text."""
    return Attachment(name, json.dumps(content, indent=1, sort_keys=True, default=str, allow_nan=True) + "\n")
