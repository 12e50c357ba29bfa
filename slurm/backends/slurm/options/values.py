"""Times, amounts of memory, numbers and truth as people and `sbatch` write them, read from text.

Nothing is guessed from a value's looks: a profile's scalars stay text until the field that they belong to reads them.
Each function returns what the field stores, or raises a ValueError whose message says what is allowed.
"""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

#: The forms of `sbatch --time`; what is missing in front counts nothing.
_TIMES = (
    re.compile(r"(?P<m>\d{1,8})"),
    re.compile(r"(?P<m>\d{1,8}):(?P<s>\d{1,8})"),
    re.compile(r"(?P<h>\d{1,8}):(?P<m>\d{1,8}):(?P<s>\d{1,8})"),
    re.compile(r"(?P<d>\d{1,8})-(?P<h>\d{1,8})(:(?P<m>\d{1,8})(:(?P<s>\d{1,8}))?)?"),
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME_FORMS = "minutes, or a time as sbatch has it: 90, 90:00 (minutes:seconds), 1:30:00, 1-12, 1-12:30 or 1-12:30:00"
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})\s*(?:([KMGT])i?B?)?", re.IGNORECASE)
_GIB = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}
_COUNT = re.compile(r"\+?[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}")
#: Characters of a text: a list of a thousand nodes is shorter.
LONGEST = 10_000
TRUE, FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})


def text(value: Any) -> Any:
    """One line of text; a number that a program gives is written out."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("one line of text; put it in quotes where it holds brackets, braces or a colon")
    line = str(value).strip()
    if len(line) > LONGEST:
        raise ValueError(f"one line of at most {LONGEST:,} characters")
    if any(character in line for character in "\n\r\0\x85\u2028\u2029"):
        raise ValueError("one line of text")
    return line


def text_or_none(value: Any) -> Any:
    """See `text`; nothing for what is empty."""
    return None if value is None else text(value) or None


def count(value: Any) -> Any:
    """A whole number, decimal whatever zeros it begins with; a sign or a limit is the field's own to refuse."""
    if isinstance(value, str):
        word = value.strip()
        if not word.isascii() or _COUNT.fullmatch(word.removeprefix("-")) is None:
            raise ValueError("an integer")
        return int(word)
    if isinstance(value, bool) or not (isinstance(value, int) or value is None):
        raise ValueError("an integer")
    return value


def minutes(value: Any) -> Any:
    """Whole minutes: seconds are rounded up to the next one, as SLURM does."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"an integer of {_TIME_FORMS}; a run that takes longer goes on in its next job")
    return -(-seconds // 60)


def fractional_minutes(value: Any) -> Any:
    """Minutes with decimals."""
    if isinstance(value, float) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        return float(value)
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"a number of {_TIME_FORMS}")
    return seconds / 60


def _seconds(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return 60 * value
    if not isinstance(value, str) or not value.isascii():
        return None
    word = value.strip()
    if word.startswith("-") and word[1:].isdigit():
        return 60 * int(word[:10])  # the field says which numbers it takes
    match = next((match for form in _TIMES if (match := form.fullmatch(word))), None)
    if match is None:
        return None
    return sum(_SECONDS[unit] * int(number) for unit, number in match.groupdict().items() if number)


def gib(value: Any) -> Any:
    """GiB from a number, or from a number with SLURM's suffix: 500M, 4G, 1.5T, 4GB."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and value.isascii() else None
    if match is None:
        raise ValueError("a number of GiB, or an amount with a unit: 500M, 4G, 1.5T")
    return float(match.group(1)) * _GIB[(match.group(2) or "G").upper()]


def megabytes(amount: float) -> str:
    """An amount in GiB as sbatch takes it; nothing asks for no memory, which to SLURM would mean all of it."""
    return "0" if amount == 0 else f"{max(1, math.ceil(amount * 1024 - 1e-6))}MB"


Text = Annotated[str, BeforeValidator(text)]
OptionalText = Annotated[str | None, BeforeValidator(text_or_none)]
Count = Annotated[int, BeforeValidator(count)]
Minutes = Annotated[int, BeforeValidator(minutes), Field(le=525_600 * 10)]
FractionalMinutes = Annotated[float, BeforeValidator(fractional_minutes), Field(allow_inf_nan=False)]
Gib = Annotated[float, BeforeValidator(gib), Field(allow_inf_nan=False, le=2.0**20)]
