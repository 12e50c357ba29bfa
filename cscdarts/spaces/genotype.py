"""Genotypes of all spaces: read from their text, and drawn at random. No torch."""

from collections.abc import Sequence
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.registry import load_plugins
from cscdarts.spaces.space import SPACES, Genotype, Space

__all__ = ["Genotype", "parse_added", "parse_genotype", "random_genotype"]


def parse_genotype(text: str, space: str | None = None) -> Genotype:
    """Read a genotype from the text that `str` makes of it, as records hold it; `cscdarts.spaces.reading` reads other
    forms.

    Args:
        space: its space where that is known; else the first one that takes the text.

    Errors:
        UserError: the text is of no known form, or wrong; nothing in it is executed.
    """
    text = text.strip()
    found = _parse(text, SPACES.records() if space is None else (SPACES[space],))
    if found is None and space is None:
        found = parse_added(text)
    if found is not None:
        return found
    forms = " or ".join(f"'{form}'" for form in dict.fromkeys(record.genotype.form for record in SPACES.records()))
    raise UserError("genotype", text[:80], f"text like {forms}", f"Copy the whole genotype. {SPACES.help}")


def parse_added(text: str) -> Genotype | None:
    """The genotype of a space registered from outside the package, or None where the text is of none of their forms.

    Errors:
        UserError: the text begins as one of their forms does and is wrong.
    """
    load_plugins()
    return _parse(text, [record for record in SPACES.records() if SPACES.added(record.name)])


def _parse(text: str, spaces: Sequence[Space]) -> Genotype | None:
    """The genotype in the first space that takes the text; None where it is of no space's form."""
    refused: UserError | None = None
    for space in spaces:
        try:
            found = space.genotype.parse(text, space.name)
        except UserError as error:
            refused = refused or error
        else:
            if found is not None:
                return found
    if refused is not None:
        raise refused
    return None


def random_genotype(space: str, draw: Any) -> Genotype:
    """Sample a genotype uniformly, as the space's rule has it (`darts` without `none`, as derivation has it).

    Args:
        space: a space's name.
        draw: a `numpy.random.Generator`.
    """
    record = SPACES[space]
    return record.genotype.from_edges(space, record.rule.sample(record, draw))
