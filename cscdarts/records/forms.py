"""The form of each file that a run leaves: which keys it must have and of which types. No torch.

Only what some reader relies on is asked for, and what version 0.1.0 wrote passes. A file of another form is damaged:
nothing in it is believed, and it is never overwritten.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Numbers beyond this are no times, epochs or counts; a float holds all of them.
MOST = 2.0**63

#: What is wrong with a value, as the predicate of a sentence; None where nothing is.
Check = Callable[[Any], str | None]


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {shown(value)}, not a text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a character"
    return None


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"is {shown(value)}, not a number"
    return None if -MOST < value < MOST else f"is {shown(value)}, not a number within bounds"


def _score(value: Any) -> str | None:
    """A measured number, which may be missing or not finite."""
    if value is None or (isinstance(value, float) and not -MOST < value < MOST):
        return None
    return _number(value)


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else f"is {shown(value)}, not an object"


def _objects(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"is {shown(value)}, not a list"
    return next((f"holds {shown(one)}, not objects only" for one in value if not isinstance(one, dict)), None)


def _scores(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"is {shown(value)}, not an object of numbers"
    return next((f"has {key} which {why}" for key, one in value.items() if (why := _score(one))), None)


def _result(value: Any) -> str | None:
    why = _scores(value)
    if why is None and _number(value.get("test_error_pct")) is not None:
        return f"has {shown(value.get('test_error_pct'))} as test_error_pct"
    return why


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def shown(value: Any) -> str:
    """A value in a few words, whatever it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f"the text {value[:20].encode('ascii', 'backslashreplace').decode()!r}"
    if isinstance(value, int) and not -MOST < value < MOST:
        return "a number of very many digits"
    return "null" if value is None else str(value)


@dataclass(frozen=True)
class Form:
    """A file's form.

    Attributes:
        needed, allowed: key -> check of its value; other keys are passed over.
    """

    needed: Mapping[str, Check]
    allowed: Mapping[str, Check] = field(default_factory=dict)

    def problem(self, value: Any) -> str | None:
        """What is wrong with a file's content; None where it has the form."""
        if not isinstance(value, dict):
            return f"it holds {shown(value)} in place of an object"
        for key, check in {**self.needed, **self.allowed}.items():
            if key not in value:
                if key in self.needed:
                    return f"it has no {key}"
            elif (why := check(value[key])) is not None:
                return f"its {key} {why}"
        return None


_TIMES = {"finished_at": _number}
_DATA = {"data": _object}

#: File -> its form.
FORMS: Mapping[str, Form] = {
    "config.json": Form(
        {"seed": _number, **dict.fromkeys(("data", "supernet", "search", "evaluation", "runtime", "labels"), _object)}
    ),
    "environment.json": Form({}, {"starts": _objects, "first_started_at": _optional(_score)}),
    "search.json": Form(
        {"values": _scores},
        {"key": _text, "genotype": _text, "candidate_error_pct": _score, **_DATA, **_TIMES},
    ),
    "genotype.json": Form(
        {"text": _text},
        {
            "space": _text, "search": _text, "rule": _text, "why": _text, "epoch": _number, "seed": _number,
            "values": _scores,
        },
    ),
    "check.json": Form({"benchmark": _object, "datasets": _object}),
    "result.json": Form(
        {"values": _result}, {"key": _text, "hash": _text, "genotype": _text, "seed": _number, **_DATA, **_TIMES}
    ),
    "failure.json": Form(
        {"stage": _text, "kind": _text, "message": _text, "time": _number}, {"traceback": _text}
    ),
    "key.json": Form({"stage": _text}),
    "grid.json": Form(
        {},
        {
            "scale": _text, "overrides": _object, "runs": _objects, "fingerprints": _object, "commit": _optional(_text),
            "created_at": _number,
        },
    ),
}  # fmt: skip


def is_metric_line(value: Any) -> bool:
    """Whether a value is a line of metrics: `{"stage": TEXT, "epoch": INT, "time": NUMBER, "values": {NAME: NUMBER}}`.

    Lines of other forms are passed over, as torn ones are.
    """
    if not (isinstance(value, dict) and is_epoch(value.get("epoch")) and isinstance(value.get("stage"), str)):
        return False
    return _scores(value.get("values")) is None


def is_alpha_line(value: Any) -> bool:
    """Whether a value is a line of architecture parameters: `{"epoch": INT, "alpha": {KIND: [[NUMBER]]}}`, and
    `"beta": {KIND: [NUMBER]}` where edges have weights of their own."""
    if not (isinstance(value, dict) and is_epoch(value.get("epoch")) and isinstance(value.get("alpha"), dict)):
        return False
    beta = value.get("beta", {})
    return (
        all(_are_rows(rows) for rows in value["alpha"].values())
        and isinstance(beta, dict)
        and all(_are_rows([numbers]) for numbers in beta.values())
    )


def is_epoch(value: Any) -> bool:
    """Whether a value is the number of an epoch, counted from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def _are_rows(rows: Any) -> bool:
    if not isinstance(rows, list) or not rows:
        return False
    return all(isinstance(row, list) and row and all(_number(one) is None for one in row) for row in rows)
