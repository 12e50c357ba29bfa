"""The pages of the site as a reader follows them: in the order of the navigation, block by block."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from docs.hooks.site import MOUNTED, NOTEBOOKS, ROOT, named, whole

#: A fenced block, which may stand indented in a list.
_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
_SAVED = re.compile(r"[Ss]ave this as `([^`]+)`:\s*\Z")
#: Programs that an indented line of a page calls.
_PROGRAMS = ("cscdarts ", "make ", "pytest ", "pip ", "python ")
_VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        page: its path on the site; line: where it begins.
        kind: `sh`, `python`, `yaml`, `text`.
        saved_as: the file that the reader is told to save it as, or "".
    """

    page: str
    line: int
    kind: str
    text: str
    saved_as: str = ""


@dataclass(frozen=True)
class Command:
    """A line that the reader is told to type."""

    page: str
    line: int
    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {shlex.join(self.words)}"


class _Settings(yaml.SafeLoader):
    pass


@cache
def settings() -> dict[str, Any]:
    """`mkdocs.yml`."""
    found: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Settings)
    return found


def navigation() -> Iterator[str]:
    """The pages of the site, in the order of its navigation."""
    yield from named(whole(settings()["nav"]))


def source(page: str) -> Path:
    """Where a page of the site lies in the repository."""
    return ROOT / (page if page in MOUNTED else NOTEBOOKS.get(page, f"docs/{page}"))


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """All fenced blocks of a page."""
    text = source(page).read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        said = _SAVED.search(text[: fence.start()])
        body = re.sub(f"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 2
        found.append(Block(page, line, fence["kind"], body, said[1] if said else ""))
    return tuple(found)


def _typed(page: str, line: int, text: str) -> Iterator[Command]:
    """The commands of a text; a line that ends in a backslash goes on."""
    held = ""
    for number, one in enumerate(text.splitlines(), line):
        held += one.strip().removesuffix("\\")
        if one.rstrip().endswith("\\"):
            continue
        words, variables = shlex.split(held, comments=True), {}
        held = ""
        while words and (found := _VARIABLE.fullmatch(words[0])):
            variables[found[1]] = found[2]
            words = words[1:]
        if words:
            yield Command(page, number, tuple(words), variables)


@cache
def commands(page: str) -> tuple[Command, ...]:
    """All commands of a page: of its `sh` blocks, and of indented lines that call a program of ours."""
    found = [one for block in blocks(page) if block.kind == "sh" for one in _typed(page, block.line, block.text)]
    lines = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), source(page).read_text(encoding="utf-8"))
    begun = 0
    for number, line in enumerate(lines.splitlines(), 1):
        begins = line.startswith("    ") and line.strip().startswith(_PROGRAMS)
        if begins and number > begun:
            rest = lines.splitlines()[number - 1 :]
            length = next(k for k, one in enumerate(rest, 1) if not one.rstrip().endswith("\\"))
            found += _typed(page, number, "\n".join(rest[:length]))
            begun = number + length - 1
    return tuple(sorted(found, key=lambda one: one.line))
