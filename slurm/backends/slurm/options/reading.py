"""YAML whose scalars stay text, with the line of each entry: what a cluster profile is read with.

YAML 1.1 takes 12:00:00 for a number in base 60, 0123 for an octal one, 1e3, no and on for something else again. None of
that is done here: the schema knows what each entry is. Duplicate keys are refused, encodings are told by their bytes.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slurm.errors import ClusterError

#: A profile is a page of text; what is larger is another file.
MAX_BYTES = 1 << 20
#: Bounds on what aliases may unfold to.
MAX_ENTRIES, MAX_DEPTH = 10_000, 16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's mark does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TAGS = ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp")
_NULLS = ("", "~", "null", "Null", "NULL")

#: Keys on the way to an entry.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Settings:
    """What a file holds.

    Attributes:
        values: mappings, lists, text, and None where nothing is said.
        lines: place -> the line of its key, from 1.
    """

    values: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)


def read_settings(path: Path) -> Settings:
    """Read a file of keys and values.

    Errors:
        ClusterError: it is missing, cannot be read, is no YAML, or names a key twice.
    """
    try:
        if path.exists() and not path.is_file():
            raise _broken(path, "it is no file", "a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _broken(path, error.strerror or str(error), "a file that can be read") from None
    if len(content) > MAX_BYTES:
        raise _broken(path, f"it holds more than {MAX_BYTES // 1024} KiB", "a profile")
    return parse_settings(decoded(content), path)


def decoded(content: bytes) -> str:
    """Text from bytes in the encoding that they are in, as far as it can be told: a mark, NULs between ASCII letters,
    UTF-8; else Windows' Latin-1, in which every byte of a comment means something."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if content[1:2] == b"\0" and content[:1] != b"\0":
        return content.decode("utf-16-le", errors="replace")
    if content[:1] == b"\0" and content[1:2] != b"\0":
        return content.decode("utf-16-be", errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def parse_settings(content: str, path: Path) -> Settings:
    """Read text; `path` is for messages.

    Errors:
        ClusterError: see `read_settings`.
    """
    try:
        node = yaml.compose(content, Loader=yaml.BaseLoader)
        reader = _Reader(path)
        values = reader.value(node, (), 0) if node is not None else None
    except yaml.YAMLError as error:
        raise _broken(path, _reason(error), "valid YAML") from None
    except RecursionError:
        raise _broken(path, "it is nested too deeply", "valid YAML") from None
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a text" if isinstance(values, str) else "nothing"
        wrong = f"The profile {path} holds {kind}, not keys and values. See slurm/profiles/cpu.yaml."
        raise ClusterError(str(path), kind, "keys and values", "See slurm/profiles/cpu.yaml.", wrong)
    return Settings(values, reader.lines)


def parse_value(content: str) -> Any:
    """The value of one override: text, without the quotes around it; a list or mapping where brackets hold one.

    Errors:
        yaml.YAMLError: brackets that hold none.
    """
    if content[:1] not in tuple("[{'\""):
        return content
    node = yaml.compose(content, Loader=yaml.BaseLoader)
    return None if node is None else _Reader(Path("--slurm")).value(node, (), 0)


class _Reader:
    """Walks over YAML's nodes; those never construct anything, whatever tags they carry."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.entries = path, dict[Place, int](), 0

    def value(self, node: Any, place: Place, depth: int) -> Any:
        self.entries += 1
        if depth > MAX_DEPTH or self.entries > MAX_ENTRIES:
            raise _broken(self.path, f"line {_line(node)} is nested too deeply, or unfolds to too much", "a profile")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            raise _broken(self.path, f"line {_line(node)} has the tag {node.tag}", "plain keys and values")
        if isinstance(node, yaml.ScalarNode):
            return None if node.style is None and node.value in _NULLS else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*place, index), depth + 1) for index, one in enumerate(node.value)]
        return self._mapping(node, place, depth)

    def _mapping(self, node: Any, place: Place, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        inherited: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _broken(self.path, f"line {_line(key)} has a key that is no text", "plain keys and values")
            name = key.value
            if name in seen:
                lines = f"lines {seen[name]} and {_line(key)}"
                name = ".".join(map(str, (*place, name)))
                fix = "Keep one of them."
                raise ClusterError(
                    f"{self.path.name}: {name}", lines, "each key once", fix,
                    f"The profile {self.path} names {name} twice, in {lines}. {fix}",
                )  # fmt: skip
            seen[name] = _line(key)
            if name == "<<" and key.style is None:
                for one in self._merged(value, place, depth):
                    inherited = {**one, **inherited}
                continue
            own[name] = self.value(value, (*place, name), depth + 1)
            self.lines[(*place, name)] = _line(key)
        return {**inherited, **own}

    def _merged(self, node: Any, place: Place, depth: int) -> Iterator[dict[str, Any]]:
        """The mappings that `<<` names, the first of which counts most."""
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(one, yaml.MappingNode):
                raise _broken(self.path, f"line {_line(node)} merges what is no mapping", "plain keys and values")
            yield self._mapping(one, place, depth + 1)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    context = getattr(error, "context", None)
    words = f"{problem} {context}" if context else problem
    return words if mark is None else f"{words}, in line {mark.line + 1}, column {mark.column + 1}"


def _broken(path: Path, why: str, wanted: str) -> ClusterError:
    sentence = f"The profile {path} is not {wanted}: {why}. Correct the file."
    return ClusterError(str(path), why, wanted, "Correct the file.", sentence)
