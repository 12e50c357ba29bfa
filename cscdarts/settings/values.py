"""What a number, a truth and a text may be, wherever it is given: in a setting, an option, a grid or a file. No torch.

One place turns what is given into a value, before any field's own bounds are asked: digits are ASCII, a number is
finite and single precision can hold it, a truth is no number and a number no truth, a text has an end and no control
characters. Nothing here takes longer or more memory than its input is long.
"""

import math
import numbers
import re
import types
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

#: A number that is not 0 has a size between these: single precision, in which is computed, holds no others for long.
SMALLEST, LARGEST = 1e-30, 1e30
#: Characters of a text, and of the text of a number.
LONGEST_TEXT, LONGEST_NUMBER = 10_000, 100
_WHOLE = re.compile(r"([+-]?[0-9]{1,30})(?:\.0*)?")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
#: Kind -> its name in sentences.
_WORDS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false"}

Reader = Callable[[Any], Any]
#: A decay rate of a running mean; a data set's fingerprint; where tensors lie.
Beta = Annotated[float, Field(ge=0, lt=1)]
Fingerprint = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$", description="16 hexadecimal digits")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$", description="auto, cpu, cuda or cuda:N")]


class Unreadable(ValueError):
    """What is given is no value of its kind; the message says what would be.

    Args:
        exact: whether the message says more than the kind.
    """

    def __init__(self, message: str, exact: bool = False) -> None:
        self.exact = exact
        super().__init__(message)


def whole(value: Any) -> int:
    """A whole number from a number or its text.

    Errors:
        Unreadable: it is none.
    """
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER:
        match = _WHOLE.fullmatch(value.strip())
        if match is not None:
            return int(match.group(1))
    elif isinstance(value, bool):
        raise Unreadable(_WORDS[int])
    elif isinstance(value, numbers.Integral) or (
        isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    ):
        return int(value)
    raise Unreadable(_WORDS[int])


def real(value: Any) -> float:
    """A finite number from a number or its text; there is one zero, without a sign.

    Errors:
        Unreadable: it is none, or of a size that single precision cannot hold.
    """
    if type(value) is float and (SMALLEST <= value <= LARGEST or -LARGEST <= value <= -SMALLEST):
        return value
    try:
        if isinstance(value, str):
            word = value.strip()
            if len(word) > LONGEST_NUMBER or _REAL.fullmatch(word) is None:
                raise Unreadable(_WORDS[float])
            number, zero = float(word), not re.search("[1-9]", re.split("[eE]", word)[0])
        elif isinstance(value, bool):
            raise Unreadable(_WORDS[float])
        elif isinstance(value, numbers.Real):
            number, zero = float(value), value == 0
        else:
            raise Unreadable(_WORDS[float])
    except OverflowError:
        number, zero = math.inf, False
    if number != number or not (zero or SMALLEST <= abs(number) <= LARGEST):
        raise Unreadable(f"a finite number: 0, or of a size between {SMALLEST:.0e} and {LARGEST:.0e}", exact=True)
    return number + 0.0


def truth(value: Any) -> bool:
    """A truth from itself, 0, 1 or a word.

    Errors:
        Unreadable: it is none.
    """
    if type(value) is bool:
        return value
    found = _TRUTHS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if found is None:
        raise Unreadable(_WORDS[bool])
    return found


def text(value: Any, lines: bool = False) -> str:
    """A text as it is given.

    Args:
        lines: whether it may have several lines.

    Errors:
        Unreadable: it is none, is too long, or holds control characters or halves of characters.
    """
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise Unreadable(f"a text of at most {LONGEST_TEXT:,} characters", exact=isinstance(value, str))
    if not value.isprintable():
        allowed = "\n\r\t" if lines else ""
        if any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in allowed for sign in value):
            raise Unreadable("a text without control characters" + ("" if lines else ", on one line"), exact=True)
    return value


def reader(annotation: Any, lines: bool = False) -> Reader:
    """The function that turns what is given into what a field with this annotation may be asked about."""
    if get_origin(annotation) is Annotated:
        return reader(get_args(annotation)[0], lines)
    if get_origin(annotation) in (Union, types.UnionType):
        return _any_of({_bare(part): reader(part, lines) for part in get_args(annotation)})
    if get_origin(annotation) is Literal:
        return _one_of(get_args(annotation))
    if get_origin(annotation) is tuple:
        return _each(reader(get_args(annotation)[0]))
    simple: dict[Any, Reader] = {
        int: whole, float: real, bool: truth, str: lambda value: text(value, lines), type(None): _nothing,
    }  # fmt: skip
    return simple.get(annotation, lambda value: value)


def _nothing(value: Any) -> None:
    if value is not None:
        raise Unreadable("null")


def _one_of(words: tuple[Any, ...]) -> Reader:
    known = {(type(word), word) for word in words}

    def read(value: Any) -> Any:
        if isinstance(value, str | int) and (type(value), value) in known:
            return value
        raise Unreadable(_listed([str(word) for word in words]))

    return read


def _any_of(readers: dict[Any, Reader]) -> Reader:
    def read(value: Any) -> Any:
        own = readers.get(type(value))
        if own is not None:
            return own(value)
        reason: Unreadable | None = None
        for one in readers.values():
            try:
                return one(value)
            except Unreadable as error:
                reason = error if reason is None or error.exact else reason
        assert reason is not None
        raise reason

    return read


def _each(one: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Unreadable("values with commas between")
        return tuple(map(one, value[: LONGEST_TEXT + 1]))

    return read


def allowed(field: FieldInfo) -> str:
    """What a field takes, in words: its kind and its bounds."""
    if field.description:
        return field.description
    words = _kinds(field.annotation)
    bounds = {name: getattr(mark, name) for mark in field.metadata for name in _BOUNDS if hasattr(mark, name)}
    span = _span(bounds, _WORDS[int] in words)
    if not span:
        return words
    if "le" not in bounds and "lt" not in bounds:
        words = words.replace("a number", "a finite number")
    return next(
        (words.replace(kind, f"{kind} {span}", 1) for kind in ("whole number", "number") if kind in words), words
    )


_BOUNDS = ("ge", "gt", "le", "lt")


def _span(bounds: dict[str, Any], whole_numbers: bool) -> str:
    low = next((f"{word} {_plain(bounds[name])}" for name, word in (("ge", "of at least"), ("gt", "above"))
                if name in bounds), "")  # fmt: skip
    high = next((f"{word} {_plain(bounds[name])}" for name, word in (("le", "at most"), ("lt", "below"))
                 if name in bounds), "")  # fmt: skip
    last = bounds["lt"] - 1 if isinstance(bounds.get("lt"), int) else bounds.get("le")
    if "ge" in bounds and last is not None and (whole_numbers or "le" in bounds):
        return f"from {_plain(bounds['ge'])} to {_plain(last)}"
    return " and ".join(part for part in (low, high) if part)


def _plain(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _kinds(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(parts[0])
    if origin is Literal:
        return _listed([str(part) for part in parts])
    if origin is tuple:
        one = {str: "names", float: "numbers"}.get(_bare(parts[0]), "values")
        return f"{one} with commas between" if parts[-1] is Ellipsis else f"{len(parts)} {one} with a comma between"
    if origin in (Union, types.UnionType):
        return ", or ".join("null" if part is type(None) else _kinds(part) for part in parts)
    return _WORDS.get(annotation, f"a text of at most {LONGEST_TEXT:,} characters without control characters")


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _listed(words: list[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


class Frozen(BaseModel):
    """Base of all configuration: immutable, unknown keys are refused, and each field is read by `reader`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="strings")

    @field_validator("*", mode="before")
    @classmethod
    def _readable(cls, value: Any, info: ValidationInfo) -> Any:
        return _reader_of(cls, info.field_name)(value)


@cache
def _reader_of(model: type[BaseModel], field: str | None) -> Reader:
    # Only a cell's text has several lines.
    return reader(model.model_fields[str(field)].annotation, lines=field == "genotype")
