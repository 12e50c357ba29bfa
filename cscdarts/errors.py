"""The one error a user sees: a sentence that names the field, the value, what is allowed and the way out."""


class UserError(Exception):
    """Bad input from outside; the command line prints it as one sentence and exits with code 2.

    Args:
        field: the setting, argument or file that is wrong.
        value: what was given.
        allowed: what would have been accepted.
        fix: what to do now.
    """

    def __init__(self, field: str, value: object, allowed: str, fix: str) -> None:
        self.field, self.value, self.allowed, self.fix = field, value, allowed, fix
        super().__init__(f"{field}: {value!r} is not possible; allowed: {allowed}. {fix}")
