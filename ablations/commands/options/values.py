"""What options take: numbers with bounds and paths, read as settings are, refused in one sentence that names the
option, the value and what is allowed."""

import os
from pathlib import Path
from typing import Any

import click

from cscdarts.errors import UserError

#: What Linux takes as a path and as one name in it, in bytes.
LONGEST_PATH, LONGEST_NAME = 4095, 255
#: Runs or jobs at once that can be asked for; a scheduler's own limits are far below.
MOST_PARALLEL = 100_000


class Whole(click.IntRange):
    """A whole number within bounds, in ASCII digits."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(min=low, max=high)
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Errors:
            UserError: it is none, or out of bounds.
        """
        from cscdarts.settings.values import Unreadable, whole

        try:
            number = whole(value)
        except Unreadable:
            raise _refused(param, ctx, value, self.allowed) from None
        if not self.low <= number <= self.high:
            raise _refused(param, ctx, value, self.allowed)
        return number

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return f"a whole number from {self.low:,} to {self.high:,}"


class WholeOrAll(Whole):
    """A whole number within bounds, or the word `all`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or `all`.

        Errors:
            UserError: see `Whole`.
        """
        return value if value == "all" else super().convert(value, param, ctx)

    @property
    def allowed(self) -> str:
        """See `Whole`."""
        return f"{super().allowed}, or all"


class Positive(click.FloatRange):
    """A finite number above 0, at most `max`."""

    def __init__(self, high: float) -> None:
        super().__init__(min=0, max=high, min_open=True)
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number.

        Errors:
            UserError: it is none, or out of bounds.
        """
        from cscdarts.settings.values import Unreadable, real

        try:
            number = real(value)
        except Unreadable:
            number = 0.0
        if not 0 < number <= self.high:
            raise _refused(param, ctx, value, f"a number above 0 and at most {self.high:,g}")
        return number


class PathName(click.Path):
    """A path that a file system can hold, whether or not something is there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path.

        Errors:
            UserError: it is empty, too long, or holds control characters.
        """
        text = os.fspath(value)
        wrong = unusable_path(text)
        if wrong:
            raise _refused(param, ctx, text, f"the path of a file or folder, which {wrong}")
        return Path(text)


class Line(click.ParamType[str]):
    """One line of text without control characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text.

        Errors:
            UserError: it is too long, or holds control characters or halves of characters.
        """
        from cscdarts.settings.values import Unreadable, text

        try:
            return text(value)
        except Unreadable as error:
            raise _refused(param, ctx, value, str(error)) from None


def unusable_path(text: str) -> str:
    """What a path must be and this one is not; "" where a file system can hold it."""
    if not text.strip():
        return "is not empty (. is this folder)"
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        return "holds no control characters"
    if len(os.fsencode(text)) > LONGEST_PATH:
        return f"has at most {LONGEST_PATH} bytes"
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(text).parts):
        return f"has names of at most {LONGEST_NAME} bytes"
    return ""


def _refused(param: click.Parameter | None, ctx: click.Context | None, value: Any, allowed: str) -> UserError:
    name = "value" if param is None else param.opts[0] if isinstance(param, click.Option) else param.make_metavar(ctx)  # type: ignore[arg-type]
    where = "Correct it." if ctx is None else f"See `{ctx.command_path} --help`."
    return UserError(name, value, allowed, where)
