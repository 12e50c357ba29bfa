"""The one error a user sees: a sentence that names the field, the value, what is allowed and the way out."""


class UserError(Exception):
    """Bad input from outside; the command line prints it as one sentence and exits with code 2.

    Args:
        field: the setting, argument or file that is wrong.
        value: what was given.
        allowed: what would have been accepted.
        fix: what to do now.
        sentence: the whole sentence where the usual form would not read well.
    """

    def __init__(self, field: str, value: object, allowed: str, fix: str, sentence: str | None = None) -> None:
        self.field, self.value, self.allowed, self.fix, self.sentence = field, value, allowed, fix, sentence
        super().__init__(sentence or f"{field}: {value!r} is not valid; allowed: {allowed}. {fix}")

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, object, str, str, str | None]]:
        """By all its arguments, so that it survives the way out of another process."""
        return type(self), (self.field, self.value, self.allowed, self.fix, self.sentence)


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is saved and a later start goes on from it."""


class NumericalError(Exception):
    """A loss or an architecture parameter is no longer finite.

    Args:
        stage: `search` or `retrain`.
        epoch, step: where it was seen.
        tensor: the name of the first tensor that is not finite.
    """

    def __init__(self, stage: str, epoch: int, step: int, tensor: str) -> None:
        self.stage, self.epoch, self.step, self.tensor = stage, epoch, step, tensor
        super().__init__(
            f"{stage}: {tensor} is not finite at epoch {epoch}, step {step}; the state is saved. "
            "Lower the learning rate, or use amp=none."
        )
