"""Parameters as tables print them: a genotype is too long for that, so a known cell has its name, any other a short
one."""

import functools
import hashlib

from cscdarts.spaces.known import name_of

#: As many hexadecimal digits of a genotype's digest tell cells apart.
DIGITS = 6


@functools.lru_cache(maxsize=4096)
def shown_value(name: str, value: str) -> str:
    """A parameter's value in a table; of `search.genotype` a name, or digits that hang on the text alone.

    The whole text stands in the CSV and on the run's page. A dash where there is none.
    """
    if name == "search.genotype" and value:
        return name_of(value) or hashlib.sha256(value.encode()).hexdigest()[:DIGITS]
    return value or "–"
