"""The split ratio: which share of a node's channels goes to operation selection."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from cscdarts.settings.values import real

_PARTS = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")


def _ratio(value: object) -> object:
    """Read `1/4`, `0.25` or `1`; a decimal is taken as the nearest fraction with a denominator up to 16."""
    try:
        if isinstance(value, str) and (parts := _PARTS.fullmatch(value.strip())):
            exact = Fraction(int(parts[1]), int(parts[2]))
        else:
            exact = value if isinstance(value, Fraction) else Fraction(real(value))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError("a fraction such as 1/4 or a number such as 0.25") from error
    nearest = exact.limit_denominator(16)
    if abs(nearest - exact) > Fraction(1, 1000):
        raise ValueError("a ratio whose denominator is at most 16")
    if not 0 < nearest <= 1:
        raise ValueError("a ratio above 0 and at most 1")
    return nearest


Ratio = Annotated[
    Fraction,
    BeforeValidator(_ratio),
    PlainSerializer(str, return_type=str),
    Field(description="a fraction such as 1/4 or a number such as 0.25"),
]


def split_channels(channels: int, ratio: Fraction) -> int:
    """How many of `channels` go to operation selection: max(2, 2*floor(r*c/2)), and all of them at r = 1."""
    return channels if ratio == 1 else max(2, 2 * int(ratio * channels / 2))
