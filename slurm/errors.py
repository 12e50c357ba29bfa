"""The job layer's one error for people: what is wrong, what was given, what is allowed, what to do."""


class ClusterError(Exception):
    """Something outside the program forbids the step: a profile key, a held lock, a missing scheduler.

    Args:
        field: the setting, file or command that is wrong.
        value: what was given or found.
        allowed: what would have been accepted.
        fix: what to do now.
        sentence: the whole sentence where the error is no invalid value, such as a command that fails.
    """

    def __init__(self, field: str, value: object, allowed: str, fix: str, sentence: str | None = None) -> None:
        self.field, self.value, self.allowed, self.fix = field, value, allowed, fix
        super().__init__(sentence or f"{field}: {value!r} is not valid; allowed: {allowed}. {fix}")
