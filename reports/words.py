"""Numbers in sentences: singular and plural, and signs said in words."""

from reports.statistics import Interval


def counted(n: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`, `1,024 runs`.

    Args:
        many: the plural where it is not `one` with an s.
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def verb(n: int, one: str, many: str) -> str:
    """The form that goes with `n` things: `is` or `are`."""
    return one if n == 1 else many


def compared(value: float, digits: int, more: str, less: str, same: str) -> str:
    """A difference with its sign in words: `0.65 points more`; `same` where it is printed as 0.

    Args:
        more, less: what stands behind a number above and below 0.
    """
    text = f"{abs(value):.{digits}f}"
    return same if float(text) == 0 else f"{text} {more if value > 0 else less}"


def span(interval: Interval, digits: int, more: str = "more", less: str = "less") -> str:
    """An interval of a difference: `0.21 less to 1.10 more`, `0.06 to 1.10 more`."""
    if interval.high < 0:  # the smaller difference first, as where both are above 0
        interval = Interval(interval.high, interval.low)
    low, high = (compared(end, digits, more, less, "0") for end in (interval.low, interval.high))
    word = high.partition(" ")[2]
    return f"{low.removesuffix(f' {word}') if word else low} to {high}"
