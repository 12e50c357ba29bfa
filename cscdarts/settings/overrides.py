"""`--set key=value`: apply overrides to a config by dotted path or by a leaf name that is unique. No torch."""

import difflib
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.values import Unreadable, allowed


def field_paths(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """All settable dotted paths of a config model, in declaration order."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paths += field_paths(kind, f"{prefix}{name}.")
        else:
            paths.append(f"{prefix}{name}")
    return paths


def resolve_key(key: str) -> str:
    """The dotted path for a key: itself, or the one path with that leaf name.

    Errors:
        UserError: no such key, or several sections have it.
    """
    paths = field_paths()
    if key in paths:
        return key
    same = [path for path in paths if path.rsplit(".", 1)[-1] == key]
    if len(same) == 1:
        return same[0]
    raise _unknown("--set", key)


def _unknown(field: str, key: object) -> UserError:
    """No such key, or several sections have it."""
    paths = field_paths()
    same = [path for path in paths if path.rsplit(".", 1)[-1] == key]
    if same:
        return UserError(field, key, " or ".join(same), "Name the section.")
    leaves = sorted({path.rsplit(".", 1)[-1] for path in paths} | set(paths))
    close = difflib.get_close_matches(str(key)[:100], leaves, n=3)
    return UserError(
        field,
        key,
        "a key that `cscdarts config` lists",
        f"Did you mean {' or '.join(close)}?" if close else "See it.",
    )


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Split `key=value` texts and resolve their keys; `profile=NAME` stands for the settings of that profile."""
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key:
            raise UserError("--set", assignment, "key=value", "For example: --set search.epochs=5")
        if key.strip() == "profile":
            if value.strip() not in PROFILES:
                raise UserError("--set profile", value.strip(), ", ".join(PROFILES), "Choose one of these.")
            parsed |= PROFILES[value.strip()]
        else:
            path = resolve_key(key.strip())
            if path in _NOT_SET:
                raise UserError("--set", path, "a setting of a run", _NOT_SET[path])
            parsed[path] = value.strip()
    return parsed


#: Fields that say what a stored config is, not what a run does.
_NOT_SET = {"schema_version": "The program writes it; leave it out."}


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A copy of `config` with dotted paths replaced, validated and with dependent defaults resolved again.

    Errors:
        UserError: no such path, a value out of range or an impossible combination.
    """
    data = config.model_dump(warnings=False)  # a copy holds what nobody has checked
    for path, value in values.items():
        if path not in _paths() and path not in data:
            raise _unknown("a setting", path)
        section = data
        *parents, leaf = path.split(".")
        for parent in parents:
            section = section[parent]
        section[leaf] = value if path in _texts() else _typed(value)
    changed = set(values)
    if "supernet.space" in changed and "supernet.ops" not in changed:
        data["supernet"]["ops"] = None
    if _other_length(config, values) and "search.alpha_warmup" not in changed:
        data["search"]["alpha_warmup"] = None
    if "seed" in changed and "evaluation.seed" not in changed:
        data["evaluation"]["seed"] = None
    return build(data)


def _other_length(config: RunConfig, values: Mapping[str, Any]) -> bool:
    """Whether some values give the search, or its stages, another length; presets name the stages that a run has."""
    stages = (name for name in ("stages", "stage_epochs") if f"search.{name}" in values)
    return "search.epochs" in values or any(
        str(values[f"search.{name}"]) != str(getattr(config.search, name)) for name in stages
    )


def build(data: Mapping[str, Any]) -> RunConfig:
    """Validate plain data into a `RunConfig`, or say in one sentence what is wrong."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise validation_sentence(error, "config") from None


def validation_sentence(error: ValidationError, root: str) -> UserError:
    """The first pydantic error as a `UserError`."""
    first = error.errors()[0]
    places = [str(part) for part in first["loc"]]
    known = next((path for n in range(len(places), 0, -1) if (path := ".".join(places[:n])) in _paths()), None)
    where, value = known or ".".join(places) or root, first.get("input")
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(places[-1][:100], [p.rsplit(".", 1)[-1] for p in field_paths()], n=1)
        return UserError(where, value, "only known keys", f"Did you mean {close[0]}?" if close else "Remove it.")
    if known is None and first["type"] == "value_error":
        # A rule over several fields: its message names fields, values, what is allowed and the way out.
        return UserError(where, "these values together", message, "", f"{where}: {message}.")
    cause = first.get("ctx", {}).get("error")
    if known is not None and (first["type"] != "value_error" or (isinstance(cause, Unreadable) and not cause.exact)):
        message = allowed(_field(known))
    elif known is None:
        message = "settings by their names, as `cscdarts config --json` prints them"
    return UserError(where, value, message, "Correct the value and run the command again.")


@functools.cache
def _paths() -> frozenset[str]:
    return frozenset(field_paths())


@functools.cache
def _texts() -> frozenset[str]:
    """The settings that are any text, commas included."""
    return frozenset(path for path in field_paths() if _field(path).annotation is str)


def _field(path: str) -> FieldInfo:
    *parents, leaf = path.split(".")
    model: Any = RunConfig
    for part in parents:
        model = model.model_fields[part].annotation
    field: FieldInfo = model.model_fields[leaf]
    return field


#: Texts that are names, in which no comma stands.
_NAMES = frozenset({"supernet.space", "runtime.device"})


def holds_commas(path: str) -> bool:
    """Whether commas are a part of a setting's value: it is a text (but for names), or a list."""
    return (path in _texts() and path not in _NAMES) or any(
        get_origin(part) is tuple for part in _parts(_field(path).annotation)
    )


def words_of(path: str) -> list[str]:
    """The values of a setting that takes one of some words, a truth, or null; nothing where any number or text may
    stand."""
    words: list[str] = []
    for part in _parts(_field(path).annotation):
        words += map(str, get_args(part)) if get_origin(part) is Literal else []
        words += ["true", "false"] if part is bool else ["null"] if part is type(None) else []
    return [] if words == ["null"] else words


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The kinds that a field may have."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for part in get_args(annotation) for inner in _parts(part))
    return (annotation,)


def _typed(value: Any) -> Any:
    """Turn command-line text into the types that validation expects; numbers stay text for the field to read."""
    if not isinstance(value, str):
        return value
    if value.lower() == "null":
        return None
    if "," in value:
        return tuple(part.strip() for part in value.split(","))
    return value


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths: `{"data": {"flip": True}}` gives `{"data.flip": True}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def dotted_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """As `dotted`, the values as a tracker keeps them: text, of a list its parts between commas."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in dotted(values).items()
    }
