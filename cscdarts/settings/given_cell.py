"""The cell that a run is given: any spelling of it is one text, so that its hash does not hang on the spelling. No
torch."""

from difflib import get_close_matches

from cscdarts.errors import UserError
from cscdarts.spaces.genotype import parse_genotype
from cscdarts.spaces.known import KNOWN_CELLS, known_name
from cscdarts.spaces.space import SPACES, Genotype

#: Signs that stand in every text of a cell and in no name.
_TEXT_SIGNS = frozenset("()[]{}|")


def canonical_cell(cell: str, space: str) -> str:
    """The text of a cell in a space, as `str` makes it.

    Args:
        cell: a known cell's name, or its text in a form that `cscdarts.spaces.reading` reads; "" for none.
        space: the name of the space that it has to be of.

    Errors:
        UserError: no such cell, a text that holds none, or a cell of another space.
    """
    cell = cell.strip()
    if not cell or space not in SPACES:  # what is wrong with the space is said where it stands
        return cell
    genotype = _read(cell, space)
    if genotype.space != space:
        raise UserError(
            "search.genotype", _short(cell), f"a cell of the {space} space",
            f"It is one of the {genotype.space} space: set supernet.space={genotype.space}, or give another.",
        )  # fmt: skip
    return str(genotype)


def _read(cell: str, space: str) -> Genotype:
    name = known_name(cell)
    if name is not None:
        return KNOWN_CELLS[name].genotype
    try:
        return parse_genotype(cell, space)
    except UserError:
        pass  # not as this space prints it; whatever else it is, the next lines read or refuse it
    if not _TEXT_SIGNS & set(cell):
        near = get_close_matches(cell, KNOWN_CELLS, 1)
        fix = f"Did you mean {near[0]}?" if near else "cscdarts retrain --genotype FILE reads files and run folders."
        raise UserError(
            "search.genotype", _short(cell),
            f"one of {', '.join(KNOWN_CELLS)}, or a cell's text such as '{SPACES[space].genotype.form}'", fix,
        )  # fmt: skip
    from cscdarts.spaces.reading.read import read_text

    try:
        return read_text(cell).genotype
    except UserError as error:
        field = error.field if error.field.startswith("genotype") else f"genotype, {error.field}"
        raise UserError(f"search.{field}", error.value, error.allowed, error.fix) from error


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
