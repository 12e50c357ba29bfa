"""What is wrong with a profile, in one sentence that names the place, the value, what is allowed and the way out."""

import difflib
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slurm.backends.slurm.options.reading import Place
from slurm.errors import ClusterError


class Sentence(ValueError):
    """Says all that is to be said of a value."""


def said(check: Callable[[Any], Any], value: Any) -> Any:
    """What a check makes of a value; what it raises is a whole sentence."""
    try:
        return check(value)
    except ValueError as error:
        raise Sentence(str(error)) from None


def worded(
    error: ValidationError, path: Path, origins: Mapping[Place, str], keys: Callable[[bool], list[str]]
) -> ClusterError:
    """The first thing that is wrong with a profile, as one sentence.

    Args:
        error: of the schema.
        path: the profile's file.
        origins: place -> where its value was given, as the beginning of a sentence.
        keys: the known keys, of a group or of the whole.
    """
    first = error.errors()[0]
    place: Place = first["loc"]
    where = ".".join(str(part) for part in place) or "profile"
    known_at = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in origins), ())
    origin = origins.get(known_at, f"{path.name}: ")
    named = f"{origin}{where}" if place else path.name
    fix = "Correct it and run the command again."
    if first["type"] == "extra_forbidden":
        known = keys(place[0] == "groups")
        close = difflib.get_close_matches(str(place[-1]), known, n=1)
        fix = f"Did you mean {close[0]}?" if close else f"Remove it from {path.name} or the command."
        return ClusterError(named, _short(first["input"]), "the keys " + ", ".join(known), fix)
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Sentence) or not place:
        whole = str(cause) if isinstance(cause, Sentence) else f"{message}. {fix}"
        return ClusterError(named, message, message, fix, f"{named if not place else origin.rstrip(': ')}: {whole}")
    return ClusterError(named, _short(first["input"]), message, fix)


def _short(value: Any) -> Any:
    """A value as a sentence can hold it: aliases may unfold to much."""
    return value[:200] if isinstance(value, str) else value if isinstance(value, int | float | None) else _Shown(value)


class _Shown:
    """Something shown by its beginning."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return reprlib.repr(self.value)
