"""What a JSON file lacks, named key by key."""

from typing import Any

from pydantic import BaseModel, ValidationError

#: So many places are named; a file of another kind lacks every key.
MOST_NAMED = 6


def problem(model: type[BaseModel], content: Any) -> str | None:
    """What keeps a file's content from having a form, as a sentence's predicate: `it lacks settings[0].anchor`.

    Args:
        model: the form.
        content: what the file holds.
    """
    try:
        model.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    else:
        return None
    if not isinstance(content, dict):
        return f"it holds {type(content).__name__} in place of an object"
    lacking = [_place(one["loc"]) for one in found if one["type"] == "missing"]
    wrong = [f"{_place(one['loc'])}: {one['msg']}" for one in found if one["type"] != "missing"]
    parts = [f"it lacks {_listed(lacking)}"] if lacking else []
    parts += [f"it has other values at {_listed(wrong)}"] if wrong else []
    return "; ".join(parts)


def _place(path: tuple[int | str, ...]) -> str:
    """`settings[0].runs[1].seed`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
