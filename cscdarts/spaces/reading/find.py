"""Where in a text cells stand: printed calls, dictionaries, architecture strings, fields one after the other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cscdarts.spaces.reading.values import LONGEST, Damaged, closing, plain

Kind = Literal["call", "dict", "string", "fields"]

#: `Genotype(`, `genotypes.Genotype(`, `CNNGenotype(`, and any call whose first argument is `normal=`.
_CALL = re.compile(r"(?<![\w.])(?:[\w.]*Genotype\w*\s*\(|[A-Za-z_][\w.]*\s*\(\s*(?=normal(?:_cell|_0)?\s*=))")
#: How a list of genes begins; one of numbers is architecture parameters.
_GENES_BEGIN = r"""[\[(][\[(\s]*(?:\d{1,2}\s*,\s*)?(?:["'\])]|(?!nan|tensor|array)[A-Za-z])"""
_GENES = re.compile(_GENES_BEGIN)
#: Keys that only the dictionary of a cell has.
_KEY = re.compile(
    r"""["'](?:normal(?:_cell|_0)?["']\s*:\s*"""
    + _GENES_BEGIN
    + r"""|(?:[\w:]*:)?edge_normal_0["']|normal/op_2_0["']|normal_n2_p0["']"""
    r"""|1<-0["']|0_1["']\s*:|hp_x0["'])"""
)
_STRING_START = re.compile(r"~[ \t]*0[ \t]*\|?[ \t]*\+")
_STRING_GENE = r"[A-Za-z][\w \t-]{0,39}~[ \t]*\d{1,2}"
_STRING = re.compile(rf"\|?[ \t]*{_STRING_GENE}(?:[\s|+]{{1,20}}{_STRING_GENE}){{1,40}}[ \t]*\|?")
_SINGLE_STRING = re.compile(rf"\|[ \t]*{_STRING_GENE}[ \t]*\|")
_FIELD = re.compile(r"(?<![\w\"'])(normal|reduce|reduction)(_cell|_0|_1)?(_concat)?\s*[=:]\s*(?=[\[(]|x?range)")
_EPOCH = re.compile(r"epoch\D{0,12}?(\d{1,6})|(\d{1,6})(?:-\d{1,6})?-th epoch", re.IGNORECASE)
_NAME = re.compile(r"([A-Za-z_]\w*)\s*[=:]\s*$")
_MOST = 20_000


@dataclass(frozen=True)
class Find:
    """A place where a cell stands.

    Attributes:
        kind: how it is written.
        start, end: its part of the text; `end` is None where the text breaks off.
        name: the variable or key it is assigned to, or empty.
        outside: whether it stands in a comment.
    """

    kind: Kind
    start: int
    end: int | None
    name: str
    outside: bool


def finds(text: str) -> list[Find]:
    """All places of a text where a cell stands, in order; the last 20,000 where there are more."""
    taken: list[tuple[Kind, int, int, int | None]] = []
    for kind, start, opening in _openings(text):
        if taken and start < (taken[-1][3] or taken[-1][2]):
            continue  # inside the one before, as the dictionary in Genotype(**{...})
        # Where a bracket is missing, no later cell may count as its inside.
        taken.append((kind, start, opening + 1, closing(text, opening)))
    taken += [("string", *span) for span in _strings(text)]
    taken.sort(key=lambda place: place[1])
    starts = (match for match in _FIELD.finditer(text) if match[1] == "normal" and not match[3])
    bare = [match for match in starts if _GENES.match(text, match.end())][-_MOST:]
    position = 0
    for match in bare:
        while position < len(taken) and (taken[position][3] or taken[position][2] + LONGEST) <= match.start():
            position += 1
        if position == len(taken) or match.start() < taken[position][1]:
            taken.append(("fields", match.start(), match.end(), _fields_end(text, match.start())))
    return [_described(text, place[0], place[1], place[3]) for place in sorted(taken, key=lambda place: place[1])]


def bare_fields(text: str) -> dict[str, Any]:
    """The values of `normal = [...]`, `normal_concat: range(2, 6)` and so on that follow one another in a text."""
    fields: dict[str, Any] = {}
    for name, start, end in _assigned(text):
        fields[name] = plain(text[start:end])
    return fields


def epoch_of(text: str, start: int, end: int) -> str:
    """The epoch that a log names on the lines before a position, as `epoch 49`, or empty."""
    line_end = text.find("\n", end)
    before = text[max(0, start - 20_000) : line_end if 0 <= line_end < end + 200 else end]
    cut = min(start, 20_000)
    numbers = [match[1] or match[2] for match in _EPOCH.finditer(before[:cut])]
    return f"epoch {int(numbers[-1])}" if numbers else ""


def _openings(text: str) -> Iterator[tuple[Kind, int, int]]:
    """Calls and dictionaries as (kind, start, position of the opening bracket), by start."""
    found: list[tuple[Kind, int, int]] = []
    for match in _CALL.finditer(text):
        opening = text.index("(", match.start())
        found.append(("call", match.start(), opening))
    for match in _KEY.finditer(text):
        opening = _brace_before(text, match.start())
        if opening is not None:
            found.append(("dict", opening, opening))
    yield from sorted(set(found), key=lambda place: place[1])[-_MOST:]


def _brace_before(text: str, position: int) -> int | None:
    """The brace that is open at a position."""
    depth = 0
    for place in range(position - 1, max(-1, position - 5000), -1):
        sign = text[place]
        if sign in "}])":
            depth += 1
        elif sign in "{[(":
            if depth == 0:
                return place if sign == "{" else None
            depth -= 1
    return None


def _strings(text: str) -> Iterator[tuple[int, int, int]]:
    end = 0
    for match in _STRING_START.finditer(text):
        if match.start() < end:
            continue
        gene = re.search(
            r"\|?[ \t]*[A-Za-z][\w-]{0,39}(?: [\w-]{1,20})?[ \t]*$", text[max(0, match.start() - 60) : match.start()]
        )
        if gene is None:
            continue
        start = match.start() - (min(60, match.start()) - gene.start())
        whole = _STRING.match(text, start)
        if whole is not None:
            end = whole.end()
            yield start, start, end
    if end == 0 and (single := _SINGLE_STRING.fullmatch(text.strip())) is not None:
        start = text.index("|")
        yield start, start, start + len(single.group())


def _assigned(text: str) -> Iterator[tuple[str, int, int]]:
    """Name and span of the value of each field from the start of the text until one comes again."""
    seen: set[str] = set()
    for match in _FIELD.finditer(text, 0, LONGEST):
        name = f"{'reduce' if match[1] == 'reduction' else match[1]}{match[3] or ''}"
        if name in seen:
            return
        opening = min(place for place in (text.find("(", match.end()), text.find("[", match.end())) if place >= 0)
        end = closing(text, opening)
        if end is None:
            raise Damaged(f"the value of {name} is cut off")
        seen.add(name)
        yield name, match.end(), end


def _fields_end(text: str, start: int) -> int | None:
    end = None
    try:
        for _, _, value_end in _assigned(text[start : start + LONGEST]):
            end = start + value_end
    except Damaged:
        return None
    return end


def _described(text: str, kind: Kind, start: int, end: int | None) -> Find:
    line_start = text.rfind("\n", 0, start) + 1
    before = text[max(line_start, start - 120) : start]
    name = _NAME.search(before)
    outside = text[line_start : line_start + 200].lstrip()[:1] in ("#", "%")
    return Find(kind, start, end, name[1] if name else "", outside)
