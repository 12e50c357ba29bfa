"""The errors a user sees: each is one sentence that names what is wrong and the way out."""

import re
import reprlib
from typing import Any

#: Of a value as much is shown as a sentence can hold.
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 200
_SHOWN.maxtuple = _SHOWN.maxlist = _SHOWN.maxdict = 12


def shown(value: object) -> str:
    """A value as `repr` writes it, of a long one its two ends; of what has no text of its own its type."""
    try:
        text = _SHOWN.repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        return f"a {type(value).__name__} too long to show"
    return f"a value of type {type(value).__name__}" if re.search(" at 0x[0-9a-f]+>", text) else text


def _without_number(reason: str) -> str:
    """What the system said, without its number."""
    return re.sub(r"\[Errno -?[0-9]+\] ", "", reason)


class UserError(Exception):
    """An invalid value from outside; the command line prints the sentence and exits with code 2.

    Args:
        field: the setting, argument or file that is wrong.
        value: what was given.
        allowed: what would have been accepted.
        fix: what to do now.
        sentence: the whole sentence where the usual form would not read well.
    """

    def __init__(self, field: str, value: object, allowed: str, fix: str, sentence: str | None = None) -> None:
        self.field, self.value, self.allowed, self.fix = field, value, allowed, fix
        super().__init__(sentence or f"{field}: {shown(value)} is not valid; allowed: {allowed}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        """By its sentence and attributes, so that it survives the way out of another process."""
        return _restored, (type(self), str(self), self.__dict__)


def _restored(kind: type[UserError], sentence: str, attributes: dict[str, Any]) -> UserError:
    error = kind.__new__(kind)
    Exception.__init__(error, sentence)
    error.__dict__.update(attributes)
    return error


class MissingFile(UserError):
    """A file, folder or part of one that is not there.

    Args:
        where: the file or folder.
        fix: what to do now.
        lacks: what the folder or file does not hold; "" where it is itself missing.
    """

    def __init__(self, where: object, fix: str, lacks: str = "") -> None:
        sentence = f"{where} has no {lacks}. {fix}" if lacks else f"There is no {where}. {fix}"
        super().__init__(str(where), lacks or "missing", lacks or "an existing path", fix, sentence)


class BrokenFile(UserError):
    """A file that is there and cannot be used.

    Args:
        path: the file.
        reason: what is wrong with it.
        wanted: what it should be.
        fix: what to do now.
    """

    def __init__(self, path: object, reason: str, wanted: str, fix: str) -> None:
        reason = _without_number(reason)
        super().__init__(str(path), reason, wanted, fix, f"{path} is not {wanted}: {reason}. {fix}")


class CannotWrite(UserError):
    """A place that cannot be written.

    Args:
        field: the option that named it.
        path: the place.
        error: what the system said.
    """

    def __init__(self, field: str, path: object, error: OSError) -> None:
        reason, fix = error.strerror or str(error), f"Choose another place with {field}."
        super().__init__(
            field, str(path), "a place that can be written", fix, f"{path} cannot be written: {reason}. {fix}"
        )


class HeldByAnother(UserError):
    """Something that another process works on.

    Args:
        what: what is wanted.
        owner: who has it, and since when.
        fix: what to do now.
    """

    def __init__(self, what: str, owner: str, fix: str) -> None:
        super().__init__(what, owner, "one process at a time", fix, f"{what} is held by {owner}. {fix}")


class OutsideFailure(UserError):
    """Something outside the program that failed: a download, a store, a user's own file.

    Args:
        what: what was tried.
        reason: what it said.
        fix: what to do now.
    """

    def __init__(self, what: str, reason: str, fix: str) -> None:
        reason = _without_number(reason)
        super().__init__(what, reason, "an answer", fix, f"{what} failed: {reason.rstrip('.')}. {fix}")


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is saved and a later start goes on from it."""


class NumericalError(Exception):
    """A loss, a gradient, a parameter or a running statistic is no longer finite.

    Args:
        stage: `search` or `retrain`.
        epoch, step: where it was seen.
        tensor: the name of the first tensor that is not finite.
    """

    def __init__(self, stage: str, epoch: int, step: int, tensor: str) -> None:
        self.stage, self.epoch, self.step, self.tensor = stage, epoch, step, tensor
        lower, section = (
            ("search.lr or search.alpha_lr", "search") if stage == "search" else ("evaluation.lr", "evaluation")
        )
        verb = "are" if tensor.startswith(("running statistics", "logits")) else "is"
        super().__init__(
            f"{stage}: {tensor} {verb} not finite at epoch {epoch}, step {step}; the state is saved. "
            f"Lower {lower}, or use {section}.amp=none."
        )
