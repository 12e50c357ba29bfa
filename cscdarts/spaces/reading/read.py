"""One cell from a text: by name, as this package prints it, or in the forms that other repositories print."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from cscdarts.errors import UserError
from cscdarts.spaces.genotype import Genotype, parse_added
from cscdarts.spaces.known import KNOWN_CELLS, known_name
from cscdarts.spaces.reading import tabular
from cscdarts.spaces.reading.clean import Page, page
from cscdarts.spaces.reading.darts import FIELDS, from_fields
from cscdarts.spaces.reading.exports import from_export, is_export
from cscdarts.spaces.reading.find import Find, bare_fields, epoch_of, finds
from cscdarts.spaces.reading.names import Notes, shortened, squeezed
from cscdarts.spaces.reading.values import Damaged, NotPlain, fields_of_call, plain

FORMS = (
    "text like Genotype(normal=[('op', node), ...], normal_concat=range(2, 6), reduce=[...], "
    "reduce_concat=range(2, 6)) or |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, or a file, log or notebook that holds it"
)
_LONGEST_YAML = 200_000


@dataclass(frozen=True)
class Reading:
    """A genotype and how it was read.

    Attributes:
        genotype: the cell.
        notes: what a person should know: which cell of several was taken, what was passed over or assumed; one sentence
            each.
    """

    genotype: Genotype
    notes: tuple[str, ...] = ()


def read_text(text: str, name: str = "", pick: str = "", by_index: Callable[[int], str] | None = None) -> Reading:
    """Read the genotype in a text; of several the last.

    Args:
        text: a known name, a genotype in any form that is read, or a longer text that holds some.
        name: of the file it comes from, for sentences.
        pick: take the cell assigned to this name, or the one on this line, instead of the last.
        by_index: architecture string of an index in the official order of NAS-Bench-201; without it indices are
            refused.

    Errors:
        UserError: there is no cell, or what is wrong with it: field, position, value, what is allowed.
    """
    sheet = page(text, name)
    bare = sheet.text.strip().strip("\"'").strip()
    notes = Notes()
    known = None if pick else known_name(bare)
    if known is not None:
        if known != bare:
            notes.say(f"{bare} is read as {known}")
        return _done(KNOWN_CELLS[known].genotype, notes)
    if not pick and tabular.looks_like_number(bare):
        return _done(tabular.from_index(int(bare), by_index, notes), notes)
    own = parse_added(bare)
    if own is not None:
        return _done(own, notes)
    places = finds(sheet.text)
    if places:
        return _done(_chosen(sheet, places, pick, notes), notes)
    genotype = _whole(bare, notes) or _block(sheet.text, notes)
    if genotype is None:
        raise _nothing(sheet, bare)
    return _done(genotype, notes)


def _done(genotype: Genotype, notes: Notes) -> Reading:
    return Reading(genotype, tuple(notes))


def _chosen(sheet: Page, places: list[Find], pick: str, notes: Notes) -> Genotype:
    """The last place that holds a cell, or the one picked; places where a program computes a cell hold none."""
    shown = [place for place in places if not place.outside] or places
    candidates = _picked(sheet, shown, pick) if pick else shown
    program = ""
    for place in reversed(candidates):
        if place.end is None:
            whole = [other for other in shown if other.end is not None]
            fix = (
                f"Whole cells stand at {sheet.place(whole[-1].start)} and before."
                if whole
                else "Copy it to its last bracket."
            )
            raise UserError(_field(sheet, place), "cut off", "a whole genotype, all brackets closed", fix)
        said = Notes()
        try:
            genotype = _read(sheet.text[place.start : place.end], place, said)
        except NotPlain as error:
            program = program or f"{sheet.place(place.start)}: {error}"
            continue
        except Damaged as error:
            raise UserError(_field(sheet, place), f"broken {error}", FORMS, "Copy the whole genotype.") from error
        except UserError as error:
            if len(shown) > 1 or sheet.name:
                field = f"{_field(sheet, place)}: {error.field}"
                raise UserError(field, error.value, error.allowed, error.fix) from error
            raise
        if len(shown) > 1 or (sheet.name and "\n" in sheet.text.strip()):
            notes.say(_took(sheet, shown, place, pick))
        for line in said:
            notes.say(line)
        return genotype
    raise UserError(
        sheet.name or "genotype", shortened(program), "the printed genotype",
        "This is the program that computes it; give what it printed.",
    )  # fmt: skip


def _picked(sheet: Page, places: list[Find], pick: str) -> list[Find]:
    if pick.isdigit():
        found = [
            place for place in places if sheet.line(place.start) <= int(pick) <= sheet.line(place.end or place.start)
        ]
        allowed = "a line with a cell: " + ", ".join(str(sheet.line(place.start)) for place in places[-8:])
    else:
        found = [place for place in places if place.name == pick]
        allowed = (
            ", ".join(sorted({place.name for place in places if place.name}))
            or "a line number; the cells have no names"
        )
    if not found:
        raise UserError(
            sheet.name or "genotype", pick, allowed, "Give FILE:NAME, FILE:LINE, or FILE for the last cell."
        )
    return found


def _took(sheet: Page, places: list[Find], place: Find, pick: str) -> str:
    end = place.end or place.start
    where = [f"{place.name}" if place.name and place.name != "genotype" else "", sheet.place(place.start)]
    where.append(epoch_of(sheet.text, place.start, end))
    count = f"the last of {len(places)} cells" if len(places) > 1 and not pick else "the cell"
    return f"took {count}: {', '.join(part for part in where if part)}"


def _field(sheet: Page, place: Find) -> str:
    return f"{sheet.name}, {sheet.place(place.start)}" if sheet.name else f"genotype at {sheet.place(place.start)}"


def _read(text: str, place: Find, notes: Notes) -> Genotype:
    if place.kind == "string":
        return tabular.from_string(text, notes)
    if place.kind == "fields":
        return from_fields(bare_fields(text), notes, printed=False)
    if place.kind == "dict":
        return _mapping(plain(text), notes)
    positional, named = fields_of_call(text)
    if len(positional) > len(FIELDS):
        raise Damaged(f"has {len(positional)} values without names")
    fields = dict(zip(FIELDS, positional, strict=False))
    for name in fields.keys() & named.keys():
        raise Damaged(f"gives {name} twice")
    printed = not text.lower().startswith(("dict", "ordereddict", "cnngenotype"))
    return from_fields(fields | named, notes, printed=printed)


def _mapping(mapping: dict[Any, Any], notes: Notes) -> Genotype:
    if is_export(mapping):
        return from_export(mapping, notes)
    return tabular.from_mapping(mapping, notes) or from_fields(mapping, notes, printed=False)


def _whole(text: str, notes: Notes) -> Genotype | None:
    """A text that is nothing but six operations, or pairs node by node, as a list."""
    body = text.partition("=")[2] if text.partition("=")[0].strip().isidentifier() else text
    if len(body) > 2000:
        return None
    for way in (body, f"[{','.join(body.replace(',', ' ').split())}]"):
        try:
            value = plain(way)
        except (NotPlain, Damaged):
            continue
        if isinstance(value, list):
            return tabular.from_sequence(value, notes)
    return None


def _block(text: str, notes: Notes) -> Genotype | None:
    """A YAML document that holds the fields of a cell as blocks."""
    if len(text) > _LONGEST_YAML or "normal" not in text:
        return None
    try:
        open_values: list[Any] = [yaml.safe_load(text)]
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    for _ in range(10_000):  # anchors can make a short document endless to walk
        if not open_values:
            return None
        value = open_values.pop()
        if isinstance(value, dict):
            if "normal" in value or is_export(value):
                return _mapping(value, notes)
            open_values += value.values()
        elif isinstance(value, list):
            open_values += value
    return None


def _nothing(sheet: Page, text: str) -> UserError:
    names = ", ".join(KNOWN_CELLS)
    if (keys := _keys(text)) is not None:
        lacking = ", ".join(key for key in FIELDS if key not in keys)
        held = ", ".join(str(shortened(key)) for key in keys[:8]) or "no keys"
        return UserError(
            sheet.name or "genotype", f"JSON with {held}", f"JSON with {', '.join(FIELDS)}, or {FORMS}",
            f"It lacks {lacking}; check that it is the right file.",
        )  # fmt: skip
    if sheet.name or len(text) > 200:
        lines = f"{sheet.text.count(chr(10)) + 1} lines without a cell" if text else "nothing"
        return UserError(sheet.name or "genotype", lines, FORMS, "Check that it is the right file.")
    spellings = {squeezed(name): name for name in KNOWN_CELLS}
    near = get_close_matches(squeezed(text), spellings, 1, 0.75)
    fix = f"Did you mean {spellings[near[0]]}?" if near else "Check the spelling or the path."
    return UserError("genotype", shortened(text), f"one of {names}, a run folder, {FORMS}", fix)


def _keys(text: str) -> list[str] | None:
    """The keys of a JSON object, or None where a text is none."""
    if not text.lstrip().startswith("{") or len(text) > _LONGEST_YAML:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(found) if isinstance(found, dict) else None
