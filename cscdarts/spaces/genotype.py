"""Genotypes of all spaces: read from their text or a published name, and drawn at random. No torch."""

from collections.abc import Sequence
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.registry import load_plugins
from cscdarts.spaces.space import SPACES, Genotype, Space

__all__ = ["Genotype", "parse_genotype", "random_genotype"]


def parse_genotype(text: str, space: str | None = None) -> Genotype:
    """Read a genotype from its published text form or a known name.

    Args:
        space: its space where that is known; else the first one that takes the text.

    Errors:
        UserError: the text is of no known form, or wrong; nothing in it is executed.
    """
    text = text.strip()
    found = _parse(text, SPACES.records() if space is None else (SPACES[space],))
    if found is None and space is None:
        load_plugins()
        found = _parse(text, SPACES.records())
    if found is not None:
        return found
    names = ", ".join(name for record in SPACES.records() for name in record.published)
    forms = " or ".join(f"'{form}'" for form in dict.fromkeys(record.genotype.form for record in SPACES.records()))
    raise UserError(
        "genotype",
        text[:80],
        f"one of {names}, a run folder, a file, or text like {forms}",
        f"Check the spelling or the path. {SPACES.help}",
    )


def _parse(text: str, spaces: Sequence[Space]) -> Genotype | None:
    """The genotype in the first space that takes the text; None where it is of no space's form."""
    refused: UserError | None = None
    for space in spaces:
        try:
            found = space.genotype.parse(space.published.get(text, text), space.name)
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
