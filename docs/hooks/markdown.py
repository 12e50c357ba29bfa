"""Markdown from values: tables and texts whose signs mean nothing to Markdown."""

import re
from collections.abc import Iterable, Sequence

#: What stands where nothing is known.
DASH = "–"
_CODE = re.compile(r"(`[^`]*`)")


def escaped(text: object) -> str:
    """A text on one line, its signs escaped; what stands in backticks stays code, without bars, which part columns."""
    line = " ".join(str(text).split())
    parts = _CODE.split(line)
    plain = [re.sub(r"([\\*_\[\]|])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    code = [part.replace("|", "¦") for part in parts[1::2]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


def code(text: object) -> str:
    """A value as code; a dash for nothing."""
    line = " ".join(str(text).split())
    return f"`{line}`" if line else DASH


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table; cells are Markdown already.

    Args:
        numbers: the columns that hold numbers, set to the right.
    """
    right = set(numbers)
    rule = ["--:" if place in right else "---" for place in range(len(heads))]
    lines = [heads, rule, *([cell or DASH for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
